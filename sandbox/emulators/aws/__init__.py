"""AWS on this machine: moto behind one HTTP address, made as strict as the real services."""

from sandbox.emulators.aws.executions import Execution, ExecutionStillRunningError
from sandbox.emulators.aws.lambda_host import (
    InvocationContext,
    InvocationResult,
    Invoke,
    LambdaHost,
    LambdaServiceError,
    ProcessDied,
    python_handler,
)
from sandbox.emulators.aws.resources import AwsResources, create_resources, create_state_machine
from sandbox.emulators.aws.server import AwsSandbox

__all__ = [
    "AwsResources",
    "AwsSandbox",
    "Execution",
    "ExecutionStillRunningError",
    "InvocationContext",
    "InvocationResult",
    "Invoke",
    "LambdaHost",
    "LambdaServiceError",
    "ProcessDied",
    "create_resources",
    "create_state_machine",
    "python_handler",
]
