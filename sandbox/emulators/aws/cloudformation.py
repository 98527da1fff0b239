"""The types of resources that moto's CloudFormation lacks or makes without half of their properties.

Stacks, change sets, references and outputs are moto's own. A resource of a type below is made by calls of its service
with the properties of its template; an update puts it again, as far as that is one call, and a deletion leaves it.
There is no rollback, no replacement and no retention: tests of those read the template.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from moto.cloudformation import parsing
from moto.cloudformation.exceptions import UnformattedGetAttTemplateException, ValidationError
from moto.cloudtrail.responses import CloudTrailResponse
from moto.iam.access_control import PermissionResult

from sandbox.emulators.aws.executions import Client
from sandbox.emulators.aws.patching import Foreign, Patches

NOT_EMULATED = frozenset({"AWS::CDK::Metadata", "AWS::Logs::MetricFilter", "AWS::SQS::QueuePolicy"})
"""Types that are accepted and have no effect. No call of a rotation depends on them, nor on the settings of buckets and
tables that are not read below."""

_PARSING = "moto.cloudformation.parsing"
_SUBSTITUTION = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, kw_only=True)
class Request:
    """A resource as a template wants it.

    Attributes:
        client: Returns a client of a service.
        region: Of the stack.
        account_id: Likewise.
        name: Its name, given or made up.
        properties: Without references.
    """

    client: Callable[[str], Client]
    region: str
    account_id: str
    name: str
    properties: Mapping[str, Any]

    @property
    def tags(self) -> list[dict[str, str]]:
        """Its tags."""
        return list(self.properties.get("Tags", []))

    def only(self, *names: str) -> dict[str, Any]:
        """These properties, as far as the template has them."""
        return {name: self.properties[name] for name in names if name in self.properties}


@dataclass(kw_only=True)
class Made:
    """A resource that exists, as moto's views read it.

    Attributes:
        physical_resource_id: The result of `Ref`.
        attributes: The results of `Fn::GetAtt`.
        cf_resource_type: Its type, which moto sets.
        logical_resource_id: Its name in the template, likewise.
    """

    physical_resource_id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    cf_resource_type: str = ""
    logical_resource_id: str = ""

    def get_cfn_attribute(self, attribute_name: str) -> object:
        """`Fn::GetAtt`."""
        if attribute_name not in self.attributes:
            raise UnformattedGetAttTemplateException
        return self.attributes[attribute_name]

    def is_created(self) -> bool:
        """It exists."""
        return True


Make = Callable[[Request], Made]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A type of resources, with the methods that moto expects of its class.

    Attributes:
        type_name: The type in a template.
        make: Makes a resource.
        name_property: The property that names it; empty if it has no name.
        is_put: Whether making it again changes it.
        client: Returns a client of a service.
    """

    type_name: str
    make: Make
    name_property: str = ""
    is_put: bool = False
    client: Callable[[str], Client] = field(default=lambda _: None)

    def cloudformation_type(self) -> str:
        """The type in a template."""
        return self.type_name

    def cloudformation_name_type(self) -> str:
        """The property that names it."""
        return self.name_property

    def has_cfn_attr(self, _attribute: str) -> bool:
        """Whether an output may ask for an attribute; what is lacking is found when it is asked for."""
        return True

    def create_from_cloudformation_json(
        self,
        resource_name: str,
        definition: Mapping[str, Any],
        account_id: str,
        region_name: str,
        **_: Foreign,
    ) -> Made:
        """Make it."""
        properties = _without_no_value(definition["Properties"])
        request = Request(
            client=self.client,
            region=region_name,
            account_id=account_id,
            name=resource_name,
            properties=properties,
        )
        return self.make(request)

    def update_from_cloudformation_json(
        self,
        original_resource: Made,
        new_resource_name: str,
        cloudformation_json: Mapping[str, Any],
        account_id: str,
        region_name: str,
    ) -> Made:
        """Put it again, or leave it."""
        if not self.is_put:
            return original_resource
        name = original_resource.physical_resource_id if self.name_property else new_resource_name
        return self.create_from_cloudformation_json(name, cloudformation_json, account_id, region_name)

    def delete_from_cloudformation_json(self, *_: Foreign) -> None:
        """Leave it."""


