"""Versions of functions and of state machines, and aliases of the latter, as AWS documents them.

moto numbers a function's versions anew after a deletion and shares the code of a version with the function; of state
machines it has aliases and versions that no API publishes, and an execution of a version is lost. Each function here
corrects one thing. The facts are from the developer guides' pages on versions
(https://docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html,
https://docs.aws.amazon.com/step-functions/latest/dg/concepts-cd-aliasing-versioning.html) and from the API references.
"""

import copy
import json
import random
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from moto.core.responses import ActionResult
from moto.stepfunctions.exceptions import ResourceNotFound, StateMachineDoesNotExist, ValidationException
from moto.stepfunctions.parser.api import ConflictException, ServiceQuotaExceededException
from moto.stepfunctions.responses import StepFunctionResponse

from sandbox.emulators.aws.patching import Foreign, Patches

Routing = Sequence[Mapping[str, Any]]
"""Versions and their weights."""
MOST_VERSIONS = 1000
"""Of a state machine (https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html)."""
MOST_ALIASES = 100

_BACKEND = "moto.stepfunctions.models:StepFunctionBackend"
_PARSER_BACKEND = "moto.stepfunctions.parser.models:StepFunctionsParserBackend"
_RESPONSE = "moto.stepfunctions.responses:StepFunctionResponse"
_ALIAS_NAME = re.compile(r"(?=.*[a-zA-Z_\-.])[a-zA-Z0-9_\-.]{1,80}")
_CODE_AND_CONFIGURATION = (
    "architectures",
    "code_sha_256",
    "description",
    "environment_vars",
    "handler",
    "layers",
    "memory_size",
    "package_type",
    "role",
    "run_time",
    "timeout",
    "tracing_config",
    "_vpc_config",
)


def apply(patches: Patches) -> None:
    """Let functions and state machines have versions as on AWS. To be called before `strict_states.apply`."""
    publish_versions_of_functions(patches)
    tell_revisions(patches)
    offer_the_api_of_versions(patches)
    check_aliases(patches)
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
            if _qualifier(arn):
                raise ValidationException(
                    "A version or an alias cannot be updated: use the state machine's ARN"
                )
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
        arn = self._get_param("stateMachineArn")
        machine = _unqualified(self.stepfunction_backend, arn)
        revision, asked = getattr(machine, "revision_id", None), self._get_param("revisionId")
        if asked and asked != (revision or "INITIAL"):
            raise ConflictException(message=f"The current State Machine revision is not {asked}: '{arn}'")
        published = next(
            (v for v in machine.versions.values() if getattr(v, "revision_id", None) == revision), None
        )
        if published is None:
            if len(machine.versions) >= MOST_VERSIONS:
                raise ServiceQuotaExceededException(
                    message=f"The maximum number of versions has been reached: {MOST_VERSIONS}"
                )
            machine.publish(self._get_param("description"))
            published = machine.latest_version
            published.revision_id = revision
        return ActionResult(
            {"creationDate": published.creation_date, "stateMachineVersionArn": published.arn}
        )

    def list_state_machine_versions(self: Foreign) -> ActionResult:
        machine = _unqualified(self.stepfunction_backend, self._get_param("stateMachineArn"))
        first = int(self._get_param("nextToken") or 0)
        size = self._get_int_param("maxResults") or 100
        newest_first = sorted(machine.versions.values(), key=lambda v: v.version, reverse=True)
        listed = [
            {"creationDate": v.creation_date, "stateMachineVersionArn": v.arn}
            for v in newest_first[first : first + size]
        ]
        more = {"nextToken": str(first + size)} if first + size < len(newest_first) else {}
        return ActionResult({"stateMachineVersions": listed, **more})

    for method in (publish_state_machine_version, list_state_machine_versions):
        patches.define(StepFunctionResponse, method.__name__, method)


def check_aliases(patches: Patches) -> None:
    """An alias names versions that exist, once, and another alias of its name is refused; moto overwrites it."""

    def create(original: Foreign) -> object:
        def create_state_machine_alias(
            self: Foreign, name: str, routing_configuration: Routing, description: str | None
        ) -> object:
            if not _ALIAS_NAME.fullmatch(name):
                raise ValidationException(f"Value '{name}' at 'name' failed to satisfy constraint")
            _check_routing(self, routing_configuration)
            base, _ = _parts(routing_configuration[0]["stateMachineVersionArn"])
            aliases = _unqualified(self, base).aliases
            existing = aliases.get(name)
            if existing is None and len(aliases) >= MOST_ALIASES:
                raise ServiceQuotaExceededException(
                    message=f"The maximum number of aliases has been reached: {MOST_ALIASES}"
                )
            if existing and (existing.routing_configuration, existing.description) != (
                routing_configuration,
                description,
            ):
                raise ConflictException(message=f"State Machine Alias already exists: '{existing.arn}'")
            return existing or original(self, name, routing_configuration, description)

        return create_state_machine_alias

    def update(original: Foreign) -> object:
        def update_state_machine_alias(
            self: Foreign, arn: str, description: str | None, routing_configuration: Routing | None
        ) -> object:
            _check_routing(self, routing_configuration or ())
            return original(self, arn, description, routing_configuration)

        return update_state_machine_alias

    patches.wrap(f"{_BACKEND}.create_state_machine_alias", create)
    patches.wrap(f"{_BACKEND}.update_state_machine_alias", update)


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
                routed = machine.aliases[qualifier].routing_configuration
                version = machine.versions[int(_qualifier(routed[0]["stateMachineVersionArn"]) or 0)]
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
            version_arn = _routed(alias.routing_configuration) if alias else state_machine_arn
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


def _qualifier(arn: str) -> str | None:
    return _parts(arn)[1]


def _unqualified(backend: Foreign, arn: str) -> Foreign:
    base, qualifier = _parts(arn)
    if qualifier is not None:
        raise ValidationException(f"The ARN must not be qualified: '{arn}'")
    return backend.describe_state_machine(base)


def _check_routing(backend: Foreign, routing: Routing) -> None:
    arns = [route["stateMachineVersionArn"] for route in routing]
    if len(set(arns)) < len(arns):
        raise ValidationException("The routing configuration names a version twice")
    for arn in arns:
        base, number = _parts(arn)
        machine = _unqualified(backend, base)
        if not (number or "").isdecimal() or int(number or 0) not in machine.versions:
            raise ResourceNotFound(arn)


def _routed(routing: Routing) -> str:
    """The version that this start gets."""
    versions = [route["stateMachineVersionArn"] for route in routing]
    chosen: str = random.choices(versions, weights=[route["weight"] for route in routing])[0]  # noqa: S311 - no secret
    return chosen
