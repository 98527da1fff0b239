"""The databases of a plan, looked at from one place: everything once, whatever the number of checks.

Errors of databases and stores as answers.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Protocol

from lockstep.databases import inspect
from lockstep.databases.findings import Answer, Outcome, failed, not_asked, passed, warning
from lockstep.databases.inspect import AdminInspection, Answers, Inspector, LoggedIn
from lockstep.operate.doctor.network import HERE, of_certificate, reach, without_ca, without_tls
from lockstep.protocol.errors import (
    AdminCredentialRejectedError,
    AdvisoryLockBusyError,
    DatabaseBusyError,
    DatabaseRejectedError,
    DatabaseUnreachableError,
    DeadlineExceededError,
    LockstepError,
    LockTableAccessDeniedError,
    ReplicaLaggingError,
    ReplicaRejectedError,
    StepEndedError,
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
    Engine,
    LockRecord,
    Login,
)
from lockstep.runtime.clouds import Clouds

_OUT_OF_TIME = (DeadlineExceededError, StepEndedError)
_FIXES: dict[type[LockstepError], str] = {
    DatabaseUnreachableError: "look at the server's log and load, then: nc -vz {host} {port}",
    DatabaseBusyError: "end sessions, or raise the limit (max_connections, max_user_connections)",
    UnsupportedServerError: "correct `engine`, or `strategy`, in the plan (lockstep check), or upgrade the server",
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
    return isinstance(error, _OUT_OF_TIME)


def of_error(server: DatabaseServer, error: LockstepError, *, subject: str | None = None) -> Answer:
    """An error of a server as an answer.

    Args:
        server: The server, or a verify host.
        error: The error.
        subject: Whom it is about; by default the server.
    """
    about = subject or server.name
    if is_out_of_time(error):
        return not_asked(about, "there was no time left for it")
    if isinstance(error, UnsupportedServerError) and error.where.get("code"):
        what = f"the server is {error.where['code']}: no {server.engine} that the strategy works on"
        return failed(about, what, _FIXES[UnsupportedServerError])
    own = _FIXES.get(type(error))
    command = own.format(host=server.host, port=server.port) if own else error.advice
    return failed(about, sentence(error), command)


# What is said about logins: the rotation user's, and those that the stores serve.

_DENIED = (StoreAccessDeniedError, LockTableAccessDeniedError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A login that stores serve.

    Attributes:
        stores: By name.
    """

    login: Login
    stores: tuple[str, ...]

    def subject(self, server: DatabaseServer) -> str:
        """Of answers about it."""
        return f"{server.name} {self.login.username}"

    @property
    def described(self) -> str:
        """What it is, in a sentence."""
        return f"what {' and '.join(self.stores)} {'serve' if len(self.stores) > 1 else 'serves'}"


class Readable(Protocol):
    """A store of a credential."""

    @property
    def name(self) -> str:
        """The store's name in the plan."""

    def read_login(self) -> Login | None:
        """The login that readers get now; None for a placeholder."""


def served_logins(stores: Iterable[Readable], credential: Credential) -> tuple[list[Served], list[Answer]]:
    """Each login that a store serves, once; and why a store serves none."""
    found: list[Served] = []
    problems: list[Answer] = []
    for store in stores:
        subject = f"{credential.id} in {store.name}"
        try:
            login = store.read_login()
        except LockstepError as error:
            problems.append(not_asked(subject, f"what it serves is not known: {sentence(error)}"))
            continue
        if login is None:
            fix = f"lockstep import {credential.id}, or, where no login is known: lockstep take-over {credential.id}"
            problems.append(warning(subject, "the store serves no login yet, but a placeholder", fix))
        elif login.username not in credential.usernames:
            fix = f"lockstep import {credential.id}"
            problems.append(failed(subject, "the store serves a username that the plan does not name", fix))
        else:
            found = _with(found, Served(login=login, stores=(store.name,)))
    return found, problems


def _with(found: list[Served], another: Served) -> list[Served]:
    for place, served in enumerate(found):
        if served.login == another.login:
            both = replace(served, stores=(*served.stores, *another.stores))
            return [*found[:place], both, *found[place + 1 :]]
    return [*found, another]