def apply(patches: Patches, client: Callable[[str], Client]) -> None:
    """Let CloudFormation make what the stack has.

    Args:
        patches: Undone when the sandbox stops.
        client: Returns a client of a service of the sandbox.
    """
    supplied = {name: replace(kind, client=client) for name, kind in KINDS.items()}
    models = [*supplied.values(), *parsing.get_model_list()]
    known = {**parsing.get_model_map(), **supplied}

    def class_of(resource_type: str) -> object:
        if resource_type not in known:
            raise ValidationError(
                message=f"Template format error: Unrecognized resource types: [{resource_type}]"
            )
        return known[resource_type]

    patches.replace(f"{_PARSING}:get_model_list", lambda: models)
    patches.replace(f"{_PARSING}:resource_class_from_type", class_of)
    patches.replace("moto.cloudformation.models:ChangeSet.apply", _apply)
    # CloudTrail has no events yet. The CDK CLI asks it why a deployment failed, and moto does not know the call.
    patches.define(CloudTrailResponse, "lookup_events", lambda _: json.dumps({"Events": []}))
    # The guard evaluates bucket policies. moto ignores their conditions, so one against HTTP refuses all.
    patches.replace("moto.s3.models:FakeBucket.get_permission", lambda *_: PermissionResult.NEUTRAL)


def _apply(change_set: Foreign) -> None:
    """Update the stack with what a change set has; moto changes its resources and not its outputs."""
    change_set.stack.update(change_set.template, change_set.role_arn, change_set.parameters, change_set.tags)


def _without_no_value(value: Any) -> Any:  # noqa: ANN401 - as the template has it
    """Drop what `AWS::NoValue` stands for; moto leaves it in lists."""
    if isinstance(value, dict):
        return {name: _without_no_value(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_without_no_value(part) for part in value if part is not None]
    return value


# Storage


def _bucket(request: Request) -> Made:
    s3, given, bucket = request.client("s3"), request.properties, request.name
    s3.create_bucket(
        Bucket=bucket,
        ObjectLockEnabledForBucket=bool(given.get("ObjectLockEnabled")),
        CreateBucketConfiguration={"LocationConstraint": request.region},
    )
    if versioning := given.get("VersioningConfiguration"):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=versioning)
    if lock := given.get("ObjectLockConfiguration"):
        rule = {"ObjectLockEnabled": "Enabled", "Rule": lock.get("Rule", {})}
        s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=rule)
    if request.tags:
        s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": request.tags})
    domain = f"{bucket}.s3.{request.region}.amazonaws.com"
    return Made(
        physical_resource_id=bucket,
        attributes={"Arn": f"arn:aws:s3:::{bucket}", "RegionalDomainName": domain},
    )


def _bucket_policy(request: Request) -> Made:
    bucket = request.properties["Bucket"]
    policy = json.dumps(request.properties["PolicyDocument"])
    request.client("s3").put_bucket_policy(Bucket=bucket, Policy=policy)
    return Made(physical_resource_id=bucket)


