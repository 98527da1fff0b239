"""Functions under the real fdk and AWS's runtime client are frozen between calls: no call goes on in a later one.

(protocol F9, F11)
"""

import json
import sysconfig
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import RemoteDisconnected
from pathlib import Path
from typing import Any

import pytest

from lockstep.runtime.wiring import PLAN_VARIABLE
from oci_fn.dispatching import overdue
from sandbox import plans
from sandbox.emulators.aws.lambda_host import LambdaHost
from sandbox.emulators.aws.lambda_process import DeployedFunction, FunctionProcesses, copy_runtime
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer
from sandbox.estate import Estate, running_estate
from sandbox.fn import FunctionProcess, running_function
from sandbox.outside import Value, lets_in
from sandbox.wire import Fault, FaultKind, Wire
from tests.frozen import work
from tests.frozen.work import BOUND_SECONDS, GENERATION, PASSWORD, Signs
from tests.support.programs import until

ROOT = Path(__file__).parents[2]
MODULE = Path(__file__).with_name("fdk_function.py")
ACCESS_KEY = "AKIAGENERATE"
"""That of the function that stages, in `sandbox.identities`."""
ENDED = "its process has ended"
ACTS = ("warm", "leave", "join", "hang", "look")
SENT_FIRST = {
    # Eight slots are looked up side by side; where the first answer is not missing, their versions are listed.
    "fdk": {"aws": 1, "oci": 12, "database": 1},
    # The admin's login is read, or what the secret holds; for a session in OCI two proofs are made side by side.
    "lambda": {"aws": 1, "oci": 2, "database": 1},
}
"""How many calls a late call sends before its first answer."""


@dataclass(frozen=True)
class World:
    """An estate with a credential for each act, and its wire."""

    estate: Estate
    wire: Wire

    @contextmanager
    def holding_the_first_call(self, signs: Signs, *, sent: int = 1) -> Iterator[threading.Event]:
        """The first call is under way until the event is set.

        Args:
            signs: Gets the sign `held` when everything has arrived that is sent without the first call's answer.
            sent: How many calls that is. A call that has passed the scope's check may still be on its way here; if it
                were counted before it has arrived, it would look as if it had been sent after the scope was closed.
        """
        release = threading.Event()

        def asleep() -> None:
            until(lambda: len(self.wire.calls) >= sent)
            signs.held.write_text("")
            release.wait(BOUND_SECONDS)

        self.wire.asleep = asleep
        with self.wire.run(Fault(FaultKind.OVERTAKEN, at=1)):
            try:
                yield release
            finally:
                release.set()

    def took_effect(self, call: Any, act: str) -> bool:  # noqa: ANN401 - a literal of `holds`, or `database`
        """Whether what `tests.frozen.work` would have staged is there."""
        credential = self.estate.direct.credential(f"frozen/{act}")
        assert credential
        if call == "database":
            return lets_in(credential.servers[0], Value(credential.usernames[-1], PASSWORD))
        return self.estate.outside.holds(call, credential, GENERATION) is not None

    def sent(self) -> list[str]:
        """Every call in order, without numbers."""
        return [f"{c.target} {c.operation}" for c in self.wire.calls]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """What runs."""
    authority = CertificateAuthority(tmp_path_factory.mktemp("ca"))
    servers = {"orders": MariaDbServer(authority=authority, certificate=authority.issue())}
    credentials = [plans.credential(f"frozen/{act}", "orders", username=f"frozen_{act}") for act in ACTS]
    wire = Wire()
    with running_estate(credentials, servers, folder=tmp_path_factory.mktemp("estate"), wire=wire) as running:
        yield World(running, wire)


@pytest.fixture
def signs(tmp_path: Path) -> Signs:
    """None is given yet."""
    return Signs(tmp_path)


@dataclass
class Function:
    """One under its runtime, with its clients made."""

    ask: Callable[..., str]
    """Run an act, within so many seconds; its error, since each act fails."""
    log: Callable[[], str]
    call: Callable[..., Any]
    """Of fdk: any call."""


