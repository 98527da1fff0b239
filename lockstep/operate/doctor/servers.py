"""The databases of a plan, looked at from one place: everything once, whatever the number of checks.

What is asked of a server, in this order: its name, its port, a TLS handshake; then as the rotation user what that sees;
then, with the advisory lock held, one login for each account that a store serves. So a doctor beside a rotation waits
for it, or it for the doctor, and a login is shown only while nobody changes its account (protocol D1).

A login is shown once for each account and run, and only if it should work: not on a database that is blocked (protocol
D20) or under take-over, nor where the server shows that it would be refused whatever the password. What one place has
seen refused is not shown from another (`Databases.silent`). So no run of the doctor brings an account two refusals.
Nothing on a server is changed.
"""

import socket
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, partial
from ipaddress import ip_address

from lockstep.databases import inspect
from lockstep.databases.findings import HERE, Finding, Outcome, failed, not_asked, passed, warning
from lockstep.databases.inspect import AdminInspection, Inspector, LoggedIn
from lockstep.databases.tls import TlsProbe, TlsProblem
from lockstep.operate.verdict import next_step
from lockstep.protocol.errors import (
    AdminCredentialRejectedError,
    AdvisoryLockBusyError,
    DatabaseBusyError,
    DatabaseRejectedError,
    DatabaseUnreachableError,
    DeadlineExceededError,
    LockstepError,
    LockTableAccessDeniedError,
    ReplicaRejectedError,
    StoreAccessDeniedError,
    TlsVerificationError,
    UnsupportedServerError,
)
from lockstep.protocol.model import (
    AdminCredential,
    AdminIam,
    AdminSecret,
    Credential,
    DatabaseServer,
    LockRecord,
    Login,
)
from lockstep.runtime.clouds import Clouds
from lockstep.stores.credential import CredentialStore

ROUTE, TLS, ADMIN = "database.route", "database.tls", "database.admin"
LOGIN, VERIFY_HOSTS = "database.login", "database.verify-hosts"
_IN_ORDER = (ROUTE, TLS, ADMIN, inspect.SERVER, inspect.RIGHTS, inspect.ACCOUNTS, LOGIN)
EVERY_CHECK = (*_IN_ORDER, VERIFY_HOSTS)
"""Verify hosts are asked only where there are some."""
ASK_DATABASES = frozenset({"aws/apply_db", "oci/rotate"})
"""The functions that look at databases, and show them logins."""

_INSIDE = "lockstep doctor --in-cloud"
_DENIED = (StoreAccessDeniedError, LockTableAccessDeniedError)
_FIXES: dict[type[LockstepError], str] = {
    DatabaseUnreachableError: "look at the server's log and load, then: nc -vz {host} {port}",
    DatabaseBusyError: "end sessions, or raise the limit (max_connections, max_user_connections)",
    UnsupportedServerError: "correct `engine`, or `strategy`, in the plan, or upgrade the server",
    TlsVerificationError: "lockstep doctor --only database.tls",
    DatabaseRejectedError: "look at the server's log for the statement that it refused",
}


def sentence(error: LockstepError) -> str:
    """What an error says, without its advice and the full stop."""
    meaning = error.meaning.removesuffix(".")
    code = f" ({error.where['code']})" if error.where.get("code") else ""
    return f"{meaning[:1].lower()}{meaning[1:]}{code}"


def is_out_of_time(error: LockstepError) -> bool:
    """Whether nothing was asked, since the function would have ended before the answer."""
    return isinstance(error, DeadlineExceededError)


def of_error(check: str, server: DatabaseServer, error: LockstepError, *, subject: str = "") -> Finding:
    """An error of a server, or of a verify host, as a finding; by default about the server."""
    about = subject or server.name
    if is_out_of_time(error):
        return not_asked(check, about, "there was no time left for it")
    own = _FIXES.get(type(error))
    command = own.format(host=server.host, port=server.port) if own else error.advice
    if isinstance(error, UnsupportedServerError) and error.where.get("code"):
        says = f"the server is {error.where['code']}: no {server.engine} that the strategy works on"
        return failed(check, about, says, command)
    return failed(check, about, sentence(error), command)


# ---- How far a server is from here: its name, its port, its certificate

