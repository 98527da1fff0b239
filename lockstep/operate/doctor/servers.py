"""The databases of a plan, looked at from one place: everything once, whatever the number of checks.

What is asked of a server, in this order: its port, a TLS handshake; then as the rotation user what that sees; then,
with the advisory lock held, one login for each account that a store serves. So a doctor beside a rotation waits for
it, or it for the doctor, and a login is shown only while nobody changes its account (protocol D1).

A login is shown once for each account and run, and only if it should work: not on a database that is under take-over
(protocol D3), nor where the server shows that it would be refused whatever the password. What one place has
seen refused is not shown from another (`Databases.silent`). So no run of the doctor brings an account two refusals.
Nothing on a server is changed.
"""

import socket
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from msgspec import structs

from lockstep.databases import inspect
from lockstep.databases.findings import HERE, Finding, Outcome, failed, not_asked, passed, warning
from lockstep.databases.inspect import VERIFY_HOSTS, Inspector
from lockstep.databases.tls import TlsProbe
from lockstep.operate.verdict import next_step
from lockstep.protocol.errors import (
    AdminCredentialRejectedError,
    DeadlineExceededError,
    LockstepError,
    LockTableAccessDeniedError,
    ReplicaRejectedError,
    RetryableError,
    StoreAccessDeniedError,
    UnsupportedServerError,
    described,
    line_of,
)
from lockstep.protocol.model import AdminCredential, AdminIam, Credential, DatabaseServer, Login
from lockstep.runtime.clouds import Clouds

ROUTE, TLS, ADMIN = "database.route", "database.tls", "database.admin"
LOGIN = "database.login"
_IN_ORDER = (ROUTE, TLS, ADMIN, inspect.SERVER, inspect.RIGHTS, inspect.ACCOUNTS, LOGIN)
EVERY_CHECK = (*_IN_ORDER, VERIFY_HOSTS)
"""Verify hosts are asked only where there are some."""
ASK_DATABASES = frozenset({"aws/apply_db", "oci/rotate"})
"""The functions that look at databases, and show them logins."""


# ---- What an error says, whoever has met it


def unanswered(check: str, subject: str, error: LockstepError) -> Finding:
    """Why it is not known, with what to do next."""
    advice = described(error).advice
    return not_asked(check, subject, line_of(error).removesuffix(advice).rstrip(" ."), advice or None)


def of_error(check: str, subject: str, error: LockstepError) -> Finding:
    """It has failed; or is not known, where the same call may be answered later."""
    found = unanswered(check, subject, error)
    if isinstance(error, RetryableError | DeadlineExceededError):
        return found
    return structs.replace(found, outcome=Outcome.FAILED)


def of_runs(finding: Finding, where: str) -> Finding:
    """What has failed from here says nothing of runs, which have networks and rights of their own."""
    if where != HERE:
        return finding
    return structs.replace(finding, outcome=Outcome.NOT_ASKED, command="lockstep doctor --in-cloud")


# ---- How far a server is from here: its name, its port, its certificate

CONNECT_SECONDS = 3.0
"""For each address."""
SOON = timedelta(days=30)
"""A certificate that ends earlier is a warning."""


def route(server: DatabaseServer, where: str) -> Finding:
    """Resolve a server's name, and open a connection to its port.

    Args:
        server: The server, or a verify host.
        where: The place from which is asked.
    """
    place = f"port {server.port} of {server.host}"
    try:
        with socket.create_connection((server.host, server.port), CONNECT_SECONDS) as connection:
            address = connection.getpeername()[0]
    except (socket.gaierror, UnicodeError) as error:
        is_silent = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        why = "the resolver does not answer" if is_silent else "there is no such name"
        says = f"{server.host} does not resolve from {where}: {why}"
        fix = "let that network resolve it (a private zone, view or forwarder), or correct `host` in the plan"
        return of_runs(failed(ROUTE, server.name, says, fix), where)
    except ConnectionRefusedError:
        says = f"{place} refuses connections: nothing listens there, or a firewall rejects them"
        fix = "start the server, let it listen on that address, or correct `port` in the plan"
        return failed(ROUTE, server.name, says, fix)
    except OSError as error:
        says = f"{place} does not answer within {CONNECT_SECONDS:.0f} s ({type(error).__name__})"
        fix = f"let {where} in: a security group, a network list, a route or a firewall drops packets"
        return of_runs(failed(ROUTE, server.name, says, fix), where)
    return passed(ROUTE, server.name, f"port {server.port} of {address} takes connections")


_CERTIFY = (
    "give the server a certificate for its name in the plan, and put its CA into the file of `ca_file`; RDS: "
    "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
)


