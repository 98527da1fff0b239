"""Long-lived keys of the runners: when one is old, and how one takes the place of another without a gap.

1. The new key is made, registered with its owner beside the old one, and proven by a signed call.
2. It becomes the current value of the secret, and what is stored is proven.
3. The old key stays for `GRACE`: who has read it before must be able to use it. A warm function in AWS that is refused
   reads the secret again and goes on; that in OCI reads its key again after half of `GRACE`.
4. The old key is deleted.

What was done is read from the secret and from the owner's keys, never remembered: the previous value of the secret is
the key that is to go, and a pending one the key that is to come. So a repeated command goes on where another ended.
"""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Protocol

from lockstep.errors import LockstepError
from lockstep.ports import Clock
from lockstep.timing import CLOCK_SKEW, RUN_AWAITED

KEY_AGE = timedelta(days=90)
"""The age from which benchmarks ask for a new key
(CIS OCI Foundations Benchmark 1.8, CIS AWS Foundations Benchmark 1.14)."""
GRACE = RUN_AWAITED + CLOCK_SKEW
"""So long after it was replaced a key still works: longer than any run that has read it."""

PROOFS = 3
"""A new key is known to every part of a service only after a while, so it must work so often in a row."""
_WITHIN_SECONDS = 120.0
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A key that a version of the secret holds.

    Attributes:
        id: Its public name: the fingerprint of an API key, the id of an access key.
        since: When the version was made.
    """

    id: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A key that its owner has in the other cloud."""

    id: str
    made_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyState:
    """What there is of one key.

    Attributes:
        owner: Whose keys they are, in the other cloud.
        current: What the secret serves.
        previous: What it served before; None where that is no key of this owner.
        pending: What it is to serve next, likewise.
        registered: All keys of the owner.
        most: So many keys an owner may have.
    """

    owner: str
    current: Held
    previous: Held | None = None
    pending: Held | None = None
    registered: Sequence[Registered]
    most: int

    @property
    def ids(self) -> AbstractSet[str]:
        """The names of the owner's keys."""
        return {key.id for key in self.registered}


class UnknownOwnerError(Exception):
    """The other cloud does not say whose key it is.

    Attributes:
        key: Its public name.
    """

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class ForeignOwnerError(Exception):
    """The key that the secret has is somebody else's than the command was told.

    Attributes:
        key: Its public name.
        owner: Whose it is.
    """

    def __init__(self, key: str, owner: str) -> None:
        super().__init__(key)
        self.key = key
        self.owner = owner


class Phase(Enum):
    """What is to be done next."""

    REPLACE = auto()
    """Make the new key, or go on with the one that is pending, and let the secret serve it."""
    WAIT = auto()
    """Nothing before the old key's time is over."""
    DELETE = auto()
    """Delete the old key."""
    FULL = auto()
    """The owner has as many keys as it may have, and none of them is known to be needless."""
    DONE = auto()


def phase_of(state: KeyState, now: datetime, *, in_use: AbstractSet[str], has_begun: bool) -> Phase:
    """What is to be done next with a key.

    Args:
        state: What there is.
        now: The time.
        in_use: Keys that a secret serves, or is to serve: none of these is deleted.
        has_begun: Whether this key was replaced, or an old one found, since the command began.
    """
    pending, old = coming_key(state), old_key(state)
    if pending is None and old:
        # One that another secret serves goes when that has been replaced, too.
        is_over = now >= ends_at(state)
        return Phase.DONE if old in in_use else Phase.DELETE if is_over else Phase.WAIT
    if pending is None and has_begun:
        return Phase.DONE
    is_there = pending in state.ids
    return Phase.REPLACE if is_there or len(state.registered) < state.most else Phase.FULL


def coming_key(state: KeyState) -> str | None:
    """The key that the secret is to serve next; None where none was made, or it is served already."""
    pending = state.pending
    return pending.id if pending and pending.id != state.current.id else None


def old_key(state: KeyState) -> str | None:
    """The key that the secret served before and that still works; None where there is none."""
    previous = state.previous
    return previous.id if previous and previous.id != state.current.id and previous.id in state.ids else None


def ends_at(state: KeyState) -> datetime:
    """When the old key's time is over."""
    return state.current.since + GRACE


def proven(call: Callable[[], None], refused: type[LockstepError], clock: Clock) -> None:
    """Make a call until it was taken `PROOFS` times in a row.

    Args:
        call: Signed by the key.
        refused: What it raises while the key is not known.
        clock: Bounds the wait.

    Raises:
        LockstepError: `refused`, where the key is not known in time; or another error of the call.
    """
    deadline, proofs = clock.monotonic() + _WITHIN_SECONDS, 0
    while True:
        try:
            call()
            proofs += 1
        except refused:
            if clock.monotonic() > deadline:
                raise
            proofs = 0
        if proofs == PROOFS:
            return
        clock.sleep(_PAUSE_SECONDS)


class RunnerKey(Protocol):
    """A key of a runner, as a person replaces it. Errors are those of both clouds."""

    @property
    def secret(self) -> str:
        """The name of the secret that has it."""

    @property
    def kind(self) -> str:
        """What a person calls it."""

    def look(self) -> KeyState:
        """What there is now."""

    def replace(self, state: KeyState) -> str:
        """Let the secret serve a new key that is proven, or the pending one; its public name."""

    def delete(self, key: str) -> None:
        """Prove what is stored once more, and delete another key of the owner."""
