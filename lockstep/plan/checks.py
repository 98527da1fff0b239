"""The checks of a plan that concern several of its sections, in one place; and whether it can be deployed."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from lockstep.plan.admins import (
    admin_secrets,
    is_managed,
    is_plain_name,
    names_in_oci,
    partition_of,
    rds_region,
    secrets_region,
)
from lockstep.plan.compiled import region_of_secret
from lockstep.plan.fields import format_duration, near, repeated, with_hint
from lockstep.plan.stores import AwsSecretsManager, OciVault
from lockstep.protocol.deadlines import LEASE, SHORTEST_SHARED_INTERVAL
from lockstep.protocol.model import ANY_HOST, ENGINES, AdminIam, AdminSecret
from lockstep.protocol.names import Server, oci_name, plan_bucket_name, slot_name
from lockstep.protocol.ring import version_budget
from lockstep.protocol.schedule import neighbours, run_key

if TYPE_CHECKING:
    from lockstep.plan.credentials import CredentialSection, DatabaseSection
    from lockstep.plan.model import Plan

SHORTEST_INTERVAL = timedelta(minutes=15)
"""96 versions a day: a secret in AWS keeps about 100, and none younger than 24 hours is removed
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html)."""
_NAME_IN_VAULT = re.compile(r"[A-Za-z0-9/_.-]+")
_EXAMPLE = re.compile(r"(^|[./-])example|:111122223333:")
"""AWS's documentation has this account in its examples."""
_EXAMPLES = (
    (r"audit\.aws\.bucket|audit\.oci\.namespace|stores\[\d+\]\.compartment_id", _EXAMPLE),
    (r"runners\.aws\.federation\.domain_url|runners\.oci\.federation\.(issuer|role_arn)", _EXAMPLE),
    # Reserved for documentation (RFC 2606).
    (
        r"databases\[\d+\]\.(host|verify_hosts\[\d+\])",
        re.compile(r"(?i)(^|\.)example\.(com|net|org)(:\d+)?$"),
    ),
    # Those of AWS's documentation.
    (r"databases\[\d+\]\.admin_secret", re.compile(":(111122223333|123456789012|444455556666):")),
)
"""Places of values that come from the example plan, and what they are there."""
_AWAITED = ((r"stores\[\d+\]\.(own_compartment_id|vault_id)|runners\.oci\.federation\.key\.\w+", _EXAMPLE),)
"""The same of those that the OCI side prints once it is deployed."""


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
    names = list[tuple[str, str]]()
    for i, credential in enumerate(plan.credential_sections):
        both, path = credential.secret_names, f"credentials[{i}]"
        names.append((f"{path}.{'secret' if credential.secret else 'id'}", both.app_user))
        names.append(
            (f"{path}.{'connection_secret' if credential.connection_secret else 'id'}", both.connection_blob)
        )
    keys = [
        *plan.runners.keys,
        *([("audit.oci.mac_secret", plan.audit.oci.mac_secret)] if plan.audit.oci else []),
    ]
    rotated = [name for _, name in names]
    read = [*names_in_oci(plan), *(name for _, name in keys)]
    once = {_dotted(name): (place, name) for place, name in admin_secrets(plan)}
    dotted = ((place, _dotted(name)) for place, name in (*names, *keys, *once.values()))
    yield from repeated(dotted, "with dots for slashes, secret name ")
    ids = [(f"credentials[{i}].id", _dotted(c.id)) for i, c in enumerate(plan.credential_sections)]
    yield from repeated(ids, "with dots for slashes, ")
    for i, store in enumerate(plan.stores):
        if isinstance(store, OciVault):
            for name in rotated + read:
                if not _NAME_IN_VAULT.fullmatch(name):
                    yield f"stores[{i}]: Vault does not accept the secret name {name}; use letters, digits and - _ . /"
            slots = [slot_name(name, slot) for name in rotated for slot in range(plan.slots)]
            in_vault = ((f"stores[{i}]", name) for name in (*slots, *map(oci_name, read)))
            yield from repeated(in_vault, "secret name in Vault ")


def _reference_problems(plan: "Plan", path: str, credential: "CredentialSection") -> Iterator[str]:
    """Databases of a credential that the plan does not have, or that cannot be rotated as it says."""
    engines = {d.name: d.engine for d in plan.database_sections}
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
    yield from repeated((f"{path}.databases[{j}]", n) for j, n in enumerate(credential.databases))


