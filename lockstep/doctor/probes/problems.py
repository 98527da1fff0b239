"""Errors of databases and stores as answers."""

from lockstep.doctor.findings import Answer, failed, not_asked
from lockstep.errors import (
    DatabaseBusyError,
    DatabaseRejectedError,
    DatabaseUnreachableError,
    DeadlineExceededError,
    LockstepError,
    StepEndedError,
    TlsVerificationError,
    UnsupportedServerError,
)
from lockstep.model import DatabaseServer

_OUT_OF_TIME = (DeadlineExceededError, StepEndedError)
_MENDS: dict[type[LockstepError], str] = {
    DatabaseUnreachableError: "look at the server's log and load, then: nc -vz {host} {port}",
    DatabaseBusyError: "end sessions, or raise the limit (max_connections, max_user_connections)",
    UnsupportedServerError: "correct `engine`, or `strategy`, in the plan (lockstep plan check), or upgrade the server",
    TlsVerificationError: "lockstep doctor --only database.tls",
    DatabaseRejectedError: "look at the server's log for the statement that it refused",
}


def sentence(error: LockstepError) -> str:
    """What an error says, without its advice and the full stop."""
    meaning = (type(error).__doc__ or "").strip().removesuffix(".")
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
        return failed(about, what, _MENDS[UnsupportedServerError])
    command = error.advice or next(
        (
            text.format(host=server.host, port=server.port)
            for kind, text in _MENDS.items()
            if isinstance(error, kind)
        ),
        "look up the error in docs/runbook.md#errors-by-name",
    )
    return failed(about, sentence(error), command)
