"""STS as a reader of tokens: which are believed, whom a role trusts, and what a session may until it ends."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.executions import Client
from sandbox.emulators.oci.names import Trouble
from tests.emulators.aws.conftest import Clock
from tests.emulators.aws.issuer import ADDRESS, AUDIENCE, HOST, SUBJECT, Issuer

ROLE = "lockstep-oci-runner"
EXACT = {"StringEquals": {f"{ADDRESS}:aud": AUDIENCE, f"{ADDRESS}:sub": SUBJECT}}


@dataclass
class World:
    """An issuer, a provider of it in IAM, and a role that trusts its subject."""

    aws: AwsSandbox
    issuer: Issuer
    role_arn: str = ""
    provider_arn: str = ""

    def __post_init__(self) -> None:
        iam = self.aws.client("iam")
        self.provider_arn = iam.create_open_id_connect_provider(
            Url=self.issuer.url, ClientIDList=[AUDIENCE], ThumbprintList=[]
        )["OpenIDConnectProviderArn"]
        self.role_arn = iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=self.trust())["Role"]["Arn"]

    def trust(self, **changed: object) -> str:
        """The trust policy of the role."""
        statement = {
            "Effect": "Allow",
            "Principal": {"Federated": self.provider_arn},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": EXACT,
            **changed,
        }
        return json.dumps({"Version": "2012-10-17", "Statement": [statement]})

    def trusts(self, **changed: object) -> None:
        """Change the trust policy."""
        self.aws.client("iam").update_assume_role_policy(RoleName=ROLE, PolicyDocument=self.trust(**changed))

    def assume(self, token: str | None = None, **changed: Any) -> Any:  # noqa: ANN401 - boto3's reply
        """Assume the role with a token; by default a good one."""
        config = Config(
            signature_version=UNSIGNED, parameter_validation=False, retries={"total_max_attempts": 1}
        )
        sts = boto3.client("sts", endpoint_url=self.aws.url, region_name=self.aws.region, config=config)
        asked = {
            "RoleArn": self.role_arn,
            "RoleSessionName": "lockstep-oci",
            "WebIdentityToken": self.issuer.token() if token is None else token,
            "DurationSeconds": 900,
            **changed,
        }
        return sts.assume_role_with_web_identity(**{k: v for k, v in asked.items() if v is not None})

    def client(self, service: str, **changed: str | None) -> Client:
        """A client with the credentials of a new session."""
        given = self.assume()["Credentials"]
        identity: dict[str, Any] = {
            "aws_access_key_id": given["AccessKeyId"],
            "aws_secret_access_key": given["SecretAccessKey"],
            "aws_session_token": given["SessionToken"],
            **changed,
        }
        config = Config(retries={"total_max_attempts": 1})
        make: Any = boto3.client
        return make(
            service, endpoint_url=self.aws.url, region_name=self.aws.region, config=config, **identity
        )

    def may(self, action: str) -> None:
        """Give the role a permission."""
        statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.aws.client("iam").put_role_policy(RoleName=ROLE, PolicyName="own", PolicyDocument=policy)


@pytest.fixture(name="world")
def _world(aws: AwsSandbox, clock: Clock) -> World:
    return World(aws, Issuer(aws, clock.now))


def code(call: Callable[[], object]) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


def text(call: Callable[[], object]) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    assert caught.value.response["Error"]["Code"] == "InvalidIdentityToken"
    return str(caught.value.response["Error"]["Message"])


def test_a_good_token_gives_a_session(world: World, clock: Clock) -> None:
    given = world.assume()
    account = world.aws.account_id
    assert given["SubjectFromWebIdentityToken"] == SUBJECT
    assert given["Audience"] == AUDIENCE
    assert given["Provider"] == world.issuer.url
    arn = f"arn:aws:sts::{account}:assumed-role/{ROLE}/lockstep-oci"
    assert given["AssumedRoleUser"]["Arn"] == arn
    assert given["Credentials"]["AccessKeyId"].startswith("ASIA")
    assert given["Credentials"]["Expiration"].timestamp() == int(clock.now) + 900
    assert world.client("sts").get_caller_identity()["Arn"] == arn


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"exp": 1}, "ExpiredTokenException"),
        ({"iss": "https://other.example.com"}, "InvalidIdentityToken"),
        ({"iss": f"https://{ADDRESS}/"}, "InvalidIdentityToken"),
        ({"iss": None}, "InvalidIdentityToken"),
        ({"aud": "other"}, "InvalidIdentityToken"),
        ({"aud": None}, "InvalidIdentityToken"),
        ({"aud": [AUDIENCE, "other"]}, "InvalidIdentityToken"),
        ({"azp": "other"}, "InvalidIdentityToken"),
        ({"sub": None}, "InvalidIdentityToken"),
        ({"exp": None}, "InvalidIdentityToken"),
        ({"iat": None}, "InvalidIdentityToken"),
        ({"sub": "other"}, "AccessDenied"),
    ],
    ids=str,
)
def test_each_claim_is_checked(world: World, changed: dict[str, Any], expected: str) -> None:
    assert code(lambda: world.assume(world.issuer.token(**changed))) == expected


def test_a_token_counts_from_its_beginning_to_its_end(world: World, clock: Clock) -> None:
    start = int(clock.now)
    token = world.issuer.token()
    clock.now = start + 299.5
    assert world.assume(token)["Credentials"]
    clock.now = start + 300
    assert code(lambda: world.assume(token)) == "ExpiredTokenException"
    clock.now = start - 0.5
    assert code(lambda: world.assume(token)) == "InvalidIdentityToken"
    clock.now = start
    world.aws.web_identity.clock_ahead_seconds = 300
    assert code(lambda: world.assume(token)) == "ExpiredTokenException"


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES256", "RS384", "PS256"])
def test_no_other_algorithm_is_taken(world: World, algorithm: str) -> None:
    assert text(lambda: world.assume(world.issuer.token_by(algorithm))) == (
        "The signing algorithm of the token is not RS256"
    )


@pytest.mark.parametrize("token", ["a.b", "abcd", "a.b.c", "bnVsbA.bnVsbA.AAAA", "e30=.e30=.AAAA"])
def test_what_is_no_token_is_refused(world: World, token: str) -> None:
    assert "not a valid JWT" in text(lambda: world.assume(token))


def test_the_signature_is_checked_by_the_key_that_the_token_names(world: World) -> None:
    issuer = world.issuer
    assert text(lambda: world.assume(issuer.token_by("RS256", kid="other"))).startswith("Couldn't retrieve")
    assert (
        text(lambda: world.assume(issuer.token_by("RS256", typ="JWT"))) == "The token does not name its key"
    )
    issuer.key = rsa.generate_private_key(65537, 2048)
    assert text(world.assume) == "Invalid token: the signature is wrong"
    issuer.publish({"kty": "EC", "kid": issuer.kid}, issuer.jwk())
    assert world.assume()["Credentials"]


@pytest.mark.parametrize(
    "changed", [{"kty": "oct"}, {"use": "enc"}, {"alg": "RS512"}, {"n": None}, {"n": "AQAB"}], ids=str
)
def test_a_key_for_something_else_is_not_used(world: World, changed: dict[str, Any]) -> None:
    world.issuer.publish(world.issuer.jwk(**changed))
    assert code(world.assume) == "InvalidIdentityToken"


@pytest.mark.parametrize("trouble", list(Trouble), ids=lambda trouble: trouble.name)
def test_an_issuer_in_trouble_is_not_believed(world: World, trouble: Trouble) -> None:
    world.aws.names.troubles[HOST] = trouble
    answered = {Trouble.HUGE, Trouble.NOT_FOUND, Trouble.REDIRECT}
    expected = "InvalidIdentityToken" if trouble in answered else "IDPCommunicationError"
    assert code(world.assume) == expected
    world.aws.names.troubles.clear()
    assert world.assume()["Credentials"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("issuer", "https://other.example.com"),
        ("issuer", None),
        ("jwks_uri", f"http://{ADDRESS}/jwks.json"),
        ("jwks_uri", f"https://{HOST}:443/n/ns/b/issuer/o/jwks.json"),
        ("jwks_uri", "https://unknown.example.com/jwks.json"),
        ("jwks_uri", None),
    ],
)
def test_a_discovery_document_must_be_the_issuers(world: World, field: str, value: str | None) -> None:
    world.issuer.discovery[field] = value
    assert code(world.assume) in {"IDPCommunicationError", "InvalidIdentityToken"}


@pytest.mark.parametrize(
    "changed",
    [
        {"Effect": "Deny"},
        {"Action": "sts:AssumeRole"},
        {"Principal": {"Federated": f"arn:aws:iam::123456789012:oidc-provider/{HOST}"}},
        {"Principal": "*"},
        {"Condition": {"StringEquals": {f"{ADDRESS}:sub": "someone"}}},
        {"Condition": {"StringEquals": {f"{ADDRESS}:aud": "someone"}}},
        {"Condition": {"StringLike": {f"{ADDRESS}:sub": "run"}}},
        {"Condition": {"StringEquals": {f"{HOST}:sub": SUBJECT}}},
        {"Condition": {"StringEquals": {f"https://{ADDRESS}:sub": SUBJECT}}},
    ],
    ids=str,
)
def test_a_role_that_does_not_trust_the_token_is_not_assumed(world: World, changed: dict[str, Any]) -> None:
    world.trusts(**changed)
    assert code(world.assume) == "AccessDenied"


@pytest.mark.parametrize(
    "changed",
    [
        {"DurationSeconds": 899},
        {"DurationSeconds": 43_201},
        {"DurationSeconds": 3_601},
        {"RoleSessionName": "a"},
        {"RoleSessionName": "a b"},
        {"RoleSessionName": "a" * 65},
        {"RoleSessionName": None},
        {"WebIdentityToken": None},
    ],
    ids=str,
)
def test_the_limits_of_the_request_hold(world: World, changed: dict[str, Any]) -> None:
    assert code(lambda: world.assume(**changed)) == "ValidationError"


@pytest.mark.parametrize("played", ["IDPRejectedClaim", "IDPCommunicationError", "RegionDisabledException"])
def test_trouble_of_sts_can_be_played(world: World, played: str) -> None:
    world.aws.web_identity.refusals["AssumeRoleWithWebIdentity"] = played
    assert code(world.assume) == played


CALLS: dict[str, tuple[str, Callable[[Client], object], str, str]] = {
    "secretsmanager": (
        "secretsmanager:ListSecrets",
        lambda client: client.list_secrets(),
        "ExpiredTokenException",
        "UnrecognizedClientException",
    ),
    "kms": (
        "kms:ListKeys",
        lambda client: client.list_keys(),
        "ExpiredTokenException",
        "UnrecognizedClientException",
    ),
    "lambda": (
        "lambda:InvokeFunction",
        lambda client: client.invoke(FunctionName="none"),
        "ExpiredTokenException",
        "UnrecognizedClientException",
    ),
    "sts": ("sts:None", lambda client: client.get_caller_identity(), "ExpiredToken", "InvalidClientTokenId"),
    "iam": ("iam:ListRoles", lambda client: client.list_roles(), "ExpiredToken", "InvalidClientTokenId"),
    "s3": (
        "s3:ListBucket",
        lambda client: client.list_objects_v2(Bucket="bucket"),
        "ExpiredToken",
        "InvalidToken",
    ),
}
"""Of each protocol: what the role may, a call of it, and the names of its errors."""


@pytest.mark.parametrize("service", CALLS)
def test_a_session_counts_with_its_token_and_until_it_expires(
    world: World, clock: Clock, service: str
) -> None:
    action, call, expired, invalid = CALLS[service]
    world.may(action)
    world.aws.client("s3").create_bucket(
        Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": world.aws.region}
    )
    own = world.client(service)
    if service == "lambda":
        assert code(lambda: call(own)) == "ResourceNotFoundException"
    else:
        call(own)
    assert code(lambda: call(world.client(service, aws_session_token="other"))) == invalid
    assert code(lambda: call(world.client(service, aws_session_token=None))) == invalid
    unknown = "InvalidAccessKeyId" if service == "s3" else invalid
    assert code(lambda: call(world.client(service, aws_access_key_id="ASIAMADEUP"))) == unknown
    clock.now += 899.9
    assert service == "lambda" or call(own)
    clock.now += 0.2
    assert code(lambda: call(own)) == expired


def test_a_session_has_the_permissions_of_its_role_and_no_others(world: World) -> None:
    own = world.client("secretsmanager")
    assert code(own.list_secrets) == "AccessDeniedException"
    world.may("secretsmanager:ListSecrets")
    assert own.list_secrets()["SecretList"] == []


def test_sessions_are_revoked_and_new_ones_are_not(world: World) -> None:
    world.may("secretsmanager:ListSecrets")
    old = world.client("secretsmanager")
    old.list_secrets()
    world.aws.guard.revoke(ROLE)
    assert code(old.list_secrets) == "AccessDeniedException"
    assert world.client("secretsmanager").list_secrets()["SecretList"] == []
