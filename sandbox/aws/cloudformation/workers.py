"""Functions and state machines."""

import re
from collections.abc import Mapping
from typing import Any

from sandbox.aws.cloudformation.kinds import Kind, Made, Properties, Request
from sandbox.aws.cloudformation.versions import revision

_SUBSTITUTION = re.compile(r"\$\{(\w+)\}")
_CODE = ("S3Bucket", "S3Key", "S3ObjectVersion", "ImageUri")
_CONFIGURATION = (
    "Description",
    "Environment",
    "FileSystemConfigs",
    "Handler",
    "ImageConfig",
    "KmsKeyArn",
    "LoggingConfig",
    "MemorySize",
    "Role",
    "Runtime",
    "Timeout",
    "TracingConfig",
    "VpcConfig",
)


class Function(Kind):
    """`AWS::Lambda::Function`. Changing its package type replaces it, so its fixed name collides."""

    type_name = "AWS::Lambda::Function"
    name_property = "FunctionName"

    def create(self, request: Request) -> Made:
        """Create it; a name that exists is refused."""
        arn = request.client("lambda").create_function(
            FunctionName=request.name,
            Code=_code(request),
            Tags=dict(request.tags),
            **request.only("Architectures", "PackageType", *_CONFIGURATION),
        )["FunctionArn"]
        return Made(request.name, {"Arn": arn})

    def update(self, request: Request, made: Made, before: Properties) -> Made:
        """Change configuration, code and tags."""
        client = request.client("lambda")
        given = request.properties
        if any(before.get(name) != given.get(name) for name in _CONFIGURATION):
            client.update_function_configuration(
                FunctionName=made.physical_id, **request.only(*_CONFIGURATION)
            )
        if any(before.get(name) != given.get(name) for name in ("Code", "Architectures")):
            client.update_function_code(
                FunctionName=made.physical_id, **_code(request), **request.only("Architectures")
            )
        arn = made.attributes["Arn"]
        old = client.list_tags(Resource=arn).get("Tags", {})
        if gone := sorted(old.keys() - request.tags.keys()):
            client.untag_resource(Resource=arn, TagKeys=gone)
        client.tag_resource(Resource=arn, Tags=dict(request.tags))
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Delete it with its versions and aliases."""
        request.client("lambda").delete_function(FunctionName=made.physical_id)


class StateMachine(Kind):
    """`AWS::StepFunctions::StateMachine`."""

    type_name = "AWS::StepFunctions::StateMachine"
    name_property = "StateMachineName"

    def exists(self, request: Request) -> bool:
        """Whether a machine has the name: the API answers with success if it is the same one."""
        arn = request.arn("states", f"stateMachine:{request.name}")
        machines = request.client("stepfunctions").get_paginator("list_state_machines").paginate()
        return any(
            machine["stateMachineArn"] == arn for page in machines for machine in page["stateMachines"]
        )

    def create(self, request: Request) -> Made:
        """Create it, with the substitutions in its definition."""
        arn = request.client("stepfunctions").create_state_machine(
            name=request.name,
            type=request.properties.get("StateMachineType", "STANDARD"),
            tags=[{"key": key, "value": value} for key, value in request.tags.items()],
            **_machine(request.properties),
        )["stateMachineArn"]
        return Made(arn, {**_attributes(request, arn), "Name": request.name})

    def update(self, request: Request, made: Made, before: Properties) -> Made:  # noqa: ARG002 - all is written
        """Change definition, role, logging and tags."""
        client = request.client("stepfunctions")
        arn = made.physical_id
        client.update_state_machine(stateMachineArn=arn, **_machine(request.properties))
        old = {tag["key"] for tag in client.list_tags_for_resource(resourceArn=arn)["tags"]}
        if gone := sorted(old - request.tags.keys()):
            client.untag_resource(resourceArn=arn, tagKeys=gone)
        tags = [{"key": key, "value": value} for key, value in request.tags.items()]
        client.tag_resource(resourceArn=arn, tags=tags)
        return Made(arn, {**made.attributes, **_attributes(request, arn)})

    def delete(self, request: Request, made: Made) -> None:
        """Delete it."""
        request.client("stepfunctions").delete_state_machine(stateMachineArn=made.physical_id)


def _attributes(request: Request, arn: str) -> Mapping[str, str]:
    return {"Arn": arn, "StateMachineRevisionId": revision(request.client("stepfunctions"), arn)}


def _code(request: Request) -> dict[str, Any]:
    given: Mapping[str, Any] = request.properties["Code"]
    return {name: given[name] for name in _CODE if name in given}


def _machine(properties: Properties) -> dict[str, Any]:
    """The parts of a machine that can change, as the API spells them."""
    given = properties.get("DefinitionSubstitutions", {})
    # A `${Name}` without a substitution stays, as on AWS.
    definition = _SUBSTITUTION.sub(
        lambda found: str(given.get(found[1], found[0])), properties["DefinitionString"]
    )
    machine: dict[str, Any] = {"definition": definition, "roleArn": properties["RoleArn"]}
    if logging := properties.get("LoggingConfiguration"):
        machine["loggingConfiguration"] = _lower(logging)
    if tracing := properties.get("TracingConfiguration"):
        machine["tracingConfiguration"] = _lower(tracing)
    return machine


def _lower(value: Any) -> Any:  # noqa: ANN401 - a part of a template
    if isinstance(value, Mapping):
        return {name[0].lower() + name[1:]: _lower(part) for name, part in value.items()}
    return [_lower(part) for part in value] if isinstance(value, list) else value


KINDS: tuple[Kind, ...] = (Function(), StateMachine())
