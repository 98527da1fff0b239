"""The plan digest: one value for all that both runners must agree on for a credential (protocol O1).

A runner whose digest is not the active one changes nothing. So the digest covers what makes two runners write different
values, to different places, or at different times, and nothing that each runner may have its own way:

- not how a server is reached: `tls` with its CA file, endpoints. The two clouds reach it over different networks.
- not how the rotator admin logs in. Each runner has its own way, and the admin's login decides no value.
- not `audit` and `runners`. Each runner writes its own stream.
- not `password`. A value that was made under another policy is as good as any.
- not the names of stores, nor OCI's compartment. A store is its kind and its place; a vault's secrets keep their names
  when they are moved to another compartment.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rfc8785

from lockstep.model import ANY_HOST, DatabaseServer, Schedule, SecretNames, Strategy

VERSION = 1
"""Of the document below. To raise it changes every digest, so that every credential needs an activation; a new field
that is left out while it has its default does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What both runners must agree on for a credential.

    Attributes:
        lock_table: Name and region of the lock table.
        stores: What makes each store this store (`StoreKind.identity`). Their order counts: the first one decides.
        usernames: Their order counts: it says whose turn is next.
        account_host: The host part of their accounts.
        servers: The first one counts as such: it is the one in `app_user`. The order of the others does not.
    """

    credential_id: str
    lock_table: tuple[str, str]
    stores: Sequence[Mapping[str, object]]
    secret_names: SecretNames
    strategy: Strategy
    usernames: Sequence[str]
    account_host: str
    schedule: Schedule
    servers: Sequence[DatabaseServer]


def plan_digest(agreement: Agreement) -> str:
    """SHA-256, in hexadecimal, of the agreement in its canonical form (RFC 8785)."""
    return hashlib.sha256(rfc8785.dumps(_document(agreement))).hexdigest()


def _document(agreement: Agreement) -> dict[str, Any]:
    names, schedule = agreement.secret_names, agreement.schedule
    table, region = agreement.lock_table
    return {
        "version": VERSION,
        "credential": agreement.credential_id,
        "lock": {"table": table, "region": region},
        "stores": [dict(store) for store in agreement.stores],
        "secrets": {"app_user": names.app_user, "connection_blob": names.connection_blob},
        "strategy": agreement.strategy.value,
        "usernames": list(agreement.usernames),
        **({"account_host": agreement.account_host} if agreement.account_host != ANY_HOST else {}),
        "seconds": {
            "interval": int(schedule.interval.total_seconds()),
            "tolerance": int(schedule.tolerance.total_seconds()),
            "overlap": int(schedule.overlap.total_seconds()),
        },
        "primary": agreement.servers[0].name,
        "databases": {server.name: _database(server) for server in agreement.servers},
    }


def _database(server: DatabaseServer) -> dict[str, Any]:
    verified = sorted((end.host, end.port) for end in server.verify_hosts)
    return {
        "engine": server.engine.value,
        "host": server.host,
        "port": server.port,
        "dbname": server.dbname,
        **({"verify_hosts": [list(end) for end in verified]} if verified else {}),
    }
