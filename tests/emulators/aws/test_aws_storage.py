"""The properties of KMS and S3 that the audit log relies on."""

import pytest
from botocore.exceptions import ClientError

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.resources import create_mac_key


def code(refused: "pytest.ExceptionInfo[ClientError]") -> str:
    return str(refused.value.response["Error"]["Code"])


def test_a_message_over_4096_bytes_gets_no_mac(aws: AwsSandbox) -> None:
    kms = aws.client("kms")
    key = create_mac_key(kms)
    with pytest.raises(ClientError) as refused:
        kms.generate_mac(KeyId=key, Message=b"x" * 4097, MacAlgorithm="HMAC_SHA_256")
    assert code(refused) == "ValidationException"


def test_a_key_macs_by_its_own_algorithm_only(aws: AwsSandbox) -> None:
    kms = aws.client("kms")
    with pytest.raises(ClientError) as refused:
        kms.generate_mac(KeyId=create_mac_key(kms), Message=b"x", MacAlgorithm="HMAC_SHA_512")
    assert code(refused) == "InvalidKeyUsageException"
