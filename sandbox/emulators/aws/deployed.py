"""Runs a stack that CloudFormation has deployed: its functions run, and its policies limit its roles.

Everything is read from the sandbox's AWS: the package and the settings of each version of a function from Lambda, the
target of a schedule from EventBridge. Nothing is read from the repository. A version that a later deployment publishes
runs beside those before it, each from its own package; one that is deleted runs no more.
"""

import hashlib
import io
import json
import re
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from botocore.exceptions import ClientError
from moto.awslambda.models import lambda_backends

from lockstep.protocol.names import fleet_machine_name, state_machine_name
from sandbox.emulators.aws.events import input_of, scheduled_event
from sandbox.emulators.aws.executions import Client, Execution, ended
from sandbox.emulators.aws.interpreter import access_key
from sandbox.emulators.aws.lambda_host import InvocationResult, Registered
from sandbox.emulators.aws.lambda_process import DeployedFunction, FunctionProcesses, copy_runtime
from sandbox.emulators.aws.policies import Call, decide
from sandbox.emulators.aws.server import AwsSandbox

_MINUTE = 60
_CHOSEN = re.compile(r"credential_id = '(?P<id>[^']*)' \? '(?P<canary>[^']+)' : '(?P<live>[^']+)'")
"""In the definition of the fleet, the aliases of rotations."""


class NotPermittedError(Exception):
    """A function's policy does not let a rule invoke it."""


@dataclass(frozen=True)
class Schedule:
    """The target that a rule starts, and its input.

    Attributes:
        input: At the time of the look, where it has a time.
    """

    rule: str
    target_arn: str
    input: Mapping[str, Any]


@dataclass(frozen=True)
class Fired:
    """What a rule of a shard has started.

    Attributes:
        fleet: The execution of the state machine of the fleet.
        rotations: Those that it has started.
    """

    fleet: Execution
    rotations: Sequence[Execution]