CONNECT_SECONDS = 3.0
"""For each address."""
MOST_ADDRESSES = 4
SOON = timedelta(days=30)
"""A certificate that ends earlier is a warning."""
_RESOLVE = {
    "aws": "let the functions' VPC resolve it (aws route53 associate-vpc-with-hosted-zone, enableDnsSupport)",
    "oci": "let the VCN of the function resolve it: a private view or a forwarding endpoint of its resolver",
}
_LET_IN = {
    "aws": "let the functions' group in: aws ec2 authorize-security-group-ingress --protocol tcp --port {port}",
    "oci": "let the function's subnet in: an ingress rule for TCP {port} in the server's security list or group",
}


def route(server: DatabaseServer, where: str) -> Finding:
    """Resolve a server's name, and open a connection to its port.

    Args:
        server: The server, or a verify host.
        where: The place from which is asked.
    """
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return _unresolved(server, where, error)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))[:MOST_ADDRESSES]
    problem: OSError | None = None
    for address in addresses:
        try:
            socket.create_connection((address, server.port), CONNECT_SECONDS).close()
        except OSError as error:
            problem = error
        else:
            return passed(ROUTE, server.name, f"port {server.port} of {address} takes connections")
    return _closed(server, where, addresses, problem)


def _unresolved(server: DatabaseServer, where: str, error: OSError | UnicodeError) -> Finding:
    is_silent = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
    why = "the resolver does not answer" if is_silent else "there is no such name"
    says = f"{server.host} does not resolve from {where}: {why}"
    if where == HERE:
        # As it is for a private name, by which runs reach it all the same.
        fix = f"{_INSIDE}; or correct `host` in the plan"
        return not_asked(ROUTE, server.name, f"{says}, at least here", fix)
    fix = f"{_RESOLVE[where.partition('/')[0]]}; or correct `host` in the plan"
    return failed(ROUTE, server.name, says, fix)


def _closed(server: DatabaseServer, where: str, addresses: Sequence[str], problem: OSError | None) -> Finding:
    place = f"port {server.port} of {', '.join(addresses)}"
    if isinstance(problem, ConnectionRefusedError):
        says = f"{place} refuses connections: nothing listens there, or a firewall rejects them"
        fix = "start the server, let it listen on that address, or correct `port` in the plan"
        return failed(ROUTE, server.name, says, fix)
    if where == HERE and _are_private(addresses):
        says = f"{place} cannot be reached from here, as it is in a private network"
        return not_asked(ROUTE, server.name, says, _INSIDE)
    why = (
        f"does not answer within {CONNECT_SECONDS:.0f} s: a security group, a network list or a firewall drops packets"
        if isinstance(problem, TimeoutError)
        else f"has no route ({type(problem).__name__})"
    )
    let_in = _LET_IN.get(where.partition("/")[0], f"let this machine in, or: {_INSIDE}")
    return failed(ROUTE, server.name, f"{place} {why}", let_in.format(port=server.port))


def _are_private(addresses: Sequence[str]) -> bool:
    # A zone, as in fe80::1%eth0, is of this machine only.
    parsed = [ip_address(address.partition("%")[0]) for address in addresses]
    return bool(parsed) and all(a.is_private and not a.is_loopback for a in parsed)


_CERTIFICATE: Mapping[TlsProblem, tuple[str, str]] = {
    TlsProblem.NO_TLS: (
        "the server offers no TLS, so no password is shown to it",
        "switch TLS on there (MySQL and MariaDB: ssl_cert, ssl_key; PostgreSQL: ssl = on)",
    ),
    TlsProblem.NAME: (
        "its certificate is for {names}, not for {host}",
        "name the server in the plan as its certificate does, or issue one for that name",
    ),
    TlsProblem.EXPIRED: (
        "its certificate, or the CA's, has expired by the clock of this place",
        "renew it, and look at the clock of this place: date -u",
    ),
    TlsProblem.NOT_YET: (
        "its certificate, or the CA's, is not valid yet by the clock of this place",
        "look at the clock of this place: date -u",
    ),
    TlsProblem.UNKNOWN_CA: (
        "{ca} have not signed its certificate",
        "put its CA into the file of `ca_file`; RDS: https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem",
    ),
    TlsProblem.PROTOCOL: (
        "its TLS is older than 1.2, or broken",
        "let the server speak TLS 1.2 or newer (tls_version, ssl_min_protocol_version)",
    ),
}


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
        says, fix = _CERTIFICATE[shaken.flaw]
        names = ", ".join(shaken.names) or "another name"
        return failed(TLS, server.name, says.format(names=names, host=server.host, ca=ca), fix)
    until = shaken.expires_at
    if until and until - now < SOON:
        says = f"its certificate expires on {until:%Y-%m-%d}, in {(until - now).days} days"
        fix = "renew it on the server; RDS does when its CA is current: aws rds describe-db-instances"
        return warning(TLS, server.name, says, fix)
    valid = f" until {until:%Y-%m-%d}" if until else ""
    return passed(TLS, server.name, f"{shaken.version}, verified by {ca}{valid}")


