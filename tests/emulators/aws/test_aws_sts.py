"""STS as an issuer and as a reader of tokens: who gets which, which are believed, and what a session may."""

import json
from typing import Any

import boto3
import jwt
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.executions import Client
from sandbox.emulators.aws.guard import Session
from sandbox.emulators.oci.wire import Reply
from tests.emulators.aws.conftest import policy, refused
from tests.support.aws import Clock

KEY = "ASIALOCKSTEP"
GOOD: dict[str, Any] = {"Audience": ["lockstep"], "SigningAlgorithm": "RS256", "DurationSeconds": 300}


def client_of(aws: AwsSandbox, service: str, key: str, token: str | None = None, **config: Any) -> Client:  # noqa: ANN401 - of botocore
    """A client that checks nothing itself and asks once."""
    make: Any = boto3.client
    own = Config(parameter_validation=False, retries={"total_max_attempts": 1}, **config)
    identity = {"aws_access_key_id": key, "aws_secret_access_key": "x", "aws_session_token": token}
    return make(service, endpoint_url=aws.url, region_name=aws.region, config=own, **identity)


CONDITIONS = {
    "ForAllValues:StringEquals": {"sts:IdentityTokenAudience": "lockstep"},
    "StringEquals": {"sts:SigningAlgorithm": "RS256"},
    "NumericLessThanEquals": {"sts:DurationSeconds": "300"},
    "ArnEquals": {"lambda:SourceFunctionArn": "arn:aws:lambda:eu-central-1:1:function:step"},
}


def test_the_reference_the_policies_of_the_role_and_the_end_of_its_session_decide(
    aws: AwsSandbox, clock: Clock
) -> None:
    aws.web_identity.enable()
    iam = aws.client("iam")
    iam.create_role(RoleName="runner", AssumeRolePolicyDocument="{}")

    def answer(
        function: str | None = "step", session: Session | None = None, **changed: object
    ) -> str | None:
        """The code of a refusal; None: a token."""
        arn = f"arn:aws:lambda:eu-central-1:1:function:{function}" if function else None
        aws.guard.know(KEY, "runner", function_arn=arn, session=session)
        asked = {name: value for name, value in {**GOOD, **changed}.items() if value is not None}
        ask = client_of(aws, "sts", KEY, session.token if session else None).get_web_identity_token
        try:
            return None if ask(**asked)["WebIdentityToken"] else ""
        except ClientError as error:
            return str(error.response["Error"]["Code"])

    def may(**statement: object) -> None:
        document = policy({"Action": "sts:GetWebIdentityToken", **statement})
        iam.put_role_policy(RoleName="runner", PolicyName="own", PolicyDocument=document)

    may(Condition=CONDITIONS)
    denied: list[dict[str, Any]] = [
        {"function": "other"},
        {"function": None},
        {"Audience": ["lockstep", "other"]},
        {"SigningAlgorithm": "ES384"},
        {"DurationSeconds": 301},
        {"DurationSeconds": None},
    ]
    assert [answer(), *(answer(**changed) for changed in denied)] == [None, *["AccessDenied"] * 6]
    may()
    wrong = ({"Audience": [""]}, {"SigningAlgorithm": "HS256"}, {"DurationSeconds": 3601})
    assert [answer(**changed) for changed in wrong] == ["ValidationError"] * 3
    session = Session("the-token", clock.now + 300)
    assert answer(session=session) is None
    assert answer(session=session, DurationSeconds=301) == "SessionDurationEscalationException"


# The tokens of another issuer.

HOST = "objectstorage.eu-frankfurt-1.oraclecloud.com"
ADDRESS = f"{HOST}/n/ns/b/issuer/o"
ISSUER, AUDIENCE, SUBJECT = f"https://{ADDRESS}", "sts.amazonaws.com", "runner"
ROLE = "lockstep-oci-runner"
NOT_BELIEVED, NOT_TRUSTED = "InvalidIdentityToken", "AccessDenied"


