"""Versions of functions and state machines, and aliases of the latter.

The two types of Step Functions follow AWS's own handlers, which are public
(https://github.com/aws-cloudformation/aws-cloudformation-resource-providers-stepfunctions).
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sandbox.aws.cloudformation.kinds import Kind, Made, Properties, Request, ResourceError

Routing: TypeAlias = Mapping[str, int]
"""The weight of each version, by its ARN."""

_HANDLER_DELAY_SECONDS = 60
_WHOLE = 100


def a_minute_passes() -> None:
    """Wait as the handler of an alias does between two looks at its alarms. The sandbox may replace it."""
    time.sleep(_HANDLER_DELAY_SECONDS)


class Immutable(Kind):
    """A type that any change of its properties replaces. It takes no tags, so those of the stack change nothing."""

    def update(self, request: Request, made: Made, before: Properties) -> Made:  # noqa: ARG002 - it has none
        """Nothing has changed but the tags of the stack."""
        return made


class FunctionVersion(Immutable):
    """`AWS::Lambda::Version`."""

    type_name = "AWS::Lambda::Version"

    def create(self, request: Request) -> Made:
        """Publish it. What is published already is refused, although Lambda answers with success."""
        client = request.client("lambda")
        name = request.properties["FunctionName"]
        pages = client.get_paginator("list_versions_by_function").paginate(FunctionName=name)
        before = {version["Version"] for page in pages for version in page["Versions"]}
        published = client.publish_version(FunctionName=name, **request.only("Description", "CodeSha256"))
        if published["Version"] in before:
            raise ResourceError(
                "AlreadyExists",
                f"A version for this Lambda function exists ( {published['Version']} ). Modify the function to create "
                "a new version.",
            )
        arn = published["FunctionArn"]
        return Made(arn, {"FunctionArn": arn, "Version": published["Version"]})

    def delete(self, request: Request, made: Made) -> None:
        """Delete it, and nothing else of the function."""
        request.client("lambda").delete_function(
            FunctionName=request.properties["FunctionName"], Qualifier=made.attributes["Version"]
        )


class StateMachineVersion(Immutable):
    """`AWS::StepFunctions::StateMachineVersion`."""

    type_name = "AWS::StepFunctions::StateMachineVersion"

    def create(self, request: Request) -> Made:
        """Publish the present revision, which must not be published yet."""
        client = request.client("stepfunctions")
        machine = request.properties["StateMachineArn"]
        newest = client.list_state_machine_versions(stateMachineArn=machine, maxResults=1)[
            "stateMachineVersions"
        ]
        if newest and revision(client, newest[0]["stateMachineVersionArn"]) == revision(client, machine):
            raise ResourceError("AlreadyExists", f"Resource of type '{self.type_name}' already exists.")
        given = {
            "revisionId": request.properties.get("StateMachineRevisionId"),
            "description": request.properties.get("Description"),
        }
        arn = client.publish_state_machine_version(
            stateMachineArn=machine, **{name: value for name, value in given.items() if value}
        )["stateMachineVersionArn"]
        return Made(arn, {"Arn": arn})

    def delete(self, request: Request, made: Made) -> None:
        """Delete it; executions of it go on."""
        client = request.client("stepfunctions")
        client.describe_state_machine(stateMachineArn=made.physical_id)
        client.delete_state_machine_version(stateMachineVersionArn=made.physical_id)


class StateMachineAlias(Kind):
    """`AWS::StepFunctions::StateMachineAlias`, which may be moved in two steps with a look at alarms between them."""

    type_name = "AWS::StepFunctions::StateMachineAlias"
    name_property = "Name"

    def exists(self, request: Request) -> bool:
        """Whether the machine has an alias of the name."""
        machine = next(iter(_target(request.properties))).rpartition(":")[0]
        listed = request.client("stepfunctions").list_state_machine_aliases(stateMachineArn=machine)
        return any(
            a["stateMachineAliasArn"] == f"{machine}:{request.name}" for a in listed["stateMachineAliases"]
        )

    def create(self, request: Request) -> Made:
        """Create it. All traffic goes to the target at once: there is none to shift it from."""
        _check(request.properties)
        arn = request.client("stepfunctions").create_state_machine_alias(
            name=request.name,
            routingConfiguration=_routes(_target(request.properties)),
            **({"description": text} if (text := request.properties.get("Description")) else {}),
        )["stateMachineAliasArn"]
        return Made(arn, {"Arn": arn})

    def update(self, request: Request, made: Made, before: Properties) -> Made:
        """Move it, in two steps if the template asks for that. A roll back moves it at once.

        The origin is where the old template left it, not where it is.
        """
        preference = request.properties.get("DeploymentPreference")
        origin, target = _target(before), _target(request.properties)
        _check(request.properties)
        if preference is None or request.rolls_back or preference["Type"] == "ALL_AT_ONCE":
            _move(request, made, target)
        elif origin == target:
            _move(request, made, origin)
        elif len(origin) > 1:
            raise ResourceError(
                "InvalidRequest", "Expected the alias to be routing traffic towards one version"
            )
        elif preference["Type"] == "CANARY":
            self._shift(request, made, origin, target)
        else:
            raise ResourceError(
                "InvalidRequest", f"the sandbox has no deployment of type {preference['Type']}"
            )
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Delete it."""
        client = request.client("stepfunctions")
        client.describe_state_machine_alias(stateMachineAliasArn=made.physical_id)
        client.delete_state_machine_alias(stateMachineAliasArn=made.physical_id)

    def _shift(self, request: Request, made: Made, origin: Routing, target: Routing) -> None:
        preference = request.properties["DeploymentPreference"]
        (old,), (new,) = origin, target
        part = int(preference["Percentage"])
        shifted = {new: part, old: _WHOLE - part}
        self._look_at_alarms(request, made, origin)
        _move(request, made, shifted)
        for _ in range(int(preference["Interval"])):
            a_minute_passes()
            now = _now(request, made)
            if now != shifted:
                raise ResourceError(
                    "InvalidRequest", f"Failed to continue deployment of type 'CANARY', drift detected: {now}"
                )
            self._look_at_alarms(request, made, origin)
        _move(request, made, target)

    def _look_at_alarms(self, request: Request, made: Made, origin: Routing) -> None:
        """Move back and fail if an alarm is on. A name without an alarm counts as OK."""
        names = request.properties["DeploymentPreference"].get("Alarms", [])
        found = (
            request.client("cloudwatch").describe_alarms(AlarmNames=names)["MetricAlarms"] if names else []
        )
        on = sorted(alarm["AlarmName"] for alarm in found if alarm["StateValue"] == "ALARM")
        if on:
            _move(request, made, origin)
            raise ResourceError(
                "GeneralServiceException",
                f"Aborting deployment. The following CloudWatch alarms are in an 'ALARM' state: {on}.",
            )


