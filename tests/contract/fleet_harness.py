"""The state machine of the fleet in a sandbox, over a stand-in for that of rotations that behaves by the credential."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lockstep.shards import run_key
from lockstep.stack_names import CANARY, DEFAULT_STACK, LIVE, fleet_machine_name, state_machine_name
from sandbox.aws import AwsSandbox, Execution, create_state_machine

ROOT = Path(__file__).resolve().parents[2]
DIGEST = "d1" * 32
SHARD = "20m-00"
PLANS, REPORTS = "plans", "reports"
NOW = 1_795_801_205.25
"""Five seconds after a whole minute."""
MINUTE = 1_795_801_200
TICK = MINUTE // 60
TIME = "2026-11-27T17:40:00Z"
FLEET_ROLE, ROTATION_ROLE = "fleet", "rotation"

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
class Clock:
    """A wall clock that moves only when it is told to."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class Fleet:
    """What runs.

    Attributes:
        failing: The credentials whose rotations fail.
        rotated: The inputs of the rotations, in their order.
    """

    aws: AwsSandbox
    machine_arn: str = ""
    rotation_arn: str = ""
    failing: set[str] = field(default_factory=set)
    rotated: list[Mapping[str, Any]] = field(default_factory=list)

    def deploy(self, *, canary: str = "") -> None:
        """Make what the stack makes."""
        for bucket in (PLANS, REPORTS):
            self.aws.client("s3").create_bucket(
                Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": self.aws.region}
            )
        self.aws.lambda_host.register_handler("behave", self._behave)
        states = self.aws.client("stepfunctions")
        self.rotation_arn = create_state_machine(
            states,
            state_machine_name(DEFAULT_STACK),
            json.dumps(_ROTATION),
            {},
            role_arn=self._role(ROTATION_ROLE),
        )
        version = states.publish_state_machine_version(stateMachineArn=self.rotation_arn)[
            "stateMachineVersionArn"
        ]
        for alias in (LIVE, CANARY):
            states.create_state_machine_alias(
                name=alias, routingConfiguration=[{"stateMachineVersionArn": version, "weight": 100}]
            )
        self.machine_arn = create_state_machine(
            states,
            fleet_machine_name(DEFAULT_STACK),
            (ROOT / "cdk" / "fleet.asl.json").read_text(),
            {
                "PlanBucket": PLANS,
                "ReportBucket": REPORTS,
                "LiveAlias": f"{self.rotation_arn}:{LIVE}",
                "CanaryAlias": f"{self.rotation_arn}:{CANARY}",
                "Canary": canary,
            },
            role_arn=self._role(FLEET_ROLE),
        )

    def publish(self, credentials: Sequence[str], *, shard: str = SHARD) -> None:
        """Publish the list of a shard."""
        self.put([{"credential_id": c, "key": run_key(c)} for c in sorted(credentials)], shard=shard)

    def put(self, items: object, *, shard: str = SHARD) -> None:
        """Write the object of a shard."""
        text = items if isinstance(items, str) else json.dumps(items)
        self.aws.client("s3").put_object(
            Bucket=PLANS, Key=f"plans/{DIGEST}/shards/{shard}.json", Body=text.encode()
        )

    def run(self, *, name: str | None = None, **more: object) -> Execution:
        """Run it as a rule does."""
        return self.aws.run_execution(self.machine_arn, self.input(**more), name=name)

    def start(self, **more: object) -> str:
        """Start it as a rule does; its ARN."""
        started = self.aws.client("stepfunctions").start_execution(
            stateMachineArn=self.machine_arn, input=json.dumps(self.input(**more))
        )
        arn: str = started["executionArn"]
        return arn

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

    def results(self, execution: Execution) -> dict[str, list[dict[str, Any]]]:
        """The entries of the report, by status."""
        return self.report(execution.output["report"])

    def report(self, key: str) -> dict[str, list[dict[str, Any]]]:
        """The same, by the manifest's key."""
        manifest = self._read(key)
        return {
            status: [entry for file in files for entry in self._read(file["Key"])]
            for status, files in manifest["ResultFiles"].items()
        }

    def runs(self) -> list[dict[str, Any]]:
        """The executions of rotations, the oldest first."""
        listed = self.aws.client("stepfunctions").list_executions(stateMachineArn=self.rotation_arn)
        return list(reversed(listed["executions"]))

    def children(self, execution_arn: str) -> list[dict[str, Any]]:
        """The executions of the items."""
        states = self.aws.client("stepfunctions")
        [run] = states.list_map_runs(executionArn=execution_arn)["mapRuns"]
        found: list[dict[str, Any]] = states.list_executions(mapRunArn=run["mapRunArn"])["executions"]
        return found

    def _read(self, key: str) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(self.aws.client("s3").get_object(Bucket=REPORTS, Key=key)["Body"].read())

    def _role(self, name: str) -> str:
        return f"arn:aws:iam::{self.aws.account_id}:role/{name}"

    def _behave(self, event: Mapping[str, Any], _context: object) -> object:
        self.rotated.append(event)
        if event["credential_id"] in self.failing:
            raise PasswordRefusedByPolicyError
        return {"outcome": "rotated", "generation": 7}
