"""The plan of a fleet: which credentials, on which databases, and which of them have an application in the run."""

from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest

from lockstep.protocol.model import Credential, Engine, Strategy
from sandbox import plans
from sandbox.emulators.databases import DatabaseServer
from sandbox.plans import Document
from sandbox.servers import engine_of

EVERY_NTH_ON_TWO = 10
"""One of so many credentials is on two engines."""


def credentials(
    servers: Mapping[str, DatabaseServer], number: int, intervals: Sequence[str]
) -> list[Document]:
    """So many credentials, spread evenly over the servers, of each strategy that a server can have.

    Args:
        servers: By name.
        number: How many.
        intervals: Taken in turn, as in the plan file.
    """
    names = list(servers)
    found = []
    for i in range(number):
        on = [names[i % len(names)]]
        if i % EVERY_NTH_ON_TWO == EVERY_NTH_ON_TWO - 1 and len(names) > 1:
            on.append(names[(i + 1) % len(names)])
        has_two_passwords = all(engine_of(servers[name]) is not Engine.POSTGRESQL for name in on)
        # Of those that can have two passwords, half do.
        dual = has_two_passwords and i // len(names) % 2 == 0
        credential_id = f"fleet/app-{i:04}"
        found.append(
            plans.credential(
                credential_id,
                *on,
                username=f"app{i:04}",
                strategy=Strategy.DUAL_PASSWORD if dual else Strategy.ALTERNATING_USERS,
                interval=intervals[i % len(intervals)],
            )
        )
    return found


def sample(credentials: Sequence[Credential], number: int) -> list[Credential]:
    """So many credentials, of every strategy and combination of databases in turn."""
    kinds: dict[tuple[object, ...], list[Credential]] = {}
    for credential in credentials:
        kinds.setdefault((credential.strategy, *credential.databases), []).append(credential)
    in_turn = chain.from_iterable(zip_longest(*kinds.values()))
    return [credential for credential in in_turn if credential][:number]