Start = Callable[[str, str], Function]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime client, and the package of the function: this repository and what it imports."""
    folder, names = tmp_path_factory.mktemp("lambda"), ("lockstep", "functions", "tests")
    (folder / "task").mkdir()
    installed = [p for p in Path(sysconfig.get_path("purelib")).iterdir() if p.name not in names]
    for source in (*(ROOT / name for name in names), *installed):
        (folder / "task" / source.name).symlink_to(source)
    copy_runtime(folder / "runtime")
    return folder


@pytest.fixture
def start(world: World, runtime: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts a function, by its runtime and the call that its acts make."""
    with ExitStack() as stack:

        def start(kind: str, call: str) -> Function:
            own = {work.FOLDER_VARIABLE: str(tmp_path), work.CALL_VARIABLE: call}
            if kind == "fdk":
                variables = {**world.estate.function_environment, **own}
                return of_fdk(stack.enter_context(running_function(variables, module=MODULE)))
            deployed = DeployedFunction(
                name="frozen",
                handler="tests.frozen.work.handler",
                environment={PLAN_VARIABLE: str(world.estate.plan_file), **own},
                task_root=runtime / "task",
                memory_mb=512,
            )
            given = {**world.estate.aws.environment(), **world.estate.function_environment}
            processes = FunctionProcesses(
                deployed,
                runtime=runtime / "runtime",
                sandbox_environment={**given, "AWS_ACCESS_KEY_ID": ACCESS_KEY},
                log_file=tmp_path / "log",
            )
            stack.callback(processes.stop)
            return of_lambda(world, processes, tmp_path / "log")

        yield start


def of_fdk(process: FunctionProcess) -> Function:
    def ask(act: str, seconds: float = 120.0) -> str:
        try:
            # A call for one credential would look at the index before its run.
            [result] = process.call({"credential_ids": [f"frozen/{act}"]}, seconds=seconds).body["results"]
        except RemoteDisconnected:
            return ENDED
        return str(result["error"])

    ask("warm")
    return Function(ask, lambda: process.log, process.call)


def of_lambda(world: World, processes: FunctionProcesses, log: Path) -> Function:
    host = LambdaHost(region=world.estate.aws.region, account_id=world.estate.aws.account_id)
    host.grace_seconds = BOUND_SECONDS

    def ask(act: str, seconds: float = 90.0) -> str:
        host.register("frozen", processes, timeout_seconds=seconds)
        rotation = {"credential_id": f"frozen/{act}", "rotation_id": f"run-{act}"}
        answer = host.invoke("frozen", json.dumps({"rotation": rotation}).encode())
        error = str(json.loads(answer.payload)["errorType"])
        return ENDED if error == "Runtime.ExitError" else error

    ask("warm")
    return Function(ask, log.read_text, host.invoke)


@pytest.mark.parametrize("call", work.CALLS)
@pytest.mark.parametrize("kind", ["fdk", "lambda"])
def test_what_is_left_behind_sends_nothing_more_and_what_is_joined_ends_before_the_answer(
    world: World, start: Start, signs: Signs, kind: str, call: str
) -> None:
    function = start(kind, call)
    first = SENT_FIRST[kind][call]
    with world.holding_the_first_call(signs, sent=first) as release:
        assert function.ask("leave") == "StoresDivergedError"
        under_way = world.sent()
        assert len(under_way) == first
        release.set()
        assert not signs.outcome.exists(), "the process is not frozen"
        assert function.ask("look") == "StoresDivergedError"
        assert signs.outcome.read_text() == "DeadlineExceededError"
        assert world.sent() == [*under_way, "dynamodb GetItem"]
    for sign in (signs.held, signs.outcome):
        sign.unlink()
    with world.holding_the_first_call(signs) as release, ThreadPoolExecutor() as pool:
        run = pool.submit(function.ask, "join")
        until(signs.held.exists)
        assert not run.done()
        release.set()
        assert run.result(BOUND_SECONDS) == "StoresDivergedError"
        assert signs.outcome.read_text() == "done"
    assert world.took_effect(call, "join")


def test_a_call_that_a_run_has_left_behind_sends_nothing_in_the_next_run_of_its_batch(
    world: World, start: Start, signs: Signs
) -> None:
    """The process is not frozen between the two."""
    runs = ("frozen/leave", "frozen/look")
    call_id = next(f"batch-{i}" for i in range(100) if overdue(runs, f"batch-{i}") == runs)
    function = start("fdk", "database")
    with world.holding_the_first_call(signs) as release, ThreadPoolExecutor() as pool:
        batch = pool.submit(function.call, {"credential_ids": runs}, headers={"Fn-Call-Id": call_id})
        until(lambda: "dynamodb GetItem" in world.sent())
        under_way = world.sent()
        assert len(under_way) == SENT_FIRST["fdk"]["database"] + 1
        release.set()
        results = batch.result(BOUND_SECONDS).body["results"]
        assert [(r["credential_id"], r["error"]) for r in results] == [
            (run, "StoresDivergedError") for run in runs
        ]
        assert signs.outcome.read_text() == "DeadlineExceededError"
        assert world.sent() == under_way


@pytest.mark.parametrize("kind", ["fdk", "lambda"])
def test_a_run_that_cannot_end_ends_its_process(start: Start, signs: Signs, kind: str) -> None:
    function = start(kind, "aws")
    assert function.ask("hang", seconds=8.0) == ENDED
    assert "does not end in time" in function.log()
    if kind == "lambda":  # Of fdk's container the platform starts another one.
        signs.outcome.write_text("gone")
        assert function.ask("look") == "StoresDivergedError"
