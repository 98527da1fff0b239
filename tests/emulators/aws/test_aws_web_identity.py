"""STS as an issuer: who gets which token, and how others verify it."""

import json
from collections.abc import Callable
from typing import Any

import boto3
import jwt
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.executions import Client
from sandbox.emulators.aws.sessions import Session
from tests.emulators.aws.conftest import Clock

KEY = "ASIALOCKSTEP"
NAMESPACE = "https://sts.amazonaws.com/"
GOOD: dict[str, Any] = {"Audience": ["lockstep"], "SigningAlgorithm": "RS256"}


def client(aws: AwsSandbox, service: str, **settings: object) -> Client:
    """A client that checks nothing itself."""
    make: Any = boto3.client
    options: Any = {"parameter_validation": False, "retries": {"total_max_attempts": 1}, **settings}
    return make(
        service,
        endpoint_url=aws.url,
        region_name=aws.region,
        aws_access_key_id="sandbox",
        aws_secret_access_key="sandbox",
        config=Config(**options),
    )


def refusal(call: Callable[..., object], **asked: object) -> str:
    with pytest.raises(ClientError) as caught:
        call(**asked)
    return str(caught.value.response["Error"]["Code"])


@pytest.fixture(name="enabled")
def _enabled(aws: AwsSandbox) -> None:
    aws.web_identity.enable()


@pytest.fixture(name="sts")
def _sts(aws: AwsSandbox, enabled: None) -> Client:  # noqa: ARG001 - comes after it
    return client(aws, "sts")


def keys_of(aws: AwsSandbox) -> dict[str, Any]:
    """The issuer's keys, as one finds them from `iss`."""
    issuer = aws.web_identity.issuer
    discovery = json.loads(aws.names.fetch(f"{issuer}/.well-known/openid-configuration"))
    assert discovery["issuer"] == issuer
    listed = json.loads(aws.names.fetch(discovery["jwks_uri"]))["keys"]
    return {key["kid"]: key for key in listed}


def verified(aws: AwsSandbox, token: str) -> dict[str, Any]:
    """Its claims, verified by the keys that are published."""
    header = jwt.get_unverified_header(token)
    key = jwt.PyJWK(keys_of(aws)[header["kid"]])
    claims: dict[str, Any] = jwt.decode(
        token,
        key.key,
        [header["alg"]],
        options={"verify_exp": False, "verify_aud": False, "verify_iat": False},
    )
    return claims


def test_nothing_is_issued_before_the_account_is_enabled(aws: AwsSandbox) -> None:
    sts, iam = client(aws, "sts"), client(aws, "iam")
    disabled = "OutboundWebIdentityFederationDisabledException"
    assert refusal(sts.get_web_identity_token, **GOOD) == disabled
    assert refusal(iam.get_outbound_web_identity_federation_info) == "FeatureDisabled"
    assert refusal(iam.disable_outbound_web_identity_federation) == "FeatureDisabled"
    assert iam.enable_outbound_web_identity_federation()["IssuerIdentifier"] == aws.web_identity.issuer
    assert refusal(iam.enable_outbound_web_identity_federation) == "FeatureEnabled"
    info = iam.get_outbound_web_identity_federation_info()
    assert (info["IssuerIdentifier"], info["JwtVendingEnabled"]) == (aws.web_identity.issuer, True)
    token = sts.get_web_identity_token(**GOOD)["WebIdentityToken"]
    iam.disable_outbound_web_identity_federation()
    assert not aws.web_identity.enabled
    assert refusal(sts.get_web_identity_token, **GOOD) == disabled
    assert verified(aws, token)["aud"] == "lockstep"


def test_a_token_says_who_calls_and_for_how_long(aws: AwsSandbox, clock: Clock, sts: Client) -> None:
    given = sts.get_web_identity_token(**GOOD, Tags=[{"Key": "job", "Value": "7"}])
    claims = verified(aws, given["WebIdentityToken"])
    assert jwt.get_unverified_header(given["WebIdentityToken"])["alg"] == "RS256"
    role = f"arn:aws:iam::{aws.account_id}:role/administrator"
    jti = claims.pop("jti")
    assert jti != verified(aws, sts.get_web_identity_token(**GOOD)["WebIdentityToken"])["jti"]
    assert claims == {
        "iss": aws.web_identity.issuer,
        "aud": "lockstep",
        "sub": role,
        "iat": int(clock.now),
        "exp": int(clock.now) + 300,
        NAMESPACE: {
            "aws_account": aws.account_id,
            "source_region": aws.region,
            "principal_id": role,
            "request_tags": {"job": "7"},
        },
    }
    assert given["Expiration"].timestamp() == claims["exp"]
    assert aws.web_identity.issuer.endswith(".tokens.sts.global.api.aws")


