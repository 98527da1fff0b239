"""What ApplyDb reads before it takes the advisory locks, all of it at the same time."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import TypeVar

from lockstep.protocol.model import CredentialValue, Login
from lockstep.protocol.ports import Database
from lockstep.stores.credential import Ports

Key = TypeVar("Key")
Reads = Mapping[Key, Callable[[], CredentialValue | None]]


def of_generations(ports: Ports, generations: Iterable[int]) -> Reads[int]:
    """What reads the values of generations from the stores."""
    return {generation: partial(ports.stores.find_generation, generation) for generation in generations}


def read_ahead(
    ports: Ports, values: Reads[Key], databases: Iterable[str]
) -> tuple[dict[Key, CredentialValue | None], dict[str, Login]]:
    """Read values, and the login of each database's rotation user: one that several have is read once (protocol D22).

    Returns:
        The values, by their keys and in their order; and the logins, by database.
    """
    found: dict[Key, CredentialValue | None] = {}
    logins: dict[Hashable, Login] = {}

    def read_value(key: Key, read: Callable[[], CredentialValue | None]) -> None:
        found[key] = read()

    def read_login(admin: Hashable, database: Database) -> None:
        logins[admin] = database.admin_login()

    having: dict[Hashable, Database] = {}
    of_database = {name: ports.databases[name].admin for name in databases}
    for name, admin in of_database.items():
        having.setdefault(admin, ports.databases[name])
    ports.side_by_side(
        [
            *(partial(read_value, key, read) for key, read in values.items()),
            *(partial(read_login, admin, database) for admin, database in having.items()),
        ]
    )
    return {key: found[key] for key in values}, {name: logins[admin] for name, admin in of_database.items()}
