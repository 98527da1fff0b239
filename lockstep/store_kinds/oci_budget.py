"""Whether a ring can be rotated indefinitely within Vault's quota of versions.

Each rotation of a ring adds a version to one slot; a slot's turn comes every `slots` intervals. What is superseded is
scheduled for deletion, a day ahead at least, and is gone when Vault purges it, which may be half a day later. Until
then it counts against one of two caps per secret: 30 versions in use, 30 pending deletion
(https://docs.oracle.com/iaas/Content/secret-management/Concepts/secret-versions.htm).

In the long run a slot loses at most 30 versions in the time from scheduling to purge. A ring that gains more fills the
cap of pending deletions first, then that of versions in use, and then the next staging is refused: it has wedged. The
slots are alike, so what holds for one of them holds for the ring.
"""

from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from math import ceil

MAX_IN_USE = 30
MAX_PENDING_DELETION = 30
"""The limits of one secret (https://docs.oracle.com/iaas/Content/secret-management/Concepts/secret-versions.htm)."""

MAX_BYTES = 25_600
"""The most that a version keeps: 25 KB."""

KEPT_SUPERSEDED = 1
"""DEPRECATED versions of Lockstep that stay: a repeated ApplyDb still has to show that the newest of them is dead."""

DELETION_LEAD = timedelta(hours=24, minutes=10)
"""How far ahead a deletion is scheduled: a day at least (https://docs.oracle.com/iaas/api/#/en/secretmgmt/20180608/),
and some clock skew."""

PURGE_LATENESS = timedelta(hours=12)
"""The longest expected delay of a purge; Oracle promises no limit."""

MAX_SLOTS = 16
"""The most slots that a plan may give a ring."""

_NEVER_DELETED = 1
"""The version that a slot held before Lockstep, which Lockstep does not delete."""
_NOT_SUPERSEDED = 3
"""CURRENT, PREVIOUS and, during a rotation, PENDING."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a ring needs of each slot's quota.

    Attributes:
        holds: Whether it can be rotated indefinitely.
        versions_per_day_per_slot: How many versions a slot gains.
        peak_in_use: The most versions in use at once, of `MAX_IN_USE`.
        peak_pending: The most versions pending deletion at once, of `MAX_PENDING_DELETION`.
        wedges_after: How long after the first rotation a staging is refused; None where it holds.
        advice: What to change; empty where it holds.
    """

    holds: bool
    versions_per_day_per_slot: float
    peak_in_use: int
    peak_pending: int
    wedges_after: timedelta | None
    advice: str


def version_budget(interval: timedelta, slots: int, *, purge_lateness: timedelta = PURGE_LATENESS) -> Budget:
    """What a ring of so many slots needs, rotated at this interval.

    Args:
        interval: Between rotations; positive.
        slots: Of the ring.
        purge_lateness: How late every purge is taken to be.
    """
    turn, retention = interval * slots, DELETION_LEAD + purge_lateness
    holds = retention <= turn * MAX_PENDING_DELETION
    peak_in_use = _NEVER_DELETED + _NOT_SUPERSEDED + KEPT_SUPERSEDED + 1
    return Budget(
        holds=holds,
        versions_per_day_per_slot=timedelta(days=1) / turn,
        peak_in_use=peak_in_use if holds else MAX_IN_USE,
        peak_pending=ceil(retention / turn) if holds else MAX_PENDING_DELETION,
        wedges_after=None if holds else _wedges_after(turn, retention),
        advice="" if holds else _advice(interval, slots, retention),
    )


def _wedges_after(turn: timedelta, retention: timedelta) -> timedelta:
    """Follow one slot until a staging is refused; ends, since it gains more than it loses."""
    now = timedelta()
    in_use = _NEVER_DELETED
    purges: deque[timedelta] = deque()
    while True:
        while purges and purges[0] <= now:
            purges.popleft()
        if in_use >= MAX_IN_USE:
            return now
        in_use += 1
        disposable = in_use - _NEVER_DELETED - _NOT_SUPERSEDED - KEPT_SUPERSEDED
        for _ in range(min(disposable, MAX_PENDING_DELETION - len(purges))):
            purges.append(now + retention)
            in_use -= 1
        now += turn


def _advice(interval: timedelta, slots: int, retention: timedelta) -> str:
    needed = ceil(retention / (interval * MAX_PENDING_DELETION))
    shortest = timedelta(minutes=ceil(retention / (slots * MAX_PENDING_DELETION) / timedelta(minutes=1)))
    minutes = int(shortest / timedelta(minutes=1))
    longer = f"an interval of {minutes}m or more"
    return f"ring: {needed}, or {longer}" if needed <= MAX_SLOTS else longer
