import json

import pytest

from sandbox.aws import AwsSandbox, create_resources, create_state_machine
from sandbox.aws.resources import LeftOverPlaceholderError, substitute
from tests.sandbox.aws.conftest import ROLE, invoke


def test_resources_are_created_as_in_the_stack(aws: AwsSandbox) -> None:
    made = create_resources(
        aws, lock_table="locks", audit_bucket="audit", secrets={"app_user": "first", "blob": "{}"}
    )
    table = aws.client("dynamodb").describe_table(TableName=made.lock_table)["Table"]
    assert table["KeySchema"] == [{"AttributeName": "credential_id", "KeyType": "HASH"}]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    key = aws.client("kms").describe_key(KeyId=made.mac_key_arn)["KeyMetadata"]
    assert (key["KeySpec"], key["KeyUsage"]) == ("HMAC_256", "GENERATE_VERIFY_MAC")
    for secret, value in (("app_user", "first"), ("blob", "{}")):
        read = aws.client("secretsmanager").get_secret_value(SecretId=made.secret_arns[secret])
        assert read["SecretString"] == value


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_a_bucket_is_created_in_any_region(region: str) -> None:
    with AwsSandbox(region=region) as aws:
        made = create_resources(aws, lock_table="locks", audit_bucket="audit", secrets={})
        assert region in made.mac_key_arn
        assert aws.client("s3").head_bucket(Bucket="audit")["BucketRegion"] == region


def test_a_state_machine_is_created_from_its_text(aws: AwsSandbox) -> None:
    aws.lambda_host.register_handler("echo", lambda event, _: event)
    text = json.dumps(
        {
            "QueryLanguage": "JSONata",
            "StartAt": "Echo",
            "States": {"Echo": invoke("${Function}", {"table": "${LockTable}"})},
        }
    )
    arn = create_state_machine(
        aws.client("stepfunctions"),
        "machine",
        text,
        {"Function": aws.lambda_host.arn("echo"), "LockTable": 'lo"cks'},
        role_arn=ROLE,
    )
    assert aws.run_execution(arn, {}).output == {"table": 'lo"cks'}


def test_a_placeholder_without_substitution_is_an_error() -> None:
    assert substitute('{"a": "${A}-${A}", "n": ${N}}', {"A": "x", "N": "5"}) == '{"a": "x-x", "n": 5}'
    with pytest.raises(LeftOverPlaceholderError, match="Bee, Cee"):
        substitute("${Cee} ${A} ${Bee}", {"A": "x"})
