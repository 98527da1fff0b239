"""How a scheduled call shares what is due among calls of the function itself (protocol R5).

A call works on one credential after the other: the platform ends what hangs by ending the process, and nothing else
must be in it. So many credentials need many calls. What is due is cut into batches, the longest due first, and each is
handed to a detached call. A call that fails, or is not taken, changes nothing for the others; and what is handed on
twice, since the next schedule came before its turn, is skipped by the lock.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import Any

from lockstep.protocol.deadlines import BATCH
from lockstep.protocol.errors import LockstepError
from lockstep.protocol.workers import SideBySide

MOST_BATCHES = 100
"""Detached calls that one call asks for. Each is a container while it runs, and a tenancy has 60 GB of them in each
availability domain (https://docs.oracle.com/iaas/Content/Functions/Tasks/functionslimits.htm)."""
MOST_IDS = 100
"""Ids that a call takes."""
LATE = timedelta(minutes=2)
"""A call that was asked for longer ago looks again (`recheck`). Where calls wait for containers, later ones have
asked for the same credentials. So these were rotated meanwhile, or are asked for twice more; and others are due longer
by now."""
ANYWHERE_ONE_IN = 3
"""One in so many of those calls does not begin with what is due longest."""
NEWEST_SHARE = 4
"""Where more is due than all batches hold, one in so many is kept for what fell due last. Otherwise credentials that
fail again and again, which are due longest, would keep every other one from its turn."""


def shares(due: Sequence[str]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """What is handed on, in batches, the longest due first; and what is left to the next call.

    Args:
        due: Ids, the longest due first.
    """
    most, first = BATCH * MOST_BATCHES, len(due)
    last = first
    if len(due) > most:
        newest = most // NEWEST_SHARE
        first, last = most - newest, len(due) - newest
    chosen = (*due[:first], *due[last:])
    return [chosen[i : i + BATCH] for i in range(0, len(chosen), BATCH)], tuple(due[first:last])


def overdue(ids: Sequence[str], call_id: str) -> tuple[str, ...]:
    """The order in which a call comes to its credentials: from another one on in each call, then from the first one.

    A rotation can take all the time of its call, or end its process. It does not move its credential's due time, so by
    that order alone those behind it would be kept from their turn by every call.

    Args:
        ids: The longest due first.
        call_id: Of the call; each has another one.
    """
    first = _number(call_id) % max(1, len(ids))
    return (*ids[first:], *ids[:first])


def recheck(due: Sequence[str], call_id: str) -> tuple[str, ...]:
    """What a call does that was handed its batch long ago: as many as a batch, of all that is due by now.

    That is what is due longest, but one call in so many begins anywhere: all that is due longest may fail again and
    again.

    Args:
        due: Ids, the longest due first.
        call_id: Of the call; each has another one.
    """
    anywhere = _number(f"again {call_id}") % ANYWHERE_ONE_IN == 0
    return (overdue(due, call_id) if anywhere else tuple(due))[:BATCH]


def _number(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8])


def delegate(
    batches: Sequence[Sequence[str]],
    call: Callable[[Mapping[str, Any]], None],
    *,
    event: Mapping[str, Any],
    side_by_side: SideBySide,
) -> Sequence[LockstepError | None]:
    """Have each batch done by a call of its own. All are asked for, whatever has become of the others.

    Args:
        batches: Ids.
        call: Has the function called.
        event: What each call is given besides.
        side_by_side: Bounds how many are asked for at the same time.

    Returns:
        For each batch the error where it was not taken.
    """
    return side_by_side(
        [partial(_error_of, call, {"credential_ids": list(batch), **event}) for batch in batches]
    )


def _error_of(call: Callable[[Mapping[str, Any]], None], event: Mapping[str, Any]) -> LockstepError | None:
    try:
        call(event)
    except LockstepError as error:
        return error
    return None
