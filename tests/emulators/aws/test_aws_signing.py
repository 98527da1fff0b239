"""KMS's keys for signatures: what they sign is verified with their public key, outside KMS."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.executions import Client

PKCS1 = "RSASSA_PKCS1_V1_5_SHA_256"
MESSAGE = b"header.claims"
DIGEST = hashlib.sha256(MESSAGE).digest()
KEY = "AKIASIGNER"


@pytest.fixture(name="kms")
def _kms(aws: AwsSandbox) -> Client:
    return aws.client("kms")


@pytest.fixture(name="key")
def _key(kms: Client) -> str:
    made = kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]
    kms.create_alias(AliasName="alias/client", TargetKeyId=made["KeyId"])
    return str(made["KeyId"])


def code(call: Callable[[], object]) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


def sign(kms: Client, **changed: Any) -> bytes:  # noqa: ANN401 - whatever the request may have
    asked = {
        "KeyId": "alias/client",
        "Message": DIGEST,
        "MessageType": "DIGEST",
        "SigningAlgorithm": PKCS1,
        **changed,
    }
    signature: bytes = kms.sign(**asked)["Signature"]
    return signature


def public_key(kms: Client, key: str) -> rsa.RSAPublicKey:
    public = load_der_public_key(kms.get_public_key(KeyId=key)["PublicKey"])
    assert isinstance(public, rsa.RSAPublicKey)
    return public


def test_a_digest_is_signed_as_it_is(kms: Client, key: str) -> None:
    public, signature = public_key(kms, key), sign(kms)
    public.verify(signature, MESSAGE, padding.PKCS1v15(), hashes.SHA256())
    public.verify(signature, DIGEST, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(signature, DIGEST, padding.PKCS1v15(), hashes.SHA256())


def test_a_public_key_is_told_with_what_it_is_for(kms: Client, key: str) -> None:
    told = kms.get_public_key(KeyId="alias/client")
    assert told["KeyId"] == kms.describe_key(KeyId=key)["KeyMetadata"]["Arn"]
    assert (told["KeySpec"], told["KeyUsage"]) == ("RSA_2048", "SIGN_VERIFY")
    assert PKCS1 in told["SigningAlgorithms"]
    symmetric = kms.create_key()["KeyMetadata"]["KeyId"]
    assert code(lambda: kms.get_public_key(KeyId=symmetric)) == "UnsupportedOperationException"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"Message": DIGEST[:-1]}, "ValidationException"),
        ({"Message": MESSAGE}, "ValidationException"),
        ({"Message": b"x" * 4097, "MessageType": "RAW"}, "ValidationException"),
        ({"MessageType": "EXTERNAL_MU"}, "ValidationException"),
        ({"SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_512"}, "ValidationException"),
        ({"SigningAlgorithm": "ECDSA_SHA_256"}, "InvalidKeyUsageException"),
        ({"KeyId": "alias/none"}, "NotFoundException"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("key")
def test_what_the_api_reference_excludes_is_refused(
    kms: Client, changed: dict[str, Any], expected: str
) -> None:
    assert code(lambda: sign(kms, **changed)) == expected


def test_a_key_for_something_else_does_not_sign(kms: Client) -> None:
    key = kms.create_key(KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]["KeyId"]
    assert code(lambda: sign(kms, KeyId=key)) == "InvalidKeyUsageException"
    assert code(lambda: kms.create_key(KeySpec="RSA_2048")) == "ValidationException"


def test_a_key_that_is_disabled_or_will_be_deleted_is_not_used(kms: Client, key: str) -> None:
    mac = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]["KeyId"]
    calls: list[Callable[[], object]] = [
        lambda: sign(kms),
        lambda: kms.get_public_key(KeyId=key),
        lambda: kms.generate_mac(KeyId=mac, Message=b"m", MacAlgorithm="HMAC_SHA_256"),
    ]
    for one in (key, mac):
        kms.disable_key(KeyId=one)
    assert [code(call) for call in calls] == ["DisabledException"] * 3
    for one in (key, mac):
        kms.enable_key(KeyId=one)
    assert all(call() for call in calls)
    for one in (key, mac):
        kms.schedule_key_deletion(KeyId=one, PendingWindowInDays=7)
    assert [code(call) for call in calls] == ["KMSInvalidStateException"] * 3


@pytest.mark.parametrize(
    "changed",
    [
        {"Message": MESSAGE, "MessageType": "RAW"},
        {"SigningAlgorithm": "RSASSA_PSS_SHA_256"},
        {"KeyId": None},
    ],
    ids=str,
)
def test_a_policy_may_name_algorithm_kind_of_message_and_alias(
    aws: AwsSandbox, kms: Client, key: str, changed: dict[str, Any]
) -> None:
    iam = aws.client("iam")
    iam.create_role(RoleName="signer", AssumeRolePolicyDocument="{}")
    allow = {
        "Effect": "Allow",
        "Action": "kms:Sign",
        "Resource": kms.describe_key(KeyId=key)["KeyMetadata"]["Arn"],
        "Condition": {
            "StringEquals": {
                "kms:SigningAlgorithm": PKCS1,
                "kms:MessageType": "DIGEST",
                "kms:RequestAlias": "alias/client",
            }
        },
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    iam.put_role_policy(RoleName="signer", PolicyName="own", PolicyDocument=policy)
    aws.guard.know(KEY, "signer")
    own = aws.client_as(KEY, "kms")
    asked = {name: key if value is None else value for name, value in changed.items()}
    assert sign(own)
    assert code(lambda: sign(own, **asked)) == "AccessDeniedException"
    assert code(lambda: sign(own, KeyId="alias/none")) == "NotFoundException"
