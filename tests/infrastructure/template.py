"""A template as CloudFormation resolves it: names and ARNs of its resources, and its policies in full.

Names that CloudFormation makes up have the length of its own, so that sizes are those of an account.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from cdk import app
from cdk.deployment import Deployment
from cdk.settings import Settings
from lockstep.plan.model import Plan

Statement = Mapping[str, Any]

_RANDOM = "0123456789ab"
"""CloudFormation's suffix of a physical name."""
_NAMES = {
    "AWS::DynamoDB::Table": "TableName",
    "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
    "AWS::IAM::Role": "RoleName",
    "AWS::KMS::Key": "",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::SNS::Topic": "TopicName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::StepFunctions::StateMachine": "StateMachineName",
    "AWS::Events::Rule": "Name",
}
_ARNS = {
    "AWS::DynamoDB::Table": "dynamodb:{region}:{account}:table/{name}",
    "AWS::Events::Rule": "events:{region}:{account}:rule/{name}",
    "AWS::IAM::Role": "iam::{account}:role/{name}",
    "AWS::KMS::Key": "kms:{region}:{account}:key/{name}",
    "AWS::Lambda::Function": "lambda:{region}:{account}:function:{name}",
    "AWS::Logs::LogGroup": "logs:{region}:{account}:log-group:{name}:*",
    "AWS::S3::Bucket": "s3:::{name}",
    "AWS::SNS::Topic": "sns:{region}:{account}:{name}",
    "AWS::SQS::Queue": "sqs:{region}:{account}:{name}",
    "AWS::StepFunctions::StateMachine": "states:{region}:{account}:stateMachine:{name}",
}
_REF_IS_ARN = {"AWS::SNS::Topic", "AWS::StepFunctions::StateMachine"}


class UnresolvedError(Exception):
    """A value of a template that needs an account, or a function that this module does not know."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """A synthesised template in an account.

    Attributes:
        content: The parsed template.
        stack: The stack's name.
    """

    content: Mapping[str, Any]
    stack: str
    account: str = "111122223333"
    region: str = "eu-central-1"
    partition: str = "aws"

    @property
    def resources(self) -> Mapping[str, Mapping[str, Any]]:
        """The resources, by logical id."""
        found: Mapping[str, Mapping[str, Any]] = self.content["Resources"]
        return found

    def of_type(self, resource_type: str) -> Mapping[str, Mapping[str, Any]]:
        """The resources of a type, by logical id."""
        return {name: r for name, r in self.resources.items() if r["Type"] == resource_type}

    def resolved(self, value: Any) -> Any:  # noqa: ANN401, PLR0911 - any JSON; a case for each function
        """A value with every intrinsic function replaced.

        Raises:
            UnresolvedError: It has one that is not known here.
        """
        match value:
            case {"Ref": str(name)}:
                return self._ref(name)
            case {"Fn::GetAtt": [str(name), "Arn"]}:
                return self.arn(name)
            case {"Fn::Join": [str(separator), list(parts)]}:
                return separator.join(str(self.resolved(part)) for part in parts)
            case {"Fn::Select": [index, list(parts)]}:
                return self.resolved(parts[int(index)])
            case {"Fn::Split": [str(separator), text]}:
                return str(self.resolved(text)).split(separator)
            case dict():
                if any(key.startswith("Fn::") for key in value):
                    raise UnresolvedError(str(next(iter(value))))
                return {key: self.resolved(item) for key, item in value.items()}
            case list():
                return [self.resolved(item) for item in value]
        return value

    def arn(self, logical_id: str) -> str:
        """The ARN of a resource."""
        kind = self.resources[logical_id]["Type"]
        if kind not in _ARNS:
            raise UnresolvedError(f"{kind}.Arn")
        named = _ARNS[kind].format(account=self.account, region=self.region, name=self.name(logical_id))
        return f"arn:{self.partition}:{named}"

    def name(self, logical_id: str) -> str:
        """The physical name of a resource."""
        resource = self.resources[logical_id]
        kind = resource["Type"]
        if kind == "AWS::KMS::Key":
            return str(uuid5(NAMESPACE_URL, f"{self.stack}/{logical_id}"))
        given = resource.get("Properties", {}).get(_NAMES.get(kind, ""))
        return str(self.resolved(given)) if given else f"{self.stack}-{logical_id[:24]}-{_RANDOM}"

    def role_policies(self) -> Iterator[tuple[str, list[Statement]]]:
        """Each role, managed policy and inline policy resource, by logical id, with its resolved statements."""
        for name, resource in self.resources.items():
            properties = resource.get("Properties", {})
            match resource["Type"]:
                case "AWS::IAM::Role":
                    documents = [p["PolicyDocument"] for p in properties.get("Policies", [])]
                case "AWS::IAM::Policy" | "AWS::IAM::ManagedPolicy":
                    documents = [properties["PolicyDocument"]]
                case _:
                    continue
            yield name, [self.resolved(s) for document in documents for s in document["Statement"]]

    def _ref(self, name: str) -> str:
        pseudo = {
            "AWS::AccountId": self.account,
            "AWS::Partition": self.partition,
            "AWS::Region": self.region,
            "AWS::StackName": self.stack,
            "AWS::URLSuffix": "amazonaws.com",
        }
        if name in pseudo:
            return pseudo[name]
        if self.resources[name]["Type"] in _REF_IS_ARN:
            return self.arn(name)
        return self.name(name)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes of one synthesised stack.

    Attributes:
        template_bytes: Of the file that is uploaded.
        managed_policy_characters: Of each managed policy, without white space.
        inline_policy_characters: Of all inline policies of each role, without white space.
        trust_policy_characters: The largest trust policy of a role.
        queue_policy_statements: The most statements of a queue's policy.
        seconds: Of the synthesis, without the checks.
    """

    credentials: int
    resources: int
    template_bytes: int
    rules: int
    managed_policy_characters: Mapping[str, int]
    inline_policy_characters: Mapping[str, int]
    trust_policy_characters: int
    queue_policy_statements: int
    seconds: float = 0.0


