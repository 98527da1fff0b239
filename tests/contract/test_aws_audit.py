"""The AWS audit log as a runner's role meets it: allowed to list one folder, and objects that cannot be looked at."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from pydantic import ValidationError
from urllib3 import HTTPResponse

from lockstep.aws.clients import AwsKeys, aws_client
from lockstep.aws.kms import KmsSigner
from lockstep.aws.s3 import S3AuditLog
from lockstep.plan.runners import AwsAudit
from lockstep.protocol.errors import AuditLogAccessDeniedError
from lockstep.protocol.model import SecretStr
from sandbox.aws.resources import create_mac_key
from sandbox.aws.server import AwsSandbox
from tests.contract.aws_fixtures import BUCKET, CREDENTIAL, S3Harness, sandbox_client

METADATA = {"chain": "{}", "mac": "{}"}
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
def sandbox() -> Iterator[AwsSandbox]:
    with AwsSandbox() as running:
        yield running


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


def test_an_alias_that_was_given_to_another_key_leaves_entries_that_name_it_valid(
    sandbox: AwsSandbox,
) -> None:
    """Entries of format 2 name the key as the plan did."""
    kms, client = sandbox.client("kms"), sandbox_client(sandbox, "kms")
    old, new = create_mac_key(kms), create_mac_key(kms)
    alias = "alias/lockstep-mac"
    kms.create_alias(AliasName=alias, TargetKeyId=old)
    before = KmsSigner(client, alias).sign(DIGEST)
    named = replace(before, key_id=alias)
    kms.update_alias(AliasName=alias, TargetKeyId=new)
    signer = KmsSigner(client, alias, retired=[old])
    after = signer.sign(DIGEST)
    assert (before.key_id, after.key_id) == (old, new)
    assert [signer.verify(DIGEST, mac) for mac in (named, before, after)] == [True, True, True]
    ranks = [signer.rank(mac.key_id) for mac in (named, before, after)]
    assert ranks == sorted(ranks)
    assert not KmsSigner(client, alias).verify(DIGEST, named)


def test_a_key_of_fingerprints_is_asked_for_once_and_again_where_another_key_signs(
    sandbox: AwsSandbox,
) -> None:
    kms, client = sandbox.client("kms"), sandbox_client(sandbox, "kms")
    keys = [create_mac_key(kms) for _ in range(2)]
    kms.create_alias(AliasName="alias/lockstep-mac", TargetKeyId=keys[0])
    signer = KmsSigner(client, "alias/lockstep-mac")
    asked: list[str] = []
    client.meta.events.register("before-send.kms.GenerateMac", lambda **_: asked.append("MAC"))
    assert [signer.fingerprint_key().key_id for _ in range(3)] == [keys[0]] * 3
    assert len(asked) == 1
    kms.update_alias(AliasName="alias/lockstep-mac", TargetKeyId=keys[1])
    assert signer.fingerprint_key().key_id == keys[0]  # Only an answer of KMS shows it.
    assert signer.sign(DIGEST).key_id == keys[1]
    assert signer.fingerprint_key().key_id == keys[1]
    assert len(asked) == 3


def test_a_retired_key_is_named_by_itself() -> None:
    with pytest.raises(ValidationError, match="an alias may name another key by now"):
        AwsAudit(bucket="audit", region="eu-central-1", mac_key="alias/new", retired_mac_keys=("alias/old",))
