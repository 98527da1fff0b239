"""The stack as `cdk synth` makes it, in an account: each shape once, and its policies as rows and as calls of IAM's."""

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from cdk import app
from cdk.bundle import Bundle, ca_files, digests
from cdk.deployment import Deployment, read_deployment
from cdk.settings import Settings
from lockstep.plan.file import load_plan
from lockstep.plan.model import Plan
from sandbox.emulators.aws.policies import Statement, as_list

_PLANS = Path("tests/infrastructure/plan")
PLAN, BOTH_CLOUDS, FEDERATED = (_PLANS / f"{name}.yaml" for name in ("lockstep", "both", "federated"))
VPC: Mapping[str, Any] = {
    "id": "vpc-0123456789abcdef0",
    "availability_zones": ["eu-central-1a"],
    "subnet_ids": ["subnet-0123456789abcdef0"],
    "database_cidrs": ["10.0.0.0/16"],
}
ACCOUNT, REGION = "111122223333", "eu-central-1"
BREAK_GLASS = f"arn:aws:iam::{ACCOUNT}:role/break-glass"
AUDIT, PLANS = "example-lockstep-audit", "example-lockstep-audit-plans"
SIGNING = ("alias/lockstep-audit", "alias/lockstep-orders", "alias/lockstep-digests")
STEPS = ("generate", "apply-db", "update-secrets", "audit")
LOGS = (
    *(f"/aws/lambda/lockstep-{function}" for function in (*STEPS, "watch", "digest")),
    *(f"/aws/vendedlogs/states/lockstep{end}" for end in ("", "-fleet")),
)
ADOPTED_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
OTHER_KEY = f"arn:aws:kms:{REGION}:444455556666:key/0987dcba-09fe-87dc-65ba-ab0987654321"
CANARY, NO_CANARY = "multi-cloud/app_user", "multi-cloud/ledger_user"
TOPICS = {kind: f"arn:aws:sns:{REGION}:999999999999:{kind}s" for kind in ("page", "ticket")}
TAGS = {"team": "payments", "cost centre": "42"}
RUNBOOK = "https://wiki.example.com/alarms"
_WIDE: Mapping[str, Any] = {
    "vpc": VPC,
    "alarm_email": "operator@example.com",
    "runbook_url": RUNBOOK,
    "audit_break_glass_role": BREAK_GLASS,
    "operators": [f"arn:aws:iam::{ACCOUNT}:role/aws-reserved/*/AWSReservedSSO_Operator_*"],
}
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "plain": {"plan": PLAN},
    "both": {"plan": BOTH_CLOUDS, **_WIDE},
    "federated": {"plan": FEDERATED, **_WIDE},
    "readers": {"plan": _PLANS / "readers.yaml", **_WIDE},
    "canary": {"plan": PLAN, "schedules": True, "canary": CANARY, "tags": TAGS},
    # Every setting that is not its default, as for a trial that is removed again.
    "trial": {
        "plan": _PLANS / "admins.yaml",
        "vpc": {**VPC, "functions": "all"},
        "tags": TAGS,
        "permissions_boundary": "estate/boundary",
        "deletion_protection": False,
        "object_lock": "governance",
        "memory_mb": 1024,
        "schedules": True,
        "adopt": {"topics": TOPICS},
    },
    "all adopted": {
        "plan": PLAN,
        "adopt": {
            "existing": ["lockstep", AUDIT, PLANS, *LOGS, *SIGNING],
            "encryption_key": ADOPTED_KEY,
            "keys": [OTHER_KEY],
        },
    },
    # In China, with a part of each kind adopted.
    "another partition": {
        "plan": _PLANS / "other.yaml",
        "stack": "lockstep-two",
        "vpc": {**VPC, "database_cidrs": [], "security_group_ids": ["sg-01234567"]},
        "canary": "two/app_user",
        "alarm_email": "operator@example.com",
        "adopt": {
            "existing": ["lockstep-two", "example-lockstep-audit-two", "/aws/lambda/lockstep-two-watch"],
            "topics": {"ticket": TOPICS["ticket"].replace("arn:aws:", "arn:aws-cn:")},
        },
    },
}
"""The settings of each deployment that tests look at."""
_TITLES = {
    "StateMachineRole": "state machine",
    "FleetRole": "fleet",
    "SchedulesRole": "schedules",
    "OciRunner": "OCI runner",
}
_KINDS = {
    "AWS::DynamoDB::Table": ("TableName", "dynamodb:{place}:table/{name}"),
    "AWS::Events::Rule": ("Name", "events:{place}:rule/{name}"),
    "AWS::IAM::ManagedPolicy": ("ManagedPolicyName", "iam::{account}:policy/{name}"),
    "AWS::IAM::Role": ("RoleName", "iam::{account}:role/{name}"),
    "AWS::KMS::Key": ("", "kms:{place}:key/{name}"),
    "AWS::Lambda::Function": ("FunctionName", "lambda:{place}:function:{name}"),
    "AWS::Logs::LogGroup": ("LogGroupName", "logs:{place}:log-group:{name}:*"),
    "AWS::S3::Bucket": ("BucketName", "s3:::{name}"),
    "AWS::SNS::Topic": ("TopicName", "sns:{place}:{name}"),
    "AWS::SQS::Queue": ("QueueName", "sqs:{place}:{name}"),
    "AWS::StepFunctions::StateMachine": ("StateMachineName", "states:{place}:stateMachine:{name}"),
    "AWS::StepFunctions::StateMachineAlias": ("Name", "states:{place}:stateMachine:{stack}:{name}"),
}
"""The property that is the name of a resource, and its ARN."""
_REF_IS_ARN = ("AWS::SNS::Topic", "AWS::StepFunctions::StateMachine", "AWS::StepFunctions::StateMachineAlias")
_WORDS = {
    **{word: word for word in ("secret", "table", "rule", "execution", "function")},
    "event-bus": "bus",
    "mapRun": "run of the map",
    "stateMachine": "state machine",
    "log-group": "log",
}
_ARN = re.compile(rf"arn:aws:(?:s3::|[a-z-]+:{REGION}:{ACCOUNT}):({'|'.join(_WORDS)}|)[:/]?")


