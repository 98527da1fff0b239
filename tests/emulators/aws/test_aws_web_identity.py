"""STS as an issuer: who gets which token, and how others verify it."""

import json
from typing import Any

import jwt
import pytest

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.executions import Client
from sandbox.emulators.aws.sessions import Session
from tests.emulators.aws.conftest import any_client, policy, refused
from tests.support.aws import Clock

KEY = "ASIALOCKSTEP"
GOOD: dict[str, Any] = {"Audience": ["lockstep"], "SigningAlgorithm": "RS256"}
GET_TOKEN = "sts:GetWebIdentityToken"


def given_role(aws: AwsSandbox, **statement: object) -> None:
    iam = aws.client("iam")
    iam.create_role(RoleName="runner", AssumeRolePolicyDocument="{}")
    document = policy({"Action": GET_TOKEN, **statement})
    iam.put_role_policy(RoleName="runner", PolicyName="own", PolicyDocument=document)


@pytest.fixture(name="sts")
def _sts(aws: AwsSandbox) -> Client:
    aws.web_identity.enable()
    return any_client(aws, "sts", key="sandbox")


def keys_of(aws: AwsSandbox) -> dict[str, Any]:
    """The issuer's keys, as one finds them from `iss`."""
    issuer = aws.web_identity.issuer
    discovery = json.loads(aws.names.fetch(f"{issuer}/.well-known/openid-configuration"))
    assert discovery["issuer"] == issuer
    return {key["kid"]: key for key in json.loads(aws.names.fetch(discovery["jwks_uri"]))["keys"]}


def verified(aws: AwsSandbox, token: str) -> dict[str, Any]:
    """Its claims, verified by the keys that are published."""
    header = jwt.get_unverified_header(token)
    key = jwt.PyJWK(keys_of(aws)[header["kid"]]).key
    unchecked = dict.fromkeys(("verify_exp", "verify_aud", "verify_iat"), False)
    claims: dict[str, Any] = jwt.decode(token, key, [header["alg"]], options=unchecked)  # type: ignore[arg-type]
    return claims


def test_a_token_says_who_calls_and_for_how_long(aws: AwsSandbox, clock: Clock, sts: Client) -> None:
    given = sts.get_web_identity_token(**GOOD, Tags=[{"Key": "job", "Value": "7"}])
    claims = verified(aws, given["WebIdentityToken"])
    role = f"arn:aws:iam::{aws.account_id}:role/administrator"
    assert claims.pop("jti") != verified(aws, sts.get_web_identity_token(**GOOD)["WebIdentityToken"])["jti"]
    assert claims == {
        "iss": aws.web_identity.issuer,
        "aud": "lockstep",
        "sub": role,
        "iat": int(clock.now),
        "exp": int(clock.now) + 300,
        "https://sts.amazonaws.com/": {
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
        *({"Audience": audiences} for audiences in ([], [""], [str(number) for number in range(11)])),
        *({"SigningAlgorithm": algorithm} for algorithm in ("HS256", None)),
        *({"DurationSeconds": seconds} for seconds in (59, 3601)),
        {"SubjectMode": "OriginIdentity"},
    ],
    ids=str,
)
def test_what_the_api_reference_excludes_is_refused(sts: Client, wrong: dict[str, Any]) -> None:
    asked = {name: value for name, value in {**GOOD, **wrong}.items() if value is not None}
    assert refused(sts.get_web_identity_token, **asked) == "ValidationError"


@pytest.mark.usefixtures("sts")
def test_a_token_does_not_outlive_the_session_that_asks_for_it(aws: AwsSandbox, clock: Clock) -> None:
    given_role(aws)
    aws.guard.know(KEY, "runner", session=Session("the-token", clock.now + 300))
    ask = any_client(aws, "sts", key=KEY, token="the-token").get_web_identity_token
    assert ask(**GOOD, DurationSeconds=300)["WebIdentityToken"]
    assert refused(ask, **GOOD, DurationSeconds=301) == "SessionDurationEscalationException"


CONDITIONS = {
    "ForAllValues:StringEquals": {"sts:IdentityTokenAudience": "lockstep"},
    "StringEquals": {"sts:SigningAlgorithm": "RS256"},
    "NumericLessThanEquals": {"sts:DurationSeconds": "300"},
    "ArnEquals": {"lambda:SourceFunctionArn": "arn:aws:lambda:eu-central-1:1:function:step"},
}


@pytest.mark.usefixtures("sts")
@pytest.mark.parametrize(
    ("asked", "function", "is_given"),
    [
        ({}, "step", True),
        ({}, "other", False),
        ({}, None, False),
        ({"Audience": ["lockstep", "other"]}, "step", False),
        ({"SigningAlgorithm": "ES384"}, "step", False),
        ({"DurationSeconds": 301}, "step", False),
        ({"DurationSeconds": None}, "step", False),
        ({"Tags": [{"Key": "a", "Value": "b"}]}, "step", False),
    ],
    ids=str,
)
def test_the_policies_of_the_role_decide(
    aws: AwsSandbox, asked: dict[str, Any], function: str | None, *, is_given: bool
) -> None:
    given_role(aws, Condition=CONDITIONS)
    arn = f"arn:aws:lambda:eu-central-1:1:function:{function}" if function else None
    aws.guard.know(KEY, "runner", function_arn=arn)
    ask = aws.client_as(KEY, "sts").get_web_identity_token
    wanted = {**GOOD, "DurationSeconds": 300, **asked}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if is_given:
        assert ask(**wanted)["WebIdentityToken"]
    else:
        assert refused(ask, **wanted) == "AccessDenied"
