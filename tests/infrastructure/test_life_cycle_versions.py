"""Deployments while runs are under way, with the real CDK CLI: versions, a canary, and the way back.

The tests share one stack and follow each other.
"""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from shutil import copytree
from threading import Event

import pytest

from cdk import rollback
from cdk.bundle import read_bundle
from cdk.canary import Canary
from lockstep.aws.dynamodb_orders import DynamoDbOrders
from lockstep.orders import Activate
from sandbox.aws import Execution
from sandbox.aws.alarms import EXTRA_PERIODS
from sandbox.aws.deployed import DeployedStack
from sandbox.aws.lambda_host import InvocationContext, InvocationResult
from sandbox.cdk_cli import CdkError
from sandbox.deploy_local import check_credential
from sandbox.deployed_world import DeployedWorld
from sandbox.watching import Watching
from tests.infrastructure.life_cycle import DATABASE, Account, Estate, bootstrapped

STACK = "orders"
CANARY, OTHER = "orders/app", "orders/report"
WAIT_SECONDS = 45
"""Of a step that is held: its function may run for a minute."""


@dataclass
class Running:
    """The deployed stack, its functions at hand.

    Attributes:
        estate: As it was deployed first.
        now: As it is deployed now.
        called: The version of each function that was called, newest last.
    """

    estate: Estate
    world: DeployedWorld
    now: Estate
    called: list[tuple[str, str]] = field(default_factory=list)

    @cached_property
    def watching(self) -> Watching:
        """Lets the watch look, as its rule says from the first use on. CloudWatch keeps what it has seen."""
        return Watching(self.world.stack, STACK)

    def start(self, credential_id: str) -> tuple[Execution, set[str]]:
        """Rotate a credential as the fleet does; the execution, and the versions of the functions that it called."""
        self.called.clear()
        execution = self.world.rotate(credential_id)
        return execution, {version for name, version in self.called if "watch" not in name}

    def rotate(self, credential_id: str) -> str:
        """Rotate a credential; the one version of all functions that did it."""
        execution, versions = self.start(credential_id)
        assert execution.output, f"{execution.error}: {execution.cause}"
        assert execution.output["outcome"] == "rotated"
        credential = self.now.plan.credential(credential_id)
        assert credential
        assert check_credential(self.world, credential, execution.output["generation"]) == []
        (version,) = versions
        return version

    def aliases(self) -> Mapping[str, str]:
        """The version that each alias leads to."""
        client = self.world.aws.client("stepfunctions")
        machine = self.world.stack.machines[STACK]
        listed = client.list_state_machine_aliases(stateMachineArn=machine)["stateMachineAliases"]
        found = {}
        for arn in (alias["stateMachineAliasArn"] for alias in listed):
            (route,) = client.describe_state_machine_alias(stateMachineAliasArn=arn)["routingConfiguration"]
            found[arn.rpartition(":")[2]] = route["stateMachineVersionArn"].rpartition(":")[2]
        return found

    @contextmanager
    def held(self, function: str) -> Iterator[tuple[Event, Event]]:
        """Hold the first call of a function: an event that says it is there, and one that lets it go on."""
        there, go_on = Event(), Event()

        def hold(call: InvocationContext, _: object) -> None:
            if function in call.function_name and not there.is_set():
                there.set()
                assert go_on.wait(WAIT_SECONDS)

        self.world.aws.lambda_host.before_call = hold
        try:
            yield there, go_on
        finally:
            go_on.set()
            self.world.aws.lambda_host.before_call = None


@pytest.fixture(scope="module", name="account")
def _account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with bootstrapped(tmp_path_factory.mktemp("versions")) as account:
        yield account


@pytest.fixture(scope="module", name="running")
def _running(account: Account) -> Iterator[Running]:
    """The stack without a canary, after one rotation of each credential."""
    estate = account.estate(STACK, "app", "report")
    estate.deploy(schedules=True)
    estate.provision()
    folder = account.folder / "deployed" / "versions"
    folder.mkdir(parents=True)
    deployed = DeployedStack(account.aws, STACK, folder)
    with ExitStack() as stack:
        functions = stack.enter_context(deployed.running())
        world = DeployedWorld(
            plan=estate.plan,
            folder=folder,
            aws=account.aws,
            stack=deployed,
            servers={DATABASE: account.server},
            bundle=read_bundle(estate.bundle_folder),
            functions=functions,
        )
        running = Running(estate, world, estate)

        def note(call: InvocationContext, _: InvocationResult) -> None:
            running.called.append((call.function_name, call.version))

        account.aws.lambda_host.on_result = note
        assert {running.rotate(credential_id) for credential_id in (CANARY, OTHER)} == {"1"}
        yield running
        account.aws.lambda_host.on_result = None


