"""What is said of all inputs is tried on the same ones each time, and for as long as a busy machine takes."""

import time

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.harness import PROOF

drawn: list[list[int]] = []


@given(number=st.just(7))
def test_an_input_may_take_as_long_as_it_does(number: int) -> None:
    time.sleep(0.3)  # Hypothesis lets an input take 0.2 s, unless it is told otherwise.
    assert number == 7


def test_the_inputs_are_the_same_each_time() -> None:
    @given(st.lists(st.integers(), min_size=4))
    def tried(numbers: list[int]) -> None:
        drawn.append(numbers)

    tried()
    first = drawn.copy()
    drawn.clear()
    tried()
    assert (drawn == first) is not PROOF
