"""What can be asked of a server without changing it, for `lockstep doctor`: the same questions on each engine.

A question gives answers with the id of the check that they belong to. Nothing here shows a login to a server: the
sessions are given.
"""

import re
import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from lockstep.doctor.findings import Answer
from lockstep.model import AdminSecret, DatabaseServer

if TYPE_CHECKING:
    from lockstep.databases.base import ServerDatabase

SERVER, RIGHTS, ACCOUNTS = "database.server", "database.rights", "database.accounts"
LOCKOUT, EXPIRY, POLICY = "database.lockout", "database.expiry", "database.policy"
PLUGIN, ACCESS, ROLES = "database.plugin", "database.access", "database.roles"

Answers = Iterator[tuple[str, Answer]]
"""With the check of each."""

_MANAGED = re.compile(r"(arn:.*:secret:)?rds!.*")


class Looks(Protocol):
    """The questions of an engine. Sessions and databases are the driver's own; raises what its statements raise."""

    def connect(self, database: Any, tls: ssl.SSLContext | None) -> socket.socket:  # noqa: ANN401 - the driver's
        """See `lockstep.databases.handshake.Open`."""

    def as_admin(self, session: Any, database: Any) -> Answers:  # noqa: ANN401 - the driver's
        """What the rotator admin sees of the server, of its own rights and of the credential's accounts."""

    def as_user(self, session: Any, database: Any, username: str) -> Answers:  # noqa: ANN401 - likewise
        """What the session of an account shows of that account."""

    def without_login(self, database: Any, username: str) -> Answers:  # noqa: ANN401 - the driver's
        """What the server says to an account before a password is shown."""

    def must_not_try(self, session: Any, database: Any, username: str) -> str | None:  # noqa: ANN401 - likewise
        """Why a login of the account would be refused whatever its password; None where no reason is seen."""

    def position(self, session: Any) -> str | None:  # noqa: ANN401 - likewise
        """How far the server's log has come; None where it keeps none."""

    def behind(self, session: Any, position: str) -> bool | None:  # noqa: ANN401 - likewise
        """Whether a verify host has not applied that position yet; None where it does not tell."""


def of_account(database: "ServerDatabase[Any]", username: str) -> str:
    """The subject of an answer about an account."""
    return f"{database.name} {username}"


def is_master(server: DatabaseServer) -> bool:
    """Whether the rotator admin is a master user whose secret RDS manages, which may do more than rotate."""
    return isinstance(server.admin, AdminSecret) and _MANAGED.fullmatch(server.admin.aws) is not None


def listing(names: Iterator[str] | list[str]) -> str:
    """Names in a sentence."""
    return ", ".join(sorted(names))