def forbidden(server: DatabaseServer, credential: Credential, record: LockRecord) -> Answer | None:
    """Why no login may be shown there at all; None where one may (protocol D3, D20)."""
    subject = f"{server.name} {credential.id}"
    if server.name in record.take_over:
        fix = f"lockstep rotate --force {credential.id}"
        return warning(subject, "it is under take-over: the next rotation takes its account over", fix)
    if server.name in record.blocked:
        fix = f"lockstep unblock {credential.id} {server.name}, or lockstep take-over {credential.id} {server.name}"
        return failed(
            subject, "it is blocked: it has refused what should work, so no login is shown to it", fix
        )
    return None


def silence(server: DatabaseServer, served: Served, why: str) -> Answer:
    """A login that was not shown, because it would be refused."""
    return not_asked(
        served.subject(server), f"no login is shown: {why}", "lockstep doctor --only database.accounts"
    )


def login_works(server: DatabaseServer, served: Served) -> Answer:
    """A login that was accepted."""
    return passed(served.subject(server), f"{served.described} logs in")


def refused(server: DatabaseServer, served: Served, credential: Credential) -> Answer:
    """A login that was not."""
    return failed(
        served.subject(server),
        f"the server refuses {served.described}; the doctor has shown it once, and shows no other",
        f"lockstep import {credential.id}, with the login that works; or lockstep take-over {credential.id} "
        f"{server.name}; see `Current value rejected` in docs/runbook.md",
    )


def lag(copy: DatabaseServer, served: Served, logged_in: LoggedIn | None) -> Answer:
    """What became of the same login on a verify host."""
    subject = served.subject(copy)
    if logged_in is None:
        return failed(
            subject,
            f"the verify host refuses {served.described}, which its database accepts",
            ReplicaRejectedError.advice,
        )
    if logged_in.proves_nothing:
        says = "it is Pgpool-II with connection_cache, which compares passwords with those of connections that it keeps"
        return failed(
            subject, says, "connection_cache = off in pgpool.conf; see `Verify hosts` in docs/runbook.md"
        )
    if logged_in.is_behind:
        return warning(
            subject,
            f"{served.described} logs in, but the host has not applied what its database has",
            ReplicaLaggingError.advice,
        )
    return passed(subject, f"{served.described} logs in")


def lock_is_busy(server: DatabaseServer, credential: Credential) -> Answer:
    """The advisory lock was not free in time."""
    return warning(
        server.name,
        f"a session holds the advisory lock of {credential.id}, as a rotation does while it is at work",
        f"wait until it is over, lockstep lock show {credential.id}, and run this again",
    )


def admin_works(server: DatabaseServer, username: str) -> Answer:
    """The rotation user has logged in."""
    return passed(server.name, f"{username} logs in, by {_way(server)}")


def admin_failed(server: DatabaseServer, error: LockstepError, where: str, *, was_shown: bool) -> Answer:
    """It has not.

    Args:
        server: The server.
        error: Why.
        where: The place from which was asked.
        was_shown: Whether the server has refused the login; else there was none to show.
    """
    if was_shown and where == HERE and isinstance(server.admin, AdminIam):
        says = f"the server refuses {_way(server)} from this identity; runs log in as the runner's"
        return not_asked(server.name, says, "lockstep doctor --in-cloud")
    if was_shown:
        return failed(
            server.name, f"the server refuses the rotation user's login, by {_way(server)}", _fix(server)
        )
    if isinstance(error, _DENIED) and where == HERE:
        return not_asked(
            server.name, f"{_way(server)} may not be read from here", "lockstep doctor --in-cloud"
        )
    return failed(server.name, f"there is no login of the rotation user: {sentence(error)}", _fix(server))


def _way(server: DatabaseServer) -> str:
    match server.admin:
        case AdminSecret(aws=secret):
            return f"the secret {secret}"
        case AdminIam(username=username):
            return f"a token of RDS IAM authentication for {username}"
        case AdminCredential(credential=credential):
            return f"the credential {credential}"


def _fix(server: DatabaseServer) -> str:
    match server.admin:
        case AdminSecret(aws=secret):
            return f"put the login that works into the secret {secret}; `lockstep plan sql` makes the account"
        case AdminIam():
            return (
                "switch IAM authentication on for the server, let the account have it (`lockstep plan sql`), and the "
                "runner rds-db:connect (docs/iam.md)"
            )
        case AdminCredential(credential=credential):
            return f"lockstep import {credential}"


