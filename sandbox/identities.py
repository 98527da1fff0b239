"""Who the runners are in both clouds, made here as the stack and Terraform make it in an account and a tenancy.

Each is a workload of its own cloud, for which the other one gives sessions. Where a way says so, there is a key
instead, which lives long.
"""

import json
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from typing import Any

import oci as sdk  # type: ignore[import-untyped]  # the SDK ships no types
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from lockstep.aws.clients import AwsKeys
from lockstep.protocol.federation import (
    CONFIGURATION,
    KEYS,
    IssuedSession,
    Sessions,
    configuration,
    key_set,
    public_key,
)
from lockstep.protocol.model import SecretStr
from lockstep.protocol.names import digest_bucket_name
from lockstep.runtime.identity import Identity, identity_of
from lockstep.runtime.system import SystemClock
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.identity import new_private_key, pem_of
from sandbox.emulators.oci.keys import Key
from sandbox.oci_resources import create_audit_bucket, create_issuer_bucket
from sandbox.plans import AUDIT_BUCKET, AWS_KEY_SECRET, OCI_KEY_SECRET, TO_AWS, TO_OCI, Document
from sandbox.steps import FUNCTIONS

RUNNERS_MAY = (
    *("SECRET_INSPECT", "SECRET_READ", "SECRET_UPDATE", "SECRET_VERSION_INSPECT"),
    *("SECRET_VERSION_DELETE", "SECRET_BUNDLE_READ"),
)
"""All that the policies give who changes secrets in OCI, in the compartment of the rings."""
READERS_MAY = ("SECRET_INSPECT", "SECRET_READ", "SECRET_VERSION_INSPECT", "SECRET_BUNDLE_READ")
"""All that they give there who only reads them."""
FUNCTION_MAY = (
    *("SECRET_INSPECT", "SECRET_BUNDLE_READ", "OBJECT_CREATE", "OBJECT_INSPECT"),
    *("FN_FUNCTION_READ", "FN_INVOCATION"),
)
"""All that its policy gives the OCI function in Lockstep's own compartment, besides KEY_SIGN on the issuer's key."""
DIGEST_MAY = (
    *("SECRET_INSPECT", "SECRET_BUNDLE_READ", "KEY_READ", "KEY_SIGN"),
    *("OBJECT_CREATE", "OBJECT_INSPECT", "OBJECT_READ"),
)
"""All that its policy gives there the OCI function that makes digests."""
DIGEST_READER_MAY = ("OBJECT_INSPECT", "OBJECT_READ")
"""All that its policy gives who reads the digests of OCI for AWS, on their bucket."""

WRITERS = ("generate", "update_secrets")
READER = "apply_db"
DIGEST = "digest"
"""The function in AWS that makes digests."""
OCI_FUNCTION, OCI_DIGEST = "lockstep-function", "lockstep-digest"
"""The principals in OCI of the OCI function, and of that which makes digests."""
ISSUER_BUCKET = "lockstep-issuer"
CLIENT_SECRET = "lockstep/oci-client-secret"
READER_KEY_SECRET = "lockstep/oci-reader-key"
_READER, _WRITER = "lockstep-aws-reader", "lockstep-aws"
BY_KEY = {name: TO_OCI[name] for name in ("kms_key", "certificate")}
"""The proof of the domain's application, in the plan."""
_AUDIENCE, _RESOURCE = "lockstep", "lockstep"
_OF_STS, _SUBJECT = "sts.amazonaws.com", "lockstep-oci-runner"
_DATA = (
    *("dynamodb:*", "s3:*", "secretsmanager:*", "events:PutEvents"),
    *("kms:GenerateMac", "kms:VerifyMac", "kms:Decrypt", "kms:GenerateDataKey"),
)
_DIGESTS = ("s3:*", "kms:VerifyMac", "kms:Sign", "kms:GetPublicKey", "secretsmanager:GetSecretValue")
"""Of the role that makes digests."""
_STEPS_AND_DIGEST = (*FUNCTIONS.values(), DIGEST)


class Way(StrEnum):
    """How the runners prove themselves in the other cloud; all but ASSERTION have something that lives long."""

    SESSIONS = "sessions"
    USER_SESSIONS = "sessions of service users"
    ASSERTION = "sessions, and an assertion in the client secret's place"
    KEY = "a key"
    TWO_KEYS = "a writer's and a reader's key"