def _server_problems(plan: "Plan") -> Iterator[str]:
    """Servers with two engines, and verify hosts that are no other host or would be copies of two servers."""
    names: dict[Server, DatabaseSection] = {}
    for i, database in enumerate(plan.database_sections):
        known = names.setdefault(database.server, database)
        if known.engine != database.engine:
            yield (
                f"databases[{i}].engine: {known.name} and {database.name} are one server, {_shown(database.server)}, "
                "with two engines; correct one of them"
            )
    sources: dict[Server, DatabaseSection] = {}
    for i, database in enumerate(plan.database_sections):
        ends = list(enumerate(database.verify_servers))
        yield from repeated((f"databases[{i}].verify_hosts[{j}]", _shown(end)) for j, end in ends)
        for j, verified in ends:
            path = f"databases[{i}].verify_hosts[{j}]: {_shown(verified)}"
            if verified == database.server:
                yield f"{path} is the database's own host, which is proven in any case; remove it"
            elif verified in names:
                yield (
                    f"{path} is {names[verified].name}, a database of the plan, whose accounts are changed there; "
                    "remove one of them"
                )
            elif (known := sources.setdefault(verified, database)).server != database.server:
                yield f"{path} is also of {known.name}, and a host is a copy of one server; remove one of them"


def _account_problems(plan: "Plan") -> Iterator[str]:
    """Accounts that belong to two credentials, to Lockstep or to the server itself, or that the server refuses."""
    sections = {database.name: database for database in plan.database_sections}
    holders: defaultdict[tuple[Server, str], list[int]] = defaultdict(list)
    for i, credential in enumerate(plan.credential_sections):
        named: dict[Server, str] = {}
        for name in dict.fromkeys(n for n in credential.databases if n in sections):
            database = sections[name]
            if database.server in named:
                yield (
                    f"credentials[{i}].databases: {named[database.server]} and {name} are one server, "
                    f"{_shown(database.server)}, on which an account has one password; name one of them"
                )
                continue
            named[database.server] = name
            spec = ENGINES[database.engine]
            for account in credential.accounts(database.engine):
                holders[database.server, account].append(i)
                if account in database.rotation_users(credential.id) or spec.own_accounts.fullmatch(account):
                    yield (
                        f"credentials[{i}].username: {account} is an account of Lockstep or of the server itself; "
                        "give the application an account of its own"
                    )
                if len(account) > spec.longest_username:
                    yield (
                        f"credentials[{i}].username: {account} has {len(account)} characters, and {database.engine} "
                        f"takes at most {spec.longest_username} characters"
                    )
    for (server, account), found in holders.items():
        if len(found) > 1:
            both = [f"credentials[{i}] ({plan.credential_sections[i].id})" for i in dict.fromkeys(found)]
            yield (
                f"credentials[{found[-1]}].username: account {account} at {_shown(server)} is used more than once, by "
                f"{' and '.join(both)}; give each credential accounts of its own, owner roles included"
            )


def _admin_problems(plan: "Plan", path: str, section: "DatabaseSection") -> Iterator[str]:
    """A rotation user whose login a runner cannot get."""
    match section.admin:
        case AdminSecret() as admin:
            yield from _admin_secret_problems(plan, path, section.host, admin)
        case AdminIam(region=region):
            yield from _partition_problems(plan, f"{path}.admin_iam", partition_of(region))
        case admin:
            # That it is the admin of itself is what makes it rotate.
            found = next((c for c in plan.credential_sections if c.id == admin.credential), None)
            if found is None:
                yield f"{path}.admin_credential: the plan has no credential {admin.credential}"
            elif section.server not in {
                d.server for d in plan.database_sections if d.name in found.databases
            }:
                yield (
                    f"{path}.admin_credential: {admin.credential} is not rotated on {section.name}, so its login would "
                    f"not work there; add {section.name} to its databases"
                )


def _admin_secret_problems(plan: "Plan", path: str, host: str, admin: AdminSecret) -> Iterator[str]:
    region = region_of_secret(admin.aws, secrets_region(plan))
    if admin.aws.startswith("arn:"):
        partition = admin.aws.split(":")[1]
        if partition == partition_of(region):
            yield from _partition_problems(plan, f"{path}.admin_secret", partition)
        else:
            yield f"{path}.admin_secret: {region} is a region of {partition_of(region)}, not of {partition}"
    host_region = rds_region(host)
    if is_managed(admin.aws) and host_region and host_region != region:
        yield (
            f"{path}.admin_secret: RDS keeps the secret of {host} in {host_region}, not in {region}; give its ARN"
        )
    if plan.runners.oci and not is_plain_name(admin.oci):
        yield (
            f"{path}.oci_admin_secret: needed, because the OCI runner reads Vault, where {admin.aws} is no name; "
            "give the name of a Vault secret with a login that RDS does not rotate"
        )


