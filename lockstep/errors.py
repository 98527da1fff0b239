"""Every way in which a rotation can fail, in two families (protocol F1, F2).

The state machine matches on these class names, so they are part of the interface: the *retryable* ones stand
in its `Retry` lists, the *terminal* ones end the run. A run that is skipped has not failed: it is an outcome.

The text of each error is its docstring plus a few checked fields (names, numbers, codes). No constructor takes
free text, so no foreign message, and with it no password, can slip into a log line or a state machine history.
"""

import re
from typing import ClassVar

_SAFE_FIELD = re.compile(r"[A-Za-z0-9_.:/@+ -]{1,120}")
_FIELDS = frozenset(
    {"credential", "store", "secret", "database", "generation", "stream", "seq", "code", "path"}
)


class LockstepError(Exception):
    """Something went wrong."""

    advice: ClassVar[str] = ""

    def __init__(self, **where: str | int) -> None:
        """Keep where it happened.

        Args:
            where: Any of credential, store, secret, database, generation, stream, seq, code, path. A value that
                is not plainly a name, a number or a code is shown as `?`.
        """
        unknown = where.keys() - _FIELDS
        if unknown:
            raise TypeError(f"not a field of an error: {sorted(unknown)}")
        self.where = {key: _printable(value) for key, value in where.items()}
        super().__init__(self._text())

    def _text(self) -> str:
        meaning = (type(self).__doc__ or "").strip()
        place = ", ".join(f"{key}={value}" for key, value in self.where.items())
        return " ".join(part for part in (meaning, f"[{place}]" if place else "", self.advice) if part)


def _printable(value: str | int) -> str:
    text = str(value)
    return text if _SAFE_FIELD.fullmatch(text) else "?"


class RetryableError(LockstepError):
    """It may work when tried again."""


class TerminalError(LockstepError):
    """It will not work until somebody or something changes."""


# Retryable: the state machine's Retry lists name exactly these.


class StoreUnreachableError(RetryableError):
    """The secrets manager did not answer."""


class StoreThrottledError(RetryableError):
    """The secrets manager asks to be called less often."""


class StoreBusyError(RetryableError):
    """The secret is being updated by another call."""


class LostCompareAndSetError(RetryableError):
    """Somebody else changed the same thing between our read and our write."""


class ReadSideLaggingError(RetryableError):
    """The store does not yet serve what was promoted."""


class DatabaseUnreachableError(RetryableError):
    """The database did not answer in time."""


class DatabaseBusyError(RetryableError):
    """The database takes no more connections at the moment."""


class AdvisoryLockBusyError(RetryableError):
    """Another rotation holds the database's advisory lock for this credential."""


class LockTableUnreachableError(RetryableError):
    """The lock table did not answer."""


class AuditLogUnreachableError(RetryableError):
    """The audit log or its signing key did not answer."""


# Terminal.


class InvalidPlanError(TerminalError):
    """The plan file is not valid."""

    advice = "Run `lockstep plan check`."


class InvalidRequestError(TerminalError):
    """The input of this run is not valid; nothing was changed."""


class FenceLostError(TerminalError):
    """This run no longer holds the lock or its claim; it must not change anything any more."""


class StoresDivergedError(TerminalError):
    """The stores disagree and no value in them logs in on every database."""

    advice = "See `Stores diverged` in docs/runbook.md."


class StagedValueConflictError(TerminalError):
    """Another value already stands under the name of this generation."""

    advice = "Somebody staged by hand, or two lock tables are in use."


class SecretNotFoundError(TerminalError):
    """The secret does not exist in the store."""


class SecretMalformedError(TerminalError):
    """The secret holds neither a credential nor a placeholder."""

    advice = "Restore its previous version; it must be a JSON object with `username` and `password`."


class NotBootstrappedError(TerminalError):
    """The secret still holds a placeholder; the first rotation has not run."""


class StoreAccessDeniedError(TerminalError):
    """The secrets manager refuses this runner's identity."""


class StoreQuotaExceededError(TerminalError):
    """The secret has reached its quota of versions."""


class StoreRejectedError(TerminalError):
    """The secrets manager rejects the call."""


class CurrentCredentialRejectedError(TerminalError):
    """The current value does not log in, so this account is not touched."""

    advice = "The account was changed outside of Lockstep; see `Current value rejected` in docs/runbook.md."


class PendingCredentialRejectedError(TerminalError):
    """The database took the pending value but does not let it log in."""


class PreviousCredentialAcceptedError(TerminalError):
    """A value that should be dead still logs in."""


class PasswordRefusedByPolicyError(TerminalError):
    """The server's password policy refuses the generated password."""

    advice = "Align `password` in the plan with the server's policy."


class AccountLockedError(TerminalError):
    """The account is locked, expired or barred from logging in."""


class AccountPluginError(TerminalError):
    """The account uses another authentication plugin than caching_sha2_password, so a second password is refused."""

    advice = (
        "Change the plugin once, with the present password: ALTER USER <account> IDENTIFIED WITH "
        "caching_sha2_password BY <present password>."
    )


class AdminCredentialRejectedError(TerminalError):
    """The rotator admin's own login is refused."""


class PrivilegeMissingError(TerminalError):
    """The rotator admin lacks a privilege."""

    advice = "Compare its grants with `lockstep plan sql`."


class TlsVerificationError(TerminalError):
    """The server's TLS certificate cannot be verified, or it offers no TLS."""


class UnsupportedServerError(TerminalError):
    """The server lacks what the chosen strategy needs."""


class DatabaseRejectedError(TerminalError):
    """The database rejects the statement."""


class UnknownUsernameError(TerminalError):
    """The secret's username is not one of this credential's logins in the plan."""


class LockTableAccessDeniedError(TerminalError):
    """The lock table refuses this runner's identity or does not exist."""


class AuditLogAccessDeniedError(TerminalError):
    """The audit log or its signing key refuses this runner's identity or does not exist."""


class AuditConflictError(TerminalError):
    """The audit log holds an entry that does not continue the chain."""


class AuditVerificationError(TerminalError):
    """The audit log does not verify."""


class DeadlineExceededError(TerminalError):
    """The run ran out of time; the next one goes on from here."""


class UnexpectedError(TerminalError):
    """An error that Lockstep has no name for; its text is withheld since it may hold a secret."""


def family(kind: type[LockstepError]) -> list[type[LockstepError]]:
    """All leaf classes of a family, in the order in which they are written here."""
    return [c for sub in kind.__subclasses__() for c in (family(sub) or [sub])]
