"""The databases of a plan, looked at from one place: everything once, whatever the number of checks.

What is asked of a server, in this order: its name, its port, a TLS handshake; then as the rotator admin what that sees;
then, with the advisory lock held, one login for each account that a store serves. So a doctor beside a rotation waits
for it, or it for the doctor, and a login is shown only while nobody changes its account (protocol D1).

A login is shown once for each account and run, and only if it should work: not on a database that is muted (protocol
D20) or under enrolment, nor where the server shows that it would be refused whatever the password. What one place has
seen refused is not shown from another (`Databases.silent`). So no run of the doctor brings an account two refusals.
Nothing on a server is changed.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

from lockstep.clouds import Clouds
from lockstep.databases import looks
from lockstep.databases.looking import AdminLook, Answers, Looking
from lockstep.doctor.findings import Answer, Outcome, not_asked, passed
from lockstep.doctor.probes.accounts import (
    Served,
    admin_failed,
    admin_works,
    forbidden,
    lag,
    lock_is_busy,
    login_works,
    refused,
    served_logins,
    silence,
)
from lockstep.doctor.probes.network import of_certificate, reach, without_ca, without_tls
from lockstep.doctor.probes.problems import of_error
from lockstep.errors import (
    AdminCredentialRejectedError,
    AdvisoryLockBusyError,
    LockstepError,
    UnsupportedServerError,
)
from lockstep.model import AdminIam, Credential, DatabaseServer, Engine

ADDRESS, ROUTE, TLS, ADMIN = "database.address", "database.route", "database.tls", "database.admin"
LOCK, LOGIN, VERIFY_HOSTS = "database.lock", "database.login", "database.verify-hosts"

_IN_ORDER = (
    *(ADDRESS, ROUTE, TLS, ADMIN, looks.SERVER, looks.RIGHTS, LOCK, looks.ACCOUNTS, looks.LOCKOUT),
    *(looks.EXPIRY, looks.POLICY, looks.PLUGIN, looks.ACCESS, looks.ROLES, LOGIN),
)
EVERY_CHECK = (*_IN_ORDER, VERIFY_HOSTS)
"""Verify hosts are asked only where there are some."""
_FAMILY = frozenset({Engine.MYSQL, Engine.MARIADB})
_ONLY_OF: Mapping[str, frozenset[Engine]] = {
    looks.PLUGIN: _FAMILY,
    looks.ACCESS: frozenset({Engine.POSTGRESQL}),
    looks.ROLES: frozenset({Engine.POSTGRESQL}),
}


@dataclass(slots=True)
class Found:
    """What was answered about one server.

    Attributes:
        answers: By check.
        was_refused: Whether the server has refused a login, the rotator admin's or a store's.
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

    def _looking(self, server: DatabaseServer, credential: Credential) -> Looking:
        return self._clouds.looking(server, credential)

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
            if not (found.is_in_the_way(ADMIN) or found.is_in_the_way(looks.SERVER)):
                self._as_admin(looking, server, credential, copies, found)
        self._leave_out(server, found, "not asked, since the rotator admin does not log in")

    def _as_admin(
        self,
        looking: Looking,
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
            found.add(looks.SERVER, of_error(server, error))
        except LockstepError as error:
            found.add(ADMIN, of_error(server, error))

    def _locked(
        self,
        looking: Looking,
        admin: AdminLook,
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
        looking: Looking,
        admin: AdminLook,
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