def _partition_problems(plan: "Plan", path: str, partition: str) -> Iterator[str]:
    own = partition_of(plan.lock.region)
    if partition != own:
        yield (
            f"{path}: an identity of {own}, where the lock table is, has no access to {partition}; use an "
            "`admin_secret` there"
        )


def _interval_problems(plan: "Plan") -> Iterator[str]:
    """Intervals that are too short for the plan, with the shortest one that a schedule can have and that is not."""
    shortest = neighbours(timedelta())[-1]
    while any(_too_short(plan, shortest)):
        shortest = neighbours(shortest)[-1]
    for i, credential in enumerate(plan.credential_sections):
        for why in _too_short(plan, credential.interval):
            yield (
                f"credentials[{i}].interval: {format_duration(credential.interval)} {why}; use an interval of "
                f"{format_duration(shortest)} or more"
            )


def _too_short(plan: "Plan", interval: timedelta) -> Iterator[str]:
    """Why an interval exhausts a store's quota of versions, or leaves the standby no time (protocol R9)."""
    if plan.store(AwsSecretsManager) and interval < SHORTEST_INTERVAL:
        yield "exhausts Secrets Manager's quota of versions within a day"
    wedges_after = version_budget(interval, plan.slots).wedges_after
    if plan.store(OciVault) and wedges_after is not None:
        yield f"exhausts Vault's quota of versions after {format_duration(wedges_after)}"
    if plan.runners.oci and interval < SHORTEST_SHARED_INTERVAL:
        yield (
            f"is too short with runners.oci: the lease of a run that hangs ({format_duration(LEASE)}) must end before "
            "the other runner is called, half an interval later"
        )


def _cloud_problems(plan: "Plan") -> Iterator[str]:
    """What one cloud needs of the other, and keys that are in another region than the log that they sign."""
    has_oci = plan.store(OciVault) is not None
    audit = plan.audit.aws
    for name, key in (("mac_key", audit.mac_key), ("order_key", audit.order_key)):
        if key.startswith("arn:") and (region := key.split(":")[3]) != plan.lock.region:
            yield f"audit.aws.{name}: its region is {region}, but the log is in that of the lock, {plan.lock.region}"
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
    return (f"{told} is a placeholder; replace it with your value" for told in _examples(plan, _EXAMPLES))


def awaited_values(plan: "Plan") -> Iterator[str]:
    """Values that may be examples until the OCI side is deployed, which prints them."""
    own = "replace it with the value that `make deploy-oci` prints"
    return (f"{told} is a placeholder; {own}" for told in _examples(plan, _AWAITED))


def _examples(plan: "Plan", known: Sequence[tuple[str, re.Pattern[str]]]) -> Iterator[str]:
    for place, value in _texts(plan.model_dump(by_alias=True, exclude={"credential_sections"})):
        if any(re.fullmatch(at, place) and example.search(value) for at, example in known):
            yield f"{place}: {value}"


def _texts(part: object, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a document, with its place."""
    match part:
        case dict():
            for key, value in part.items():
                yield from _texts(value, f"{place}.{key}" if place else key)
        case tuple():
            for i, value in enumerate(part):
                yield from _texts(value, f"{place}[{i}]")
        case str():
            yield place, part


def unknown_regions(plan: "Plan", known: Callable[[str, str], Sequence[str]]) -> Iterator[str]:
    """Regions that their cloud does not have.

    Args:
        plan: The plan.
        known: The regions of a cloud, `aws` or `oci`, in the partition of the given one; none where nothing knows.
    """
    found = [("lock.region", "aws", plan.lock.region)]
    found += [(f"stores[{i}].region", store.name, store.region) for i, store in enumerate(plan.stores)]
    for place, cloud, region in found:
        regions = known(cloud, region)
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
    for cloud, audit, longest in (("aws", plan.audit.aws, 63), ("oci", plan.audit.oci, 256)):
        name = plan_bucket_name(audit.bucket) if audit else ""
        if len(name) > longest:
            yield (
                f"audit.{cloud}.bucket: the bucket of the published plan, {name}, would have {len(name)} characters, "
                f"and at most {longest} are allowed; use a shorter name"
            )
    first: dict[str, str] = {}
    for i, credential in enumerate(plan.credential_sections):
        # Of ids with one key one document and one execution at a time could be named (protocol R15).
        if (other := first.setdefault(run_key(credential.id), credential.id)) != credential.id:
            yield (
                f"credentials[{i}].id: {credential.id} and {other} have one key, {run_key(credential.id)}, by which "
                "documents and executions are named; give one of them another id"
            )
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


def _dotted(name: str) -> str:
    return name.replace("/", ".")
