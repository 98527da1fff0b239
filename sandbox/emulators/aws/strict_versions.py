"""Versions of functions and of state machines, and aliases of the latter, as AWS documents them.

moto numbers a function's versions anew after a deletion and shares the code of a version with the function; of state
machines it has aliases and versions that no API publishes, and an execution of a version is lost. Each function here
corrects one thing. The facts are from the developer guides' pages on versions
(https://docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html,
https://docs.aws.amazon.com/step-functions/latest/dg/concepts-cd-aliasing-versioning.html) and from the API references.
"""

import copy
import json
import uuid
from collections.abc import Sequence

from moto.core.responses import ActionResult
from moto.stepfunctions.exceptions import StateMachineDoesNotExist
from moto.stepfunctions.responses import StepFunctionResponse

from sandbox.emulators.aws.patching import Foreign, Patches

_BACKEND = "moto.stepfunctions.models:StepFunctionBackend"
_PARSER_BACKEND = "moto.stepfunctions.parser.models:StepFunctionsParserBackend"
_RESPONSE = "moto.stepfunctions.responses:StepFunctionResponse"
_CODE_AND_CONFIGURATION = (
    "code_sha_256",
    "description",
    "environment_vars",
    "handler",
    "memory_size",
    "role",
    "timeout",
)


def apply(patches: Patches) -> None:
    """Let functions and state machines have versions as on AWS. To be called before `strict_states.apply`."""
    publish_versions_of_functions(patches)
    tell_revisions(patches)
    offer_the_api_of_versions(patches)
    find_versions_and_aliases(patches)
    start_versions_and_aliases(patches)


def publish_versions_of_functions(patches: Patches) -> None:
    """A version is a copy of code and configuration, and its number is never used again, also not after a deletion.

    What has not changed since the last version is not published again: the answer is that version.
    """

    def publish_version(storage: Foreign, name_or_arn: str, description: str = "") -> object:
        function = storage.get_function_by_name_or_arn_forbid_qualifier(name_or_arn)
        name = function.function_name
        versions = storage._functions[name]["versions"]  # noqa: SLF001 - of moto
        if versions and _snapshot(versions[-1]) == _snapshot(function):
            return versions[-1]
        numbers = storage.__dict__.setdefault("_numbers", {})
        numbers[name] = numbers.get(name, 0) + 1
        version = copy.copy(function)
        # An update of the function writes into its code.
        version.code = dict(function.code)
        version.set_version(numbers[name])
        version.description = description or function.description
        versions.append(version)
        storage._arns[version.function_arn] = version  # noqa: SLF001 - likewise
        return version

    patches.replace("moto.awslambda.models:LambdaStorage.publish_version", publish_version)


def tell_revisions(patches: Patches) -> None:
    """A change of definition, role, logging or tracing makes a new revision. The first one has no id."""

    def update(original: Foreign) -> object:
        def update_state_machine(self: Foreign, arn: str, *rest: Foreign, **more: Foreign) -> object:
            before = _configuration(self.describe_state_machine(arn))
            machine = original(self, arn, *rest, **more)
            if _configuration(machine) != before:
                machine.revision_id = str(uuid.uuid4())
            return machine

        return update_state_machine

    def describe(original: Foreign) -> object:
        def describe_state_machine(self: Foreign, state_machine_arn: str) -> object:
            answer = original(self, state_machine_arn)
            machine = self.stepfunction_backend.describe_state_machine(state_machine_arn)
            if revision := getattr(machine, "revision_id", None):
                answer.result["revisionId"] = revision
            return answer

        return describe_state_machine

    patches.wrap(f"{_BACKEND}.update_state_machine", update)
    patches.wrap(f"{_RESPONSE}._describe_state_machine", describe)


def offer_the_api_of_versions(patches: Patches) -> None:
    """PublishStateMachineVersion and ListStateMachineVersions."""

    def publish_state_machine_version(self: Foreign) -> ActionResult:
        machine = self.stepfunction_backend.describe_state_machine(self._get_param("stateMachineArn"))
        revision = getattr(machine, "revision_id", None)
        published = next(
            (v for v in machine.versions.values() if getattr(v, "revision_id", None) == revision), None
        )
        if published is None:
            machine.publish(self._get_param("description"))
            published = machine.latest_version
            published.revision_id = revision
        return ActionResult(
            {"creationDate": published.creation_date, "stateMachineVersionArn": published.arn}
        )

    def list_state_machine_versions(self: Foreign) -> ActionResult:
        machine = self.stepfunction_backend.describe_state_machine(self._get_param("stateMachineArn"))
        newest_first = sorted(machine.versions.values(), key=lambda v: v.version, reverse=True)
        listed = [{"creationDate": v.creation_date, "stateMachineVersionArn": v.arn} for v in newest_first]
        return ActionResult({"stateMachineVersions": listed})

    for method in (publish_state_machine_version, list_state_machine_versions):
        patches.define(StepFunctionResponse, method.__name__, method)


