"""Runs a stack that CloudFormation has deployed: its functions run, and its policies limit its roles.

Everything is read from the sandbox's AWS: the package from the bucket to which it was uploaded, a function's settings
from Lambda, the target of a schedule from EventBridge. Nothing is read from the repository.
"""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sandbox.aws.executions import Client, Execution
from sandbox.aws.lambda_process import DeployedFunction, FunctionProcesses, copy_runtime
from sandbox.aws.server import AwsSandbox

# moto's interpreter signs the state machine's calls with it.
_INTERPRETER_ACCESS_KEY = "ak"


@dataclass(frozen=True)
class Schedule:
    """The target that a rule starts, and its input."""

    rule: str
    target_arn: str
    input: Any


@dataclass
class DeployedStack:
    """A stack in the sandbox.

    Attributes:
        aws: The sandbox to which it was deployed.
        name: The stack's name.
        folder: For packages and logs.
    """

    aws: AwsSandbox
    name: str
    folder: Path

    @cached_property
    def template(self) -> Mapping[str, Any]:
        """The template as it was deployed."""
        body = self._client("cloudformation").get_template(StackName=self.name)["TemplateBody"]
        found: Mapping[str, Any] = json.loads(body) if isinstance(body, str) else body
        return found

    @cached_property
    def physical_ids(self) -> Mapping[str, str]:
        """The name or ARN of each resource, by its name in the template."""
        resources = self._client("cloudformation").describe_stack_resources(StackName=self.name)[
            "StackResources"
        ]
        return {
            r["LogicalResourceId"]: r["PhysicalResourceId"] for r in resources if r.get("PhysicalResourceId")
        }

    @property
    def types(self) -> set[str]:
        """The types of all resources in the template."""
        return {resource["Type"] for resource in self.template["Resources"].values()}

    def of_type(self, resource_type: str) -> list[str]:
        """Names or ARNs of all resources of a type."""
        return [
            self.physical_ids[name]
            for name, resource in self.template["Resources"].items()
            if resource["Type"] == resource_type and name in self.physical_ids
        ]

    @property
    def schedules(self) -> Sequence[Schedule]:
        """The target of each rule."""
        events = self._client("events")
        return [
            Schedule(rule, target["Arn"], json.loads(target["Input"]))
            for rule in self._rule_names
            for target in events.list_targets_by_rule(Rule=rule)["Targets"]
        ]

    def fire(self, schedule: Schedule, *, timeout_seconds: float = 120.0) -> Execution:
        """Start what the rule starts on schedule, and wait for the end."""
        return self.aws.run_execution(schedule.target_arn, schedule.input, timeout_seconds=timeout_seconds)

    @contextmanager
    def running(self) -> Iterator[Mapping[str, FunctionProcesses]]:
        """Run the functions' packages under their roles. Returns each function's processes, by its name."""
        runtime = copy_runtime(self.folder / "runtime")
        found: dict[str, FunctionProcesses] = {}
        try:
            for name, code in self._packages().items():
                found[name] = self._install(name, code, runtime)
            for machine in self.of_type("AWS::StepFunctions::StateMachine"):
                role = self._client("stepfunctions").describe_state_machine(stateMachineArn=machine)[
                    "roleArn"
                ]
                self.aws.guard.know(_INTERPRETER_ACCESS_KEY, role.rpartition("/")[2])
            yield found
        finally:
            for name, processes in found.items():
                self.aws.lambda_host.unregister(name)
                processes.stop()

    def log_of(self, function: str) -> str:
        """The output of a function."""
        return self._log_file(function).read_text()

    def role_of(self, function: str) -> str:
        """The name of a function's role."""
        configuration = self._client("lambda").get_function_configuration(FunctionName=function)
        role: str = configuration["Role"]
        return role.rpartition("/")[2]

    @property
    def _rule_names(self) -> list[str]:
        return [arn.rpartition("/")[2] for arn in self.of_type("AWS::Events::Rule")]

    def _packages(self) -> Mapping[str, Path]:
        """Each function's unpacked package. A package that several functions share is unpacked once."""
        found: dict[str, Path] = {}
        s3 = self._client("s3")
        for name, resource in self.template["Resources"].items():
            if resource["Type"] != "AWS::Lambda::Function":
                continue
            code = resource["Properties"]["Code"]
            folder = self.folder / code["S3Key"].removesuffix(".zip")
            if not folder.exists():
                bucket = code["S3Bucket"]
                if isinstance(bucket, dict):
                    bucket = bucket["Fn::Sub"].replace("${AWS::AccountId}", self.aws.account_id)
                archive = s3.get_object(Bucket=bucket, Key=code["S3Key"])["Body"].read()
                zipfile.ZipFile(io.BytesIO(archive)).extractall(folder)
            found[self.physical_ids[name]] = folder
        return found

    def _install(self, name: str, package: Path, runtime: Path) -> FunctionProcesses:
        configuration = self._client("lambda").get_function_configuration(FunctionName=name)
        role = configuration["Role"]
        identity = self._client("sts").assume_role(RoleArn=role, RoleSessionName=name)["Credentials"]
        self.aws.guard.know(identity["AccessKeyId"], role.rpartition("/")[2])
        processes = FunctionProcesses(
            DeployedFunction(
                name=name,
                handler=configuration["Handler"],
                environment=configuration.get("Environment", {}).get("Variables", {}),
                task_root=package,
                memory_mb=configuration["MemorySize"],
            ),
            runtime=runtime,
            sandbox_environment={
                **self.aws.environment(),
                "AWS_ACCESS_KEY_ID": identity["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": identity["SecretAccessKey"],
                "AWS_SESSION_TOKEN": identity["SessionToken"],
            },
            log_file=self._log_file(name),
        )
        self.aws.lambda_host.register(name, processes, timeout_seconds=configuration["Timeout"])
        return processes

    def _log_file(self, function: str) -> Path:
        return self.folder / f"{function}.log"

    def _client(self, service: str) -> Client:
        return self.aws.client(service)
