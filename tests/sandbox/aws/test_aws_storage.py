"""The properties of KMS and S3 that the audit log relies on."""

from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from sandbox.aws import AwsSandbox
from sandbox.aws.resources import create_audit_bucket, create_mac_key

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client

BUCKET = "audit"
KEY = "aws/000000000001.json"


def code(refused: "pytest.ExceptionInfo[ClientError]") -> str:
    return str(refused.value.response["Error"]["Code"])


def test_a_mac_verifies_and_names_its_key(aws: AwsSandbox) -> None:
    kms: KMSClient = aws.client("kms")
    key = create_mac_key(kms)
    made = kms.generate_mac(KeyId=key, Message=b"x" * 4096, MacAlgorithm="HMAC_SHA_256")
    assert made["KeyId"] == key
    assert len(made["Mac"]) == 32
    verified = kms.verify_mac(KeyId=key, Message=b"x" * 4096, MacAlgorithm="HMAC_SHA_256", Mac=made["Mac"])
    assert verified["MacValid"]
    with pytest.raises(kms.exceptions.KMSInvalidMacException):
        kms.verify_mac(KeyId=key, Message=b"y" * 4096, MacAlgorithm="HMAC_SHA_256", Mac=made["Mac"])


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


@pytest.fixture
def s3(aws: AwsSandbox) -> "S3Client":
    client: S3Client = aws.client("s3")
    create_audit_bucket(client, BUCKET, region=aws.region)
    return client


def test_an_entry_is_written_once(s3: "S3Client") -> None:
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"first", IfNoneMatch="*", StorageClass="GLACIER_IR")
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"second", IfNoneMatch="*")
    assert code(refused) == "PreconditionFailed"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == b"first"


def test_the_bucket_locks_objects_and_keeps_versions(s3: "S3Client") -> None:
    lock = s3.get_object_lock_configuration(Bucket=BUCKET)["ObjectLockConfiguration"]
    assert lock["ObjectLockEnabled"] == "Enabled"
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"


def test_a_locked_version_cannot_be_deleted(s3: "S3Client") -> None:
    version = s3.put_object(
        Bucket=BUCKET,
        Key=KEY,
        Body=b"entry",
        ObjectLockMode="COMPLIANCE",
        ObjectLockRetainUntilDate="2099-01-01T00:00:00Z",
    )["VersionId"]
    with pytest.raises(ClientError) as refused:
        s3.delete_object(Bucket=BUCKET, Key=KEY, VersionId=version, BypassGovernanceRetention=True)
    assert code(refused) == "AccessDenied"
    assert s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == b"entry"
