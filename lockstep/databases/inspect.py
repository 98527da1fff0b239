"""What can be asked of a server without changing it, for `lockstep doctor`: the same questions on each engine.

The rules (`lockstep.databases.rules`) are asked here; what else an engine can be asked is in `inspect_<engine>`.
Nothing here shows a login to a server that should not work.
"""

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from lockstep.databases.base import LoginRefusedError
from lockstep.databases.findings import Finding, Outcome, not_asked, passed, warning
from lockstep.databases.tls import TlsProbe, shake_hands
from lockstep.protocol.errors import PrivilegeMissingError
from lockstep.protocol.model import DatabaseServer, Login

if TYPE_CHECKING:
    from lockstep.databases.base import ServerDatabase
    from lockstep.databases.rules import Rule

SERVER, RIGHTS, ACCOUNTS = "database.server", "database.rights", "database.accounts"
_ABOUT = {"server": SERVER, "rights": RIGHTS}
"""The check of a rule, by what it is about; of any other: accounts."""
AGAIN = "run the statements of `lockstep plan sql` for the rotation user again"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedIn:
    """A login that was accepted.

    Attributes:
        findings: What its session showed.
        proves_nothing: Whether what has answered is a pooler that lets in by connections that it had.
    """

    findings: list[Finding] = field(default_factory=list)
    proves_nothing: bool = False


class AccountChecks(Protocol):
    """The questions of an engine. Sessions and databases are the driver's own; raises what its statements raise."""

    def connect(self, database: Any, tls: ssl.SSLContext | None) -> socket.socket:  # noqa: ANN401 - the driver's
        """See `lockstep.databases.tls.Open`."""

    def rules(self, database: Any) -> "Sequence[Rule]":  # noqa: ANN401 - the driver's
        """Those that are asked as the rotation user."""

    def ask(self, session: Any, sql: str) -> Sequence[Sequence[Any]]:  # noqa: ANN401 - the driver's
        """The rows of a rule."""

    def as_admin(self, session: Any, database: Any) -> Iterator[Finding]:  # noqa: ANN401 - the driver's
        """What else the rotation user sees."""

    def as_user(self, session: Any, database: Any, username: str) -> Iterator[Finding]:  # noqa: ANN401 - the driver's
        """What the session of an account shows of that account."""

    def keeps_connections(self, session: Any) -> bool:  # noqa: ANN401 - the driver's
        """Whether a pooler has answered that compares a password with the one of a connection that it has kept."""
        del session
        return False


class AdminInspection:
    """The session of the rotation user.

    Attributes:
        refused: Usernames that would be refused whatever the password, as far as is seen from here; an empty one: all.
    """

    def __init__(self, database: "ServerDatabase[Any]", checks: AccountChecks, session: Any) -> None:  # noqa: ANN401 - the driver's
        self._database = database
        self._checks = checks
        self._session = session
        self.refused: set[str] = set()

    def findings(self) -> list[Finding]:
        """What it sees."""
        database = self._database
        found = [*self._asked(), *self._checks.as_admin(self._session, database)]
        wrong = {finding.check for finding in found}
        as_said = {
            SERVER: f"the strategy {database.credential.strategy} works there",
            RIGHTS: "the rotation user may change the accounts",
            ACCOUNTS: f"{listing(database.credential.usernames)} can be rotated",
        }
        return [*found, *(passed(c, database.name, says) for c, says in as_said.items() if c not in wrong)]

    def _asked(self) -> Iterator[Finding]:
        for rule in self._checks.rules(self._database):
            try:
                rows = self._checks.ask(self._session, rule.sql)
            except PrivilegeMissingError:
                yield not_asked(RIGHTS, self._database.name, "it may not see everything that is asked", AGAIN)
                continue
            for row in rows:
                if rule.kind == "refused":
                    self.refused.add(str(row[0]))
                yield of_rule(rule, self._database.name, row)

    def lock(self) -> None:
        """Hold the advisory lock of the credential's accounts until the session ends; else AdvisoryLockBusyError."""
        self._session.lock(self._database.lock_key)


class Inspector:
    """A server, for one credential.

    Args:
        database: How it is reached.
        checks: What its engine can be asked.
    """

    def __init__(self, database: "ServerDatabase[Any]", checks: AccountChecks) -> None:
        self._database = database
        self._checks = checks

    def shake_hands(self) -> TlsProbe:
        """One TLS handshake.

        Raises:
            TlsVerificationError: The plan wants none.
            LockstepError: The server did not answer, or takes no connections.
        """
        database = self._database
        if database.tls is None:
            raise ValueError("the plan wants no TLS")
        tls = database.server.tls
        ca_file = str(tls.ca_file) if tls and tls.ca_file else None
        return shake_hands(database.name, database.tls, ca_file, partial(self._checks.connect, database))

    def admin_login(self) -> Login:
        """The rotation user's login, as it is now; raises the errors of a store too."""
        return self._database.admin_login()

    @contextmanager
    def as_admin(self, admin: Login) -> Iterator[AdminInspection]:
        """A session of the rotation user; raises AdminCredentialRejectedError."""
        with self._database.as_admin(admin) as session:
            yield AdminInspection(self._database, self._checks, session)

    def log_in(self, login: Login, *, is_copy: bool = False) -> LoggedIn | None:
        """Show a login, once; None where it is refused.

        Args:
            login: A login that should work. The advisory lock must be held.
            is_copy: Whether it is a verify host, of whose accounts nothing else is asked.

        Raises:
            LockstepError: The account may not log in whatever its password, or the server did not answer.
        """
        try:
            with self._database.as_user(login) as session:
                if is_copy:
                    return LoggedIn(proves_nothing=self._checks.keeps_connections(session))
                found = self._checks.as_user(session, self._database, login.username)
                return LoggedIn(findings=list(found))
        except LoginRefusedError:
            return None


def of_rule(rule: "Rule", database: str, row: Sequence[Any]) -> Finding:
    """What a row of a rule says."""
    subject, says, fix = map(str, row)
    return Finding(
        check=_ABOUT.get(rule.about, ACCOUNTS),
        subject=f"{database} {subject}".strip(),
        outcome=Outcome.WARNING if rule.kind == "warning" else Outcome.FAILED,
        says=says,
        command=fix,
    )


def of_replicas(server: DatabaseServer, hosts: Sequence[str | None]) -> Iterator[Finding]:
    """Asynchronous replicas that are no verify hosts: a fail-over to one can lose the last rotation.

    Args:
        server: Whose.
        hosts: From where they replicate; None where the rotation user may not see it.
    """
    named = _addresses(*(end.host for end in server.verify_hosts))
    if others := {host for host in hosts if host and not _addresses(host) & named}:
        says = "replicates from it and is no verify host, so a fail-over to it can lose a rotation"
        fix = "name what can become the primary under `verify_hosts`: see docs/deploy.md#verify-hosts"
        yield warning(SERVER, server.name, f"{listing(list(others))} {says}", fix)
    if (unseen := hosts.count(None)) > len(server.verify_hosts):
        says = (
            f"{unseen} hosts replicate from it, more than verify hosts, and it shows the rotation user none"
        )
        yield warning(SERVER, server.name, says, "lockstep sessions, which names the right that is missing")


def _addresses(*hosts: str) -> set[str]:
    found = set(hosts)
    for host in hosts:
        with suppress(OSError, UnicodeError):
            found |= {str(address[0]) for *_, address in socket.getaddrinfo(host, None)}
    return found


def listing(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return ", ".join(sorted(names))
