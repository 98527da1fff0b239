"""An OCI function under the real fdk is paused between calls: no call of a run goes on in a later run.

(protocol F9, F11)
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import RemoteDisconnected
from pathlib import Path

import pytest

from oci_fn.dispatching import overdue
from oci_fn.face import MARGIN_SECONDS
from sandbox.fn import FunctionProcess, running_function
from tests.frozen.conftest import World
from tests.frozen.work import BOUND_SECONDS, CALLS, Signs, environment, wait_for, wait_until

MODULE = Path(__file__).with_name("fdk_function.py")


def _ask(function: FunctionProcess, act: str, *, seconds: float = 120.0) -> str:
    """The error of the run, since each of them fails."""
    # A call for one credential would look at the index before its run.
    [result] = function.call({"credential_ids": [f"frozen/{act}"]}, seconds=seconds).body["results"]
    return str(result["error"])


@contextmanager
def _warm(variables: Mapping[str, str]) -> Iterator[FunctionProcess]:
    """The function with its clients made."""
    with running_function(variables, module=MODULE) as function:
        _ask(function, "warm")
        yield function


# In OCI eight slots are looked up side by side; where the first answer is not missing, their versions are listed.
late_calls = pytest.mark.parametrize(
    ("call", "before_the_first_answer"),
    [
        ("aws", ["secretsmanager GetSecretValue"]),
        ("oci", ["vault list_secrets"] * 8 + ["vault list_secret_versions"] * 4),
        ("database", ["vault list_secrets"]),
    ],
    ids=CALLS,
)


@late_calls
def test_a_call_that_a_run_has_left_behind_sends_nothing_more(
    world: World, signs: Signs, tmp_path: Path, call: str, before_the_first_answer: list[str]
) -> None:
    variables = {**world.estate.function_environment, **environment(tmp_path, call)}
    with (
        _warm(variables) as function,
        world.holding_the_first_call(signs, sent=len(before_the_first_answer)) as release,
    ):
        assert _ask(function, "leave") == "StoresDivergedError"
        assert sorted(world.sent()) == sorted(before_the_first_answer)
        under_way = world.sent()
        release.set()
        assert not signs.outcome.exists(), "the process is not frozen"
        assert _ask(function, "look") == "StoresDivergedError"
        assert signs.outcome.read_text() == "DeadlineExceededError"
        assert world.sent() == [*under_way, "dynamodb GetItem"]


@late_calls
def test_a_call_that_a_run_has_left_behind_sends_nothing_in_the_next_run_of_its_batch(
    world: World, signs: Signs, tmp_path: Path, call: str, before_the_first_answer: list[str]
) -> None:
    """The process is not frozen between the two."""
    runs = ("frozen/leave", "frozen/look")
    call_id = next(f"batch-{i}" for i in range(100) if overdue(runs, f"batch-{i}") == runs)
    variables = {**world.estate.function_environment, **environment(tmp_path, call)}
    with (
        _warm(variables) as function,
        world.holding_the_first_call(signs, sent=len(before_the_first_answer)) as release,
        ThreadPoolExecutor() as pool,
    ):
        batch = pool.submit(function.call, {"credential_ids": runs}, headers={"Fn-Call-Id": call_id})
        wait_until(lambda: "dynamodb GetItem" in world.sent(), "the next run")
        under_way = world.sent()
        assert sorted(under_way[:-1]) == sorted(before_the_first_answer)
        release.set()
        results = batch.result(BOUND_SECONDS).body["results"]
        assert [(r["credential_id"], r["error"]) for r in results] == [
            (run, "StoresDivergedError") for run in runs
        ]
        assert signs.outcome.read_text() == "DeadlineExceededError"
        assert world.sent() == under_way


@pytest.mark.parametrize("call", CALLS)
def test_a_run_that_fails_ends_when_its_workers_have_ended(
    world: World, signs: Signs, tmp_path: Path, call: str
) -> None:
    variables = {**world.estate.function_environment, **environment(tmp_path, call)}
    with (
        _warm(variables) as function,
        world.holding_the_first_call(signs) as release,
        ThreadPoolExecutor() as pool,
    ):
        run = pool.submit(_ask, function, "join")
        wait_for(signs.held)
        assert not run.done()
        release.set()
        assert run.result(BOUND_SECONDS) == "StoresDivergedError"
        assert signs.outcome.read_text() == "done"
    assert world.took_effect(call, "join")


def test_a_run_that_cannot_end_ends_its_process(world: World, tmp_path: Path) -> None:
    variables = {**world.estate.function_environment, **environment(tmp_path, "aws")}
    with _warm(variables) as function:
        with pytest.raises(RemoteDisconnected):
            _ask(function, "hang", seconds=MARGIN_SECONDS + 8.0)  # Later no run begins.
        assert "does not end in time" in function.log


@pytest.mark.parametrize("body", [{}, {"credential_id": "frozen/warm"}], ids=["every credential", "one"])
def test_a_look_at_the_credentials_that_cannot_end_ends_its_process(
    world: World, signs: Signs, tmp_path: Path, body: dict[str, str]
) -> None:
    variables = {**world.estate.function_environment, **environment(tmp_path, "aws")}
    with _warm(variables) as function:
        signs.endless.write_text("")
        with pytest.raises(RemoteDisconnected):
            function.call(body, seconds=4.0)
        assert "does not end in time" in function.log
