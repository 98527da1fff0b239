"""A template as CloudFormation resolves it: names and ARNs of its resources, and its policies in full.

Names that CloudFormation makes up have the length of its own, so that sizes are those of an account.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, uuid5

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
