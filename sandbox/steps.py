"""The rotation in the sandbox's AWS: the real handlers as its functions, and the state machine that calls them."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from lockstep.protocol.names import CANARY, DEFAULT_STACK, LIVE, fleet_machine_name, state_machine_name
from lockstep.stores.credential import Ports
from sandbox.emulators.aws import AwsSandbox, create_state_machine

ROOT = Path(__file__).resolve().parent.parent
FUNCTIONS = {
    "GenerateFunction": "generate",
    "ApplyDbFunction": "apply_db",
    "UpdateSecretsFunction": "update_secrets",
    "AuditFunction": "audit",
}
FUNCTION_TIMEOUT_SECONDS = 60.0
FLEET_ROLE = "lockstep-fleet"


def register_functions(aws: AwsSandbox, ports: Callable[[str, str], Ports]) -> None:
    """Let the handlers answer as functions.

    Args:
        aws: Runs already.
        ports: Those of a function, by its name, and a credential, asked at each call.
    """
    for function in FUNCTIONS.values():
        module = importlib.import_module(f"functions.{function}.handler")
        handler = replace(module.handler, ports=partial(ports, function), leave=_stay)
        aws.lambda_host.register_handler(function, handler, timeout_seconds=FUNCTION_TIMEOUT_SECONDS)


def deploy_state_machine(aws: AwsSandbox, *, lock_table: str) -> str:
    """Make the state machine from the file that is deployed to AWS, with the alias that starts runs; its ARN."""
    arns = {placeholder: aws.lambda_host.arn(function) for placeholder, function in FUNCTIONS.items()}
    states = aws.client("stepfunctions")
    arn = create_state_machine(
        states,
        state_machine_name(DEFAULT_STACK),
        (ROOT / "statemachine.asl.json").read_text(),
        {**arns, "LockTable": lock_table},
        role_arn=f"arn:aws:iam::{aws.account_id}:role/lockstep",
    )
    version = states.publish_state_machine_version(stateMachineArn=arn)["stateMachineVersionArn"]
    routing = [{"stateMachineVersionArn": version, "weight": 100}]
    states.create_state_machine_alias(name=LIVE, routingConfiguration=routing)
    return arn


def deploy_fleet_machine(
    aws: AwsSandbox, rotation_arn: str, *, plan_bucket: str, report_bucket: str, canary: str = ""
) -> str:
    """Make the state machine of the fleet from the file that is deployed to AWS; its ARN.

    Args:
        aws: Runs already.
        rotation_arn: The state machine of rotations.
        plan_bucket: Where the lists of shards are.
        report_bucket: Where its reports go; on AWS the same bucket.
        canary: The credential that goes by an alias of its own.
    """
    return create_state_machine(
        aws.client("stepfunctions"),
        fleet_machine_name(DEFAULT_STACK),
        (ROOT / "cdk" / "fleet.asl.json").read_text(),
        {
            "PlanBucket": plan_bucket,
            "ReportBucket": report_bucket,
            "LiveAlias": f"{rotation_arn}:{LIVE}",
            "CanaryAlias": f"{rotation_arn}:{CANARY}",
            "Canary": canary,
        },
        role_arn=f"arn:aws:iam::{aws.account_id}:role/{FLEET_ROLE}",
    )


def _stay() -> None:
    """Handlers in this process cannot end it: their host has given the call up, and their scope sends nothing more."""
