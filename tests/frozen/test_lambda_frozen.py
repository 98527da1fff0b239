"""A Lambda under AWS's runtime client is frozen between invocations: no call goes on in a later one.

(protocol F9, F11)
"""

import json
import sysconfig
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lockstep.runtime.wiring import PLAN_VARIABLE
from sandbox.emulators.aws.lambda_host import LambdaHost
from sandbox.emulators.aws.lambda_process import DeployedFunction, FunctionProcesses, copy_runtime
from tests.frozen.conftest import World
from tests.frozen.work import BOUND_SECONDS, CALLS, Signs, environment, wait_for

ROOT = Path(__file__).parents[2]
ACCESS_KEY = "AKIAGENERATE"
"""That of the function that stages, in `sandbox.identities`."""


@pytest.fixture(scope="module")
def task_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the function: this repository and what it imports."""
    folder = tmp_path_factory.mktemp("task")
    for source in (*(ROOT / name for name in ("lockstep", "functions", "tests")), *_site_packages()):
        (folder / source.name).symlink_to(source)
    return folder


def _site_packages() -> Iterator[Path]:
    installed = Path(sysconfig.get_path("purelib"))
    yield from (p for p in installed.iterdir() if p.name not in {"lockstep", "functions", "tests"})


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime client."""
    return copy_runtime(tmp_path_factory.mktemp("runtime") / "runtime")


class Function:
    """The function of `tests.frozen.lambda_function`, and the processes that run it."""

    def __init__(self, processes: FunctionProcesses, host: LambdaHost) -> None:
        self.processes = processes
        self.host = host

    def invoke(self, act: str, *, timeout_seconds: float = 90.0) -> Any:  # noqa: ANN401 - JSON
        """What Lambda answers."""
        self.host.register("frozen", self.processes, timeout_seconds=timeout_seconds)
        rotation = {"credential_id": f"frozen/{act}", "rotation_id": f"run-{act}"}
        return json.loads(
            self.host.invoke("frozen", json.dumps({"rotation": rotation, "act": act}).encode()).payload
        )


Start = Callable[[str], Function]


@pytest.fixture
def start(world: World, task_root: Path, runtime: Path, tmp_path: Path) -> Iterator[Start]:
    """Deploys the function with the call that is named."""
    started: list[FunctionProcesses] = []

    def deploy(call: str) -> Function:
        estate = world.estate
        processes = FunctionProcesses(
            DeployedFunction(
                name="frozen",
                handler="tests.frozen.lambda_function.handler",
                environment={PLAN_VARIABLE: str(estate.plan_file), **environment(tmp_path, call)},
                task_root=task_root,
                memory_mb=512,
            ),
            runtime=runtime,
            sandbox_environment={
                **estate.aws.environment(),
                **estate.function_environment,
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            },
            log_file=tmp_path / "log",
        )
        started.append(processes)
        host = LambdaHost(region=estate.aws.region, account_id=estate.aws.account_id)
        return Function(processes, host)

    yield deploy
    for processes in started:
        processes.stop()


# The first one reads the admin's login, or with the store in AWS what its secret holds; for a session in OCI two proofs
# are made side by side.
@pytest.mark.parametrize(
    ("call", "before_the_first_answer"),
    [
        ("aws", ["secretsmanager GetSecretValue"]),
        ("oci", ["kms Sign", "sts GetWebIdentityToken"]),
        ("database", ["secretsmanager GetSecretValue"]),
    ],
    ids=CALLS,
)
def test_a_call_that_a_step_has_left_behind_sends_nothing_more(
    world: World, start: Start, signs: Signs, call: str, before_the_first_answer: list[str]
) -> None:
    function = start(call)
    function.invoke("warm")
    with world.holding_the_first_call(signs, sent=len(before_the_first_answer)) as release:
        assert function.invoke("leave")["errorType"] == "StoreUnreachableError"
        assert sorted(world.sent()) == before_the_first_answer
        under_way = world.sent()
        release.set()
        assert not signs.outcome.exists(), "the process is not frozen"
        assert function.invoke("look") == {"late": "DeadlineExceededError"}
        assert function.processes.starts == 1
        assert world.sent() == [*under_way, "dynamodb GetItem"]


@pytest.mark.parametrize("call", CALLS)
def test_a_step_that_fails_returns_when_its_workers_have_ended(
    world: World, start: Start, signs: Signs, call: str
) -> None:
    function = start(call)
    function.invoke("warm")
    with world.holding_the_first_call(signs) as release, ThreadPoolExecutor() as pool:
        invocation = pool.submit(function.invoke, "join")
        wait_for(signs.held)
        assert not invocation.done()
        release.set()
        assert invocation.result(BOUND_SECONDS)["errorType"] == "StoreUnreachableError"
        assert signs.outcome.read_text() == "done"
        done = world.sent()
        assert function.invoke("look") == {"late": "done"}
        assert world.sent() == [*done, "dynamodb GetItem"]
    assert world.took_effect(call, "join")


def test_a_step_that_cannot_end_ends_its_process_and_the_retry_gets_another(
    start: Start, signs: Signs, tmp_path: Path
) -> None:
    function = start("aws")
    function.host.grace_seconds = BOUND_SECONDS
    function.invoke("warm")
    answer = function.invoke("hang", timeout_seconds=8.0)
    assert answer["errorType"] == "Runtime.ExitError"
    assert "does not end in time" in (tmp_path / "log").read_text()
    signs.outcome.write_text("gone")
    assert function.invoke("look") == {"late": "gone"}
    assert function.processes.starts == 2