@dataclass(frozen=True, kw_only=True)
class Identities:
    """Who the runners are.

    Attributes:
        section: `runners` of the plan.
        of_functions: Those of the functions in AWS, by name, for a process that runs all of them.
        function_key: The SDK config that stands for the resource principal of the OCI function.
        digest_key: Likewise of that which makes digests.
        in_aws, in_oci: The texts of the secrets in that cloud, by their names in the plan.
        confidential: Texts that must not be shown.
    """

    section: Document
    of_functions: Mapping[str, Identity]
    function_key: Mapping[str, str] = field(repr=False)
    digest_key: Mapping[str, str] = field(repr=False)
    in_aws: Mapping[str, str] = field(default_factory=dict, repr=False)
    in_oci: Mapping[str, str] = field(default_factory=dict, repr=False)
    confidential: Sequence[str] = field(default=(), repr=False)


def make_identities(aws: AwsSandbox, oci: OciSandbox, way: Way) -> Identities:
    """Make what a way needs in both clouds.

    Args:
        aws: Runs already, and reads names where `oci` serves them.
        oci: Runs already.
        way: How the runners prove themselves.
    """
    of_function, of_digest = function_key(oci), digest_key(oci)
    if way in {Way.KEY, Way.TWO_KEYS}:
        return _with_keys(oci, of_function, of_digest, has_reader=way is Way.TWO_KEYS)
    keys, arns = _functions(aws)
    proof, texts = _application(aws, oci, has_secret=way is not Way.ASSERTION)
    issuer = make_issuer(oci)
    issuer["role_arn"] = trust_issuer(aws, issuer["issuer"])
    as_users = way is Way.USER_SESSIONS
    section = federated(oci, issuer, proof=proof)
    if as_users:
        section["aws"]["federation"]["token"] = "upst"
    users = {name: _WRITER if name in WRITERS else _READER for name in arns}
    let_in(aws, oci, service_users={f"sub eq {arn}": users[name] for name, arn in arns.items() if as_users})
    grant(oci, users if as_users else arns)
    return Identities(
        section=section,
        of_functions={name: _as(name, keys[name]) for name in _STEPS_AND_DIGEST},
        function_key=of_function,
        digest_key=of_digest,
        in_aws=texts,
        confidential=[_shown_of(of_function), _shown_of(of_digest), *texts.values()],
    )


def function_key(oci: OciSandbox) -> Mapping[str, str]:
    """Give the OCI function its rights in OCI; the SDK config that stands for its resource principal."""
    others = [permission for permission in FUNCTION_MAY if not permission.startswith("OBJECT")]
    oci.identity.permit(OCI_FUNCTION, *others, compartment=oci.own_compartment_id)
    oci.identity.permit(OCI_FUNCTION, *RUNNERS_MAY, compartment=oci.compartment_id)
    return oci.identity.new_api_key(OCI_FUNCTION, _key(OCI_FUNCTION))


def digest_key(oci: OciSandbox) -> Mapping[str, str]:
    """The same for the function that makes OCI's digests; KEY_SIGN and KEY_READ come with the key."""
    others = [permission for permission in DIGEST_MAY if permission.startswith("SECRET")]
    oci.identity.permit(OCI_DIGEST, *others, compartment=oci.own_compartment_id)
    return oci.identity.new_api_key(OCI_DIGEST, _key(OCI_DIGEST))


def federated(oci: OciSandbox, issuer: Document, *, proof: Document = BY_KEY) -> Document:
    """`runners` of a plan with sessions.

    Args:
        oci: The tenancy.
        issuer: What `make_issuer` gives, and the role.
        proof: How the domain's application proves itself.
    """
    to_oci = {"domain_url": oci.domain.url, "client_id": TO_OCI["client_id"], **proof}
    return {"aws": {"federation": to_oci}, "oci": {"federation": issuer}}


def grant(oci: OciSandbox, principals: Mapping[str, str]) -> None:
    """Give each function of AWS what its step needs in OCI.

    Args:
        oci: The tenancy.
        principals: By the function's name, such as `apply_db`: a role's ARN or a user's name.
    """
    for function in (*WRITERS, READER):
        may = READERS_MAY if function == READER else RUNNERS_MAY
        oci.identity.permit(principals[function], *may, compartment=oci.compartment_id)
    bucket = digest_bucket_name(AUDIT_BUCKET)
    oci.identity.permit(
        principals[DIGEST], *DIGEST_READER_MAY, resource=bucket, compartment=oci.own_compartment_id
    )


