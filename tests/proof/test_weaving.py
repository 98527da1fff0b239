"""Calls that overlap are woven one operation at a time, the same for the same seed."""

from collections.abc import Callable

import pytest

from lockstep.protocol.errors import LockTableUnreachableError, StoreUnreachableError
from tests.proof.weaving import Weave


def _woven(seed: int) -> str:
    weave, done = Weave(str(seed)), list[str]()

    def strand(name: str, operations: int = 2) -> Callable[[], str]:
        def call() -> str:
            for _ in range(operations):
                weave.switch()
                done.append(name)
            return name

        return call

    def nested() -> str:
        done.append("n")
        return "".join(weave([strand("x"), strand("y")]))

    assert weave([strand("a"), nested, strand("b")]) == ("a", "xy", "b")
    return "".join(done)


def test_a_seed_gives_the_same_order() -> None:
    assert [_woven(seed) for seed in range(50)] == [_woven(seed) for seed in range(50)]


def test_every_order_of_two_calls_of_two_operations_occurs() -> None:
    def order(seed: int) -> str:
        return "".join(letter for letter in _woven(seed) if letter in "ab")

    assert {order(seed) for seed in range(400)} == {"aabb", "abab", "abba", "baab", "baba", "bbaa"}


def test_the_first_failure_in_order_is_raised_and_the_others_are_made() -> None:
    made: list[str] = []

    def fails(error: Exception) -> Callable[[], None]:
        def call() -> None:
            raise error

        return call

    for seed in range(20):
        made.clear()
        calls = [
            lambda: made.append("first"),
            fails(StoreUnreachableError(store="aws")),
            fails(LockTableUnreachableError()),
            lambda: made.append("last"),
        ]
        with pytest.raises(StoreUnreachableError):
            Weave(str(seed))(calls)
        assert sorted(made) == ["first", "last"]
