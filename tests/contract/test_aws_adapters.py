"""Behaviour that only the AWS adapters have: version ids, labels, calls, objects, items."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.client import BaseClient
from botocore.compat import HTTPHeaders
from botocore.model import OperationModel
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import ValidationError
from urllib3 import HTTPResponse

from lockstep.audit.entry import is_signed
from lockstep.aws.clients import AwsKeys, aws_client
from lockstep.aws.kms import KmsDigestKey, KmsSigner
from lockstep.aws.s3 import S3AuditLog
from lockstep.plan.stores import AwsAudit
from lockstep.protocol.errors import (
    AuditLogAccessDeniedError,
    AuditLogUnreachableError,
    LockTableAccessDeniedError,
    SecretMalformedError,
    StoreQuotaExceededError,
    StoreRejectedError,
)
from lockstep.protocol.federation import rsa_key
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from sandbox.emulators.aws.resources import create_mac_key
from sandbox.emulators.aws.server import AwsSandbox
from tests.contract.aws_fixtures import (
    APP_USER_VERSIONS,
    BUCKET,
    CREDENTIAL,
    TABLE,
    DynamoDbHarness,
    S3Harness,
    SecretsManagerHarness,
    sandbox_client,
)
from tests.support.fence import fence_held
from tests.support.seals import sealed

APP_USER = CREDENTIAL.secret_names.app_user
FOLDER = "aws/multi-cloud.app_user"


@pytest.fixture
def sandbox() -> Iterator[AwsSandbox]:
    with AwsSandbox() as running:
        yield running


@pytest.fixture
def secrets(sandbox: AwsSandbox) -> SecretsManagerHarness:
    return SecretsManagerHarness(sandbox)


@pytest.fixture
def lock(sandbox: AwsSandbox) -> DynamoDbHarness:
    return DynamoDbHarness(sandbox)


@pytest.fixture
def log(sandbox: AwsSandbox) -> S3Harness:
    return S3Harness(sandbox)


def value(generation: int) -> CredentialValue:
    return CredentialValue(generation, Login("app", SecretStr(f"password-{generation}")))


def calls(client: BaseClient, operation: Callable[[], object]) -> list[str]:
    made: list[str] = []

    def count(model: OperationModel, **_event: object) -> None:
        made.append(model.name)

    client.meta.events.register("before-call", count)
    operation()
    client.meta.events.unregister("before-call", count)
    return made


# Versions


def test_the_labels_name_the_current_and_the_previous_version(secrets: SecretsManagerHarness) -> None:
    for generation in (1, 2):
        secrets.store.stage(value(generation))
        secrets.store.promote(generation, fence_held)
    listed = secrets.console.list_secret_version_ids(SecretId=APP_USER)["Versions"]
    labels = {APP_USER_VERSIONS.generation_of(v["VersionId"]): set(v["VersionStages"]) for v in listed}
    # AWSPENDING stays on the version with AWSCURRENT; on any other it would tell AWS that a rotation is under way.
    assert labels == {1: {"AWSPREVIOUS"}, 2: {"AWSCURRENT", "AWSPENDING"}}


# Malformed secrets


def test_a_binary_secret_is_malformed(secrets: SecretsManagerHarness) -> None:
    secrets.console.put_secret_value(SecretId=APP_USER, SecretBinary=b"hunter2")
    with pytest.raises(SecretMalformedError, match="code=binary"):
        secrets.store.read_current()


def test_a_binary_connection_blob_is_generation_0_and_is_replaced(secrets: SecretsManagerHarness) -> None:
    secrets.store.stage(value(1))
    secrets.store.promote(1, fence_held)
    secrets.console.put_secret_value(SecretId=secrets.names["connection_blob"], SecretBinary=b"by hand")
    assert secrets.store.read_current().blob_generation == 0
    secrets.store.stage(value(2))
    secrets.store.promote(2, fence_held)
    assert secrets.store.serves(2)


def test_a_secret_without_a_value_is_malformed_and_not_missing(secrets: SecretsManagerHarness) -> None:
    secrets.remove("app_user")
    secrets.console.create_secret(Name=APP_USER)
    with pytest.raises(SecretMalformedError):
        secrets.store.read_current()
    with pytest.raises(SecretMalformedError):
        secrets.store.promote(1, fence_held)


def test_a_secret_scheduled_for_deletion_is_rejected_with_the_code_of_aws(
    secrets: SecretsManagerHarness,
) -> None:
    secrets.console.delete_secret(SecretId=APP_USER)
    for operation in (secrets.store.read_current, lambda: secrets.store.stage(value(1))):
        with pytest.raises(StoreRejectedError) as error:
            operation()
        assert error.value.where["code"] == "InvalidRequestException"


def test_too_many_versions_a_day_exceed_the_quota(secrets: SecretsManagerHarness) -> None:
    def stage_a_day_of_minutes() -> None:
        for generation in range(1, 24 * 60):
            secrets.store.stage(value(generation))

    with pytest.raises(StoreQuotaExceededError):
        stage_a_day_of_minutes()


# Calls


def test_a_rotation_takes_few_calls(secrets: SecretsManagerHarness) -> None:
    store = secrets.store
    for operation in (
        store.read_current,
        lambda: store.stage(value(1)),
        lambda: store.promote(1, fence_held),
    ):
        operation()
    rotation = {
        "read_current": calls(secrets.client, store.read_current),
        "stage": calls(secrets.client, lambda: store.stage(value(2))),
        "promote": calls(secrets.client, lambda: store.promote(2, fence_held)),
        "promote again": calls(secrets.client, lambda: store.promote(2, fence_held)),
        "serves": calls(secrets.client, lambda: store.serves(2)),
        "version_of": calls(secrets.client, lambda: store.version_of(2)),
        "prune": calls(secrets.client, store.prune),
    }
    assert rotation == {
        "read_current": ["GetSecretValue"] * 2,
        "stage": ["PutSecretValue"] * 2,
        "promote": ["DescribeSecret"] * 2 + ["UpdateSecretVersionStage"] * 2,
        "promote again": ["DescribeSecret"] * 2,
        "serves": ["GetSecretValue"] * 2,
        "version_of": [],
        "prune": [],
    }


def test_what_people_wrote_is_compared_before_it_is_replaced(secrets: SecretsManagerHarness) -> None:
    secrets.store.read_current()
    secrets.store.stage(value(1))
    assert calls(secrets.client, lambda: secrets.store.promote(1, fence_held)) == [
        *["DescribeSecret", "GetSecretValue", "GetSecretValue"] * 2,
        *["UpdateSecretVersionStage"] * 2,
    ]


def test_nothing_secret_is_logged_even_at_debug(
    sandbox: AwsSandbox, secrets: SecretsManagerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets.store.stage(value(1))
    secrets.store.promote(1, fence_held)
    secrets.store.read_current()
    sandbox_client(sandbox, "secretsmanager").get_secret_value(SecretId=APP_USER)
    assert caplog.records
    assert "password-1" not in caplog.text


# The lock's item


def test_the_lock_is_read_consistently(lock: DynamoDbHarness) -> None:
    asked: list[object] = []

    def note(params: dict[str, object], **_event: object) -> None:
        asked.append(params.get("ConsistentRead"))

    lock.client.meta.events.register("before-parameter-build.dynamodb.GetItem", note)
    lock.lock.read()
    assert asked == [True]


@pytest.mark.parametrize(
    "change",
    [
        {"holder": {"N": "1"}},
        {"pending_generation": {"N": "1"}, "format": {"N": "1"}},
        {"format": {"S": "2"}},
        {"fence": {"S": "many"}},
        {"head_aws": {"S": "aa"}},
    ],
)
def test_a_malformed_item_is_an_error(
    sandbox: AwsSandbox, lock: DynamoDbHarness, change: dict[str, Any]
) -> None:
    item = {"credential_id": {"S": CREDENTIAL.id}, **change}
    sandbox.client("dynamodb").put_item(TableName=TABLE, Item=item)
    with pytest.raises(LockTableAccessDeniedError) as error:
        lock.lock.read()
    assert error.value.where["code"] == "MalformedItem"


def test_a_missing_table_is_a_terminal_error(sandbox: AwsSandbox, lock: DynamoDbHarness) -> None:
    sandbox.client("dynamodb").delete_table(TableName=TABLE)
    with pytest.raises(LockTableAccessDeniedError) as error:
        lock.lock.read()
    assert error.value.where["code"] == "ResourceNotFoundException"


# The audit log's objects


METADATA = {"chain": "{}", "mac": "{}"}


def test_an_entry_is_an_object_with_checksum_class_and_metadata(sandbox: AwsSandbox, log: S3Harness) -> None:
    S3AuditLog(log.client, BUCKET, "oci", CREDENTIAL.id).put(42, b"{}", METADATA)
    head = sandbox.client("s3").head_object(
        Bucket=BUCKET, Key="oci/multi-cloud.app_user/000000000042.json", ChecksumMode="ENABLED"
    )
    assert head["ChecksumSHA256"] == "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o="
    assert head.get("StorageClass", "STANDARD") == "STANDARD"
    assert head["ContentType"] == "application/json"
    assert head["Metadata"] == METADATA


def test_an_object_without_metadata_is_looked_at(sandbox: AwsSandbox, log: S3Harness) -> None:
    sandbox.client("s3").put_object(Bucket=BUCKET, Key=f"{FOLDER}/000000000001.json", Body=b"{}")
    assert not log.log.put(1, b"{}", METADATA)
    assert log.log.look(1) == {}


@pytest.mark.parametrize("last", [0, 1, 2, 3, 4, 30])
def test_numbers_are_listed_page_by_page(log: S3Harness, last: int) -> None:
    for seq in range(1, last + 1):
        log.log.put(seq, b"{}", METADATA)
    paged = S3AuditLog(log.client, BUCKET, "aws", CREDENTIAL.id, page_size=2)
    found: list[int] = []
    made = calls(log.client, lambda: found.extend(paged.numbers()))
    assert found == [*range(1, last + 1)]
    assert len(made) == max(1, -(-last // 2))
    assert len(calls(log.client, lambda: next(paged.numbers(after=max(0, last - 2)), None))) == 1


@pytest.mark.parametrize(
    "key",
    [
        f"{FOLDER}/README",
        f"{FOLDER}/000000000009.txt",
        f"{FOLDER}/more/000000000009.json",
        f"{FOLDER}2/000000000009.json",
        "aws/000000000009.json",
        "oci/multi-cloud.app_user/000000000009.json",
    ],
)
def test_other_objects_and_other_chains_are_not_counted(
    sandbox: AwsSandbox, log: S3Harness, key: str
) -> None:
    log.log.put(3, b"{}", METADATA)
    sandbox.client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"{}")
    assert list(log.log.numbers()) == [3]


def test_a_missing_bucket_is_an_error_and_not_an_empty_log(log: S3Harness) -> None:
    missing = S3AuditLog(log.client, "no-such-bucket", "aws", CREDENTIAL.id)
    for operation in (
        lambda: list(missing.numbers()),
        lambda: missing.read(1),
        lambda: missing.put(1, b"{}", METADATA),
    ):
        with pytest.raises(AuditLogAccessDeniedError) as error:
            operation()
        assert error.value.where["code"] == "NoSuchBucket"


def test_a_history_that_does_not_advance_is_an_error(log: S3Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    log.log.put(1, b"{}", METADATA)
    page = {"IsTruncated": True, "NextKeyMarker": "aws/1", "NextVersionIdMarker": "1"}
    monkeypatch.setattr(log.client, "list_object_versions", lambda **_: page)
    with pytest.raises(AuditLogUnreachableError):
        list(log.log.history())


def test_a_secret_serves_one_version(secrets: SecretsManagerHarness) -> None:
    secrets.secret.prepare(1)("text")
    assert secrets.secret.served() == [secrets.secret.read_current()]


# The audit log as the role of a runner meets it

ARN = f"arn:aws:s3:::{BUCKET}"
LIST = {
    "Effect": "Allow",
    "Action": "s3:ListBucket",
    "Resource": ARN,
    "Condition": {"StringLike": {"s3:prefix": "aws/*"}},
}
READ = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"{ARN}/aws/*"}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}


@pytest.fixture
def written(sandbox: AwsSandbox) -> S3Harness:
    """A log with one entry."""
    harness = S3Harness(sandbox)
    assert harness.log.put(1, b"{}", METADATA)
    return harness


def as_role(sandbox: AwsSandbox, *statements: object) -> S3AuditLog:
    """The log as a role with these statements sees it."""
    iam = sandbox.client("iam")
    iam.create_role(RoleName="reader", AssumeRolePolicyDocument=json.dumps(TRUST))
    iam.put_role_policy(
        RoleName="reader",
        PolicyName="own",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statements}),
    )
    sandbox.guard.know("reader-key", "reader")
    keys = AwsKeys(access_key_id="reader-key", secret_access_key=SecretStr("sandbox"))
    client = aws_client("s3", sandbox.region, keys=keys, endpoint=sandbox.url)
    return S3AuditLog(client, BUCKET, "aws", CREDENTIAL.id)


@pytest.mark.usefixtures("written")
def test_who_may_list_one_folder_sees_that_an_object_is_missing(sandbox: AwsSandbox) -> None:
    """S3 answers 403 then, as a HEAD has no prefix; the next number, and a forged head's, are such objects."""
    log = as_role(sandbox, READ, LIST)
    assert (log.look(1), log.look(2)) == (METADATA, None)