@pytest.mark.parametrize(
    "wrong",
    [
        {"Audience": []},
        {"Audience": [""]},
        {"Audience": [str(number) for number in range(11)]},
        {"SigningAlgorithm": "HS256"},
        {"SigningAlgorithm": None},
        {"DurationSeconds": 59},
        {"DurationSeconds": 3601},
        {"SubjectMode": "OriginIdentity"},
    ],
    ids=str,
)
def test_what_the_api_reference_excludes_is_refused(sts: Client, wrong: dict[str, Any]) -> None:
    asked = {name: value for name, value in {**GOOD, **wrong}.items() if value is not None}
    assert refusal(sts.get_web_identity_token, **asked) == "ValidationError"


@pytest.mark.usefixtures("enabled")
def test_a_token_does_not_outlive_the_session_that_asks_for_it(aws: AwsSandbox, clock: Clock) -> None:
    aws.client("iam").create_role(RoleName="runner", AssumeRolePolicyDocument="{}")
    allow = {"Effect": "Allow", "Action": "sts:GetWebIdentityToken", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    aws.client("iam").put_role_policy(RoleName="runner", PolicyName="own", PolicyDocument=policy)
    aws.guard.know(KEY, "runner", session=Session("the-token", clock.now + 300))
    own = boto3.client(
        "sts",
        endpoint_url=aws.url,
        region_name=aws.region,
        aws_access_key_id=KEY,
        aws_secret_access_key="x",
        aws_session_token="the-token",
    )
    assert own.get_web_identity_token(**GOOD, DurationSeconds=300)["WebIdentityToken"]
    asked = {**GOOD, "DurationSeconds": 301}
    assert refusal(own.get_web_identity_token, **asked) == "SessionDurationEscalationException"


def test_keys_are_rotated_and_old_tokens_are_verified_until_the_old_key_is_gone(
    aws: AwsSandbox, sts: Client
) -> None:
    old = sts.get_web_identity_token(**GOOD)["WebIdentityToken"]
    aws.web_identity.rotate_key()
    new = sts.get_web_identity_token(**GOOD)["WebIdentityToken"]
    assert jwt.get_unverified_header(old)["kid"] != jwt.get_unverified_header(new)["kid"]
    assert verified(aws, old)["jti"] != verified(aws, new)["jti"]
    aws.web_identity.rotate_key(keep_old=False)
    assert jwt.get_unverified_header(new)["kid"] not in keys_of(aws)


def test_the_clock_of_sts_may_differ_and_it_may_be_in_trouble(
    aws: AwsSandbox, clock: Clock, sts: Client
) -> None:
    aws.web_identity.clock_ahead_seconds = -120
    token = sts.get_web_identity_token(**GOOD)["WebIdentityToken"]
    assert verified(aws, token)["iat"] == int(clock.now - 120)
    aws.web_identity.refusals["GetWebIdentityToken"] = "Throttling"
    assert refusal(sts.get_web_identity_token, **GOOD) == "Throttling"


CONDITIONS = {
    "ForAllValues:StringEquals": {"sts:IdentityTokenAudience": "lockstep"},
    "Null": {"sts:IdentityTokenAudience": "false"},
    "StringEquals": {"sts:SigningAlgorithm": "RS256"},
    "NumericLessThanEquals": {"sts:DurationSeconds": "300"},
    "ArnEquals": {"lambda:SourceFunctionArn": "arn:aws:lambda:eu-central-1:1:function:step"},
}


@pytest.mark.usefixtures("enabled")
@pytest.mark.parametrize(
    ("asked", "function", "code"),
    [
        ({}, "step", None),
        ({}, "other", "AccessDenied"),
        ({}, None, "AccessDenied"),
        ({"Audience": ["lockstep", "other"]}, "step", "AccessDenied"),
        ({"SigningAlgorithm": "ES384"}, "step", "AccessDenied"),
        ({"DurationSeconds": 301}, "step", "AccessDenied"),
        ({"DurationSeconds": None}, "step", "AccessDenied"),
        ({"Tags": [{"Key": "a", "Value": "b"}]}, "step", "AccessDenied"),
    ],
    ids=str,
)
def test_the_policies_of_the_role_decide(
    aws: AwsSandbox, asked: dict[str, Any], function: str | None, code: str | None
) -> None:
    iam = aws.client("iam")
    iam.create_role(RoleName="runner", AssumeRolePolicyDocument="{}")
    allow = {
        "Effect": "Allow",
        "Action": "sts:GetWebIdentityToken",
        "Resource": "*",
        "Condition": CONDITIONS,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    iam.put_role_policy(RoleName="runner", PolicyName="own", PolicyDocument=policy)
    arn = f"arn:aws:lambda:eu-central-1:1:function:{function}" if function else None
    aws.guard.know(KEY, "runner", function_arn=arn)
    own, wanted = aws.client_as(KEY, "sts"), {**GOOD, "DurationSeconds": 300, **asked}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if code:
        assert refusal(own.get_web_identity_token, **wanted) == code
    else:
        assert verified(aws, own.get_web_identity_token(**wanted)["WebIdentityToken"])["exp"]
