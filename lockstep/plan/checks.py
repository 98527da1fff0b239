"""The checks of a plan that concern several of its sections, in one place; and whether it can be deployed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from lockstep.plan.credentials import admin_secrets, is_plain_name, names_in_oci
from lockstep.plan.fields import format_duration, near, repeated, with_hint
from lockstep.plan.stores import AwsSecretsManager, OciVault
from lockstep.protocol.deadlines import LEASE, SHORTEST_SHARED_INTERVAL
from lockstep.protocol.model import ANY_HOST, ENGINES, ROTATION_USER, AdminCredential, AdminSecret
from lockstep.protocol.names import Server, oci_name, server_of, slot_name
from lockstep.protocol.ring import fits_quota
from lockstep.protocol.schedule import neighbours

if TYPE_CHECKING:
    from lockstep.plan.credentials import CredentialSection, DatabaseSection
    from lockstep.plan.model import Plan

SHORTEST_INTERVAL = timedelta(minutes=15)
"""96 versions a day: a secret in AWS keeps about 100, and none younger than 24 hours is removed
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html)."""
_NAME_IN_VAULT = re.compile(r"[A-Za-z0-9/_.-]+")
_EXAMPLES = re.compile(
    r"(audit\.aws\.bucket|audit\.oci\.namespace|stores.*\.compartment_id|runners.*\.(domain_url|issuer)):"
    r" (.*[./-])?example.*"
    # Reserved for documentation (RFC 2606).
    r"|databases.*\.(host|verify_hosts\[\d+\]): (.*\.)?example\.(com|net|org)(:\d+)?"
    # Accounts of our examples.
    r"|(databases.*\.admin_secret|runners.*\.role_arn): .*:(111122223333|444455556666):.*",
    re.IGNORECASE,
)
"""Values that come from the example plan, with their places."""
_AWAITED = re.compile(r"(stores.*\.(own_compartment_id|vault_id)|runners.*\.key\.\w+): (.*[./-])?example.*")
"""Those that the OCI side prints once it is deployed."""


def problems(plan: "Plan") -> Iterator[str]:
    """What sections that are valid by themselves get wrong together, each as `place: what to do`."""
    yield from repeated((f"databases[{i}].name", d.name) for i, d in enumerate(plan.database_sections))
    yield from repeated((f"stores[{i}].kind", s.kind) for i, s in enumerate(plan.stores))
    yield from _name_problems(plan)
    for i, credential in enumerate(plan.credential_sections):
        yield from _reference_problems(plan, f"credentials[{i}]", credential)
    yield from _server_problems(plan)
    yield from _account_problems(plan)
    for i, database in enumerate(plan.database_sections):
        yield from _admin_problems(plan, f"databases[{i}]", database)
    yield from _interval_problems(plan)
    yield from _cloud_problems(plan)


def _name_problems(plan: "Plan") -> Iterator[str]:
    """Names that collide. In OCI and in the audit log's folders a dot replaces the slash, so `a/b` is `a.b` there."""
    rotated = [
        (f"credentials[{i}].{key if getattr(credential, key) else 'id'}", name)
        for i, credential in enumerate(plan.credential_sections)
        for key, name in (
            ("secret", credential.secret_names.app_user),
            ("connection_secret", credential.secret_names.connection_blob),
        )
    ]
    keys = [(f"runners.{key}", name) for key, name in plan.runners.secrets.items()]
    if plan.audit.oci:
        keys.append(("audit.oci.mac_secret", plan.audit.oci.mac_secret))
    # Databases may share an admin's secret.
    admins = {oci_name(name): (place, name) for place, name in admin_secrets(plan)}.values()
    dotted = ((place, oci_name(name)) for place, name in (*rotated, *keys, *admins))
    yield from repeated(dotted, "with dots for slashes, secret name ")
    ids = ((f"credentials[{i}].id", oci_name(c.id)) for i, c in enumerate(plan.credential_sections))
    yield from repeated(ids, "with dots for slashes, ")
    for i, store in enumerate(plan.stores):
        if isinstance(store, OciVault):
            slots = [slot_name(name, slot) for _, name in rotated for slot in range(plan.slots)]
            read = [*names_in_oci(plan), *(name for _, name in keys)]
            in_vault = ((f"stores[{i}]", oci_name(name)) for name in (*slots, *read))
            yield from repeated(in_vault, "secret name in Vault ")
            for name in (*slots, *read):
                if not _NAME_IN_VAULT.fullmatch(name):
                    yield f"stores[{i}]: Vault does not accept the secret name {name}; use letters, digits and - _ . /"