def of_certificate(server: DatabaseServer, shaken: TlsProbe, now: datetime) -> Finding:
    """What a handshake says.

    Args:
        server: The server, or a verify host.
        shaken: The handshake.
        now: To compare the end of the certificate with.
    """
    file = server.tls.ca_file if server.tls else None
    ca = f"the CAs in {file}" if file else "the CAs of this system"
    if shaken.flaw is not None:
        names = ", ".join(shaken.names) or "another name"
        says = shaken.flaw.format(names=names, host=server.host, ca=ca)
        return failed(TLS, server.name, says, _CERTIFY)
    until = shaken.expires_at
    if until and until - now < SOON:
        says = f"its certificate expires on {until:%Y-%m-%d}, in {(until - now).days} days"
        return warning(TLS, server.name, says, "renew it on the server; RDS does when its CA is current")
    return passed(TLS, server.name, f"{shaken.version}, verified by {ca}")


# ---- The databases of some credentials


@dataclass
class Databases:
    """The databases of some credentials.

    Attributes:
        credentials: Of the plan.
        clouds: How they are reached, from this place.
        where: This place, as findings name it.
        silent: The names of databases to which no login is shown: another place has seen them refuse one.
    """

    credentials: Sequence[Credential]
    clouds: Clouds
    where: str
    silent: frozenset[str] = frozenset()

    def found(self, *checks: str) -> list[Finding]:
        """What some checks have found, on every server of the plan."""
        return [finding for check in checks for look in self._ended for finding in look.found[check]]

    @property
    def refused(self) -> frozenset[str]:
        """The names of the databases that have refused a login."""
        return frozenset(look.server.name for look in self._ended if look.was_refused)

    @cached_property
    def _ended(self) -> "list[_Look]":
        servers = {server.name: server for c in self.credentials for server in c.servers}
        looks = []
        for name, server in servers.items():
            own = [c for c in self.credentials if name in c.databases]
            looks.append(_Look(self.clouds, self.where, server, own, name in self.silent))
        self.clouds.side_by_side([look.run for look in looks])
        return looks


@dataclass
class _Served:
    """A login that these stores serve, by their names."""

    login: Login
    stores: list[str]

    def __str__(self) -> str:
        return f"what {' and '.join(self.stores)} {'serve' if len(self.stores) > 1 else 'serves'}"