@dataclass
class DeployedStack:
    """A stack in the sandbox.

    Attributes:
        aws: The sandbox to which it was deployed.
        name: The stack's name.
        folder: For packages and logs.
        environment: Of the functions' processes, beside that of the deployment and that of the sandbox's AWS.
    """

    aws: AwsSandbox
    name: str
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    _processes: dict[str, FunctionProcesses] = field(default_factory=dict)
    _fired: dict[str, set[int]] = field(default_factory=dict)
    _clients: dict[str, Client] = field(default_factory=dict, repr=False)
    _installing: Lock = field(default_factory=Lock, repr=False)

    @property
    def template(self) -> Mapping[str, Any]:
        """The template as it was deployed."""
        body = self._client("cloudformation").get_template(StackName=self.name)["TemplateBody"]
        found: Mapping[str, Any] = json.loads(body) if isinstance(body, str) else body
        return found

    @property
    def physical_ids(self) -> Mapping[str, str]:
        """The name or ARN of each resource, by its name in the template."""
        resources = self._client("cloudformation").describe_stack_resources(StackName=self.name)[
            "StackResources"
        ]
        return {
            r["LogicalResourceId"]: r["PhysicalResourceId"] for r in resources if r.get("PhysicalResourceId")
        }

    @property
    def outputs(self) -> Mapping[str, str]:
        """What the deployment says of itself, by name."""
        (found,) = self._client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}

    def of_type(self, resource_type: str) -> list[str]:
        """Names or ARNs of all resources of a type."""
        physical_ids = self.physical_ids
        return [
            physical_ids[name]
            for name, resource in self.template["Resources"].items()
            if resource["Type"] == resource_type and name in physical_ids
        ]

    @property
    def schedules(self) -> Sequence[Schedule]:
        """The target of each rule that starts a state machine."""
        return [target for target in self._targets if ":states:" in target.target_arn]

    def rule_of(self, function: str) -> Schedule:
        """The target of the rule that invokes a function by the clock."""
        return next(target for target in self._targets if target.rule == f"{self.name}.{function}")

    @property
    def _targets(self) -> Iterator[Schedule]:
        events, now = self._client("events"), datetime.now(UTC)
        for rule in (arn.rpartition("/")[2] for arn in self.of_type("AWS::Events::Rule")):
            event = scheduled_event(events.describe_rule(Name=rule)["Arn"], now)
            for target in events.list_targets_by_rule(Rule=rule)["Targets"]:
                # A rule with a pattern passes on the event.
                if target.keys() & {"Input", "InputTransformer"}:
                    yield Schedule(rule, target["Arn"], input_of(target, event))

    def fire(self, schedule: Schedule, *, timeout_seconds: float = 120.0) -> Fired:
        """Start what the rule of a shard starts on schedule, and wait for the end.

        The event is of a minute that the rule has not fired in, since a repeated one starts nothing again. Where this
        minute and the next one are used, it waits.
        """
        used = self._fired.setdefault(schedule.rule, set())
        while True:
            this = int(time.time()) // _MINUTE
            minute = next((m for m in (this, this + 1) if m not in used), None)
            if minute is not None:
                break
            time.sleep(1)
        used.add(minute)
        asked = self.input_at(schedule, datetime.fromtimestamp(minute * _MINUTE, UTC))
        fleet = self.aws.run_execution(schedule.target_arn, asked, timeout_seconds=timeout_seconds)
        states = self._client("stepfunctions")
        return Fired(fleet, [ended(states, one["executionArn"]) for one in self.runs_of(minute)])

    def input_at(self, schedule: Schedule, at: datetime) -> Any:  # noqa: ANN401 - any JSON
        """What EventBridge gives the target of a rule that fires at a time."""
        events = self._client("events")
        rule = events.describe_rule(Name=schedule.rule)["Arn"]
        (target,) = events.list_targets_by_rule(Rule=schedule.rule)["Targets"]
        return input_of(target, scheduled_event(rule, at))

    def start(self, credential_id: str, *, timeout_seconds: float = 120.0) -> Execution:
        """Start the rotation of a credential as the deployed fleet does, and wait for the end."""
        interval = max(schedule.input["interval"] for schedule in self.schedules)
        asked = {"credential_id": credential_id, "trigger": "schedule", "interval": interval}
        return self.aws.run_execution(self.alias_of(credential_id), asked, timeout_seconds=timeout_seconds)

    def alias_of(self, credential_id: str) -> str:
        """The alias by which the deployed fleet starts the rotations of a credential."""
        states = self._client("stepfunctions")
        definition = states.describe_state_machine(
            stateMachineArn=self.machines[fleet_machine_name(self.name)]
        )["definition"]
        found = _CHOSEN.search(definition)
        if not found:
            raise ValueError("the fleet chooses between no two aliases")
        return found["canary" if found["id"] == credential_id else "live"]

    @property
    def machines(self) -> Mapping[str, str]:
        """The ARNs of the state machines, by name. CloudFormation is not asked: it may be in a deployment."""
        names = {state_machine_name(self.name), fleet_machine_name(self.name)}
        pages = self._client("stepfunctions").get_paginator("list_state_machines").paginate()
        found = {
            machine["name"]: machine["stateMachineArn"] for page in pages for machine in page["stateMachines"]
        }
        return {name: found[name] for name in sorted(names & found.keys())}

    def runs_of(self, minute: int) -> list[Mapping[str, Any]]:
        """The rotations that the fleet has started for a minute, as ListExecutions shows them."""
        states = self._client("stepfunctions")
        pages = states.get_paginator("list_executions").paginate(stateMachineArn=self.machines[self.name])
        listed = (execution for page in pages for execution in page["executions"])
        return [execution for execution in listed if execution["name"].startswith(f"f-{minute}-")]

    def call(self, schedule: Schedule) -> InvocationResult:
        """Invoke what the rule invokes on schedule, if the function's policy lets the rule, and wait for the reply.

        Raises:
            NotPermittedError: It does not. EventBridge drops the event.
        """
        rule = self._client("events").describe_rule(Name=schedule.rule)["Arn"]
        policy = json.loads(self._client("lambda").get_policy(FunctionName=schedule.target_arn)["Policy"])
        may = [s for s in policy["Statement"] if s["Principal"] == {"Service": "events.amazonaws.com"}]
        context = {"AWS:SourceArn": (rule,)}
        invoke = Call(action="lambda:InvokeFunction", resource=schedule.target_arn, context=context)
        if not decide(invoke, may).allowed:
            raise NotPermittedError(f"{rule} may not invoke {schedule.target_arn}")
        return self.aws.lambda_host.invoke(schedule.target_arn, json.dumps(schedule.input).encode())

    @contextmanager
    def running(self) -> Iterator[Mapping[str, FunctionProcesses]]:
        """Run the functions' packages under their roles.

        Returns the processes of each version that was called, by the function's name, a colon and the version.
        """
        copy_runtime(self._runtime)
        for machine in self.of_type("AWS::StepFunctions::StateMachine"):
            role = self._client("stepfunctions").describe_state_machine(stateMachineArn=machine)["roleArn"]
            self.aws.guard.know(access_key(role), role.rpartition("/")[2])
        self.aws.lambda_host.find = self._find
        try:
            yield self._processes
        finally:
            self.aws.lambda_host.find = None
            for processes in self._processes.values():
                processes.stop()

    @property
    def functions(self) -> list[str]:
        """The names of the functions."""
        return self.of_type("AWS::Lambda::Function")

    def log_of(self, function: str) -> str:
        """The output of a function; none before its first call."""
        file = self._log_file(function)
        return file.read_text() if file.exists() else ""

    def role_of(self, function: str) -> str:
        """The name of a function's role."""
        configuration = self._client("lambda").get_function_configuration(FunctionName=function)
        role: str = configuration["Role"]
        return role.rpartition("/")[2]

    @property
    def _runtime(self) -> Path:
        return self.folder / "runtime"

    def _find(self, name: str, version: str) -> Registered | None:
        """A version of a function, by its number or an alias, as Lambda has it; None if there is none."""
        try:
            configuration = self._client("lambda").get_function_configuration(
                FunctionName=name, Qualifier=version
            )
        except ClientError:
            return None
        number = configuration["Version"]
        key = f"{name}:{number}"
        code = lambda_backends[self.aws.account_id][self.aws.region].get_function(name, number).code_bytes
        package = self.folder / hashlib.sha256(code).hexdigest()[:16]
        with self._installing:
            if not package.exists():
                zipfile.ZipFile(io.BytesIO(code)).extractall(package)
            known = self._processes.get(key)
            if known and known.function.task_root != package:
                # Only what is not published changes.
                known.stop()
                known = None
            if known is None:
                known = self._processes[key] = self._install(configuration, package)
        return Registered(known, configuration["Timeout"], number)

    def _install(self, configuration: Mapping[str, Any], package: Path) -> FunctionProcesses:
        name, role = configuration["FunctionName"], configuration["Role"]
        identity = self._client("sts").assume_role(RoleArn=role, RoleSessionName=name)["Credentials"]
        function_arn = ":".join(configuration["FunctionArn"].split(":")[:7])
        self.aws.guard.know(identity["AccessKeyId"], role.rpartition("/")[2], function_arn=function_arn)
        return FunctionProcesses(
            DeployedFunction(
                name=name,
                handler=configuration["Handler"],
                environment=configuration.get("Environment", {}).get("Variables", {}),
                task_root=package,
                memory_mb=configuration["MemorySize"],
            ),
            runtime=self._runtime,
            sandbox_environment={
                **self.aws.environment(),
                **self.environment,
                "AWS_ACCESS_KEY_ID": identity["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": identity["SecretAccessKey"],
                "AWS_SESSION_TOKEN": identity["SessionToken"],
            },
            log_file=self._log_file(name),
        )

    def _log_file(self, function: str) -> Path:
        return self.folder / f"{function}.log"

    def _client(self, service: str) -> Client:
        # Each call of a function asks for one, and making one takes longer than its use.
        if service not in self._clients:
            self._clients[service] = self.aws.client(service)
        return self._clients[service]
