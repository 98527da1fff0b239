"""Behaviour that only the AWS adapters have: labels, calls, objects, keys."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from io import BytesIO

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
from lockstep.plan.stores import AwsAudit
from lockstep.protocol.errors import AuditLogAccessDeniedError, AuditLogUnreachableError, SecretMalformedError
from lockstep.protocol.federation import rsa_key
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from lockstep.protocol.names import VersionNames
from sandbox.emulators.aws.resources import create_mac_key
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.identities import endless
from tests.contract.aws_fixtures import BUCKET, S3Harness, SecretsManagerHarness, sandbox_client
from tests.support.fence import fence_held
from tests.support.logs import s3_log
from tests.support.seals import sealed

METADATA = {"chain": "{}", "mac": "{}"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[AwsSandbox]:
    with AwsSandbox() as running:
        yield running


@pytest.fixture(scope="module", name="all_secrets")
def _all_secrets(sandbox: AwsSandbox) -> SecretsManagerHarness:
    return SecretsManagerHarness(sandbox)


@pytest.fixture(scope="module", name="logs")
def _logs(sandbox: AwsSandbox) -> S3Harness:
    return S3Harness(sandbox)


@pytest.fixture
def secrets(all_secrets: SecretsManagerHarness) -> SecretsManagerHarness:
    return all_secrets.anew()


@pytest.fixture
def log(logs: S3Harness) -> S3Harness:
    return logs.anew()


def value(generation: int) -> CredentialValue:
    return CredentialValue(generation, Login("app", SecretStr(f"password-{generation}")))


def rotate(secrets: SecretsManagerHarness, *generations: int) -> None:
    for generation in generations:
        secrets.store.stage(value(generation))
        secrets.store.promote(generation, fence_held)


def calls(client: BaseClient, operation: Callable[[], object]) -> list[str]:
    made: list[str] = []

    def count(model: OperationModel, **_event: object) -> None:
        made.append(model.name)

    client.meta.events.register("before-call", count)
    operation()
    client.meta.events.unregister("before-call", count)
    return made


# Secrets


def test_the_labels_name_the_current_and_the_previous_version(secrets: SecretsManagerHarness) -> None:
    rotate(secrets, 1, 2)
    names = VersionNames(credential_id=secrets.credential.id, secret=secrets.names["app_user"])
    listed = secrets.console.list_secret_version_ids(SecretId=names.secret)["Versions"]
    labels = {names.generation_of(v["VersionId"]): set(v["VersionStages"]) for v in listed}
    # AWSPENDING stays on the version with AWSCURRENT; on any other it would tell AWS that a rotation is under way.
    assert labels == {1: {"AWSPREVIOUS"}, 2: {"AWSCURRENT", "AWSPENDING"}}


def test_a_binary_login_is_malformed_and_such_a_connection_is_replaced(
    secrets: SecretsManagerHarness,
) -> None:
    rotate(secrets, 1)
    secrets.console.put_secret_value(SecretId=secrets.names["connection_blob"], SecretBinary=b"by hand")
    assert secrets.store.read_current().blob_generation == 0
    rotate(secrets, 2)
    assert secrets.store.serves(2)
    secrets.console.put_secret_value(SecretId=secrets.names["app_user"], SecretBinary=b"hunter2")
    with pytest.raises(SecretMalformedError, match="code=binary"):
        secrets.store.read_current()


def test_a_secret_without_a_value_is_malformed_and_not_missing(secrets: SecretsManagerHarness) -> None:
    secrets.remove("app_user")
    secrets.console.create_secret(Name=secrets.names["app_user"])
    for operation in (secrets.store.read_current, lambda: secrets.store.promote(1, fence_held)):
        with pytest.raises(SecretMalformedError):
            operation()


def test_a_rotation_takes_few_calls(secrets: SecretsManagerHarness) -> None:
    store, client = secrets.store, secrets.client
    store.read_current()
    store.stage(value(1))
    # What people wrote is compared before it is replaced.
    assert calls(client, lambda: store.promote(1, fence_held)) == [
        *["DescribeSecret", "GetSecretValue", "GetSecretValue"] * 2,
        *["UpdateSecretVersionStage"] * 2,
    ]
    rotation: Mapping[str, tuple[Callable[[], object], list[str]]] = {
        "read_current": (store.read_current, ["GetSecretValue"] * 2),
        "stage": (lambda: store.stage(value(2)), ["PutSecretValue"] * 2),
        "promote": (
            lambda: store.promote(2, fence_held),
            ["DescribeSecret"] * 2 + ["UpdateSecretVersionStage"] * 2,
        ),
        "promote again": (lambda: store.promote(2, fence_held), ["DescribeSecret"] * 2),
        "serves": (lambda: store.serves(2), ["GetSecretValue"] * 2),
        "version_of": (lambda: store.version_of(2), []),
        "prune": (store.prune, []),
    }
    for name, (operation, made) in rotation.items():
        assert calls(client, operation) == made, name


def test_nothing_secret_is_logged_even_at_debug(
    sandbox: AwsSandbox, secrets: SecretsManagerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    rotate(secrets, 1)
    secrets.store.read_current()
    sandbox_client(sandbox, "secretsmanager").get_secret_value(SecretId=secrets.names["app_user"])
    assert caplog.records
    assert "password-1" not in caplog.text


# The audit log's objects


def test_an_entry_is_an_object_with_checksum_class_and_metadata(log: S3Harness) -> None:
    log.log.put(42, b"{}", METADATA)
    key = log.objects.key(42)
    assert key.endswith("/000000000042.json")
    head = log.console.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o="
    assert head.get("StorageClass", "STANDARD") == "STANDARD"
    assert head["ContentType"] == "application/json"
    assert head["Metadata"] == METADATA


def test_an_object_without_metadata_is_looked_at(log: S3Harness) -> None:
    log.plant("000000000001.json")
    assert not log.log.put(1, b"{}", METADATA)
    assert log.log.look(1) == {}


def test_numbers_are_listed_page_by_page_and_other_chains_are_not_counted(log: S3Harness) -> None:
    log.plant("more/000000000009.json")
    folder = log.objects.prefix.removesuffix("/")
    for beside in (f"{folder}2", "aws", f"oci{folder[3:]}"):
        log.console.put_object(Bucket=BUCKET, Key=f"{beside}/000000000009.json", Body=b"{}")
    for seq in range(1, 8):
        log.log.put(seq, b"{}", METADATA)
    found: list[int] = []
    assert len(calls(log.client, lambda: found.extend(log.log.numbers(after=3)))) == 3
    assert found == [4, 5, 6, 7]
    assert len(calls(log.client, lambda: next(log.log.numbers(after=5)))) == 1
    assert list(log.log.numbers()) == [1, 2, 3, 4, 5, 6, 7]


def test_a_history_that_does_not_advance_is_an_error(log: S3Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    page = {"IsTruncated": True, "NextKeyMarker": "aws/1", "NextVersionIdMarker": "1"}
    monkeypatch.setattr(log.client, "list_object_versions", lambda **_: page)
    with pytest.raises(AuditLogUnreachableError):
        list(log.log.history())


# The audit log as the role of a runner meets it

ARN = f"arn:aws:s3:::{BUCKET}"
LIST = {
    "Effect": "Allow",
    "Action": "s3:ListBucket",
    "Resource": ARN,
    "Condition": {"StringLike": {"s3:prefix": "aws/*"}},
}
READ = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"{ARN}/aws/*"}
TRUST = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
ROLES: dict[str, tuple[tuple[object, ...], int, object]] = {
    "reads an entry": ((READ, LIST), 1, METADATA),
    # S3 answers 403 then, as neither HEAD nor GET has a prefix; the next number, and a forged head's, are such objects.
    "who may list one folder sees that an object is missing": ((READ, LIST), 2, None),
    "an object that may not be read is not missing": ((LIST,), 1, AuditLogAccessDeniedError),
    "who may not list is not told that an object is missing": ((READ,), 2, AuditLogAccessDeniedError),
}


def policy(*statements: object) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@pytest.mark.parametrize("name", ROLES)
def test_what_a_role_sees_of_an_object(sandbox: AwsSandbox, log: S3Harness, name: str) -> None:
    may, seq, expected = ROLES[name]
    log.log.put(1, b"{}", METADATA)
    role = f"reader-{list(ROLES).index(name)}"
    iam = sandbox.client("iam")
    iam.create_role(RoleName=role, AssumeRolePolicyDocument=policy(TRUST))
    iam.put_role_policy(RoleName=role, PolicyName="own", PolicyDocument=policy(*may))
    sandbox.guard.know(f"key-of-{role}", role)
    keys = AwsKeys(access_key_id=f"key-of-{role}", secret_access_key=SecretStr("sandbox"))
    client = aws_client("s3", sandbox.region, keys=endless(keys), endpoint=sandbox.url)
    own = s3_log(client, BUCKET, log.objects.prefix.split("/")[1])
    if isinstance(expected, type):
        for refused in (own.look, own.read):
            with pytest.raises(AuditLogAccessDeniedError):
                refused(seq)
    else:
        assert (own.look(seq), own.read(seq)) == (expected, expected and b"{}")


@pytest.mark.parametrize(("number", "found"), [(1, {}), (2, None)])
def test_an_object_with_a_strangers_key_is_no_obstacle(log: S3Harness, number: int, found: object) -> None:
    """S3 answers 400 to a HEAD of an object that was encrypted with a customer's key (SSE-C)."""

    def refused(**_: object) -> AWSResponse:
        return AWSResponse("", 400, HTTPHeaders(), HTTPResponse(BytesIO(), preload_content=False))

    log.log.put(1, b"{}", METADATA)
    log.client.meta.events.register("before-send.s3.HeadObject", refused)
    assert log.log.look(number) == found
    log.client.meta.events.unregister("before-send.s3.HeadObject", refused)


# Keys


DIGEST = hashlib.sha256(b"chain").digest()


def test_an_alias_of_another_key_leaves_entries_of_a_retired_key_valid(
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
    with pytest.raises(ValidationError, match="an alias may name another key by now"):
        AwsAudit(bucket="audit", mac_key="alias/new", retired_mac_keys=("alias/old",))


def test_in_aws_one_key_signs_runs_and_another_one_orders(sandbox: AwsSandbox) -> None:
    kms, client = sandbox.client("kms"), sandbox_client(sandbox, "kms")
    orders = KmsSigner(client, create_mac_key(kms))
    signer = KmsSigner(client, create_mac_key(kms), orders=orders)
    for entry_id, mine, other in (("run-1", signer, orders), ("order-1", orders, signer)):
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
        "NotFoundException": KmsDigestKey(client, "alias/no-such-key"),
        "InvalidKeyUsageException": KmsDigestKey(client, create_mac_key(kms)),
    }
    for code, key in keys.items():
        with pytest.raises(AuditLogAccessDeniedError) as error:
            key.sign(DIGEST)
        assert error.value.where["code"] == code
    with pytest.raises(AuditLogAccessDeniedError):
        keys["NotFoundException"].public_key()