# ---- What is said about logins: the rotation user's, and those that the stores serve


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A login that stores serve.

    Attributes:
        stores: By name.
    """

    login: Login
    stores: tuple[str, ...]

    def subject(self, server: DatabaseServer) -> str:
        """Of findings about it."""
        return f"{server.name} {self.login.username}"

    @property
    def described(self) -> str:
        """What it is, in a sentence."""
        return f"what {' and '.join(self.stores)} {'serve' if len(self.stores) > 1 else 'serves'}"


def served_logins(
    stores: Iterable[CredentialStore], credential: Credential
) -> tuple[list[Served], list[Finding]]:
    """Each login that a store serves, once; and why a store serves none."""
    found: list[tuple[str, Login]] = []
    problems: list[Finding] = []
    fix = f"lockstep import {credential.id}"
    for store in stores:
        subject = f"{credential.id} in {store.name}"
        try:
            login = store.read_login()
        except LockstepError as error:
            problems.append(not_asked(LOGIN, subject, f"what it serves is not known: {sentence(error)}"))
            continue
        if login is None:
            otherwise = f"{fix}, or, where no login is known: lockstep take-over {credential.id}"
            says = "the store serves no login yet, but a placeholder"
            problems.append(warning(LOGIN, subject, says, otherwise))
        elif login.username not in credential.usernames:
            says = "the store serves a username that the plan does not name"
            problems.append(failed(LOGIN, subject, says, fix))
        else:
            found.append((store.name, login))
    logins = [login for name, login in found if name == next(n for n, other in found if other == login)]
    served = [Served(login=one, stores=tuple(n for n, other in found if other == one)) for one in logins]
    return served, problems


def forbidden(
    server: DatabaseServer, credential: Credential, record: LockRecord, now: datetime
) -> Finding | None:
    """Why no login may be shown there at all; None where one may (protocol D3, D20)."""
    subject, fix = f"{server.name} {credential.id}", next_step(record, credential, now)
    if server.name in record.take_over:
        says = "it is under take-over: the next rotation takes its account over"
        return warning(LOGIN, subject, says, fix)
    if server.name in record.blocked:
        says = "it is blocked: it has refused what should work, so no login is shown to it"
        return failed(LOGIN, subject, says, fix)
    return None


def on_copy(copy: DatabaseServer, served: Served, logged_in: LoggedIn | None) -> Finding:
    """What became of the same login on a verify host."""
    subject = served.subject(copy)
    if logged_in is None:
        says = f"the verify host refuses {served.described}, which its database accepts"
        return failed(VERIFY_HOSTS, subject, says, ReplicaRejectedError.advice)
    if logged_in.proves_nothing:
        says = "it is Pgpool-II with connection_cache, which compares passwords with those of connections that it keeps"
        fix = "connection_cache = off in pgpool.conf; see docs/deploy.md#verify-hosts"
        return failed(VERIFY_HOSTS, subject, says, fix)
    return passed(VERIFY_HOSTS, subject, f"{served.described} logs in")


def admin_failed(server: DatabaseServer, error: LockstepError, where: str, *, was_shown: bool) -> Finding:
    """The rotation user has not logged in.

    Args:
        server: The server.
        error: Why.
        where: The place from which was asked.
        was_shown: Whether the server has refused the login; else there was none to show.
    """
    way, fix = _way(server)
    if was_shown and where == HERE and isinstance(server.admin, AdminIam):
        says = f"the server refuses {way} from this identity; runs log in as the runner's"
        return not_asked(ADMIN, server.name, says, _INSIDE)
    if was_shown:
        return failed(ADMIN, server.name, f"the server refuses the rotation user's login, by {way}", fix)
    if isinstance(error, _DENIED) and where == HERE:
        return not_asked(ADMIN, server.name, f"{way} may not be read from here", _INSIDE)
    return failed(ADMIN, server.name, f"there is no login of the rotation user: {sentence(error)}", fix)


def _way(server: DatabaseServer) -> tuple[str, str]:
    """How the rotation user logs in, and what fixes it."""
    match server.admin:
        case AdminSecret(aws=secret):
            fix = f"put the login that works into the secret {secret}; `lockstep plan sql` makes the account"
            return f"the secret {secret}", fix
        case AdminIam(username=username):
            fix = (
                "switch IAM authentication on for the server, let the account have it (`lockstep plan sql`), and the "
                "runner rds-db:connect (docs/iam.md)"
            )
            return f"a token of RDS IAM authentication for {username}", fix
        case AdminCredential(credential=credential):
            return f"the credential {credential}", f"lockstep import {credential}"


# ---- The databases of some credentials


@dataclass(slots=True)
class Found:
    """What was found on one server.

    Attributes:
        findings: By check.
        was_refused: Whether the server has refused a login, the rotation user's or a store's.
    """

    findings: dict[str, list[Finding]] = field(default_factory=lambda: defaultdict(list))
    was_refused: bool = False

    def add(self, *findings: Finding) -> None:
        """Keep findings; one that several credentials give, once."""
        for finding in findings:
            if finding not in self.findings[finding.check]:
                self.findings[finding.check].append(finding)

    def is_in_the_way(self, check: str) -> bool:
        """Whether a finding of a check says that it failed, or could not be asked."""
        return any(f.outcome in {Outcome.FAILED, Outcome.NOT_ASKED} for f in self.findings[check])


class Databases:
    """The databases of some credentials.

    Args:
        credentials: Of the plan.
        clouds: How they are reached, from this place.
        where: This place, as findings name it.
        silent: The names of databases to which no login is shown: another place has seen them refuse one.
    """

    def __init__(
        self,
        credentials: Sequence[Credential],
        clouds: Clouds,
        *,
        where: str,
        silent: frozenset[str] = frozenset(),
    ) -> None:
        self._credentials = credentials
        self._clouds = clouds
        self._where = where
        self._silent = silent

    def found(self, check: str) -> list[Finding]:
        """What a check has found, on every server of the plan."""
        return [finding for found in self._found.values() for finding in found.findings[check]]

    @property
    def refused(self) -> frozenset[str]:
        """The names of the databases that have refused a login."""
        return frozenset(name for name, found in self._found.items() if found.was_refused)

    @cached_property
    def _found(self) -> dict[str, Found]:
        servers = {server.name: server for c in self._credentials for server in c.servers}
        asked = [partial(self._server, server) for server in servers.values()]
        return dict(zip(servers, self._clouds.side_by_side(asked), strict=True))

    def _server(self, server: DatabaseServer) -> Found:
        found = Found()
        credentials = [c for c in self._credentials if server.name in c.databases]
        try:
            reached = self._network(server, credentials[0], found)
            copies = [copy for copy in server.copies if self._network(copy, credentials[0], found)]
            if not reached:
                self._leave_out(server, found, "not asked, since the server is not reached")
                return found
            self._logins(server, credentials, copies, found)
        except LockstepError as error:
            self._leave_out(server, found, of_error(ROUTE, server, error).says)
        return found

    def _leave_out(self, server: DatabaseServer, found: Found, why: str) -> None:
        """Say of every check that has found nothing why that is so."""
        for check in _IN_ORDER:
            if not found.findings[check]:
                found.add(not_asked(check, server.name, why))

    def _network(self, server: DatabaseServer, credential: Credential, found: Found) -> bool:
        reached = route(server, self._where)
        found.add(reached)
        if reached.outcome is not Outcome.PASSED:
            return False
        tls = self._tls(server, credential)
        found.add(tls)
        return tls.outcome in {Outcome.PASSED, Outcome.WARNING}

    def _tls(self, server: DatabaseServer, credential: Credential) -> Finding:
        if server.plaintext:
            return passed(TLS, server.name, "not asked for: the plan allows plaintext, in as many words")
        ca_file = server.tls.ca_file if server.tls else None
        if ca_file and not ca_file.is_file():
            says = f"there is no CA file {ca_file}, so no certificate can be verified"
            fix = "correct `ca_file` in the plan; a function has the files that were beside it when it was built"
            return failed(TLS, server.name, says, fix)
        try:
            shaken = self._clouds.inspector(server, credential).shake_hands()
        except LockstepError as error:
            return of_error(TLS, server, error)
        return of_certificate(server, shaken, self._clouds.clock.now())

    # ---- Logins

    def _logins(
        self,
        server: DatabaseServer,
        credentials: Sequence[Credential],
        copies: Sequence[DatabaseServer],
        found: Found,
    ) -> None:
        if server.name in self._silent:
            why = "not asked: another place has seen it refuse a login, or may have: it has not answered"
            self._leave_out(server, found, why)
            return
        for credential in credentials:
            look = _Look(self._clouds, self._where, server, credential, copies, found)
            # A login that was refused for one credential is not shown for the next.
            if not (found.is_in_the_way(ADMIN) or found.is_in_the_way(inspect.SERVER)):
                look.as_admin()
        self._leave_out(server, found, "not asked, since the rotation user does not log in")


@dataclass(frozen=True)
class _Look:
    """A credential on a server that is reached, from one place; `copies` are the verify hosts that are."""

    clouds: Clouds
    where: str
    server: DatabaseServer
    credential: Credential
    copies: Sequence[DatabaseServer]
    found: Found

    @property
    def inspector(self) -> Inspector:
        """The server, for the credential."""
        return self.clouds.inspector(self.server, self.credential)

    def as_admin(self) -> None:
        """Ask as the rotation user, and then show what the stores serve."""
        server, found, inspector = self.server, self.found, self.inspector
        try:
            login = inspector.admin_login()
        except LockstepError as error:
            found.add(admin_failed(server, error, self.where, was_shown=False))
            return
        logs_in = passed(ADMIN, server.name, f"{login.username} logs in, by {_way(server)[0]}")
        try:
            with inspector.as_admin(login) as admin:
                found.add(logs_in, *admin.findings())
                self._locked(admin)
        except AdminCredentialRejectedError as error:
            # A token is of the identity that asks: what is refused from here may log in from elsewhere.
            found.was_refused = found.was_refused or not isinstance(server.admin, AdminIam)
            found.add(admin_failed(server, error, self.where, was_shown=True))
        except UnsupportedServerError as error:
            # It has logged in, and left when it saw the version.
            found.add(logs_in, of_error(inspect.SERVER, server, error))
        except LockstepError as error:
            found.add(of_error(ADMIN, server, error))

    def _locked(self, admin: AdminInspection) -> None:
        credential = self.credential
        try:
            admin.lock()
        except AdvisoryLockBusyError:
            says = f"a session holds the advisory lock of {credential.id}, as a rotation does while it is at work"
            fix = f"wait until it is over, lockstep status {credential.id}, and run this again"
            self.found.add(not_asked(LOGIN, f"{self.server.name} {credential.id}", says, fix))
            return
        refused = admin.refused
        for served in self._served():
            username = served.login.username
            if refused & {"", username}:
                says = "no login is shown: its account would refuse it, or has refused another one"
                self.found.add(not_asked(LOGIN, served.subject(self.server), says))
            elif not self._log_in(served):
                # The next refusal could be one too many.
                refused.add(username)

    def _served(self) -> list[Served]:
        """What may be shown, read with the lock held: nobody ends it before that is given back."""
        server, credential = self.server, self.credential
        try:
            record = self.clouds.lock(credential).read()
            if finding := forbidden(server, credential, record, self.clouds.clock.now()):
                self.found.add(finding)
                return []
            served, problems = served_logins(self.clouds.each_store(credential), credential)
        except LockstepError as error:
            says = of_error(LOGIN, server, error).says
            self.found.add(not_asked(LOGIN, f"{server.name} {credential.id}", says))
            return []
        self.found.add(*problems)
        return served

    def _log_in(self, served: Served) -> bool:
        server, found = self.server, self.found
        subject = served.subject(server)
        try:
            logged_in = self.inspector.log_in(served.login)
        except LockstepError as error:
            found.add(of_error(LOGIN, server, error, subject=subject))
            return False
        if logged_in is None:
            found.was_refused = True
            name = self.credential.id
            says = f"the server refuses {served.described}; the doctor has shown it once, and shows no other"
            fix = f"lockstep import {name}, with the login that works; or lockstep take-over {name} {server.name}"
            found.add(failed(LOGIN, subject, says, f"{fix}; see docs/recover.md#current-value-rejected"))
            return False
        found.add(passed(LOGIN, subject, f"{served.described} logs in"), *logged_in.findings)
        for copy in self.copies:
            found.add(self._on_copy(copy, served))
        return True

    def _on_copy(self, copy: DatabaseServer, served: Served) -> Finding:
        inspector = self.clouds.inspector(copy, self.credential)
        try:
            logged_in = inspector.log_in(served.login, is_copy=True)
        except LockstepError as error:
            return of_error(VERIFY_HOSTS, copy, error, subject=served.subject(copy))
        self.found.was_refused = self.found.was_refused or logged_in is None
        return on_copy(copy, served, logged_in)
