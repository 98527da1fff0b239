"""The AWS audit log as a runner's role meets it: allowed to list one folder, and objects that cannot be looked at."""

import json
from collections.abc import Iterator
from io import BytesIO

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from urllib3 import HTTPResponse

from lockstep.aws.clients import AwsKeys, aws_client
from lockstep.aws.s3_audit import S3AuditLog
from lockstep.errors import AuditLogAccessDeniedError
from lockstep.model import SecretStr
from sandbox.aws.server import AwsSandbox
from tests.contract.aws_fixtures import BUCKET, CREDENTIAL, S3Harness

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
