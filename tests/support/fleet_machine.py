"""The state machine of the fleet in a sandbox, over a stand-in for that of rotations that behaves by the credential."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Response

from lockstep.protocol.names import CANARY, DEFAULT_STACK, LIVE, state_machine_name
from lockstep.protocol.schedule import run_key
from sandbox.emulators.aws import AwsSandbox, Execution, create_state_machine
from sandbox.emulators.aws.guard import Guard
from sandbox.emulators.aws.interpreter import access_key
from sandbox.emulators.databases.process import poll_until
from sandbox.steps import deploy_fleet_machine

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

DIGEST = "d1" * 32
SHARD = "20m-00"
PLANS, REPORTS = "plans", "reports"
NOW = 1_795_801_205.25
"""Five seconds after a whole minute."""
MINUTE = 1_795_801_200
TICK = MINUTE // 60
TIME = "2026-11-27T17:40:00Z"
SECRET_OF_A_CAUSE = "only-in-the-cause-of-a-rotation"
WAIT_SECONDS = 120.0

_ROTATION = {
    "QueryLanguage": "JSONata",
    "StartAt": "Behave",
    "States": {
        "Behave": {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Arguments": {"FunctionName": "behave", "Payload": "{% $states.input %}"},
            "Output": "{% $states.result.Payload %}",
            "End": True,
        }
    },
}


class PasswordRefusedByPolicyError(Exception):
    """A rotation that fails."""


@dataclass
class _Throttle(Guard):
    """A guard that also throttles calls of state machines."""

    left: dict[str, int] = field(default_factory=dict)

    def __call__(self, environ: "WSGIEnvironment") -> Response | None:
        operation = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        if access_key("/") in environ.get("HTTP_AUTHORIZATION", "") and self.left.get(operation, 0) > 0:
            self.left[operation] -= 1
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            said = {"__type": "ThrottlingException", "message": "Rate exceeded"}
            return Response(
                json.dumps(said),
                status=400,
                headers={"x-amzn-RequestId": "1"},
                content_type="application/x-amz-json-1.0",
            )
        return super().__call__(environ)


@dataclass
class Fleet:
    """What runs.

    Attributes:
        naps: How long retriers have waited.
        failing: The credentials whose rotations fail.
        rotated: The inputs of the rotations, in their order.
        most_at_once: So many of them ran at the same time.
    """

    aws: AwsSandbox
    machine_arn: str = ""
    rotation_arn: str = ""
    naps: list[float] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    rotated: list[Mapping[str, Any]] = field(default_factory=list)
    most_at_once: int = 0
    _running: int = 0
    _lock: Lock = field(default_factory=Lock)
    _throttle: _Throttle = field(init=False)
    _may_go_on: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        self._states: Any = self.aws.client("stepfunctions")
        self._s3: Any = self.aws.client("s3")

    def deploy(self, *, canary: str = "") -> None:
        """Make what the stack makes."""
        self._may_go_on.set()
        self.aws.guard = self._throttle = _Throttle(region=self.aws.region, account_id=self.aws.account_id)
        for bucket in (PLANS, REPORTS):
            place = {"LocationConstraint": self.aws.region}
            self._s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=place)
        self.aws.lambda_host.register_handler("behave", self._behave, timeout_seconds=WAIT_SECONDS)
        self.rotation_arn = create_state_machine(
            self._states,
            state_machine_name(DEFAULT_STACK),
            json.dumps(_ROTATION),
            {},
            role_arn=f"arn:aws:iam::{self.aws.account_id}:role/rotation",
        )
        published = self._states.publish_state_machine_version(stateMachineArn=self.rotation_arn)
        routing = [{"stateMachineVersionArn": published["stateMachineVersionArn"], "weight": 100}]
        for alias in (LIVE, CANARY):
            self._states.create_state_machine_alias(name=alias, routingConfiguration=routing)
        self.machine_arn = deploy_fleet_machine(
            self.aws, self.rotation_arn, plan_bucket=PLANS, report_bucket=REPORTS, canary=canary
        )

    def publish(self, credentials: Sequence[str]) -> None:
        """Publish the list of the shard."""
        self.put([{"credential_id": c, "key": run_key(c)} for c in sorted(credentials)])

    def put(self, items: object) -> None:
        """Write the object of the shard."""
        text = items if isinstance(items, str) else json.dumps(items)
        key = f"plans/{DIGEST}/shards/{SHARD}.json"
        self._s3.put_object(Bucket=PLANS, Key=key, Body=text.encode())

    def run(self, **more: object) -> Execution:
        """Run it as a rule does."""
        return self.aws.run_execution(self.machine_arn, self.input(**more))

    def start(self, **more: object) -> str:
        """Start it as a rule does; its ARN."""
        given = json.dumps(self.input(**more))
        return str(
            self._states.start_execution(stateMachineArn=self.machine_arn, input=given)["executionArn"]
        )

    def input(self, **more: object) -> dict[str, object]:
        """The input that a rule gives; a field of None is left out."""
        given = {
            "shard": SHARD,
            "plan": DIGEST,
            "time": TIME,
            "concurrency": 5,
            "trigger": "schedule",
            **more,
        }
        return {name: value for name, value in given.items() if value is not None}

    def hold(self) -> None:
        """Let rotations wait, from now on."""
        self._may_go_on.clear()

    def go_on(self) -> None:
        """Let them end."""
        self._may_go_on.set()

    def refuse(self, operation: str, *, times: int) -> None:
        """Let Step Functions throttle the next so many calls of the machine's role."""
        self._throttle.left[operation] = times

    def await_rotations(self, number: int) -> None:
        """Wait until so many rotations have begun."""
        assert poll_until(lambda: len(self.rotated) >= number, timeout_seconds=WAIT_SECONDS)

    def await_children(self, execution_arn: str, number: int) -> None:
        """Wait until so many items run, and have looked for their execution."""

        def have_submitted() -> bool:
            if not self._states.list_map_runs(executionArn=execution_arn)["mapRuns"]:
                return False
            histories = [
                self._states.get_execution_history(executionArn=child["executionArn"])["events"]
                for child in self.children(execution_arn)
            ]
            return sum(any(e["type"] == "TaskSubmitted" for e in found) for found in histories) >= number

        assert poll_until(have_submitted, timeout_seconds=WAIT_SECONDS)

    def end_of(self, execution_arn: str) -> Any:  # noqa: ANN401 - JSON
        """Wait for the end of an execution; its description."""
        described = partial(self._states.describe_execution, executionArn=execution_arn)
        assert poll_until(lambda: described()["status"] != "RUNNING", timeout_seconds=WAIT_SECONDS)
        return described()

    def report_keys(self) -> list[str]:
        """The objects in the bucket of reports."""
        return [o["Key"] for o in self._s3.list_objects_v2(Bucket=REPORTS).get("Contents", [])]

    def report(self, key: str) -> dict[str, list[dict[str, Any]]]:
        """The entries of the report, by status; it is named by its manifest's key."""
        manifest = self._read(key)
        return {
            status: [entry for file in files for entry in self._read(file["Key"])]
            for status, files in manifest["ResultFiles"].items()
        }

    def runs(self) -> list[dict[str, Any]]:
        """The executions of rotations, the oldest first."""
        listed = self._states.list_executions(stateMachineArn=self.rotation_arn)
        return list(reversed(listed["executions"]))

    def children(self, execution_arn: str) -> Any:  # noqa: ANN401 - JSON
        """The executions of the items."""
        [run] = self._states.list_map_runs(executionArn=execution_arn)["mapRuns"]
        return self._states.list_executions(mapRunArn=run["mapRunArn"])["executions"]

    def _read(self, key: str) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(self._s3.get_object(Bucket=REPORTS, Key=key)["Body"].read())

    def _behave(self, event: Mapping[str, Any], _context: object) -> object:
        with self._lock:
            self.rotated.append(event)
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        try:
            assert self._may_go_on.wait(WAIT_SECONDS)
            if event["credential_id"] in self.failing:
                raise PasswordRefusedByPolicyError(SECRET_OF_A_CAUSE)
            return {"outcome": "rotated", "generation": 7}
        finally:
            with self._lock:
                self._running -= 1
