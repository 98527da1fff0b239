"""The rotation in the sandbox's AWS: the real handlers as its functions, and the state machine that calls them."""

import importlib
from collections.abc import Callable
from pathlib import Path

from lockstep.ports import Ports
from lockstep.stack_names import DEFAULT_STACK, LIVE, state_machine_name
from sandbox.aws import AwsSandbox, create_state_machine

ROOT = Path(__file__).resolve().parent.parent
FUNCTIONS = {
    "GenerateFunction": "generate",
    "ApplyDbFunction": "apply_db",
    "UpdateSecretsFunction": "update_secrets",
    "AuditFunction": "audit",
}
FUNCTION_TIMEOUT_SECONDS = 60.0


def register_functions(aws: AwsSandbox, ports: Callable[[str], Ports]) -> None:
    """Let the handlers answer as functions.

    Args:
        aws: Runs already.
        ports: Those of a credential, asked at each call.
    """
    for function in FUNCTIONS.values():
        module = importlib.import_module(f"functions.{function}.handler")
        aws.lambda_host.register_handler(
            function, module.handler.over(ports, leave=_stay), timeout_seconds=FUNCTION_TIMEOUT_SECONDS
        )


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


def _stay() -> None:
    """Handlers in this process cannot end it: their host has given the call up, and their scope sends nothing more."""
