"""Who is logged in: the open sessions of a credential's usernames on a server.

A server ends no session when a password changes, so sessions show who connected with a login that is dead by now, or
will be soon. No server says which password a session used: only its username, and at best since when it is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """A session of an application.

    Attributes:
        host: From which host; None where the rotator admin may not see it.
        application: The name that the client gives itself; empty where it gives none, or the server keeps none.
        age_seconds: Since when it is connected; None where the rotator admin may not see it.
    """

    username: str
    host: str | None
    application: str
    age_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionList:
    """The sessions on a server.

    Attributes:
        server: Which server process has answered: the same for two names of one server.
        ages_are_exact: Whether the server keeps the time at which a session began. If not, an age is the time since the
            session's last statement, and the session is at least that old.
        hidden: What the rotator admin may not see of a session; empty: nothing is hidden.
        grants: The statements with which an administrator lets it see that.
    """

    server: str
    sessions: Sequence[OpenSession]
    ages_are_exact: bool
    hidden: str = ""
    grants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCountable:
    """The rotator admin sees no sessions but its own.

    Attributes:
        grants: The statements with which an administrator lets it see the others.
    """

    grants: tuple[str, ...]


class SessionSource(Protocol):
    """A server whose sessions can be listed. It only reads, and takes no lock."""

    @property
    def name(self) -> str:
        """The database's name in the plan; of a verify host with the host."""

    def list_sessions(self) -> SessionList | NotCountable:
        """The sessions of the credential's usernames, without the rotator admin's own.

        Errors: DatabaseUnreachableError, DatabaseBusyError, TlsVerificationError, AdminCredentialRejectedError,
        UnsupportedServerError, DatabaseRejectedError; those of a store, where the rotator admin's login is read.
        """