# The databases of a plan, looked at from one place: everything once, whatever the number of checks.
#
# What is asked of a server, in this order: its name, its port, a TLS handshake; then as the rotation user what
# that sees; then, with the advisory lock held, one login for each account that a store serves. So a doctor beside
# a rotation waits for it, or it for the doctor, and a login is shown only while nobody changes its account
# (protocol D1).
#
# A login is shown once for each account and run, and only if it should work: not on a database that is blocked
# (protocol D20) or under take-over, nor where the server shows that it would be refused whatever the password.
# What one place has seen refused is not shown from another (`Databases.silent`). So no run of the doctor brings
# an account two refusals. Nothing on a server is changed.

ADDRESS, ROUTE, TLS, ADMIN = "database.address", "database.route", "database.tls", "database.admin"
LOCK, LOGIN, VERIFY_HOSTS = "database.lock", "database.login", "database.verify-hosts"

_IN_ORDER = (
    *(ADDRESS, ROUTE, TLS, ADMIN, inspect.SERVER, inspect.RIGHTS, LOCK, inspect.ACCOUNTS, inspect.LOCKOUT),
    *(inspect.EXPIRY, inspect.POLICY, inspect.PLUGIN, inspect.ACCESS, inspect.ROLES, LOGIN),
)
EVERY_CHECK = (*_IN_ORDER, VERIFY_HOSTS)
"""Verify hosts are asked only where there are some."""
_FAMILY = frozenset({Engine.MYSQL, Engine.MARIADB})
_ONLY_OF: Mapping[str, frozenset[Engine]] = {
    inspect.PLUGIN: _FAMILY,
    inspect.ACCESS: frozenset({Engine.POSTGRESQL}),
    inspect.ROLES: frozenset({Engine.POSTGRESQL}),
}