def find_versions_and_aliases(patches: Patches) -> None:
    """A qualified ARN is the machine as its version has it, with the executions that were started by that ARN."""

    def wrapper(original: Foreign) -> object:
        def describe_state_machine(self: Foreign, arn: str) -> object:
            base, qualifier = _parts(arn)
            if qualifier is None:
                return original(self, arn)
            machine = original(self, base)
            found = copy.copy(machine)
            if qualifier in machine.aliases:
                version = machine.versions[int(_parts(_routed(machine.aliases[qualifier]))[1] or 0)]
                started_by = "alias_arn"
            elif qualifier.isdecimal() and int(qualifier) in machine.versions:
                version, started_by = machine.versions[int(qualifier)], "version_arn"
            else:
                raise StateMachineDoesNotExist(f"State Machine Does Not Exist: '{arn}'")
            for name, value in vars(version).items():
                if name not in ("executions", "name"):
                    setattr(found, name, value)
            found.executions = [e for e in machine.executions if getattr(e, started_by, None) == arn]
            return found

        return describe_state_machine

    patches.wrap(f"{_BACKEND}.describe_state_machine", wrapper)


def start_versions_and_aliases(patches: Patches) -> None:
    """An execution runs what its version says, and its record names version and alias.

    Its own ARN has the name of the machine alone, whichever way it was started, so a name is taken once for all
    versions.
    """

    def start(original: Foreign) -> object:
        def start_execution(
            self: Foreign,
            state_machine_arn: str,
            name: str | None = None,
            execution_input: str | None = None,
            **rest: Foreign,
        ) -> object:
            base, qualifier = _parts(state_machine_arn)
            if qualifier is None:
                return original(self, state_machine_arn, name, execution_input, **rest)
            machine = self.describe_state_machine(base)
            if existing := machine._handle_name_input_idempotency(name, execution_input or "{}"):  # noqa: SLF001 - of moto
                return existing
            alias = machine.aliases.get(qualifier)
            version_arn = _routed(alias) if alias else state_machine_arn
            execution = original(self, version_arn, name, execution_input, **rest)
            execution.state_machine_arn = base
            execution.version_arn = version_arn
            execution.alias_arn = alias.arn if alias else None
            machine.executions.append(execution)
            return execution

        return start_execution

    def describe(original: Foreign) -> object:
        def describe_execution(self: Foreign) -> object:
            answer = original(self)
            execution = self.stepfunction_backend.describe_execution(self._get_param("executionArn"))
            for field, name in (
                ("stateMachineVersionArn", "version_arn"),
                ("stateMachineAliasArn", "alias_arn"),
            ):
                if arn := getattr(execution, name, None):
                    answer.result[field] = arn
            return answer

        return describe_execution

    patches.wrap(f"{_PARSER_BACKEND}.start_execution", start)
    patches.wrap(f"{_RESPONSE}.describe_execution", describe)


def _snapshot(function: Foreign) -> Sequence[object]:
    return [getattr(function, name) for name in _CODE_AND_CONFIGURATION]


def _configuration(machine: Foreign) -> Sequence[object]:
    return [
        json.loads(machine.definition),
        machine.roleArn,
        machine.loggingConfiguration,
        machine.tracingConfiguration,
    ]


def _parts(arn: str) -> tuple[str, str | None]:
    """The ARN of the machine, and the version or the alias that follows it."""
    parts = arn.split(":", 7)
    return ":".join(parts[:7]), parts[7] if len(parts) > 7 else None  # noqa: PLR2004 - of an ARN of a machine


def _routed(alias: Foreign) -> str:
    """The version that a start gets; an alias leads to one alone."""
    arn: str = alias.routing_configuration[0]["stateMachineVersionArn"]
    return arn
