"""The synthesised stack of an example plan, and its policies as rows of text. Each variant is synthesised once."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from cdk.app import LockstepStack
from cdk.deployment import read_deployment
from cdk.settings import ROOT, Settings
from sandbox.emulators.aws.policies import Statement, as_list

PLAN = Path("tests/infrastructure/plan/lockstep.yaml")
BOTH_CLOUDS = Path("tests/infrastructure/plan/both.yaml")
FEDERATED = Path("tests/infrastructure/plan/federated.yaml")
READERS = Path("tests/infrastructure/plan/readers.yaml")
WITH_EVENTS = Path("tests/infrastructure/plan/events.yaml")
VPC = json.dumps(
    {
        "id": "vpc-0123456789abcdef0",
        "availability_zones": ["eu-central-1a"],
        "subnet_ids": ["subnet-0123456789abcdef0"],
        "database_cidrs": ["10.0.0.0/16"],
    }
)
ACCOUNT = {"AWS::AccountId": "111122223333", "AWS::Partition": "aws", "AWS::Region": "eu-central-1"}
_TITLES = {
    "FunctionsGenerateRole": "generate",
    "FunctionsApplyDbRole": "apply_db",
    "FunctionsUpdateSecretsRole": "update_secrets",
    "FunctionsAuditRole": "audit",
    "FunctionsWatchRole": "watch",
    "FunctionsDigestRole": "digest",
    "FunctionsAnnounceRole": "announce",
    "StateMachineRole": "state machine",
    "FleetRole": "fleet",
    "SchedulesRole": "schedules",
    "OciRunner": "OCI runner",
}
_KINDS = {
    "AWS::DynamoDB::Table": ("table", "TableName"),
    "AWS::Lambda::Function": ("function", "FunctionName"),
    "AWS::Logs::LogGroup": ("log", "LogGroupName"),
    "AWS::S3::Bucket": ("bucket", "BucketName"),
    "AWS::SQS::Queue": ("queue", "QueueName"),
    "AWS::StepFunctions::StateMachine": ("state machine", "StateMachineName"),
    "AWS::StepFunctions::StateMachineAlias": ("alias", "Name"),
}

# Each is removed when the process ends.
_folders: list[tempfile.TemporaryDirectory[str]] = []


@dataclass(frozen=True)
class Synthesised:
    """The output of `cdk synth`.

    Attributes:
        folder: The cloud assembly.
        template: The stack's template.
    """

    folder: Path
    template: Mapping[str, Any]

    def resources(self, resource_type: str) -> Mapping[str, Mapping[str, Any]]:
        """The resources of a type, by logical id."""
        return {
            name: resource
            for name, resource in self.template["Resources"].items()
            if resource["Type"] == resource_type
        }

    def properties(self, resource_type: str, **having: object) -> Mapping[str, Any]:
        """The properties of the only resource of a type with these properties."""
        found = [
            r["Properties"]
            for r in self.resources(resource_type).values()
            if all(r["Properties"].get(name) == value for name, value in having.items())
        ]
        assert len(found) == 1, f"{len(found)} of {resource_type} with {having}"
        properties: Mapping[str, Any] = found[0]
        return properties

    def policies(self) -> Iterator[tuple[str, Statement]]:
        """Every statement of every role, with the role's title."""
        for name, resource in self.template["Resources"].items():
            properties = resource.get("Properties", {})
            match resource["Type"]:
                case "AWS::IAM::Role":
                    documents = [p["PolicyDocument"] for p in properties.get("Policies", [])]
                    assert "ManagedPolicyArns" not in properties
                case "AWS::IAM::Policy" | "AWS::IAM::ManagedPolicy":
                    documents = [properties["PolicyDocument"]]
                case _:
                    continue
            title = title_of(name)
            for document in documents:
                for statement in document["Statement"]:
                    yield title, statement

    def words(self, value: object) -> str:
        """An ARN or another value of a policy, as text."""
        match value:
            case {"Ref": name} if name in ACCOUNT:
                return ACCOUNT[name]
            case {"Ref": name} if name in self.resources("AWS::Lambda::Version"):
                function = self.resources("AWS::Lambda::Version")[name]["Properties"]["FunctionName"]
                return f"version of {self.words(function)}"
            case {"Ref": name}:
                return self._resource(name)
            case {"Fn::GetAtt": [name, _]}:
                return self._resource(name)
            case {"Fn::Join": [separator, parts]}:
                return _shortened(separator.join(self.words(part) for part in parts))
            case _:
                return str(value)

    def row(self, title: str, statement: Statement) -> tuple[str, str, str, str, str]:
        """A statement as a row of the table in `docs/iam.md`."""
        actions = ", ".join(f"`{action}`" for action in as_list(statement["Action"]))
        resources = ", ".join(f"`{self.words(r)}`" for r in as_list(statement["Resource"]))
        conditions = "; ".join(
            f"`{operator}` `{key}`: " + ", ".join(f"`{self.words(v)}`" for v in as_list(wanted))
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
        sid = statement.get("Sid", "Start")
        refused = "" if statement["Effect"] == "Allow" else "refused: "
        return title, sid, refused + actions, resources, conditions

    def _resource(self, name: str) -> str:
        resource = self.template["Resources"][name]
        if resource["Type"] == "AWS::KMS::Key":
            return f"key {self._alias(name)}"
        kind, naming = _KINDS[resource["Type"]]
        return f"{kind} {resource['Properties'].get(naming, name)}"

    def _alias(self, key: str) -> str:
        aliases = self.resources("AWS::KMS::Alias").values()
        target = {"Fn::GetAtt": [key, "Arn"]}
        return next(
            str(a["Properties"]["AliasName"]) for a in aliases if a["Properties"]["TargetKeyId"] == target
        )


def title_of(logical_id: str) -> str:
    """The title of a role or a policy in `docs/iam.md`."""
    return next(title for prefix, title in _TITLES.items() if logical_id.startswith(prefix))


def _shortened(arn: str) -> str:
    place = f"{ACCOUNT['AWS::Region']}:{ACCOUNT['AWS::AccountId']}"
    for kind, prefix in (
        ("secret", f"arn:aws:secretsmanager:{place}:secret:"),
        ("table", f"arn:aws:dynamodb:{place}:table/"),
        ("bus", f"arn:aws:events:{place}:event-bus/"),
        ("execution", f"arn:aws:states:{place}:execution:"),
        ("run of the map", f"arn:aws:states:{place}:mapRun:"),
        ("rule", f"arn:aws:events:{place}:rule/"),
        ("state machine", f"arn:aws:states:{place}:stateMachine:"),
    ):
        if arn.startswith(prefix):
            return f"{kind} {arn.removeprefix(prefix)}"
    return arn


@cache
def synthesised(**settings: object) -> Synthesised:
    """Synthesise the stack."""
    _folders.append(tempfile.TemporaryDirectory(prefix="lockstep-cdk-"))
    folder = Path(_folders[-1].name)
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    app = App(outdir=str(folder), context=context)
    LockstepStack(app, read_deployment(Settings.model_validate({"plan": PLAN, **settings})))
    app.synth()
    return Synthesised(folder, json.loads((folder / "lockstep.template.json").read_text()))


@contextmanager
def refusing(*operations: str, code: str = "AccessDeniedException") -> Iterator[None]:
    """Let the account refuse some calls, by their names in the API."""
    answer: Callable[..., object] = getattr(BaseClient, "_make_api_call")  # noqa: B009 - botocore has no name for it

    def refused(client: BaseClient, name: str, parameters: Mapping[str, Any]) -> object:
        if name in operations:
            raise ClientError({"Error": {"Code": code, "Message": "not permitted"}}, name)
        return answer(client, name, parameters)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", refused)
        yield