def _reference_problems(plan: "Plan", path: str, credential: "CredentialSection") -> Iterator[str]:
    """Databases of a credential that the plan does not have, or that cannot be rotated as it says."""
    engines = {d.name: d.engine for d in plan.database_sections}
    servers = {d.name: _shown(d.server) for d in plan.database_sections}
    for j, unknown in enumerate(credential.databases):
        if unknown not in engines:
            told = f"the plan has no database {unknown}, only {', '.join(engines)}"
            yield f"{path}.databases[{j}]: {with_hint(told, near(unknown, engines))}"
    for engine in sorted({engines[n] for n in credential.databases if n in engines}):
        allowed = ENGINES[engine].strategies
        if credential.strategy not in allowed:
            yield f"{path}.strategy: {engine} does not allow it; use {' or '.join(sorted(allowed))}"
        if credential.account_host != ANY_HOST and not ENGINES[engine].accounts_have_hosts:
            yield f"{path}.account_host: accounts of {engine} have no host; leave it out"
    on = ((f"{path}.databases[{j}]", servers.get(n, n)) for j, n in enumerate(credential.databases))
    yield from repeated(on, "server ")


def _server_problems(plan: "Plan") -> Iterator[str]:
    """Verify hosts that are databases of the plan, or would be copies of two servers."""
    first = {database.server: database for database in reversed(plan.database_sections)}
    sources: dict[Server, DatabaseSection] = {}
    for i, database in enumerate(plan.database_sections):
        if (other := first[database.server]).engine != database.engine:
            yield f"databases[{i}].engine: {_shown(database.server)} is {other.engine}, as {other.name} says"
        ends = [(f"databases[{i}].verify_hosts[{j}]", server_of(*end)) for j, end in enumerate(database.ends)]
        yield from repeated((place, _shown(end)) for place, end in ends)
        for place, end in ends:
            told = f"{place}: {_shown(end)} is"
            if end in first:
                yield f"{told} {first[end].name}, which is proven as a database of the plan; remove it"
            elif (known := sources.setdefault(end, database)).server != database.server:
                yield f"{told} also of {known.name}, and a host is a copy of one server; remove one of them"


def _account_problems(plan: "Plan") -> Iterator[str]:
    """Accounts that belong to two credentials, to Lockstep or to the server itself."""
    sections = {database.name: database for database in plan.database_sections}
    held = list[tuple[str, str]]()
    for i, credential in enumerate(plan.credential_sections):
        place = f"credentials[{i}].username"
        servers = {sections[n].server: sections[n] for n in credential.databases if n in sections}
        for server, database in servers.items():
            # Where the credential is the rotation user's own, its accounts are that user's.
            is_own = database.admin_credential == credential.id
            reserved = () if is_own else (ROTATION_USER, database.admin_iam)
            for account in credential.accounts(database.engine):
                held.append((place, f"{account} at {_shown(server)}"))
                if account in reserved or ENGINES[database.engine].own_accounts.fullmatch(account):
                    yield (
                        f"{place}: {account} is an account of Lockstep or of the server itself; give the application "
                        "an account of its own"
                    )
    yield from repeated(held, "account ")


def _admin_problems(plan: "Plan", path: str, section: "DatabaseSection") -> Iterator[str]:
    """A rotation user whose login a runner cannot get."""
    admin = section.admin
    if isinstance(admin, AdminCredential):
        # That it is the admin of itself is what makes it rotate.
        servers = {d.name: d.server for d in plan.database_sections}
        rotated = (c.databases for c in plan.credential_sections if c.id == admin.credential)
        if section.server not in {servers.get(name) for names in rotated for name in names}:
            yield (
                f"{path}.admin_credential: no credential {admin.credential} is rotated on {section.name}, so its login "
                "does not work there; name one that is"
            )
    elif isinstance(admin, AdminSecret) and plan.runners.oci and not is_plain_name(admin.oci):
        yield (
            f"{path}.oci_admin_secret: needed, because the OCI runner reads Vault, where {admin.aws} is no name; "
            "give the name of a Vault secret with a login that RDS does not rotate"
        )


