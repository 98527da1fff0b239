"""What is to be done next with a runner's key, as a table."""

from datetime import UTC, datetime, timedelta

import pytest

from lockstep.runner_keys import (
    GRACE,
    PROOFS,
    Held,
    KeyState,
    Phase,
    Registered,
    coming_key,
    ends_at,
    phase_of,
    proven,
)
from lockstep.timing import RUN
from tests.support.memory import FakeClock

NOW = datetime(2026, 11, 27, tzinfo=UTC)
YOUNG, OLD = NOW - timedelta(seconds=5), NOW - GRACE


def state(
    registered: str, *, current: str = "b", previous: str = "", pending: str = "", since: datetime = YOUNG
) -> KeyState:
    """The letters are keys."""
    return KeyState(
        owner="user",
        current=Held(id=current, since=since),
        previous=Held(id=previous, since=OLD) if previous else None,
        pending=Held(id=pending, since=OLD) if pending else None,
        registered=[Registered(id=key, made_at=OLD) for key in registered],
        most=3,
    )


@pytest.mark.parametrize(
    ("found", "in_use", "has_begun", "phase"),
    [
        (state("b"), "b", False, Phase.REPLACE),
        (state("b"), "b", True, Phase.DONE),
        (state("bxy"), "b", False, Phase.FULL),
        (state("xy"), "b", False, Phase.REPLACE),  # The current one was deleted, so nothing works.
        (state("ab", previous="a"), "b", False, Phase.WAIT),
        (state("ab", previous="a"), "b", True, Phase.WAIT),
        (state("ab", previous="a", since=OLD), "b", False, Phase.DELETE),
        (state("abx", previous="a", since=OLD), "b", False, Phase.DELETE),
        (state("ab", previous="a", since=OLD), "ab", False, Phase.DONE),  # Another secret serves it.
        (state("b", previous="a", since=OLD), "b", False, Phase.REPLACE),
        (state("b", previous="b", since=OLD), "b", False, Phase.REPLACE),
        (state("b", pending="c"), "bc", False, Phase.REPLACE),
        (state("bc", pending="c"), "bc", True, Phase.REPLACE),
        (state("bcx", pending="c"), "bc", False, Phase.REPLACE),  # It is registered, so it needs no room.
        (state("bxy", pending="c"), "bc", False, Phase.FULL),
        (state("abc", previous="a", pending="c", since=OLD), "bc", False, Phase.REPLACE),
        (state("b", pending="b"), "b", True, Phase.DONE),
    ],
)
def test_what_is_next_follows_from_what_is_there(
    *, found: KeyState, in_use: str, has_begun: bool, phase: Phase
) -> None:
    assert phase_of(found, NOW, in_use=set(in_use), has_begun=has_begun) is phase


def test_the_old_key_outlives_every_run_that_has_read_it() -> None:
    assert GRACE > RUN
    assert ends_at(state("ab", previous="a")) == YOUNG + GRACE
    assert coming_key(state("b", pending="b")) is None


class RefusedError(Exception):
    """The key is not known."""


def test_a_key_must_work_several_times_in_a_row() -> None:
    answers = [*[False] * 3, True, False, *[True] * (PROOFS + 5)]
    asked = iter(answers)
    count = 0

    def call() -> None:
        nonlocal count
        count += 1
        if not next(asked):
            raise RefusedError

    proven(call, RefusedError, FakeClock())  # type: ignore[arg-type]  # an error of its own
    assert count == 5 + PROOFS


def test_a_key_that_is_never_known_is_given_up() -> None:
    def call() -> None:
        raise RefusedError

    clock = FakeClock()
    begin = clock.monotonic()
    with pytest.raises(RefusedError):
        proven(call, RefusedError, clock)  # type: ignore[arg-type]  # likewise
    assert 100 < clock.monotonic() - begin < 200