class World:
    """An issuer, a provider of it in IAM, and a role that trusts its subject."""

    def __init__(self, aws: AwsSandbox, now: float) -> None:
        self.aws, self.now, self.key = aws, int(now), rsa.generate_private_key(65537, 2048)
        own = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        # Keys of other kinds may stand beside the issuer's.
        keys = [{"kty": "EC", "kid": "key-1"}, {**own, "kid": "key-1", "use": "sig", "alg": "RS256"}]
        self.discovery: dict[str, Any] = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks.json"}
        documents = {".well-known/openid-configuration": self.discovery, "jwks.json": {"keys": keys}}
        aws.names.serve(
            HOST, lambda target: Reply(200, body=json.dumps(documents[target.partition("/o/")[2]]).encode())
        )
        iam = aws.client("iam")
        provider = iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=[AUDIENCE])
        self.provider_arn = provider["OpenIDConnectProviderArn"]
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

    def token(self, *, kid: str = "key-1", **changed: object) -> str:
        """A token; None leaves a claim out."""
        times = {"iat": self.now, "nbf": self.now, "exp": self.now + 300}
        good = {"iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, **times, **changed}
        claims = {name: value for name, value in good.items() if value is not None}
        return jwt.encode(claims, self.key, "RS256", {"kid": kid})

    def assume(self, token: str | None = None, **changed: Any) -> Any:  # noqa: ANN401 - boto3's reply
        """Assume the role with a token; by default a good one."""
        sts = client_of(self.aws, "sts", "", signature_version=UNSIGNED)
        given = {"RoleArn": self.role_arn, "RoleSessionName": "lockstep-oci", "DurationSeconds": 900}
        asked = {**given, "WebIdentityToken": token or self.token(), **changed}
        return sts.assume_role_with_web_identity(**{k: v for k, v in asked.items() if v is not None})

    def client(self, service: str, **changed: str | None) -> Client:
        """A client with the credentials of a new session."""
        given = self.assume()["Credentials"]
        identity: Any = {"key": given["AccessKeyId"], "token": given["SessionToken"], **changed}
        return client_of(self.aws, service, **identity)


@pytest.fixture(name="world")
def _world(aws: AwsSandbox, clock: Clock) -> World:
    return World(aws, clock.now)


TOKENS: list[tuple[dict[str, Any], str]] = [
    ({"exp": 1}, "ExpiredTokenException"),
    *(({"iss": iss}, NOT_BELIEVED) for iss in ("https://other.example.com", f"{ISSUER}/")),
    *(({"aud": aud}, NOT_BELIEVED) for aud in ("other", [AUDIENCE, "other"])),
    ({"azp": "other"}, NOT_BELIEVED),
    ({"sub": None}, NOT_BELIEVED),
    ({"sub": "other"}, NOT_TRUSTED),
    ({"kid": "other"}, NOT_BELIEVED),
]
"""What else its reader of tokens refuses, which is that of OCI's identity domain, is in the domain's tests."""


def test_a_token_of_who_is_not_believed_or_trusted_or_beyond_the_limits_is_refused(world: World) -> None:
    found = [refused(world.assume, token=world.token(**changed)) for changed, _ in TOKENS]
    assert found == [error for _, error in TOKENS]
    for seconds in (899, 3_601):
        assert refused(world.assume, DurationSeconds=seconds) == "ValidationError"
    for name in ("a", "a b", "a" * 65, None):
        assert refused(world.assume, RoleSessionName=name) == "ValidationError"
    good = dict(world.discovery)
    unreadable: list[dict[str, Any]] = [
        {"issuer": "https://other.example.com"},
        *(
            {"jwks_uri": uri}
            for uri in (f"http://{ADDRESS}/jwks.json", "https://unknown.example.com/a", None)
        ),
    ]
    for changed in unreadable:
        world.discovery |= {**good, **changed}
        assert refused(world.assume) in {"IDPCommunicationError", NOT_BELIEVED}, changed
    world.discovery |= good
    assert world.assume()
    untrusting: list[dict[str, Any]] = [
        {"Effect": "Deny"},
        {"Action": "sts:AssumeRole"},
        {"Principal": {"Federated": f"arn:aws:iam::123456789012:oidc-provider/{HOST}"}},
        {"Principal": "*"},
        {"Condition": {"StringEquals": {f"{ADDRESS}:sub": "someone"}}},
        {"Condition": {"StringEquals": {f"{HOST}:sub": SUBJECT}}},
    ]
    for changed in untrusting:
        world.trusts(**changed)
        assert refused(world.assume) == NOT_TRUSTED, changed
    world.key = rsa.generate_private_key(65537, 2048)
    assert refused(world.assume) == NOT_BELIEVED


UNKNOWN = "UnrecognizedClientException"
CALLS: list[tuple[str, str, tuple[str, str, str]]] = [
    ("secretsmanager", "list_secrets", ("ExpiredTokenException", UNKNOWN, UNKNOWN)),
    ("iam", "list_roles", ("ExpiredToken", "InvalidClientTokenId", "InvalidClientTokenId")),
    ("s3", "list_buckets", ("ExpiredToken", "InvalidToken", "InvalidAccessKeyId")),
]
"""Of each protocol: a call, and its errors: expired, another token, an unknown key."""


@pytest.mark.parametrize(("service", "call", "errors"), CALLS)
def test_a_session_counts_with_its_token_until_its_end(
    world: World, clock: Clock, service: str, call: str, errors: tuple[str, str, str]
) -> None:
    expired, invalid, unknown = errors
    own = getattr(world.client(service), call)
    assert refused(own).startswith("AccessDenied")
    may = policy({"Action": f"{service}:List*"})
    world.aws.client("iam").put_role_policy(RoleName=ROLE, PolicyName="own", PolicyDocument=may)
    assert service == "s3" or own()
    wrong: list[tuple[dict[str, str | None], str]] = [
        ({"token": "other"}, invalid),
        ({"token": None}, invalid),
        ({"key": "ASIAMADEUP"}, unknown),
    ]
    for changed, error in wrong:
        assert refused(getattr(world.client(service, **changed), call)) == error
    clock.now += 900.1
    assert refused(own) == expired
