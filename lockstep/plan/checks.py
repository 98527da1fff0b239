"""Checks of a plan that concern several of its sections, or names that a deployment derives from it."""

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from lockstep.plan.admins import example_accounts, rotation_users
from lockstep.plan.fields import format_duration, repeated
from lockstep.plan.stores import OciVault
from lockstep.protocol.deadlines import LEASE, SHORTEST_SHARED_INTERVAL
from lockstep.protocol.model import ENGINES
from lockstep.protocol.names import Server, plan_bucket_name, server_of
from lockstep.protocol.schedule import fits, neighbours, run_key

if TYPE_CHECKING:
    from lockstep.plan.databases import DatabaseSection
    from lockstep.plan.model import Plan

_RDS = re.compile(r".*\.(rds\.amazonaws\.com|rds\.amazonaws\.com\.cn|rds\.[a-z0-9-]+\.amazonaws\.com\.cn)")
_RDS_PROXY = re.compile(r".*\.proxy-[a-z0-9]+\..*")
"""The certificate of an RDS Proxy comes from AWS Certificate Manager, whose CAs are public
(https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy.howitworks.html)."""

_RDS_SEVERAL = re.compile(r".*\.cluster-(ro|custom)-[a-z0-9]+\..*", re.IGNORECASE)
"""Aurora's reader and custom endpoints lead each connection to another instance
(https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Overview.Endpoints.html)."""

MAX_VERIFY_HOSTS = 15
"""Of a database: as many as RDS and Aurora allow read replicas
(https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_ReadRepl.html)."""

_EXAMPLE = re.compile(r"(^|[./-])example|:111122223333:")
"""AWS's documentation has this account in its examples."""
_EXAMPLE_HOST = re.compile(r"(.*\.)?example\.(com|net|org)", re.IGNORECASE)
"""Reserved for documentation (RFC 2606)."""


def needs_ca_file(host: str) -> bool:
    """Whether the server at this host has a certificate that no system's CAs have signed: RDS, Aurora included."""
    plain, _ = server_of(host, 0)
    return bool(_RDS.fullmatch(plain)) and not _RDS_PROXY.fullmatch(plain)


def reader_endpoint(host: str) -> bool:
    """Whether the name leads to another host at each connection."""
    return needs_ca_file(host) and bool(_RDS_SEVERAL.fullmatch(host))


def interval_problems(interval: timedelta) -> Iterator[str]:
    """Why one cron expression cannot trigger at this interval, by wall clock (protocol R2)."""
    if not fits(interval):
        nearest = " or ".join(format_duration(n) for n in neighbours(interval))
        yield (
            f"no schedule by wall clock has {format_duration(interval)}: it must be 10, 12, 15, 20 or 30 minutes, "
            f"hours that divide a day, or whole days; use {nearest}"
        )


def standby_problems(plan: "Plan") -> Iterator[str]:
    """Intervals in which a lease does not end before the standby is called (protocol R9)."""
    for i, credential in enumerate(plan.credential_sections):
        if plan.runners.oci and credential.interval < SHORTEST_SHARED_INTERVAL:
            yield (
                f"credentials[{i}].interval: with runners.oci it must be at least "
                f"{format_duration(SHORTEST_SHARED_INTERVAL)}, so that the lease of a run that hangs "
                f"({format_duration(LEASE)}) ends before the other runner is called, half an interval later; use "
                f"{format_duration(SHORTEST_SHARED_INTERVAL)}, or remove runners.oci"
            )


def server_problems(plan: "Plan") -> Iterator[str]:
    """Databases with one server and two engines."""
    first: dict[Server, DatabaseSection] = {}
    for i, database in enumerate(plan.database_sections):
        known = first.setdefault(database.server, database)
        if known.engine != database.engine:
            yield (
                f"databases[{i}].engine: {known.name} and {database.name} are one server, {_shown(database.server)}, "
                "with two engines; correct one of them"
            )


def verify_host_problems(plan: "Plan") -> Iterator[str]:
    """Verify hosts that are no other host, or that would be copies of two servers."""
    databases = {database.server: database.name for database in plan.database_sections}
    sources: dict[Server, DatabaseSection] = {}
    for i, database in enumerate(plan.database_sections):
        ends = list(enumerate(database.verify_servers))
        yield from repeated((f"databases[{i}].verify_hosts[{j}]", _shown(end)) for j, end in ends)
        for j, verified in ends:
            path = f"databases[{i}].verify_hosts[{j}]: {_shown(verified)}"
            if verified == database.server:
                yield f"{path} is the database's own host, which is proven in any case; remove it"
            elif verified in databases:
                yield (
                    f"{path} is {databases[verified]}, a database of the plan, whose accounts are changed there; "
                    "remove one of them"
                )
            elif (known := sources.setdefault(verified, database)).server != database.server:
                yield f"{path} is also of {known.name}, and a host is a copy of one server; remove one of them"


