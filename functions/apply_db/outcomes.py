"""Calls on several databases at once: what becomes of all of them, where some fail (protocol D20)."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from lockstep.protocol.errors import (
    LockstepError,
    ReplicaRejectedError,
    RetryableError,
    TerminalError,
)
from lockstep.protocol.model import Lease
from lockstep.stores.credential import Ports

T = TypeVar("T")


def all_of(ports: Ports, lease: Lease, calls: Sequence[Callable[[], T]]) -> tuple[T, ...]:
    """Make the calls side by side, one for each database.

    A database one of whose hosts refuses what the database itself accepts is blocked: the next run's login would be one
    more refusal in a row there (protocol D20).

    Raises:
        LockstepError: Of the errors the first one that is terminal, else the first. Where a login was refused the step
            is not tried again because another database did not answer.
        FenceLostError: Another run holds the lock, so nothing was blocked.
    """
    outcomes = ports.side_by_side([partial(outcome_of, call) for call in calls])
    errors = [outcome for outcome in outcomes if isinstance(outcome, LockstepError)]
    if refusing := sorted({_refusing(error) for error in errors} - {""}):
        with suppress(RetryableError):  # The run ends all the same, and no login is shown in it any more.
            ports.lock.block(lease, refusing)
    if errors:
        raise next((error for error in errors if isinstance(error, TerminalError)), errors[0])
    return tuple(outcome for outcome in outcomes if not isinstance(outcome, LockstepError))


def outcome_of(call: Callable[[], T]) -> T | LockstepError:
    """What a call returns or raises."""
    try:
        return call()
    except LockstepError as error:
        return error


def _refusing(error: LockstepError) -> str:
    """The database of a host that has refused what should work, if that is what the error says."""
    if isinstance(error, ReplicaRejectedError):
        return error.where["database"].partition("@")[0]
    return ""
