"""What can be asked of a server without changing it, for `lockstep doctor`: the same questions on each engine.

A server, to be looked at and not changed (see `lockstep.databases.inspect`).
"""

import re
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lockstep.databases.base import LoginRefusedError
from lockstep.databases.findings import Answer, warning
from lockstep.databases.tls import TlsProbe, shake_hands
from lockstep.protocol.model import AdminSecret, DatabaseServer, Login
from lockstep.protocol.ports import Clock

if TYPE_CHECKING:
    from lockstep.databases.base import ServerDatabase


LAG_SECONDS = 2.0
"""For which a verify host is waited that has not applied what its database has."""
_POLL_SECONDS = 0.2

Answers = list[tuple[str, Answer]]
"""With the check of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedIn:
    """A login that was accepted.

    Attributes:
        answers: What its session showed.
        is_behind: Whether the server has not applied the position that was asked for; None where it does not tell, or
            nobody asked.
        proves_nothing: Whether what has answered is a pooler that lets in by connections that it had.
    """

    answers: Answers
    is_behind: bool | None = None
    proves_nothing: bool = False


class AdminInspection:
    """The session of the rotation user."""

    def __init__(self, database: "ServerDatabase[Any]", looks: "AccountChecks", session: Any) -> None:  # noqa: ANN401 - the driver's
        self._database = database
        self._looks = looks
        self._session = session

    def answers(self) -> Answers:
        """What it sees."""
        return list(self._looks.as_admin(self._session, self._database))

    def lock(self) -> None:
        """Hold the advisory lock of the credential's accounts until the session ends; else AdvisoryLockBusyError."""
        self._session.lock(self._database.lock_key)

    def must_not_try(self, username: str) -> str | None:
        """Why a login of the account would be refused, as far as it is seen from here."""
        return self._looks.must_not_try(self._session, self._database, username)

    def position(self) -> str | None:
        """How far the server's log has come; None where it keeps none."""
        return self._looks.position(self._session)


class Inspector:
    """A server, for one credential.

    Args:
        database: How it is reached.
        looks: What its engine can be asked.
    """

    def __init__(self, database: "ServerDatabase[Any]", looks: "AccountChecks") -> None:
        self._database = database
        self._looks = looks

    def shake_hands(self) -> TlsProbe:
        """One TLS handshake.

        Raises:
            TlsVerificationError: The plan wants none.
            LockstepError: The server did not answer, or takes no connections.
        """
        tls = self._database.server.tls
        ca_file = str(tls.ca_file) if tls and tls.ca_file else None
        return shake_hands(self._database.name, self._verifying(), ca_file, self._connect)

    def _verifying(self) -> "ssl.SSLContext":
        if self._database.tls is None:
            raise ValueError("the plan wants no TLS")
        return self._database.tls

    def _connect(self, tls: "ssl.SSLContext | None") -> "socket.socket":
        return self._looks.connect(self._database, tls)

    def without_login(self) -> Answers:
        """What the server says to each username before a password is shown."""
        return [
            answer
            for username in self._database.credential.usernames
            for answer in self._looks.without_login(self._database, username)
        ]

    def admin_login(self) -> Login:
        """The rotation user's login, as it is now; raises the errors of a store too."""
        return self._database.admin_login()

    @contextmanager
    def as_admin(self, admin: Login) -> Iterator[AdminInspection]:
        """A session of the rotation user; raises AdminCredentialRejectedError."""
        with self._database.as_admin(admin) as session:
            yield AdminInspection(self._database, self._looks, session)

    def log_in(self, login: Login, *, position: str | None, clock: Clock) -> LoggedIn | None:
        """Show a login, once; None where it is refused.

        Args:
            login: A login that should work. The advisory lock must be held.
            position: Where given, whether the server has applied it is asked too.
            clock: For waiting.

        Raises:
            LockstepError: The account may not log in whatever its password, or the server did not answer.
        """
        try:
            with self._database.as_user(login) as session:
                answers = list(self._looks.as_user(session, self._database, login.username))
                behind = self._caught_up(session, position, clock) if position else None
                keeps = bool(position) and behind is None and self._looks.keeps_connections(session)
                return LoggedIn(answers=answers, is_behind=behind, proves_nothing=keeps)
        except LoginRefusedError:
            return None

    def _caught_up(self, session: Any, position: str, clock: Clock) -> bool | None:  # noqa: ANN401 - the driver's
        deadline = clock.monotonic() + LAG_SECONDS
        ask: Callable[[], bool | None] = lambda: self._looks.behind(session, position)  # noqa: E731 - asked twice
        while (behind := ask()) and clock.monotonic() < deadline:
            clock.sleep(_POLL_SECONDS)
        return behind


