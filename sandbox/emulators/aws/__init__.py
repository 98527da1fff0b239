"""AWS on this machine: moto behind one HTTP address, made as strict as the real services."""

from sandbox.emulators.aws.executions import Execution
from sandbox.emulators.aws.lambda_host import (
    InvocationContext,
    InvocationResult,
    ProcessDied,
)
from sandbox.emulators.aws.resources import create_resources, create_state_machine
from sandbox.emulators.aws.server import AwsSandbox

__all__ = [
    "AwsSandbox",
    "Execution",
    "InvocationContext",
    "InvocationResult",
    "ProcessDied",
    "create_resources",
    "create_state_machine",
]