@dataclass(frozen=True, kw_only=True)
class Synthesised:
    """The output of `cdk synth`.

    Names that CloudFormation makes up have the length of its own, so that sizes are those of an account.

    Attributes:
        folder: The cloud assembly.
        template: The stack's template.
        stack: The stack's name.
    """

    folder: Path
    template: Mapping[str, Any]
    stack: str
    region: str = REGION

    @property
    def all(self) -> Mapping[str, Mapping[str, Any]]:
        """Every resource, by logical id."""
        found: Mapping[str, Mapping[str, Any]] = self.template["Resources"]
        return found

    def resources(self, resource_type: str) -> Mapping[str, Mapping[str, Any]]:
        """The resources of a type, by logical id."""
        return {name: resource for name, resource in self.all.items() if resource["Type"] == resource_type}

    def each(self, resource_type: str) -> list[Mapping[str, Any]]:
        """The properties of each resource of a type."""
        return [r.get("Properties", {}) for r in self.resources(resource_type).values()]

    def id_of(self, resource_type: str, **having: object) -> str:
        """The logical id of the only resource of a type with these properties."""
        found = [
            name
            for name, r in self.resources(resource_type).items()
            if all(r["Properties"].get(key) == value for key, value in having.items())
        ]
        assert len(found) == 1, f"{len(found)} of {resource_type} with {having}"
        return found[0]

    def properties(self, resource_type: str, **having: object) -> Mapping[str, Any]:
        """The properties of that resource."""
        found: Mapping[str, Any] = self.all[self.id_of(resource_type, **having)]["Properties"]
        return found

    def documents(self) -> Iterator[tuple[str, list[Statement]]]:
        """The resolved policies of each role and policy resource, by logical id."""
        for name, resource in self.all.items():
            properties = resource.get("Properties", {})
            match resource["Type"]:
                case "AWS::IAM::Role":
                    assert "ManagedPolicyArns" not in properties
                    documents = [p["PolicyDocument"] for p in properties.get("Policies", [])]
                case "AWS::IAM::Policy" | "AWS::IAM::ManagedPolicy":
                    documents = [properties["PolicyDocument"]]
                case _:
                    continue
            yield name, [self.resolved(s) for document in documents for s in document["Statement"]]

    @cached_property
    def policies(self) -> dict[str, list[Statement]]:
        """The statements of each role, by its title in `docs/iam.md`."""
        found: dict[str, list[Statement]] = {}
        for name, statements in self.documents():
            if function := re.match(r"Functions(\w+?)Role", name):
                title = re.sub(r"\B(?=[A-Z])", "_", function[1]).lower()
            else:
                title = next(title for prefix, title in _TITLES.items() if name.startswith(prefix))
            found.setdefault(title, []).extend(statements)
        return found

    def statements(self, sid: str) -> dict[str, Statement]:
        """The statement with that name of each role."""
        return {title: s for title, some in self.policies.items() for s in some if s.get("Sid") == sid}

    def rows(self) -> set[tuple[str, ...]]:
        """The statements as rows of the tables in `docs/iam.md`."""
        return {self._row(title, s) for title, some in self.policies.items() for s in some}

    def _row(self, title: str, statement: Statement) -> tuple[str, ...]:
        actions = ", ".join(f"`{action}`" for action in as_list(statement["Action"]))
        resources = ", ".join(f"`{self.words(r)}`" for r in as_list(statement["Resource"]))
        conditions = "; ".join(
            f"`{operator}` `{key}`: "
            + ", ".join(f"`{v if ':function:' in v else self.words(v)}`" for v in as_list(wanted))
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
        refused = "" if statement["Effect"] == "Allow" else "refused: "
        return title, statement.get("Sid", "Start"), refused + actions, resources, conditions

    def words(self, value: object) -> str:
        """An ARN as the page writes it: its kind and its name."""
        text = str(self.resolved(value))
        for alias in self.each("AWS::KMS::Alias"):
            text = text.replace(self.resolved(alias["TargetKeyId"]), f"key {alias['AliasName']}")
        if found := _ARN.match(text):
            text = f"{_WORDS.get(found[1], 'bucket')} {text[found.end() :]}"
        return text.removesuffix(":*") if text.startswith("log ") else text

    def resolved(self, value: Any) -> Any:  # noqa: ANN401, PLR0911 - any JSON; a case for each function
        """A value with the functions of CloudFormation replaced as far as an account is not needed."""
        match value:
            case {"Ref": str(name)}:
                return self._ref(name)
            case {"Fn::GetAtt": [str(name), "Arn"]}:
                return self.arn(name)
            case {"Fn::Join": [str(separator), list(parts)]}:
                return separator.join(str(self.resolved(part)) for part in parts)
            case {"Fn::Select": [index, {"Fn::Split": [str(separator), text]}]}:
                return str(self.resolved(text)).split(separator)[int(index)]
            case dict():
                return {key: self.resolved(item) for key, item in value.items()}
            case list():
                return [self.resolved(item) for item in value]
        return value

    def arn(self, logical_id: str) -> str:
        """The ARN of a resource."""
        _, form = _KINDS[self.all[logical_id]["Type"]]
        place = f"{self.region}:{ACCOUNT}"
        name = self.name(logical_id)
        return "arn:aws:" + form.format(place=place, account=ACCOUNT, stack=self.stack, name=name)

    def name(self, logical_id: str) -> str:
        """The physical name of a resource."""
        resource = self.all[logical_id]
        if resource["Type"] == "AWS::KMS::Key":
            return str(uuid5(NAMESPACE_URL, f"{self.stack}/{logical_id}"))
        naming, _ = _KINDS.get(resource["Type"], ("", ""))
        given = resource.get("Properties", {}).get(naming)
        return str(self.resolved(given)) if given else f"{self.stack}-{logical_id[:24]}-0123456789ab"

    def key(self, alias: str) -> str:
        """The ARN of the key that has an alias."""
        return str(self.resolved(self.properties("AWS::KMS::Alias", AliasName=alias)["TargetKeyId"]))

    def _ref(self, name: str) -> str:
        pseudo = {
            "AWS::AccountId": ACCOUNT,
            "AWS::Partition": "aws",
            "AWS::Region": self.region,
            "AWS::StackName": self.stack,
            "AWS::URLSuffix": "amazonaws.com",
        }
        if name in pseudo:
            return pseudo[name]
        kind = self.all[name]["Type"]
        if kind == "AWS::Lambda::Version":
            return self.arn(self.all[name]["Properties"]["FunctionName"]["Ref"]) + ":VERSION"
        return self.arn(name) if kind in _REF_IS_ARN else self.name(name)


# Each is removed when the process ends.
_folders: list[tempfile.TemporaryDirectory[str]] = []


def synthesise(plan: Plan, /, **settings: object) -> Synthesised:
    """Synthesise the stack of a plan that is in no file.

    Args:
        plan: Relative names of its files are from the folder of the setting `plan`.
        settings: As in `cdk.json`.
    """
    return _made(Deployment.of(plan, Settings.model_validate({"plan": PLAN, **settings})))


@cache
def shape(name: str) -> Synthesised:
    """One of SHAPES, synthesised once."""
    return _made(read_deployment(Settings.model_validate(SHAPES[name])))


def _made(deployment: Deployment) -> Synthesised:
    _folders.append(tempfile.TemporaryDirectory(prefix="lockstep-cdk-"))
    folder = Path(_folders[-1].name)
    template = app.synthesise(deployment, folder)
    return Synthesised(
        folder=folder, template=template, stack=deployment.settings.stack, region=deployment.plan.lock.region
    )


def hollow_bundle(folder: Path, plan_file: Path) -> Path:
    """What the stack and the deployment read of a bundle, without the bundle."""
    folder.mkdir(parents=True, exist_ok=True)
    shipped = digests(ca_files(plan_file, load_plan(plan_file)))
    made = Bundle(
        runner="aws", python="3.13", architecture="x86_64", unpacked_bytes=1, zip_bytes=1, ca_files=shipped
    )
    (folder / "bundle.json").write_text(json.dumps(asdict(made)))
    (folder / "bundle.zip").write_bytes(b"")
    return folder


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