@dataclass(slots=True)
class Found:
    """What was answered about one server.

    Attributes:
        answers: By check.
        was_refused: Whether the server has refused a login, the rotation user's or a store's.
    """

    answers: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    was_refused: bool = False

    def add(self, check: str, answer: Answer) -> None:
        """Keep an answer; one that several credentials give, once."""
        if answer not in self.answers[check]:
            self.answers[check].append(answer)

    def add_all(self, answers: Answers) -> None:
        """Keep some."""
        for check, answer in answers:
            self.add(check, answer)

    def is_in_the_way(self, check: str) -> bool:
        """Whether an answer of a check says that it failed, or could not be asked."""
        return any(answer.outcome in {Outcome.FAILED, Outcome.NOT_ASKED} for answer in self.answers[check])


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

    def answers(self, check: str) -> list[Answer]:
        """What a check has found, on every server of the plan."""
        return [answer for found in self._found.values() for answer in found.answers[check]]

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
            copies = {copy.name for copy in server.copies if self._network(copy, credentials[0], found)}
            if not reached:
                self._leave_out(server, found, "not asked, since the server is not reached")
                return found
            self._logins(server, credentials, copies, found)
        except LockstepError as error:
            self._leave_out(server, found, of_error(server, error).says)
        return found

    def _leave_out(self, server: DatabaseServer, found: Found, why: str) -> None:
        """Say of every check that has no answer why it has none."""
        for check in _IN_ORDER:
            if not found.answers[check] and server.engine in _ONLY_OF.get(check, Engine):
                found.add(check, not_asked(server.name, why))

    def _network(self, server: DatabaseServer, credential: Credential, found: Found) -> bool:
        reached = reach(server, self._where)
        found.add(ADDRESS, reached.name)
        if reached.route:
            found.add(ROUTE, reached.route)
        if not reached.is_open:
            return False
        if server.plaintext:
            found.add(TLS, without_tls(server))
            return True
        if answer := without_ca(server):
            found.add(TLS, answer)
            return False
        try:
            shaken = self._looking(server, credential).shake_hands()
        except LockstepError as error:
            found.add(TLS, of_error(server, error))
            return False
        found.add(TLS, of_certificate(server, shaken, self._clouds.clock.now()))
        return shaken.flaw is None

    def _looking(self, server: DatabaseServer, credential: Credential) -> Inspector:
        return self._clouds.inspector(server, credential)

    # ---- Logins

    def _logins(
        self, server: DatabaseServer, credentials: Sequence[Credential], copies: set[str], found: Found
    ) -> None:
        if server.name in self._silent:
            self._leave_out(
                server,
                found,
                "not asked: another place has seen it refuse a login, or may have: it has not answered",
            )
            return
        for credential in credentials:
            looking = self._looking(server, credential)
            found.add_all(looking.without_login())
            # A login that was refused for one credential is not shown for the next.
            if not (found.is_in_the_way(ADMIN) or found.is_in_the_way(inspect.SERVER)):
                self._as_admin(looking, server, credential, copies, found)
        self._leave_out(server, found, "not asked, since the rotation user does not log in")

    def _as_admin(
        self,
        looking: Inspector,
        server: DatabaseServer,
        credential: Credential,
        copies: set[str],
        found: Found,
    ) -> None:
        try:
            login = looking.admin_login()
        except LockstepError as error:
            found.add(ADMIN, admin_failed(server, error, self._where, was_shown=False))
            return
        try:
            with looking.as_admin(login) as admin:
                found.add(ADMIN, admin_works(server, login.username))
                found.add_all(admin.answers())
                self._locked(looking, admin, server, credential, copies, found)
        except AdminCredentialRejectedError as error:
            # A token is of the identity that asks: what is refused from here may log in from elsewhere.
            found.was_refused = found.was_refused or not isinstance(server.admin, AdminIam)
            found.add(ADMIN, admin_failed(server, error, self._where, was_shown=True))
        except UnsupportedServerError as error:
            # It has logged in, and left when it saw the version.
            found.add(ADMIN, admin_works(server, login.username))
            found.add(inspect.SERVER, of_error(server, error))
        except LockstepError as error:
            found.add(ADMIN, of_error(server, error))

    def _locked(
        self,
        looking: Inspector,
        admin: AdminInspection,
        server: DatabaseServer,
        credential: Credential,
        copies: set[str],
        found: Found,
    ) -> None:
        try:
            admin.lock()
        except AdvisoryLockBusyError:
            found.add(LOCK, lock_is_busy(server, credential))
            found.add(LOGIN, not_asked(f"{server.name} {credential.id}", "a rotation is at work there"))
            return
        found.add(LOCK, passed(server.name, f"free for {credential.id}"))
        done_with: set[str] = set()
        for served in self._served(server, credential, found):
            username = served.login.username
            if username in done_with:
                found.add(LOGIN, silence(server, served, "its account has refused another one"))
            elif why := admin.must_not_try(username):
                found.add(LOGIN, silence(server, served, why))
            elif not self._log_in(looking, admin, served, server, credential, copies, found):
                # The next refusal could be one too many.
                done_with.add(username)

    def _served(self, server: DatabaseServer, credential: Credential, found: Found) -> list[Served]:
        """What may be shown, read with the lock held: nobody ends it before that is given back."""
        try:
            record = self._clouds.lock(credential).read()
            if answer := forbidden(server, credential, record):
                found.add(LOGIN, answer)
                return []
            served, problems = served_logins(self._clouds.each_store(credential), credential)
        except LockstepError as error:
            found.add(LOGIN, not_asked(f"{server.name} {credential.id}", of_error(server, error).says))
            return []
        for answer in problems:
            found.add(LOGIN, answer)
        return served

    def _log_in(
        self,
        looking: Inspector,
        admin: AdminInspection,
        served: Served,
        server: DatabaseServer,
        credential: Credential,
        copies: set[str],
        found: Found,
    ) -> bool:
        try:
            position = admin.position() if copies else None
            logged_in = looking.log_in(served.login, position=None, clock=self._clouds.clock)
        except LockstepError as error:
            found.add(LOGIN, of_error(server, error, subject=served.subject(server)))
            return False
        if logged_in is None:
            found.was_refused = True
            found.add(LOGIN, refused(server, served, credential))
            return False
        found.add(LOGIN, login_works(server, served))
        found.add_all(logged_in.answers)
        for copy in server.copies:
            if copy.name in copies:
                self._on_copy(copy, served, credential, position, found)
        return True

    def _on_copy(
        self,
        copy: DatabaseServer,
        served: Served,
        credential: Credential,
        position: str | None,
        found: Found,
    ) -> None:
        try:
            logged_in = self._looking(copy, credential).log_in(
                served.login, position=position, clock=self._clouds.clock
            )
        except LockstepError as error:
            found.add(VERIFY_HOSTS, of_error(copy, error, subject=served.subject(copy)))
            return
        found.was_refused = found.was_refused or logged_in is None
        found.add(VERIFY_HOSTS, lag(copy, served, logged_in))