def _key(request: Request) -> Made:
    kms = request.client("kms")
    key = kms.create_key(
        Policy=json.dumps(request.properties["KeyPolicy"]),
        Tags=[{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in request.tags],
        **request.only("Description", "KeySpec", "KeyUsage", "MultiRegion"),
    )["KeyMetadata"]
    if request.properties.get("EnableKeyRotation"):
        kms.enable_key_rotation(KeyId=key["KeyId"])
    return Made(physical_resource_id=key["KeyId"], attributes={"Arn": key["Arn"], "KeyId": key["KeyId"]})


# Who may what


def _oidc_provider(request: Request) -> Made:
    arn = request.client("iam").create_open_id_connect_provider(
        Url=request.properties["Url"],
        ClientIDList=request.properties.get("ClientIdList", []),
        ThumbprintList=request.properties.get("ThumbprintList", []),
        Tags=request.tags,
    )["OpenIDConnectProviderArn"]
    return Made(physical_resource_id=arn, attributes={"Arn": arn})


# What is run


def _function(request: Request) -> Made:
    named = {"FunctionName": request.name, "Tags": {tag["Key"]: tag["Value"] for tag in request.tags}}
    arn = request.client("lambda").create_function(**{**request.properties, **named})["FunctionArn"]
    return Made(physical_resource_id=request.name, attributes={"Arn": arn})


def _function_version(request: Request) -> Made:
    published = request.client("lambda").publish_version(
        FunctionName=request.properties["FunctionName"], **request.only("Description", "CodeSha256")
    )
    arn = published["FunctionArn"]
    return Made(physical_resource_id=arn, attributes={"FunctionArn": arn, "Version": published["Version"]})


def _function_alias(request: Request) -> Made:
    return Made(physical_resource_id=request.client("lambda").create_alias(**request.properties)["AliasArn"])


def _permission(request: Request) -> Made:
    request.client("lambda").add_permission(StatementId=request.name, **request.properties)
    return Made(physical_resource_id=request.name, attributes={"Id": request.name})


def _state_machine(request: Request) -> Made:
    states, given = request.client("stepfunctions"), request.properties
    substitutions = given.get("DefinitionSubstitutions", {})
    # A `${Name}` without a substitution stays, as on AWS.
    definition = _SUBSTITUTION.sub(
        lambda found: str(substitutions.get(found[1], found[0])), given["DefinitionString"]
    )
    settings = request.only("LoggingConfiguration", "TracingConfiguration")
    arn = states.create_state_machine(
        name=request.name,
        type=given.get("StateMachineType", "STANDARD"),
        definition=definition,
        roleArn=given["RoleArn"],
        tags=_lower(request.tags),
        **_lower(settings),
    )["stateMachineArn"]
    revision = states.describe_state_machine(stateMachineArn=arn).get("revisionId", "INITIAL")
    return Made(
        physical_resource_id=arn,
        attributes={"Arn": arn, "Name": request.name, "StateMachineRevisionId": revision},
    )


def _lower(value: Any) -> Any:  # noqa: ANN401 - a part of a template
    """As the API of Step Functions spells it."""
    if isinstance(value, Mapping):
        return {name[0].lower() + name[1:]: _lower(part) for name, part in value.items()}
    return [_lower(part) for part in value] if isinstance(value, list) else value


def _state_machine_version(request: Request) -> Made:
    arn = request.client("stepfunctions").publish_state_machine_version(
        stateMachineArn=request.properties["StateMachineArn"]
    )["stateMachineVersionArn"]
    return Made(physical_resource_id=arn, attributes={"Arn": arn})


def _state_machine_alias(request: Request) -> Made:
    """The first deployment has nothing to shift traffic from, whatever its preference is."""
    given = request.properties
    routes = given.get("RoutingConfiguration") or [{**given["DeploymentPreference"], "Weight": 100}]
    arn = request.client("stepfunctions").create_state_machine_alias(
        name=request.name,
        routingConfiguration=[
            {"stateMachineVersionArn": one["StateMachineVersionArn"], "weight": int(one["Weight"])}
            for one in routes
        ],
    )["stateMachineAliasArn"]
    return Made(physical_resource_id=arn, attributes={"Arn": arn})


# What is watched


def _alarm(request: Request) -> Made:
    request.client("cloudwatch").put_metric_alarm(
        **{**request.properties, "AlarmName": request.name, "Tags": request.tags}
    )
    arn = f"arn:aws:cloudwatch:{request.region}:{request.account_id}:alarm:{request.name}"
    return Made(physical_resource_id=request.name, attributes={"Arn": arn})


def _topic_policy(request: Request) -> Made:
    policy = json.dumps(request.properties["PolicyDocument"])
    for arn in request.properties["Topics"]:
        request.client("sns").set_topic_attributes(
            TopicArn=arn, AttributeName="Policy", AttributeValue=policy
        )
    return Made(physical_resource_id=request.name)


def _nothing(request: Request) -> Made:
    return Made(physical_resource_id=request.name)


KINDS: Mapping[str, Kind] = {
    kind.type_name: kind
    for kind in (
        Kind(type_name="AWS::CloudWatch::Alarm", name_property="AlarmName", make=_alarm, is_put=True),
        Kind(type_name="AWS::IAM::OIDCProvider", make=_oidc_provider),
        Kind(type_name="AWS::KMS::Key", make=_key),
        Kind(type_name="AWS::Lambda::Alias", name_property="Name", make=_function_alias),
        Kind(type_name="AWS::Lambda::Function", name_property="FunctionName", make=_function),
        Kind(type_name="AWS::Lambda::Permission", make=_permission),
        Kind(type_name="AWS::Lambda::Version", make=_function_version),
        Kind(type_name="AWS::S3::Bucket", name_property="BucketName", make=_bucket),
        Kind(type_name="AWS::S3::BucketPolicy", make=_bucket_policy, is_put=True),
        Kind(type_name="AWS::SNS::TopicPolicy", make=_topic_policy, is_put=True),
        Kind(
            type_name="AWS::StepFunctions::StateMachine",
            name_property="StateMachineName",
            make=_state_machine,
        ),
        Kind(
            type_name="AWS::StepFunctions::StateMachineAlias", name_property="Name", make=_state_machine_alias
        ),
        Kind(type_name="AWS::StepFunctions::StateMachineVersion", make=_state_machine_version),
        *(Kind(type_name=name, make=_nothing) for name in sorted(NOT_EMULATED)),
    )
}
"""The types that are made here, by name."""