def account_problems(plan: "Plan") -> Iterator[str]:
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
                if account in rotation_users(database, credential.id) or spec.own_accounts.fullmatch(account):
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
            names = [f"credentials[{i}] ({plan.credential_sections[i].id})" for i in dict.fromkeys(found)]
            yield (
                f"credentials[{found[-1]}].username: account {account} at {_shown(server)} is used more than once, by "
                f"{' and '.join(names)}; give each credential accounts of its own, owner roles included"
            )


def example_values(plan: "Plan") -> Iterator[str]:
    """Values that come from the example plan: with them a plan is valid, but cannot be deployed."""
    found = [(f"databases[{i}].host", d.host) for i, d in enumerate(plan.database_sections)]
    found += [
        (f"databases[{i}].verify_hosts[{j}].host", end.host)
        for i, d in enumerate(plan.database_sections)
        for j, end in enumerate(d.verify_hosts)
    ]
    found = [(place, host) for place, host in found if _EXAMPLE_HOST.fullmatch(host)]
    found += example_accounts(plan)
    others = [("audit.aws.bucket", plan.audit.aws.bucket)]
    others += [
        (f"stores[{i}].compartment_id", store.compartment_id)
        for i, store in enumerate(plan.stores)
        if isinstance(store, OciVault)
    ]
    if plan.audit.oci:
        others.append(("audit.oci.namespace", plan.audit.oci.namespace))
    if to_oci := plan.runners.aws.federation:
        others.append(("runners.aws.federation.domain_url", to_oci.domain_url))
    if plan.runners.oci and (to_aws := plan.runners.oci.federation):
        others.append(("runners.oci.federation.issuer", to_aws.issuer))
        others.append(("runners.oci.federation.role_arn", to_aws.role_arn))
    for place, value in (*found, *((place, value) for place, value in others if _EXAMPLE.search(value))):
        yield f"{place}: {value} is an example; give your own"


def awaited_values(plan: "Plan") -> Iterator[str]:
    """Values that may be examples until the OCI side is deployed, which prints them."""
    found = [
        (f"stores[{i}].{name}", value)
        for i, store in enumerate(plan.stores)
        if isinstance(store, OciVault)
        for name, value in (("own_compartment_id", store.own_compartment_id), ("vault_id", store.vault_id))
    ]
    if plan.runners.oci and (to_aws := plan.runners.oci.federation):
        found += [(f"runners.oci.federation.key.{name}", value) for name, value in to_aws.key]
    for place, value in found:
        if value and _EXAMPLE.search(value):
            yield f"{place}: {value} is an example; give your own, which `make deploy-oci` prints"


def missing_ca_files(plan: "Plan") -> Iterator[str]:
    """CA files that the plan names and that are not on this machine."""
    for i, database in enumerate(plan.database_sections):
        named = [(f"databases[{i}]", database.tls)]
        named += [(f"databases[{i}].verify_hosts[{j}]", h.tls) for j, h in enumerate(database.verify_hosts)]
        for path, tls in named:
            if tls and tls.ca_file and not tls.ca_file.is_file():
                yield f"{path}.tls.ca_file: {tls.ca_file} is not a file; give the path of a PEM file"


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
    yield from _key_problems(plan)
    for i, database in enumerate(plan.database_sections):
        ways = (database.tls, *(end.tls for end in database.verify_hosts))
        for ca_file in dict.fromkeys(tls.ca_file for tls in ways if tls and tls.ca_file):
            if not ca_file.is_relative_to(folder) or ".." in ca_file.relative_to(folder).parts:
                yield (
                    f"databases[{i}].tls.ca_file: {ca_file} must be in the plan's folder or below it, under a path "
                    "that is relative to the plan: the functions have it there"
                )


def _key_problems(plan: "Plan") -> Iterator[str]:
    """Ids with one key, of which one document and one execution at a time could be named (protocol R15)."""
    first: dict[str, str] = {}
    for i, credential in enumerate(plan.credential_sections):
        if (other := first.setdefault(run_key(credential.id), credential.id)) != credential.id:
            yield (
                f"credentials[{i}].id: {credential.id} and {other} have one key, {run_key(credential.id)}, by which "
                "documents and executions are named; give one of them another id"
            )


def _shown(server: Server) -> str:
    host, port = server
    return f"{host}:{port}"