@pytest.mark.usefixtures("written")
def test_an_object_that_may_not_be_read_is_not_missing(sandbox: AwsSandbox) -> None:
    with pytest.raises(AuditLogAccessDeniedError):
        as_role(sandbox, LIST).look(1)


@pytest.mark.usefixtures("written")
def test_who_may_not_list_is_not_told_that_an_object_is_missing(sandbox: AwsSandbox) -> None:
    with pytest.raises(AuditLogAccessDeniedError):
        as_role(sandbox, READ).look(2)


@pytest.mark.parametrize(("number", "found"), [(1, {}), (2, None)])
def test_an_object_with_a_key_of_somebody_else_is_no_entry_and_no_obstacle(
    written: S3Harness, number: int, found: object
) -> None:
    """S3 answers 400 to a HEAD of an object that was encrypted with a customer's key (SSE-C)."""

    def refused(**_: object) -> AWSResponse:
        return AWSResponse("", 400, HTTPHeaders(), HTTPResponse(BytesIO(), preload_content=False))

    written.client.meta.events.register("before-send.s3.HeadObject", refused)
    assert written.log.look(number) == found


# Keys


DIGEST = hashlib.sha256(b"chain").digest()


def test_an_alias_that_was_given_to_another_key_leaves_entries_of_a_retired_key_valid(
    sandbox: AwsSandbox,
) -> None:
    kms, client = sandbox.client("kms"), sandbox_client(sandbox, "kms")
    old, new = create_mac_key(kms), create_mac_key(kms)
    alias = "alias/lockstep-mac"
    kms.create_alias(AliasName=alias, TargetKeyId=old)
    before = KmsSigner(client, alias).sign(DIGEST)
    kms.update_alias(AliasName=alias, TargetKeyId=new)
    signer = KmsSigner(client, alias, retired=[old])
    after = signer.sign(DIGEST)
    assert (before.key_id, after.key_id) == (old, new)
    assert [signer.verify(DIGEST, mac) for mac in (before, after)] == [True, True]
    assert signer.rank(before.key_id) < signer.rank(after.key_id)
    assert not KmsSigner(client, alias).verify(DIGEST, before)
    assert not signer.verify(DIGEST, replace(before, key_id=new))
    assert not signer.verify(DIGEST, replace(after, key_id=alias))  # An entry names a key by its ARN.