def package(estate: Estate, out: Path, *, without: str = "", beside: str = "") -> Path:
    """A copy of an estate's package, without a file of it or with one more."""
    assert estate.bundle
    copytree(estate.bundle_folder, out)
    with (
        zipfile.ZipFile(estate.bundle_folder / "bundle.zip") as was,
        zipfile.ZipFile(out / "bundle.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as becomes,
    ):
        for entry in was.infolist():
            if not (without and entry.filename.startswith(without)):
                becomes.writestr(entry, was.read(entry))
        if beside:
            becomes.writestr(beside, "")
    return out


@dataclass
class Minutes:
    """Time that passes while CloudFormation waits: rules fire and the watch looks, as they would.

    Attributes:
        passed: How many minutes.
        versions: The versions of the functions that each credential's runs have called.
    """

    running: Running
    started: set[str] = field(default_factory=lambda: {CANARY, OTHER})
    passed: int = 0
    versions: dict[str, set[str]] = field(default_factory=lambda: {CANARY: set(), OTHER: set()})

    @property
    def waited(self) -> int:
        """The minutes for which a deployment waits whose canary does not fail."""
        canary = self.running.now.plan.credential(CANARY)
        assert canary
        return Canary(canary).wait_minutes

    def __call__(self) -> None:
        """Let one minute pass. CloudFormation answers nobody meanwhile."""
        self.passed += 1
        self._age(60)
        if self.passed % 20 == 10:
            for credential_id in self.started:
                self.versions[credential_id] |= self.running.start(credential_id)[1]
        if self.passed % 5 == 0:
            self.running.watching.look()

    def _age(self, seconds: int) -> None:
        """Let what the lock table remembers of AWS be so much longer ago."""
        table = self.running.world.aws.client("dynamodb")
        for credential_id in (CANARY, OTHER):
            table.update_item(
                TableName=self.running.estate.table,
                Key={"credential_id": {"S": credential_id}},
                UpdateExpression="SET aws_led_at = aws_led_at - :some",
                ExpressionAttributeValues={":some": {"N": str(seconds)}},
            )


@pytest.fixture(name="minutes")
def _minutes(running: Running) -> Iterator[Minutes]:
    """Every minute for which CloudFormation waits; begins when all is well."""
    aws = running.world.aws
    for credential_id in (CANARY, OTHER):
        running.rotate(credential_id)
    # What it saw of the deployment before is over.
    for _ in range(EXTRA_PERIODS + 2):
        running.watching.look()
    minutes = Minutes(running)
    aws.deployment_minute = minutes
    yield minutes
    aws.deployment_minute = lambda: pytest.fail("it waits")


def test_a_run_ends_with_the_versions_with_which_it_began(account: Account, running: Running) -> None:
    """Also where the deployment brings another plan, which a step of the new version would refuse."""
    changed = account.estate(STACK, "app", "report", overlap="15m")
    assembly = changed.assembly({"schedules": True})
    assert changed.publish({"schedules": True})
    with running.held("apply-db") as (there, go_on), ThreadPoolExecutor(1) as thread:
        run = thread.submit(running.start, OTHER)
        assert there.wait(WAIT_SECONDS)
        account.cli.deploy_assembly(assembly)
        go_on.set()
        execution, versions = run.result()
    assert execution.output, f"{execution.error}: {execution.cause}"
    assert (execution.output["outcome"], versions) == ("rotated", {"1"})
    described = account.aws.client("stepfunctions").describe_execution(executionArn=execution.arn)
    assert described["stateMachineVersionArn"].endswith(":1")
    old = running.estate.plan.credential(OTHER)
    assert old
    assert check_credential(running.world, old, execution.output["generation"]) == []

    # The next one is of the new version, whose plan is to be activated.
    assert running.aliases() == {"live": "2"}
    execution, versions = running.start(OTHER)
    assert (execution.error, versions) == ("PlanNotActiveError", {"2"})
    for credential_id in (CANARY, OTHER):
        before, after = (e.plan.credential(credential_id) for e in (running.estate, changed))
        assert before
        assert after
        DynamoDbOrders(account.aws.client("dynamodb"), changed.table, credential_id).write(
            Activate(digest=after.plan_digest, replaces=before.plan_digest)
        )
    running.now = changed
    running.world.plan = changed.plan
    assert {running.rotate(credential_id) for credential_id in (CANARY, OTHER)} == {"2"}


def test_the_same_again_makes_no_version(running: Running) -> None:
    """Log groups that the stack leaves have the same names as before."""
    running.now.deploy(schedules=True, adopt={"log_groups": True})
    assert running.aliases() == {"live": "2"}
    assert running.now.status() == "UPDATE_COMPLETE"


def guarded(running: Running, bundle: Path | None = None) -> str:
    """Deploy with a canary; what the CLI says."""
    package = {"bundle": bundle} if bundle else {}
    return running.now.deploy(schedules=True, canary=CANARY, adopt={"log_groups": True}, **package)


def test_the_first_deployment_with_a_canary_waits_for_nothing(running: Running) -> None:
    running.world.aws.deployment_minute = lambda: pytest.fail("it waits")
    guarded(running)
    assert running.aliases() == {"live": "2", "canary": "2", "gate": "2"}
    chosen = {c: running.world.stack.alias_of(c).rpartition(":")[2] for c in (CANARY, OTHER)}
    assert chosen == {CANARY: "canary", OTHER: "live"}


def test_a_canary_that_fails_holds_the_others_on_the_old_version_and_all_goes_back(
    running: Running, minutes: Minutes, tmp_path: Path
) -> None:
    broken = package(running.now, tmp_path / "broken", without="functions/generate/handler")
    with pytest.raises(CdkError, match=r"alarms are in an 'ALARM' state: \['orders-Canary'\]"):
        guarded(running, broken)
    assert running.now.status() == "UPDATE_ROLLBACK_COMPLETE"
    assert minutes.passed < minutes.waited
    assert minutes.versions == {CANARY: {"3"}, OTHER: {"2"}}
    assert running.aliases() == {"live": "2", "canary": "2", "gate": "2"}
    assert {running.rotate(credential_id) for credential_id in (CANARY, OTHER)} == {"2"}


def test_a_canary_that_rotates_lets_the_others_follow(
    running: Running, minutes: Minutes, tmp_path: Path
) -> None:
    guarded(running, package(running.now, tmp_path / "newer", beside="newer.txt"))
    assert minutes.passed == minutes.waited
    # The number of the version of the failed deployment is not used again.
    assert minutes.versions == {CANARY: {"4"}, OTHER: {"2"}}
    assert set(running.aliases().values()) == {"4"}
    assert {running.rotate(credential_id) for credential_id in (CANARY, OTHER)} == {"4"}


def test_a_canary_that_does_not_run_lets_nobody_follow(
    running: Running, minutes: Minutes, tmp_path: Path
) -> None:
    """As one that is paused: nothing shows that the new version works."""
    minutes.started = {OTHER}
    with pytest.raises(CdkError, match="orders-Canary"):
        guarded(running, package(running.now, tmp_path / "unproven", beside="unproven.txt"))
    assert set(running.aliases().values()) == {"4"}


@pytest.fixture(name="roll_back")
def _roll_back(running: Running, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`make rollback-aws`."""
    for name, value in running.world.aws.environment().items():
        monkeypatch.setenv(name, value)
    context = [f"stack={STACK}", f"plan={running.now.plan_file}"]
    return lambda *more: rollback.main([part for c in context for part in ("-c", c)] + list(more))


def test_one_command_leads_back_and_forth(
    running: Running, roll_back: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    before = running.aliases()
    assert roll_back("--dry-run") == 0
    assert "orders: live would be moved from version 4 to 2" in capsys.readouterr().out
    assert running.aliases() == before
    assert roll_back() == 0
    assert "orders: canary moved from version 4 to 2" in capsys.readouterr().out
    assert {running.rotate(credential_id) for credential_id in (CANARY, OTHER)} == {"2"}
    assert roll_back("--to", "4") == 0
    assert {running.rotate(credential_id) for credential_id in (CANARY, OTHER)} == {"4"}


def test_a_run_under_way_is_not_rolled_back(running: Running, roll_back: Callable[..., int]) -> None:
    with running.held("update-secrets") as (there, go_on), ThreadPoolExecutor(1) as thread:
        run = thread.submit(running.start, OTHER)
        assert there.wait(WAIT_SECONDS)
        assert roll_back() == 0
        go_on.set()
        execution, versions = run.result()
    assert (execution.status, versions) == ("SUCCEEDED", {"4"})
    assert running.rotate(OTHER) == "2"


def test_the_next_deployment_goes_on_from_a_roll_back(
    running: Running, minutes: Minutes, tmp_path: Path
) -> None:
    assert running.aliases() == {"live": "2", "canary": "2", "gate": "4"}
    guarded(running, package(running.now, tmp_path / "fixed", beside="fixed.txt"))
    newest = max(running.aliases().values())
    assert minutes.versions == {CANARY: {newest}, OTHER: {"2"}}
    assert set(running.aliases().values()) == {newest}
    assert {running.rotate(credential_id) for credential_id in (CANARY, OTHER)} == {newest}


def test_a_version_that_cannot_run_any_more_is_not_gone_back_to(
    running: Running, roll_back: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    before = running.aliases()
    running.world.aws.client("lambda").delete_function(FunctionName=f"{STACK}-audit-zip", Qualifier="1")
    assert roll_back("--to", "1") == 2
    assert "version 1 calls what was deleted" in capsys.readouterr().err
    assert roll_back("--to", "77") == 2
    assert "there is no version 77" in capsys.readouterr().err
    assert running.aliases() == before
