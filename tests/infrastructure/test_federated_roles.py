"""The roles of the federated stack in an account: which sessions and signatures they get, and which they do not."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import jwt
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from cdk.settings import ROOT, Settings
from cdk.sizes import synthesise
from cdk.template import Template
from lockstep.plan.file import load_plan
from lockstep.protocol.names import oci_runner_name
from sandbox.aws import AwsSandbox
from tests.infrastructure.cdk_case import FEDERATED, title_of
from tests.sandbox.aws.issuer import HOST, Issuer

NOW = 1_795_800_000.0
SUBJECT, ISSUER = "lockstep-oci-runner", f"https://{HOST}/n/example/b/lockstep-issuer/o"
STEPS = ("generate", "apply_db", "update_secrets", "audit")
CLIENT_KEY = "alias/lockstep-oci-client"
GOOD: Mapping[str, Any] = {"Audience": ["lockstep"], "SigningAlgorithm": "RS256", "DurationSeconds": 300}


@cache
def stack() -> Template:
    plan = load_plan(ROOT / FEDERATED)
    with tempfile.TemporaryDirectory(prefix="lockstep-roles-") as folder:
        template = synthesise(plan, Settings.model_validate({"plan": FEDERATED}), Path(folder))
    return Template(content=template.content, stack=template.stack, account="123456789012")


@dataclass
class World:
    """The roles in an account, each with its policies and its trust as the template has them.

    Attributes:
        issuer: Of the tokens of the OCI runner.
    """

    aws: AwsSandbox
    issuer: Issuer

    def client_of(self, step: str, service: str, *, from_its_code: bool = True) -> Any:  # noqa: ANN401 - botocore
        """A client that signs as a step."""
        key = f"AKIA{step}{from_its_code}"
        function = f"arn:aws:lambda:{self.aws.region}:{self.aws.account_id}:function:lockstep-{step.replace('_', '-')}"
        self.aws.guard.know(key, step, function_arn=function if from_its_code else None)
        return self.aws.client_as(key, service)

    def assumed(self, token: str) -> Mapping[str, str]:
        """Credentials of the OCI runner's role, for a token."""
        # Unsigned, as who has no key.
        sts = boto3.client(
            "sts",
            endpoint_url=self.aws.url,
            region_name=self.aws.region,
            config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}),
        )
        found = sts.assume_role_with_web_identity(
            RoleArn=f"arn:aws:iam::{self.aws.account_id}:role/{oci_runner_name('lockstep')}",
            RoleSessionName="lockstep-oci",
            WebIdentityToken=token,
            DurationSeconds=900,
        )
        credentials: Mapping[str, str] = found["Credentials"]
        return credentials


@pytest.fixture(name="world", scope="module")
def _world() -> Iterator[World]:
    with AwsSandbox(wall_clock=lambda: NOW) as aws:
        aws.web_identity.enable()
        issuer = Issuer(aws, NOW, url=ISSUER)
        iam, kms, template = aws.client("iam"), aws.client("kms"), stack()
        made = kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]
        kms.create_alias(AliasName=CLIENT_KEY, TargetKeyId=made["KeyId"])
        # The template's key has no ARN before it is deployed.
        (alias,) = (
            a["Properties"]
            for a in template.of_type("AWS::KMS::Alias").values()
            if a["Properties"]["AliasName"] == CLIENT_KEY
        )
        planned = template.resolved(alias["TargetKeyId"])
        policies = {name: found for name, found in template.role_policies() if title_of(name) in STEPS}
        for name, statements in policies.items():
            text = json.dumps({"Version": "2012-10-17", "Statement": statements})
            iam.create_role(
                RoleName=title_of(name), AssumeRolePolicyDocument='{"Version": "2012-10-17", "Statement": []}'
            )
            iam.put_role_policy(
                RoleName=title_of(name),
                PolicyName="lockstep",
                PolicyDocument=text.replace(planned, made["Arn"]),
            )
        (provider,) = template.of_type("AWS::IAM::OIDCProvider").values()
        iam.create_open_id_connect_provider(
            Url=provider["Properties"]["Url"], ClientIDList=provider["Properties"]["ClientIdList"]
        )
        (role,) = (
            r["Properties"]
            for n, r in template.of_type("AWS::IAM::Role").items()
            if n.startswith("OciRunnerRole")
        )
        iam.create_role(
            RoleName=role["RoleName"],
            AssumeRolePolicyDocument=json.dumps(template.resolved(role["AssumeRolePolicyDocument"])),
            MaxSessionDuration=role["MaxSessionDuration"],
        )
        (runner,) = template.of_type("AWS::IAM::ManagedPolicy").values()
        document = json.dumps(template.resolved(runner["Properties"]["PolicyDocument"]))
        policy = iam.create_policy(PolicyName="lockstep-oci-runner", PolicyDocument=document)["Policy"]
        iam.attach_role_policy(RoleName=role["RoleName"], PolicyArn=policy["Arn"])
        yield World(aws, issuer)