def make_log(
    oci: OciSandbox, bucket: str = AUDIT_BUCKET, *, tier: str = "Standard", retention_days: int | None = None
) -> None:
    """Make the buckets of OCI's audit log and its digests, each of which one function alone writes.

    Args:
        oci: The tenancy.
        bucket: Of the log.
        tier: Of its entries.
        retention_days: As `create_audit_bucket`.
    """
    digests = digest_bucket_name(bucket)
    create_audit_bucket(oci, bucket, tier=tier, retention_days=retention_days)
    create_audit_bucket(oci, digests, tier="Standard", retention_days=retention_days)
    for principal, place, permissions in (
        (OCI_FUNCTION, bucket, FUNCTION_MAY),
        (OCI_DIGEST, digests, DIGEST_MAY),
        (OCI_DIGEST, bucket, ["OBJECT_INSPECT"]),
    ):
        of_objects = [permission for permission in permissions if permission.startswith("OBJECT")]
        oci.identity.permit(principal, *of_objects, resource=place, compartment=oci.own_compartment_id)


def make_digest_key(oci: OciSandbox) -> Key:
    """Make the key that signs OCI's digests, with which one function alone signs."""
    key = oci.keys.new_key(oci.own_compartment_id, oci.vault_id, name=OCI_DIGEST, private_key=_key("digests"))
    for permission in ("KEY_READ", "KEY_SIGN"):
        oci.identity.permit(OCI_DIGEST, permission, resource=key.ocid, compartment=oci.own_compartment_id)
    return key


# ---- keys


def _with_keys(
    oci: OciSandbox, of_function: Mapping[str, str], of_digest: Mapping[str, str], *, has_reader: bool
) -> Identities:
    readers = [name for name in _STEPS_AND_DIGEST if name not in WRITERS] if has_reader else []
    grant(oci, {name: _READER if name in readers else _WRITER for name in _STEPS_AND_DIGEST})
    users = {OCI_KEY_SECRET: _WRITER, **({READER_KEY_SECRET: _READER} if has_reader else {})}
    keys = {secret: oci.identity.new_api_key(user, _key(user)) for secret, user in users.items()}
    access_key = {"access_key_id": "AKIALOCKSTEP", "secret_access_key": secrets.token_urlsafe(30)}
    section = {"oci_key_secret": OCI_KEY_SECRET}
    if has_reader:
        section["oci_reader_key_secret"] = READER_KEY_SECRET
    return Identities(
        section={"aws": section, "oci": {"aws_key_secret": AWS_KEY_SECRET}},
        of_functions={name: identity_of(f"aws/{name}") for name in _STEPS_AND_DIGEST},
        function_key=of_function,
        digest_key=of_digest,
        in_aws={secret: api_key_text(key) for secret, key in keys.items()},
        in_oci={AWS_KEY_SECRET: json.dumps(access_key)},
        confidential=[
            access_key["secret_access_key"],
            *map(_shown_of, [of_function, of_digest, *keys.values()]),
        ],
    )


def api_key_text(config: Mapping[str, str]) -> str:
    """An SDK config as the secret of an API key."""
    fields = {name: config[name] for name in ("tenancy", "user", "fingerprint", "region")}
    return json.dumps({**fields, "private_key": config["key_content"]})


def _shown_of(config: Mapping[str, str]) -> str:
    """A line of a private key that would be seen wherever the key is."""
    return config["key_content"].splitlines()[5]


# Making one takes as long as a hundred calls, and each serves the sandboxes of a whole process.
@cache
def _key(_name: str) -> rsa.RSAPrivateKey:
    return new_private_key()


# ---- AWS -> OCI


def _functions(aws: AwsSandbox) -> tuple[Mapping[str, AwsKeys], Mapping[str, str]]:
    """A role for each function in AWS, and what signs as it; their ARNs."""
    keys: dict[str, AwsKeys] = {}
    arns: dict[str, str] = {}
    for name in _STEPS_AND_DIGEST:
        role = f"lockstep-{name.replace('_', '-')}"
        arns[name] = make_role(
            aws,
            role,
            trust={"Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
            may=[{"Action": list(_DIGESTS if name == DIGEST else _DATA)}, _TOKENS, _SIGNATURES],
        )
        keys[name] = AwsKeys(
            access_key_id=f"AKIA{name.upper().replace('_', '')}", secret_access_key=SecretStr("sandbox")
        )
        aws.guard.know(
            keys[name].access_key_id,
            role,
            function_arn=f"arn:aws:lambda:{aws.region}:{aws.account_id}:function:{name}",
        )
    return keys, arns


_TOKENS: Document = {
    "Action": "sts:GetWebIdentityToken",
    "Condition": {
        "ForAllValues:StringEquals": {"sts:IdentityTokenAudience": [_AUDIENCE]},
        "StringEquals": {"sts:SigningAlgorithm": "RS256"},
        "NumericLessThanEquals": {"sts:DurationSeconds": "300"},
    },
}
_SIGNATURES: Document = {
    "Action": "kms:Sign",
    "Condition": {
        "StringEquals": {
            "kms:SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256",
            "kms:RequestAlias": TO_OCI["kms_key"],
        }
    },
}


def make_role(aws: AwsSandbox, name: str, *, trust: Document, may: Sequence[Document]) -> str:
    """A role; its ARN.

    Args:
        aws: The account.
        name: The role's.
        trust: The statement that says who gets it.
        may: The statements of its policy; on all resources where they name none.
    """
    iam = aws.client("iam")
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=_policy(trust))
    statements = [{"Resource": "*", **statement} for statement in may]
    iam.put_role_policy(RoleName=name, PolicyName="lockstep", PolicyDocument=_policy(*statements))
    return str(role["Role"]["Arn"])


