"""Whose turn it is among a credential's usernames, and what that means for readers of any one slot."""

from collections.abc import Iterator, Sequence

import pytest

from lockstep.protocol.decide import LOOK_BACK, next_username, staged_usernames
from lockstep.protocol.errors import (
    LostCompareAndSetError,
    NoFreeUsernameError,
    StoreRejectedError,
    UnknownUsernameError,
)
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from lockstep.protocol.ports import Observed
from tests.support.fence import fence_held
from tests.unit.ring_world import emulated_ring, slot_generations, value

FIVE = ("a", "b", "c", "d", "e")


def login(username: str, generation: int = 0) -> Login:
    return Login(username, SecretStr(f"password-{generation}"))


class Unread:
    """Fails when it is read."""

    def __iter__(self) -> Iterator[tuple[int, str]]:
        raise AssertionError("nothing has to be read")


@pytest.mark.parametrize(
    ("usernames", "base", "served", "staged", "expected"),
    [
        (("a",), "a", "a", None, "a"),
        (("a", "b"), "a", "a", None, "b"),
        (("a", "b"), "b", "ab", None, "a"),  # Readers take the newest slot, so older slots do not count.
        (FIVE, "a", "abcd", None, "e"),
        (FIVE, "e", "abcde"[1:], None, "a"),
        (FIVE, "a", "ab", "aebdc", "c"),
        (FIVE, "a", "ab", "abec", "d"),  # Never staged.
        (FIVE, "a", "ab", "ab", "c"),  # None of three was ever staged: in the plan's order.
        (FIVE, "a", "ab", "EabEdc", "e"),  # Its newest value was abandoned.
        (FIVE, "a", "ab", "edabEc", "c"),  # An older value of it was.
        (FIVE, "a", "ab", "Beabdc", "c"),  # That of a username that is not free was.
        (FIVE, "a", "bcd", None, "e"),
    ],
)
def test_the_next_username(
    usernames: Sequence[str], base: str, served: str, staged: str | None, expected: str
) -> None:
    """Of `staged` a capital is a value that was never promoted."""
    newest_first = list(zip(range(len(staged or ""), 0, -1), staged or "", strict=True))
    found = next_username(
        usernames,
        base=login(base),
        served=[login(name) for name in served],
        staged=Unread() if staged is None else [(g, name.lower()) for g, name in newest_first],
        valid={g for g, name in newest_first if name.islower()},
    )
    assert found == expected


def test_at_bootstrap_the_first_username_is_next() -> None:
    for usernames in (FIVE[:1], FIVE[:2], FIVE):
        assert next_username(usernames, base=None, served=(), staged=(), valid=()) == "a"


def test_without_a_free_username_there_is_none() -> None:
    with pytest.raises(NoFreeUsernameError):
        next_username(FIVE, base=login("a"), served=[login(name) for name in "bcde"], staged=(), valid=())


def test_a_base_of_another_account_is_an_error() -> None:
    """It is left alone (protocol C8)."""
    for usernames in (FIVE[:1], FIVE[:2], FIVE):
        with pytest.raises(UnknownUsernameError):
            next_username(usernames, base=login("x"), served=(), staged=(), valid=())


class Held:
    """A store that holds some generations and counts what is read."""

    def __init__(self, values: dict[int, str]) -> None:
        self.values = values
        self.reads = 0

    def read_generation(self, generation: int) -> CredentialValue | None:
        self.reads += 1
        name = self.values.get(generation)
        return CredentialValue(generation, login(name)) if name else None


def test_what_was_staged_is_read_only_as_far_as_needed() -> None:
    held = Held({9: "a", 8: "e", 6: "d", 1: "b"})
    staged = staged_usernames(held, highest=9)
    assert next_username(FIVE[2:], base=None, served=(), staged=staged, valid=range(10)) == "c"
    assert held.reads == 9 - 6 + 1


def test_the_search_for_what_was_staged_ends() -> None:
    held = Held({})
    assert list(staged_usernames(held, highest=10_000)) == []
    assert held.reads == LOOK_BACK


# Readers of any one slot (protocol V18)


def committed(found: Observed) -> None:
    assert found.commit
    found.commit()


def test_a_promotion_is_spread_to_every_slot() -> None:
    """Before an emergency resets the other accounts, readers of any one slot have a value that lives."""
    with emulated_ring(slots=3) as world:
        for generation in (1, 2):
            world.store.stage(value(generation))
            world.store.promote(generation, fence_held)
        assert slot_generations(world) == [0, 2, 1]
        first, _ = world.secret.spread(2)
        committed(first)
        assert slot_generations(world) == [2, 2, 1]
        (other,) = world.secret.spread(2)  # Another run finishes what one began.
        committed(other)
        assert slot_generations(world) == [2, 2, 2]
        assert {v.text for v in world.secret.served()} == {world.secret.read_current().text}
        assert world.secret.spread(2) == []
        world.store.stage(value(3))
        world.store.promote(3, fence_held)
        assert slot_generations(world) == [2, 2, 3]


def test_a_slot_that_changed_since_it_was_looked_at_is_not_spread_over() -> None:
    with emulated_ring(slots=3) as world:
        for generation in (1, 2):
            world.store.stage(value(generation))
            world.store.promote(generation, fence_held)
        found = world.secret.spread(2)
        world.store.stage(value(3))
        world.store.promote(3, fence_held)
        assert slot_generations(world) == [3, 2, 1]
        with pytest.raises(LostCompareAndSetError):
            committed(found[0])
        assert slot_generations(world) == [3, 2, 1]


def test_a_generation_that_the_ring_does_not_hold_is_not_spread() -> None:
    with emulated_ring(slots=2) as world, pytest.raises(StoreRejectedError):
        world.secret.spread(7)