def test_in_aws_one_key_signs_runs_and_another_one_orders(sandbox: AwsSandbox) -> None:
    kms, client = sandbox.client("kms"), sandbox_client(sandbox, "kms")
    orders = KmsSigner(client, create_mac_key(kms))
    signer = KmsSigner(client, create_mac_key(kms), orders=orders)
    for entry_id, mine, other in (
        ("run-1", signer, orders),
        ("order-1", orders, signer),
    ):
        found = sealed({"time": 0}, signer=signer, rotation_id=entry_id).stored
        assert found.mac == mine.sign(found.digest)
        forged = replace(found, mac=other.sign(found.digest))
        # Nobody knows which key a newer build signs with.
        newer = replace(forged, seal=None, is_newer=True)
        assert [is_signed(signer, one) for one in (found, forged, newer)] == [True, False, True]


def test_the_key_of_digests_signs_what_its_public_half_verifies(sandbox: AwsSandbox) -> None:
    kms, client = sandbox.client("kms"), sandbox_client(sandbox, "kms")
    arn = kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    kms.create_alias(AliasName="alias/lockstep-digests", TargetKeyId=arn)
    key = KmsDigestKey(client, arn)
    assert calls(client, lambda: [key.public_key() for _ in range(2)]) == ["GetPublicKey"]
    assert calls(client, lambda: key.sign(DIGEST)) == ["Sign"]
    public = rsa_key(key.public_key())
    for one in (key, KmsDigestKey(client, arn.rpartition(":key/")[0] + ":alias/lockstep-digests")):
        public.verify(one.sign(DIGEST), DIGEST, PKCS1v15(), Prehashed(SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(key.sign(DIGEST), hashlib.sha256(b"other").digest(), PKCS1v15(), Prehashed(SHA256()))


def test_what_cannot_sign_a_digest_is_told_without_foreign_text(sandbox: AwsSandbox) -> None:
    kms, client = sandbox.client("kms"), sandbox_client(sandbox, "kms")
    keys = {
        "NotFoundException": KmsDigestKey(client, "alias/lockstep-digests"),
        "InvalidKeyUsageException": KmsDigestKey(client, create_mac_key(kms)),
    }
    for code, key in keys.items():
        with pytest.raises(AuditLogAccessDeniedError) as error:
            key.sign(DIGEST)
        assert error.value.where["code"] == code
    with pytest.raises(AuditLogAccessDeniedError):
        keys["NotFoundException"].public_key()


def test_a_retired_key_is_named_by_itself() -> None:
    with pytest.raises(ValidationError, match="an alias may name another key by now"):
        AwsAudit(bucket="audit", mac_key="alias/new", retired_mac_keys=("alias/old",))
