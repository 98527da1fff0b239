"""STS as a reader of tokens: which are believed, whom a role trusts, and what a session may until it ends."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from botocore import UNSIGNED

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.executions import Client
from tests.emulators.aws.conftest import any_client, policy, refused
from tests.emulators.aws.issuer import ADDRESS, AUDIENCE, HOST, SUBJECT, Issuer, rsa_key
from tests.support.aws import Clock

ROLE = "lockstep-oci-runner"
NOT_BELIEVED, NOT_TRUSTED = "InvalidIdentityToken", "AccessDenied"


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
        self.role_arn = iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=policy())["Role"]["Arn"]
        self.trusts()

    def trusts(self, **changed: object) -> None:
        """Change the trust policy."""
        statement = {
            "Effect": "Allow",
            "Principal": {"Federated": self.provider_arn},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": {f"{ADDRESS}:aud": AUDIENCE, f"{ADDRESS}:sub": SUBJECT}},
            **changed,
        }
        trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.aws.client("iam").update_assume_role_policy(RoleName=ROLE, PolicyDocument=trust)

    def assume(self, token: str | None = None, **changed: Any) -> Any:  # noqa: ANN401 - boto3's reply
        """Assume the role with a token; by default a good one."""
        sts = any_client(self.aws, "sts", key="", signature_version=UNSIGNED)
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
        identity: Any = {"key": given["AccessKeyId"], "token": given["SessionToken"], **changed}
        return any_client(self.aws, service, **identity)

    def may(self, action: str) -> None:
        """Give the role a permission."""
        self.aws.client("iam").put_role_policy(
            RoleName=ROLE, PolicyName="own", PolicyDocument=policy({"Action": action})
        )


@pytest.fixture(name="world")
def _world(aws: AwsSandbox, clock: Clock) -> World:
    return World(aws, Issuer(aws, clock.now))


def test_a_good_token_gives_a_session(world: World, clock: Clock) -> None:
    # Keys of other kinds may stand beside the issuer's.
    world.issuer.keys.insert(0, {"kty": "EC", "kid": world.issuer.kid})
    given = world.assume()
    arn = f"arn:aws:sts::{world.aws.account_id}:assumed-role/{ROLE}/lockstep-oci"
    assert given["AssumedRoleUser"]["Arn"] == arn
    assert given["Credentials"]["Expiration"].timestamp() == int(clock.now) + 900
    assert world.client("sts").get_caller_identity()["Arn"] == arn


TOKENS: dict[str, tuple[dict[str, Any], str]] = {
    "it has expired": ({"exp": 1}, "ExpiredTokenException"),
    "an issuer without a provider": ({"iss": "https://other.example.com"}, NOT_BELIEVED),
    "the issuer with a slash": ({"iss": f"https://{ADDRESS}/"}, NOT_BELIEVED),
    "no issuer": ({"iss": None}, NOT_BELIEVED),
    "another audience": ({"aud": "other"}, NOT_BELIEVED),
    "no audience": ({"aud": None}, NOT_BELIEVED),
    "two audiences": ({"aud": [AUDIENCE, "other"]}, NOT_BELIEVED),
    "for another party": ({"azp": "other"}, NOT_BELIEVED),
    "no subject": ({"sub": None}, NOT_BELIEVED),
    "another subject": ({"sub": "other"}, NOT_TRUSTED),
    "a key that is not published": ({"kid": "other"}, NOT_BELIEVED),
}
"""What else its reader of tokens refuses, which is that of OCI's identity domain, is in the domain's tests."""


@pytest.mark.parametrize(("changed", "expected"), TOKENS.values(), ids=TOKENS)
def test_a_token_that_is_not_believed(world: World, changed: dict[str, Any], expected: str) -> None:
    assert refused(world.assume, token=world.issuer.token(**changed)) == expected


def test_a_token_counts_from_its_beginning_to_its_end_by_the_clock_of_sts(world: World, clock: Clock) -> None:
    start, token = int(clock.now), world.issuer.token()
    for now, ahead, expected in (
        (start + 299.5, 0, None),
        (start + 300, 0, "ExpiredTokenException"),
        (start - 0.5, 0, NOT_BELIEVED),
        (start, 300, "ExpiredTokenException"),
    ):
        clock.now, world.aws.web_identity.clock_ahead_seconds = now, ahead
        if expected:
            assert refused(world.assume, token=token) == expected
        else:
            assert world.assume(token)["Credentials"]


def test_a_signature_by_another_key_is_wrong(world: World) -> None:
    world.issuer.key = rsa_key(2)
    assert refused(world.assume) == NOT_BELIEVED


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": "https://other.example.com"},
        {"issuer": None},
        {"jwks_uri": f"http://{ADDRESS}/jwks.json"},
        {"jwks_uri": "https://unknown.example.com/jwks.json"},
        {"jwks_uri": None},
    ],
    ids=str,
)
def test_a_discovery_document_must_be_the_issuers(world: World, changed: dict[str, Any]) -> None:
    world.issuer.discovery |= changed
    assert refused(world.assume) in {"IDPCommunicationError", NOT_BELIEVED}


@pytest.mark.parametrize(
    "changed",
    [
        {"Effect": "Deny"},
        {"Action": "sts:AssumeRole"},
        {"Principal": {"Federated": f"arn:aws:iam::123456789012:oidc-provider/{HOST}"}},
        {"Principal": "*"},
        {"Condition": {"StringEquals": {f"{ADDRESS}:sub": "someone"}}},
        {"Condition": {"StringLike": {f"{ADDRESS}:sub": "run"}}},
        {"Condition": {"StringEquals": {f"{HOST}:sub": SUBJECT}}},
    ],
    ids=str,
)
def test_a_role_that_does_not_trust_the_token_is_not_assumed(world: World, changed: dict[str, Any]) -> None:
    world.trusts(**changed)
    assert refused(world.assume) == NOT_TRUSTED


@pytest.mark.parametrize(
    "changed",
    [
        *({"DurationSeconds": seconds} for seconds in (899, 3_601, 43_201)),
        *({"RoleSessionName": name} for name in ("a", "a b", "a" * 65, None)),
        {"WebIdentityToken": None},
    ],
    ids=str,
)
def test_the_limits_of_the_request_hold(world: World, changed: dict[str, Any]) -> None:
    assert refused(world.assume, **changed) == "ValidationError"


JSON_ERRORS = ("ExpiredTokenException", "UnrecognizedClientException", "UnrecognizedClientException")
QUERY_ERRORS = ("ExpiredToken", "InvalidClientTokenId", "InvalidClientTokenId")
CALLS: dict[str, tuple[str, Callable[[Client], object], tuple[str, str, str]]] = {
    "secretsmanager": ("secretsmanager:ListSecrets", lambda client: client.list_secrets(), JSON_ERRORS),
    "iam": ("iam:ListRoles", lambda client: client.list_roles(), QUERY_ERRORS),
    "s3": (
        "s3:ListAllMyBuckets",
        lambda client: client.list_buckets(),
        ("ExpiredToken", "InvalidToken", "InvalidAccessKeyId"),
    ),
}
"""Of each protocol: what the role may, a call of it, and its errors: expired, another token, an unknown key."""


@pytest.mark.parametrize("service", CALLS)
def test_a_session_counts_with_its_token_until_its_end(world: World, clock: Clock, service: str) -> None:
    action, call, (expired, invalid, unknown) = CALLS[service]
    own = world.client(service)
    assert refused(call, client=own).startswith("AccessDenied")
    world.may("s3:*" if service == "s3" else action)
    assert service == "s3" or call(own)
    assert refused(call, client=world.client(service, token="other")) == invalid
    assert refused(call, client=world.client(service, token=None)) == invalid
    assert refused(call, client=world.client(service, key="ASIAMADEUP")) == unknown
    clock.now += 900.1
    assert refused(call, client=own) == expired