# What can be asked of a server without changing it, for `lockstep doctor`: the same questions on each engine.
#
# A question gives answers with the id of the check that they belong to. Nothing here shows a login to a server:
# the sessions are given.

SERVER, RIGHTS, ACCOUNTS = "database.server", "database.rights", "database.accounts"
LOCKOUT, EXPIRY, POLICY = "database.lockout", "database.expiry", "database.policy"
PLUGIN, ACCESS, ROLES = "database.plugin", "database.access", "database.roles"

LooksAnswers = Iterator[tuple[str, Answer]]
"""With the check of each."""

_MANAGED = re.compile(r"(arn:.*:secret:)?rds!.*")


class AccountChecks(Protocol):
    """The questions of an engine. Sessions and databases are the driver's own; raises what its statements raise."""

    def connect(self, database: Any, tls: ssl.SSLContext | None) -> socket.socket:  # noqa: ANN401 - the driver's
        """See `lockstep.databases.tls.Open`."""

    def as_admin(self, session: Any, database: Any) -> LooksAnswers:  # noqa: ANN401 - the driver's
        """What the rotation user sees of the server, of its own rights and of the credential's accounts."""

    def as_user(self, session: Any, database: Any, username: str) -> LooksAnswers:  # noqa: ANN401 - likewise
        """What the session of an account shows of that account."""

    def without_login(self, database: Any, username: str) -> LooksAnswers:  # noqa: ANN401 - the driver's
        """What the server says to an account before a password is shown."""

    def must_not_try(self, session: Any, database: Any, username: str) -> str | None:  # noqa: ANN401 - likewise
        """Why a login of the account would be refused whatever its password; None where no reason is seen."""

    def position(self, session: Any) -> str | None:  # noqa: ANN401 - likewise
        """How far the server's log has come; None where it keeps none."""

    def behind(self, session: Any, position: str) -> bool | None:  # noqa: ANN401 - likewise
        """Whether a verify host has not applied that position yet; None where it does not tell."""

    def keeps_connections(self, session: Any) -> bool:  # noqa: ANN401 - likewise
        """Whether a pooler has answered that compares a password with the one of a connection that it has kept."""


def of_account(database: "ServerDatabase[Any]", username: str) -> str:
    """The subject of an answer about an account."""
    return f"{database.name} {username}"


def is_master(server: DatabaseServer) -> bool:
    """Whether the rotation user is a master user whose secret RDS manages, which may do more than rotate."""
    return isinstance(server.admin, AdminSecret) and _MANAGED.fullmatch(server.admin.aws) is not None


def of_replicas(server: DatabaseServer, hosts: Sequence[str | None]) -> LooksAnswers:
    """Asynchronous replicas that are no verify hosts: a fail-over to one can lose the last rotation.

    Args:
        server: Whose.
        hosts: From where they replicate; None where the rotation user may not see it.
    """
    named = _addresses(*(end.host for end in server.verify_hosts))
    if others := {host for host in hosts if host and not _addresses(host) & named}:
        says = "replicates from it and is no verify host, so a fail-over to it can lose a rotation"
        fix = "name what can become the primary under `verify_hosts`: see `Verify hosts` in docs/runbook.md"
        yield SERVER, warning(server.name, f"{listing(list(others))} {says}", fix)
    if (unseen := hosts.count(None)) > len(server.verify_hosts):
        says = (
            f"{unseen} hosts replicate from it, more than verify hosts, and it shows the rotation user none"
        )
        yield SERVER, warning(server.name, says, "lockstep sessions, which names the right that is missing")


def _addresses(*hosts: str) -> set[str]:
    found = set(hosts)
    for host in hosts:
        with suppress(OSError, UnicodeError):
            found |= {str(address[0]) for *_, address in socket.getaddrinfo(host, None)}
    return found


def listing(names: Iterator[str] | list[str]) -> str:
    """Names in a sentence."""
    return ", ".join(sorted(names))