@dataclass
class _Look:
    """A server, looked at for its credentials from one place.

    Attributes:
        is_silent: Whether it is shown no login.
        found: By check.
        was_refused: Whether the server has refused a login, the rotation user's or a store's.
    """

    clouds: Clouds
    where: str
    server: DatabaseServer
    credentials: Sequence[Credential]
    is_silent: bool
    found: dict[str, list[Finding]] = field(default_factory=lambda: defaultdict(list))
    was_refused: bool = False

    def run(self) -> None:
        """Look once. Of every check that has found nothing it is said why that is so."""
        why = self._why_not_all()
        for check in _IN_ORDER:
            if not self.found[check]:
                self._add(not_asked(check, self.server.name, f"not asked, since {why}"))

    def _why_not_all(self) -> str:
        """Ask what can be asked; why that is not all."""
        if not self._network(self.server):
            return "the server is not reached"
        copies = [copy for copy in self.server.copies if self._network(copy)]
        if self.is_silent:
            return "another place has seen it refuse a login, or may have: it has not answered"
        for credential in self.credentials:
            in_the_way = {f.outcome for f in (*self.found[ADMIN], *self.found[inspect.SERVER])}
            # A login that was refused for one credential is not shown for the next.
            if in_the_way <= {Outcome.PASSED, Outcome.WARNING}:
                self._as_admin(credential, copies)
        return "the rotation user has no session there"

    def _add(self, *findings: Finding) -> None:
        """Keep findings; one that several credentials give, once."""
        for finding in findings:
            if finding not in self.found[finding.check]:
                self.found[finding.check].append(finding)

    def _met(self, check: str, subject: str, error: LockstepError) -> None:
        finding = of_error(check, subject, error)
        denied = isinstance(error, StoreAccessDeniedError | LockTableAccessDeniedError)
        self._add(of_runs(finding, self.where) if denied else finding)

    def _network(self, server: DatabaseServer) -> bool:
        """Whether a server, or a verify host, is reached and has a certificate."""
        reached = route(server, self.where)
        self._add(reached)
        if reached.outcome is not Outcome.PASSED:
            return False
        if server.plaintext:
            says = "not asked for: the plan allows plaintext, in as many words"
            self._add(passed(TLS, server.name, says))
            return True
        try:
            shaken = self.clouds.inspector(server, self.credentials[0]).shake_hands()
        except LockstepError as error:
            self._met(TLS, server.name, error)
            return False
        self._add(of_certificate(server, shaken, self.clouds.clock.now()))
        return shaken.flaw is None

    # ---- Logins

    def _as_admin(self, credential: Credential, copies: Sequence[DatabaseServer]) -> None:
        """Ask as the rotation user, and then show what the stores serve."""
        server = self.server
        check, subject = ADMIN, server.name
        try:
            inspector = self.clouds.inspector(server, credential)
            login = inspector.database.admin_login()
            with inspector.database.as_admin(login) as session:
                logs_in = passed(ADMIN, subject, f"{login.username} logs in{self._by}")
                found, refused = inspector.as_admin(session)
                self._add(logs_in, *found)
                check, subject = LOGIN, f"{server.name} {credential.id}"
                session.lock(inspector.database.lock_key)
                self._show(refused, inspector, credential, copies)
        except AdminCredentialRejectedError:
            self._add(self._admin_refused())
        except UnsupportedServerError as error:
            # It has logged in, and left when it saw the version.
            self._met(inspect.SERVER, subject, error)
        except LockstepError as error:
            self._met(check, subject, error)

    @property
    def _by(self) -> str:
        return " by RDS IAM authentication" if isinstance(self.server.admin, AdminIam) else ""

    def _admin_refused(self) -> Finding:
        admin, name = self.server.admin, self.server.name
        says, fix = f"the server refuses the rotation user's login{self._by}, or there is none", ""
        if isinstance(admin, AdminIam):
            fix = (
                "let the account have IAM authentication (`lockstep plan sql`), and the runner rds-db:connect"
            )
            # A token is of the identity that asks: what is refused from here may log in from elsewhere.
            return of_runs(failed(ADMIN, name, says, fix), self.where)
        if isinstance(admin, AdminCredential):
            fix = f"lockstep import {admin.credential}"
        self.was_refused = True
        return failed(ADMIN, name, says, fix or AdminCredentialRejectedError.advice)

    def _show(
        self,
        refused: set[str],
        inspector: Inspector[Any],
        credential: Credential,
        copies: Sequence[DatabaseServer],
    ) -> None:
        """Show what may be shown, read with the lock held: nobody ends it before that is given back."""
        server = self.server
        record = self.clouds.lock(credential).read()
        if server.name in record.take_over:  # Protocol D3.
            says = "it is under take-over, so no login is shown"
            fix = next_step(record, credential, self.clouds.clock.now())
            self._add(warning(LOGIN, f"{server.name} {credential.id}", says, fix))
            return
        for served in self._served(credential):
            username = served.login.username
            subject = f"{server.name} {username}"
            if refused & {"", username}:
                says = "no login is shown: its account would refuse it, or has refused another one"
                self._add(not_asked(LOGIN, subject, says))
                continue
            says = f"the server refuses {served}; the doctor has shown it once, and shows no other"
            fix = (
                f"lockstep import {credential.id}, with the login that works; or lockstep take-over {credential.id} "
                f"{server.name}; see docs/recover.md#current-value-rejected"
            )
            if not self._logs_in(inspector, served, failed(LOGIN, subject, says, fix)):
                # The next refusal could be one too many.
                refused.add(username)
                continue
            for copy in copies:
                says = f"the verify host refuses {served}, which its database accepts"
                refusal = failed(VERIFY_HOSTS, f"{copy.name} {username}", says, ReplicaRejectedError.advice)
                self._logs_in(self.clouds.inspector(copy, credential), served, refusal, is_copy=True)

    def _served(self, credential: Credential) -> list[_Served]:
        """Each login that a store serves, once; why a store serves none is kept."""
        found: list[_Served] = []
        fix = f"lockstep import {credential.id}"
        for store in self.clouds.each_store(credential):
            subject = f"{credential.id} in {store.name}"
            try:
                login = store.read_login()
            except LockstepError as error:
                self._met(LOGIN, subject, error)
                continue
            if login is None:
                says = "the store serves no login yet, but a placeholder"
                otherwise = f"{fix}, or, where no login is known: lockstep take-over {credential.id}"
                self._add(warning(LOGIN, subject, says, otherwise))
            elif login.username not in credential.usernames:
                says = "the store serves a username that the plan does not name"
                self._add(failed(LOGIN, subject, says, fix))
            elif same := next((one for one in found if one.login == login), None):
                same.stores.append(store.name)
            else:
                found.append(_Served(login, [store.name]))
        return found

    def _logs_in(
        self, inspector: Inspector[Any], served: _Served, refusal: Finding, *, is_copy: bool = False
    ) -> bool:
        """Show a login once, of the check and the subject of what is said where it is refused."""
        check, subject = refusal.check, refusal.subject
        try:
            found = inspector.log_in(served.login, is_copy=is_copy)
        except LockstepError as error:
            self._met(check, subject, error)
            return False
        if found is None:
            self.was_refused = True
            self._add(refusal)
            return False
        if all(finding.check != check for finding in found):
            self._add(passed(check, subject, f"{served} logs in"))
        self._add(*found)
        return True
