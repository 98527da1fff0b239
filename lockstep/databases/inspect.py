"""What can be asked of a server without changing it, for `lockstep doctor`: the same questions on each engine.

The rules (`lockstep.databases.rules`) are asked here; what else an engine can be asked is in `inspect_<engine>`.
Nothing here shows a login to a server that should not work.
"""

import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Generic, TypeVar

from lockstep.databases.base import LoginRefusedError, ServerDatabase
from lockstep.databases.findings import Finding, Outcome, not_asked, passed, warning
from lockstep.databases.rules import Rule, rules
from lockstep.databases.tls import TlsProbe, shake_hands
from lockstep.protocol.errors import PrivilegeMissingError
from lockstep.protocol.model import DatabaseServer, Login

DatabaseT = TypeVar("DatabaseT", bound=ServerDatabase[Any])

SERVER, RIGHTS, ACCOUNTS = "database.server", "database.rights", "database.accounts"
VERIFY_HOSTS = "database.verify-hosts"
_ABOUT = {"server": SERVER, "rights": RIGHTS}
"""The check of a rule, by what it is about; of any other: accounts."""
AGAIN = "run the statements of `lockstep plan sql` for the rotation user again"


class Inspector(ABC, Generic[DatabaseT]):
    """A server, for one credential; each engine has its own.

    Attributes:
        hosts: How the rules see the hosts of accounts as the rotation user, where accounts have hosts.

    Args:
        database: How it is reached.
    """

    hosts: ClassVar[str] = "mysql.user AS u"

    def __init__(self, database: DatabaseT) -> None:
        self.database = database

    # ---- The questions of an engine: sessions are the driver's own; raises what its statements raise

    @abstractmethod
    def connect(self, tls: ssl.SSLContext) -> socket.socket:
        """See `lockstep.databases.tls.Open`."""

    @abstractmethod
    def ask(self, session: Any, sql: str) -> Sequence[Sequence[Any]]:  # noqa: ANN401 - the driver's
        """The rows of a rule."""

    @abstractmethod
    def beside_rules(self, session: Any) -> Iterator[Finding]:  # noqa: ANN401 - the driver's
        """What else the rotation user sees."""

    @abstractmethod
    def of_account(self, session: Any, username: str) -> Iterator[Finding]:  # noqa: ANN401 - the driver's
        """What the session of an account shows of that account."""

    def of_verify_host(self, _session: Any, _username: str) -> Iterator[Finding]:  # noqa: ANN401 - the driver's
        """Why a login to a verify host proves nothing, where that is so."""
        return iter(())

    # ---- What is asked on each engine in the same way

    def rules(self) -> list[Rule]:
        """Those that are asked as the rotation user; the others, of what an account shows of itself."""
        known = rules(self.database.server.engine, self.database.credential, hosts=self.hosts)
        return [rule for rule in known if not rule.is_of_account]

    def shake_hands(self) -> TlsProbe:
        """One TLS handshake.

        Raises:
            ValueError: The plan wants none.
            LockstepError: The server did not answer, or takes no connections.
        """
        if self.database.tls is None:
            raise ValueError("the plan wants no TLS")
        return shake_hands(self.database.server, self.database.tls, self.connect)

    def as_admin(self, session: Any) -> tuple[list[Finding], set[str]]:  # noqa: ANN401 - the driver's
        """What the rotation user sees.

        Returns:
            Findings; and the usernames that would be refused whatever the password, as far as is seen from here: an
            empty one means all.
        """
        database, found, refused = self.database, list[Finding](), set[str]()
        for rule in self.rules():
            try:
                rows = self.ask(session, rule.sql)
            except PrivilegeMissingError:
                found.append(
                    not_asked(RIGHTS, database.name, "it may not see everything that is asked", AGAIN)
                )
                continue
            found += [of_rule(rule, database.name, row) for row in rows]
            if rule.kind == "refused":
                refused |= {str(row[0]) for row in rows}
        found += self.beside_rules(session)
        wrong = {finding.check for finding in found}
        as_said = {
            SERVER: f"the strategy {database.credential.strategy} works there",
            RIGHTS: "the rotation user may change the accounts",
            ACCOUNTS: f"{listing(database.credential.usernames)} can be rotated",
        }
        found += [passed(check, database.name, says) for check, says in as_said.items() if check not in wrong]
        return found, refused

    def log_in(self, login: Login, *, is_copy: bool = False) -> list[Finding] | None:
        """Show a login, once; what its session shows, or None where it is refused.

        Args:
            login: A login that should work. The advisory lock must be held.
            is_copy: Whether it is a verify host, of whose accounts nothing is asked.

        Raises:
            LockstepError: The account may not log in whatever its password, or the server did not answer.
        """
        try:
            with self.database.as_user(login) as session:
                ask = self.of_verify_host if is_copy else self.of_account
                return list(ask(session, login.username))
        except LoginRefusedError:
            return None


def of_rule(rule: Rule, database: str, row: Sequence[Any]) -> Finding:
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