def _interval_problems(plan: "Plan") -> Iterator[str]:
    """Intervals that exhaust a store's quota of versions, or leave the standby no time (protocol R9)."""
    bounds = list[tuple[timedelta, str]]()
    if plan.store(AwsSecretsManager):
        bounds.append((SHORTEST_INTERVAL, "exhausts Secrets Manager's quota of versions within a day"))
    if plan.store(OciVault):
        shortest = neighbours(timedelta())[-1]
        while not fits_quota(shortest, plan.slots):
            shortest = neighbours(shortest)[-1]
        bounds.append((shortest, "exhausts Vault's quota of versions"))
    if plan.runners.oci:
        lease = format_duration(LEASE)
        why = f"is too short with runners.oci: the lease of a run that hangs ({lease}) must end before the other "
        bounds.append((SHORTEST_SHARED_INTERVAL, why + "runner is called, half an interval later"))
    enough = format_duration(max(shortest for shortest, _ in bounds))
    for i, credential in enumerate(plan.credential_sections):
        for shortest, why in bounds:
            if credential.interval < shortest:
                yield (
                    f"credentials[{i}].interval: {format_duration(credential.interval)} {why}; use an interval of "
                    f"{enough} or more"
                )


def _cloud_problems(plan: "Plan") -> Iterator[str]:
    """What one cloud needs of the other."""
    has_oci = plan.store(OciVault) is not None
    if plan.audit.oci and not has_oci:
        yield "audit.oci: needs a store of kind oci-vault, in whose region it is"
    if has_oci and not plan.runners.aws.compile():
        yield "runners.aws: needs federation, or instead oci_key_secret, because one store is in OCI"
    if plan.runners.oci and not (has_oci and plan.audit.oci):
        yield "runners.oci: needs a store of kind oci-vault, and audit.oci"
    if plan.events and plan.events.oci and not plan.runners.oci:
        yield "events.oci: needs runners.oci, which sends there"


# What a valid plan may have, and a deployment may not.


def example_values(plan: "Plan") -> Iterator[str]:
    """Values that come from the example plan: with them a plan is valid, but cannot be deployed."""
    return _examples(plan, _EXAMPLES, "your value")


def awaited_values(plan: "Plan") -> Iterator[str]:
    """Values that may be examples until the OCI side is deployed, which prints them."""
    return _examples(plan, _AWAITED, "the value that `make deploy-oci` prints")


def _examples(plan: "Plan", known: re.Pattern[str], instead: str) -> Iterator[str]:
    texts = _texts(plan.model_dump(by_alias=True, exclude={"credential_sections"}))
    return (f"{text} is a placeholder; replace it with {instead}" for text in filter(known.fullmatch, texts))


def _texts(part: object, place: str = "") -> Iterator[str]:
    """Every text of a document, as `place: text`."""
    match part:
        case dict():
            for key, value in part.items():
                yield from _texts(value, f"{place}.{key}" if place else key)
        case tuple():
            for i, value in enumerate(part):
                yield from _texts(value, f"{place}[{i}]")
        case str():
            yield f"{place}: {part}"


def unknown_regions(plan: "Plan", known: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Regions that their cloud does not have.

    Args:
        plan: The plan.
        known: The regions of each cloud, `aws` and `oci`; none where nothing knows.
    """
    found = [("lock.region", "aws", plan.lock.region)]
    found += [(f"stores[{i}].region", store.name, store.region) for i, store in enumerate(plan.stores)]
    for place, cloud, region in found:
        regions = known[cloud]
        if regions and region not in regions:
            told = f"{place}: {cloud.upper()} has no region {region} that this version knows"
            yield with_hint(told, near(region, regions))


def missing_ca_files(plan: "Plan") -> Iterator[str]:
    """CA files that the plan names and that are not on this machine."""
    for i, database in enumerate(plan.database_sections):
        if database.ca_file and not database.ca_file.is_file():
            yield f"databases[{i}].ca_file: {database.ca_file} is not a file; give the path of a PEM file"


def publication_problems(plan: "Plan", folder: Path) -> Iterator[str]:
    """Why the plan cannot be published.

    Args:
        plan: The plan.
        folder: That of its file.
    """
    for i, database in enumerate(plan.database_sections):
        file = database.ca_file
        if file and (not file.is_relative_to(folder) or ".." in file.relative_to(folder).parts):
            yield (
                f"databases[{i}].ca_file: {file} must be in the plan's folder or below it, under a path that is "
                "relative to the plan: the functions have it there"
            )


def _shown(server: Server) -> str:
    host, port = server
    return f"{host}:{port}"