def refusal(call: Callable[..., object], *arguments: object, **asked: object) -> str:
    with pytest.raises(ClientError) as caught:
        call(*arguments, **asked)
    return str(caught.value.response["Error"]["Code"])


@pytest.mark.parametrize("step", STEPS)
def test_a_step_gets_a_token_about_its_own_role(world: World, step: str) -> None:
    token = world.client_of(step, "sts").get_web_identity_token(**GOOD)["WebIdentityToken"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["sub"] == f"arn:aws:iam::{world.aws.account_id}:role/{step}"
    assert claims["aud"] in ("lockstep", ["lockstep"])


@pytest.mark.parametrize(
    "other",
    [
        {"Audience": ["another"]},
        {"Audience": ["lockstep", "another"]},
        {"SigningAlgorithm": "ES384"},
        {"DurationSeconds": 3600},
    ],
    ids=str,
)
def test_it_gets_no_other(world: World, other: Mapping[str, Any]) -> None:
    sts = world.client_of("generate", "sts")
    assert refusal(sts.get_web_identity_token, **{**GOOD, **other}) == "AccessDenied"


def test_credentials_that_have_left_the_function_get_none(world: World) -> None:
    sts = world.client_of("generate", "sts", from_its_code=False)
    assert refusal(sts.get_web_identity_token, **GOOD) == "AccessDenied"


def test_a_step_signs_a_digest_for_the_application_and_nothing_else(world: World) -> None:
    kms = world.client_of("audit", "kms")
    asked = {
        "KeyId": CLIENT_KEY,
        "Message": hashlib.sha256(b"a").digest(),
        "MessageType": "DIGEST",
        "SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256",
    }
    assert len(kms.sign(**asked)["Signature"]) == 256
    assert refusal(kms.sign, **{**asked, "MessageType": "RAW"}) == "AccessDeniedException"
    assert refusal(kms.sign, **{**asked, "SigningAlgorithm": "RSASSA_PSS_SHA_256"}) == "AccessDeniedException"


def test_the_oci_runner_gets_its_role_for_a_token_of_its_issuer(world: World) -> None:
    credentials = world.assumed(world.issuer.token(sub=SUBJECT))
    sts = boto3.client(
        "sts",
        endpoint_url=world.aws.url,
        region_name=world.aws.region,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )
    assert sts.get_caller_identity()["Arn"].endswith(":assumed-role/lockstep-oci-runner/lockstep-oci")


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"sub": "another"}, "AccessDenied"),
        ({"sub": SUBJECT, "aud": "another"}, "InvalidIdentityToken"),
        ({"sub": SUBJECT, "iss": f"https://{HOST}/n/example/b/another/o"}, "InvalidIdentityToken"),
    ],
    ids=str,
)
def test_it_does_not_get_it_for_any_other(world: World, claims: Mapping[str, str], code: str) -> None:
    assert refusal(world.assumed, world.issuer.token(**claims)) == code