def revision(client: Any, arn: str) -> str:  # noqa: ANN401 - boto3's
    """The revision of a state machine or of one of its versions."""
    found: str = client.describe_state_machine(stateMachineArn=arn).get("revisionId", "INITIAL")
    return found


def _check(properties: Properties) -> None:
    preference = properties.get("DeploymentPreference")
    if bool(preference) == bool(properties.get("RoutingConfiguration")):
        raise ResourceError(
            "InvalidRequest", "one of RoutingConfiguration and DeploymentPreference is required"
        )
    if preference and preference["Type"] != "ALL_AT_ONCE":
        missing = [name for name in ("Interval", "Percentage") if name not in preference]
        if missing:
            raise ResourceError("InvalidRequest", f"Deployments of this type require {' and '.join(missing)}")


def _target(properties: Properties) -> Routing:
    if preference := properties.get("DeploymentPreference"):
        return {preference["StateMachineVersionArn"]: _WHOLE}
    return {r["StateMachineVersionArn"]: int(r["Weight"]) for r in properties["RoutingConfiguration"]}


def _routes(routing: Routing) -> Sequence[Mapping[str, Any]]:
    return [{"stateMachineVersionArn": arn, "weight": weight} for arn, weight in routing.items()]


def _move(request: Request, made: Made, routing: Routing) -> None:
    request.client("stepfunctions").update_state_machine_alias(
        stateMachineAliasArn=made.physical_id,
        routingConfiguration=_routes(routing),
        **({"description": text} if (text := request.properties.get("Description")) else {}),
    )


def _now(request: Request, made: Made) -> Routing:
    found = request.client("stepfunctions").describe_state_machine_alias(
        stateMachineAliasArn=made.physical_id
    )
    return {r["stateMachineVersionArn"]: r["weight"] for r in found["routingConfiguration"]}


KINDS: tuple[Kind, ...] = (FunctionVersion(), StateMachineVersion(), StateMachineAlias())