def _policy(*statements: Document) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **s} for s in statements]})


def _application(aws: AwsSandbox, oci: OciSandbox, *, has_secret: bool) -> tuple[Document, Mapping[str, str]]:
    """The confidential application of the domain: its proof in the plan, and the secrets in AWS that it needs."""
    if has_secret:
        text = secrets.token_urlsafe(30)
        oci.domain.new_app(TO_OCI["client_id"], secret=text)
        return {"client_secret": CLIENT_SECRET}, {CLIENT_SECRET: text}
    kms = aws.client("kms")
    key = kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName=TO_OCI["kms_key"], TargetKeyId=key)
    know_application(aws, oci, key_id=key)
    return BY_KEY, {}


def know_application(aws: AwsSandbox, oci: OciSandbox, *, key_id: str) -> None:
    """Give the domain's application the certificate of a key of KMS, as an administrator of the domain does."""
    public = load_der_public_key(aws.client("kms").get_public_key(KeyId=key_id)["PublicKey"])
    if not isinstance(public, rsa.RSAPublicKey):
        raise TypeError("not an RSA key")
    oci.domain.new_app(TO_OCI["client_id"], certificates={TO_OCI["certificate"]: public})


def let_in(aws: AwsSandbox, oci: OciSandbox, *, service_users: Mapping[str, str] | None = None) -> None:
    """Let the domain give sessions for tokens that the account makes.

    Args:
        aws: The account.
        oci: The tenancy.
        service_users: Whom some of their bearers become, by the rules for them; then there are no other sessions.
    """
    aws.web_identity.enable()
    oci.domain.new_trust(
        issuer=aws.web_identity.issuer,
        clients={TO_OCI["client_id"]},
        audience=_AUDIENCE,
        impersonating_resource=None if service_users else _RESOURCE,
        service_users=service_users,
    )


def endless(keys: AwsKeys) -> Sessions[AwsKeys]:
    """An identity in AWS whose keys stay the same."""
    return Sessions(lambda: IssuedSession(session=keys, seconds=math.inf), SystemClock())


def _as(function: str, keys: AwsKeys) -> Identity:
    """A function whose environment would give these keys."""
    sessions = endless(keys)
    return replace(identity_of(f"aws/{function}"), aws=lambda _reach: sessions)


# ---- OCI -> AWS


def make_issuer(oci: OciSandbox) -> Document:
    """The issuer of the OCI function's tokens: `runners.oci.federation` of the plan without the role."""
    key = oci.keys.new_key(
        oci.own_compartment_id, oci.vault_id, name=ISSUER_BUCKET, private_key=_key(ISSUER_BUCKET)
    )
    for principal in (OCI_FUNCTION, OCI_DIGEST):
        oci.identity.permit(principal, "KEY_SIGN", resource=key.ocid, compartment=oci.own_compartment_id)
    issuer = create_issuer_bucket(oci, ISSUER_BUCKET)
    public = public_key(key.current.ocid, pem_of(key.current.public_key))
    storage: Any = oci.client(sdk.object_storage.ObjectStorageClient)
    for name, document in {CONFIGURATION: configuration(issuer), KEYS: key_set([public])}.items():
        storage.put_object(oci.namespace, ISSUER_BUCKET, name, document)
    return {"issuer": issuer, "key": {**TO_AWS["key"], "id": key.ocid, "version": key.current.ocid}}


def trust_issuer(aws: AwsSandbox, issuer: str) -> str:
    """Let tokens of an issuer have a role, which may do what an access key of the runner may; its ARN."""
    provider = aws.client("iam").create_open_id_connect_provider(Url=issuer, ClientIDList=[_OF_STS])
    name = issuer.removeprefix("https://")
    trust = {
        "Principal": {"Federated": provider["OpenIDConnectProviderArn"]},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{name}:aud": _OF_STS, f"{name}:sub": _SUBJECT}},
    }
    return make_role(aws, _SUBJECT, trust=trust, may=[{"Action": list(_DATA)}])