def synthesise(plan: Plan, settings: Settings, folder: Path) -> Template:
    """The template of a plan, as an account would have it."""
    content = app.synthesise(Deployment.of(plan, settings), folder)
    return Template(content=content, stack=settings.stack, region=plan.lock.region)


def measure(plan: Plan, settings: Settings) -> Sizes:
    """Synthesise the stack and measure it."""
    count = len(plan.credential_sections)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lockstep-sizes-") as folder:
        template = synthesise(plan, settings, Path(folder))
        size = _file(Path(folder), settings).stat().st_size
    seconds = round(time.monotonic() - began, 1)
    return replace(sizes_of(template, credentials=count, template_bytes=size), seconds=seconds)


def sizes_of(template: Template, *, credentials: int, template_bytes: int) -> Sizes:
    """Measure a template."""
    managed: dict[str, int] = {}
    inline: dict[str, int] = {}
    for name, statements in template.role_policies():
        resource = template.resources[name]
        match resource["Type"]:
            case "AWS::IAM::ManagedPolicy":
                managed[name] = characters(statements)
            case "AWS::IAM::Role":
                inline[name] = inline.get(name, 0) + (characters(statements) if statements else 0)
            case _:
                for role in resource["Properties"]["Roles"]:
                    inline[role["Ref"]] = inline.get(role["Ref"], 0) + characters(statements)
    queues = [r["Properties"]["PolicyDocument"] for r in template.of_type("AWS::SQS::QueuePolicy").values()]
    trusts = [
        template.resolved(r["Properties"]["AssumeRolePolicyDocument"]["Statement"])
        for r in template.of_type("AWS::IAM::Role").values()
    ]
    return Sizes(
        credentials=credentials,
        resources=len(template.resources),
        template_bytes=template_bytes,
        rules=len(template.of_type("AWS::Events::Rule")),
        managed_policy_characters=managed,
        inline_policy_characters=inline,
        trust_policy_characters=max(characters(t) for t in trusts),
        queue_policy_statements=max(len(q["Statement"]) for q in queues),
    )


def characters(statements: list[Statement]) -> int:
    """The size of a policy as IAM counts it: without white space."""
    document = {"Version": "2012-10-17", "Statement": statements}
    return len("".join(json.dumps(document, ensure_ascii=False, separators=(",", ":")).split()))


def _file(folder: Path, settings: Settings) -> Path:
    return folder / f"{settings.stack}.template.json"
