"""KMS's keys for signatures and MACs: what the shipped code asks of them, and what they refuse."""

import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.executions import Client
from sandbox.emulators.aws.resources import create_digest_key, create_mac_key
from tests.emulators.aws.conftest import policy, refused

if TYPE_CHECKING:
    from collections.abc import Callable

PKCS1 = "RSASSA_PKCS1_V1_5_SHA_256"
MESSAGE = b"header.claims"
DIGEST = hashlib.sha256(MESSAGE).digest()
KEY = "AKIASIGNER"


@pytest.fixture(name="kms")
def _kms(aws: AwsSandbox) -> Client:
    return aws.client("kms")


@pytest.fixture(name="key")
def _key(kms: Client) -> str:
    key = create_digest_key(kms)
    kms.create_alias(AliasName="alias/client", TargetKeyId=key)
    return key


def sign(kms: Client, **changed: Any) -> bytes:  # noqa: ANN401 - whatever the request may have
    asked = {"KeyId": "alias/client", "Message": DIGEST, "MessageType": "DIGEST", "SigningAlgorithm": PKCS1}
    signature: bytes = kms.sign(**{**asked, **changed})["Signature"]
    return signature


def mac(kms: Client, key: str, *, message: bytes = b"m", algorithm: str = "HMAC_SHA_256") -> bytes:
    made: bytes = kms.generate_mac(KeyId=key, Message=message, MacAlgorithm=algorithm)["Mac"]
    return made


@pytest.mark.usefixtures("key")
def test_what_the_reference_excludes_is_not_signed(kms: Client) -> None:
    other = kms.create_key(KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/encrypts", TargetKeyId=other)
    excluded: list[tuple[dict[str, Any], str]] = [
        ({"Message": MESSAGE}, "ValidationException"),
        ({"Message": b"x" * 4097, "MessageType": "RAW"}, "ValidationException"),
        ({"MessageType": "EXTERNAL_MU"}, "ValidationException"),
        ({"SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_512"}, "UnsupportedOperationException"),
        ({"SigningAlgorithm": "ECDSA_SHA_256"}, "InvalidKeyUsageException"),
        ({"KeyId": "alias/none"}, "NotFoundException"),
        ({"KeyId": "alias/encrypts"}, "InvalidKeyUsageException"),
    ]
    assert [refused(lambda asked=asked: sign(kms, **asked)) for asked, _ in excluded] == [
        e for _, e in excluded
    ]


def test_a_mac_is_of_4096_bytes_at_most_by_the_keys_own_algorithm_and_names_its_key(kms: Client) -> None:
    key = create_mac_key(kms, "alias/mac")
    assert refused(lambda: mac(kms, key, message=b"x" * 4097)) == "ValidationException"
    assert refused(lambda: mac(kms, key, algorithm="HMAC_SHA_512")) == "InvalidKeyUsageException"
    asked = {"Message": b"m", "Mac": mac(kms, "alias/mac"), "MacAlgorithm": "HMAC_SHA_256"}
    assert kms.verify_mac(KeyId="alias/mac", **asked)["KeyId"] == key


def test_a_key_that_is_disabled_or_will_be_deleted_is_not_used(kms: Client, key: str) -> None:
    of_macs = create_mac_key(kms)
    ids = (key.rpartition("/")[2], of_macs.rpartition("/")[2])
    calls: list[Callable[[], object]] = [
        lambda: sign(kms),
        lambda: kms.get_public_key(KeyId=key),
        lambda: mac(kms, of_macs),
    ]
    for one in ids:
        kms.disable_key(KeyId=one)
    assert [refused(call) for call in calls] == ["DisabledException"] * 3
    for one in ids:
        kms.enable_key(KeyId=one)
    assert all(call() for call in calls)
    for one in ids:
        kms.schedule_key_deletion(KeyId=one, PendingWindowInDays=7)
    assert [refused(call) for call in calls] == ["KMSInvalidStateException"] * 3


def test_a_policy_may_name_algorithm_kind_of_message_and_alias(aws: AwsSandbox, key: str) -> None:
    aws.client("iam").create_role(RoleName="signer", AssumeRolePolicyDocument="{}")
    wanted = {"kms:SigningAlgorithm": PKCS1, "kms:MessageType": "DIGEST", "kms:RequestAlias": "alias/client"}
    allow = {"Action": "kms:Sign", "Resource": key, "Condition": {"StringEquals": wanted}}
    aws.client("iam").put_role_policy(RoleName="signer", PolicyName="own", PolicyDocument=policy(allow))
    aws.guard.know(KEY, "signer")
    own = aws.client_as(KEY, "kms")
    assert sign(own)
    for changed in ({"MessageType": "RAW"}, {"SigningAlgorithm": "RSASSA_PSS_SHA_256"}, {"KeyId": key}):
        assert refused(lambda asked=changed: sign(own, **asked)) == "AccessDeniedException"
