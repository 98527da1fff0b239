"""What is said about logins: the rotator admin's, and those that the stores serve."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from lockstep.databases.looking import LoggedIn
from lockstep.doctor.findings import Answer, failed, not_asked, passed, warning
from lockstep.doctor.probes.places import HERE
from lockstep.doctor.probes.problems import sentence
from lockstep.errors import (
    LockstepError,
    LockTableAccessDeniedError,
    ReplicaLaggingError,
    ReplicaRejectedError,
    StoreAccessDeniedError,
)
from lockstep.model import (
    AdminCredential,
    AdminIam,
    AdminSecret,
    Credential,
    DatabaseServer,
    LockRecord,
    Login,
)

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
    def told(self) -> str:
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
            mend = f"lockstep hand-over {credential.id}, or, where no login is known: lockstep enrol {credential.id}"
            problems.append(warning(subject, "the store serves no login yet, but a placeholder", mend))
        elif login.username not in credential.usernames:
            mend = f"lockstep hand-over {credential.id}"
            problems.append(failed(subject, "the store serves a username that the plan does not name", mend))
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
    if server.name in record.enrol:
        mend = f"lockstep rotate --force {credential.id}"
        return warning(subject, "it is under enrolment: the next rotation takes its account over", mend)
    if server.name in record.muted:
        mend = (
            f"lockstep retry {credential.id} {server.name}, or lockstep enrol {credential.id} {server.name}"
        )
        return failed(
            subject, "it is muted: it has refused what should work, so no login is shown to it", mend
        )
    return None


def silence(server: DatabaseServer, served: Served, why: str) -> Answer:
    """A login that was not shown, because it would be refused."""
    return not_asked(
        served.subject(server), f"no login is shown: {why}", "lockstep doctor --only database.accounts"
    )


def login_works(server: DatabaseServer, served: Served) -> Answer:
    """A login that was accepted."""
    return passed(served.subject(server), f"{served.told} logs in")


def refused(server: DatabaseServer, served: Served, credential: Credential) -> Answer:
    """A login that was not."""
    return failed(
        served.subject(server),
        f"the server refuses {served.told}; the doctor has shown it once, and shows no other",
        f"lockstep hand-over {credential.id}, with the login that works; or lockstep enrol {credential.id} "
        f"{server.name}; see `Current value rejected` in docs/runbook.md",
    )


def lag(copy: DatabaseServer, served: Served, logged_in: LoggedIn | None) -> Answer:
    """What became of the same login on a verify host."""
    subject = served.subject(copy)
    if logged_in is None:
        return failed(
            subject,
            f"the verify host refuses {served.told}, which its database accepts",
            ReplicaRejectedError.advice,
        )
    if logged_in.is_behind:
        return warning(
            subject,
            f"{served.told} logs in, but the host has not applied what its database has",
            ReplicaLaggingError.advice,
        )
    return passed(subject, f"{served.told} logs in")


def lock_is_busy(server: DatabaseServer, credential: Credential) -> Answer:
    """The advisory lock was not free in time."""
    return warning(
        server.name,
        f"a session holds the advisory lock of {credential.id}, as a rotation does while it is at work",
        f"wait until it is over, lockstep lock show -c {credential.id}, and run this again",
    )


def admin_works(server: DatabaseServer, username: str) -> Answer:
    """The rotator admin has logged in."""
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
            server.name, f"the server refuses the rotator admin's login, by {_way(server)}", _mend(server)
        )
    if isinstance(error, _DENIED) and where == HERE:
        return not_asked(
            server.name, f"{_way(server)} may not be read from here", "lockstep doctor --in-cloud"
        )
    return failed(server.name, f"there is no login of the rotator admin: {sentence(error)}", _mend(server))


def _way(server: DatabaseServer) -> str:
    match server.admin:
        case AdminSecret(aws=secret):
            return f"the secret {secret}"
        case AdminIam(username=username):
            return f"a token of RDS IAM authentication for {username}"
        case AdminCredential(credential=credential):
            return f"the credential {credential}"


def _mend(server: DatabaseServer) -> str:
    match server.admin:
        case AdminSecret(aws=secret):
            return f"put the login that works into the secret {secret}; `lockstep plan sql` makes the account"
        case AdminIam():
            return (
                "switch IAM authentication on for the server, let the account have it (`lockstep plan sql`), and the "
                "runner rds-db:connect (docs/iam.md)"
            )
        case AdminCredential(credential=credential):
            return f"lockstep hand-over {credential}"
