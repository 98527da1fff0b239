"""The sandbox's Secrets Manager is as strict as the real one."""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from sandbox.emulators.aws import AwsSandbox
from tests.emulators.aws.conftest import Clock

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

NAME = "multi-cloud/app_user"


@pytest.fixture
def secrets(aws: AwsSandbox) -> "SecretsManagerClient":
    client: SecretsManagerClient = aws.client("secretsmanager")
    client.create_secret(Name=NAME, SecretString="value 0", ClientRequestToken=token(0))
    return client


def token(generation: int) -> str:
    return f"00000000-0000-4000-8000-{generation:012d}"


def stage(secrets: "SecretsManagerClient", generation: int, value: str | None = None) -> None:
    secrets.put_secret_value(
        SecretId=NAME,
        ClientRequestToken=token(generation),
        SecretString=value or f"value {generation}",
        VersionStages=["AWSPENDING"],
    )


def promote(secrets: "SecretsManagerClient", generation: int, base: int) -> None:
    secrets.update_secret_version_stage(
        SecretId=NAME,
        VersionStage="AWSCURRENT",
        MoveToVersionId=token(generation),
        RemoveFromVersionId=token(base),
    )


def labels(secrets: "SecretsManagerClient") -> dict[str, set[str]]:
    found = secrets.describe_secret(SecretId=NAME)["VersionIdsToStages"]
    return {version: set(stages) for version, stages in found.items() if stages}


def code(refused: "pytest.ExceptionInfo[ClientError]") -> str:
    return str(refused.value.response["Error"]["Code"])


def test_the_same_token_takes_the_same_content_again(secrets: "SecretsManagerClient") -> None:
    stage(secrets, 1)
    stage(secrets, 1)
    assert labels(secrets) == {token(0): {"AWSCURRENT"}, token(1): {"AWSPENDING"}}


@pytest.mark.parametrize("generation", [0, 1], ids=["current", "pending"])
def test_the_same_token_refuses_other_content(secrets: "SecretsManagerClient", generation: int) -> None:
    stage(secrets, 1)
    with pytest.raises(ClientError) as refused:
        stage(secrets, generation, "other")
    assert code(refused) == "ResourceExistsException"
    answer = secrets.get_secret_value(SecretId=NAME, VersionId=token(generation))
    assert answer["SecretString"] == f"value {generation}"


def test_a_repeated_put_does_not_move_labels_back(secrets: "SecretsManagerClient") -> None:
    stage(secrets, 1)
    promote(secrets, 1, base=0)
    stage(secrets, 1)
    assert "AWSPENDING" in labels(secrets)[token(1)]
    assert secrets.get_secret_value(SecretId=NAME)["VersionId"] == token(1)


@pytest.mark.parametrize("length", [31, 65])
def test_a_token_has_32_to_64_characters(
    aws: AwsSandbox, secrets: "SecretsManagerClient", length: int
) -> None:
    # boto3 would refuse a short token by itself.
    unchecked = boto3.client(
        "secretsmanager",
        region_name=aws.region,
        endpoint_url=aws.url,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(parameter_validation=False, retries={"total_max_attempts": 1}),
    )
    with pytest.raises(ClientError) as refused:
        unchecked.put_secret_value(SecretId=NAME, SecretString="other", ClientRequestToken="t" * length)
    assert code(refused) == "InvalidParameterException"
    assert labels(secrets) == {token(0): {"AWSCURRENT"}}


def test_previous_follows_current(secrets: "SecretsManagerClient") -> None:
    for generation in (1, 2, 3):
        stage(secrets, generation)
        promote(secrets, generation, base=generation - 1)
    assert labels(secrets) == {token(2): {"AWSPREVIOUS"}, token(3): {"AWSCURRENT", "AWSPENDING"}}


def test_a_promotion_that_names_the_wrong_base_changes_nothing(secrets: "SecretsManagerClient") -> None:
    stage(secrets, 1)
    promote(secrets, 1, base=0)
    stage(secrets, 2)
    before = labels(secrets)
    for arguments in (
        {"MoveToVersionId": token(2), "RemoveFromVersionId": token(0)},
        {"MoveToVersionId": token(2)},
        {"MoveToVersionId": token(9), "RemoveFromVersionId": token(1)},
        {"RemoveFromVersionId": token(1)},
    ):
        with pytest.raises(ClientError) as refused:
            secrets.update_secret_version_stage(SecretId=NAME, VersionStage="AWSCURRENT", **arguments)
        assert code(refused) == "InvalidParameterException"
    assert labels(secrets) == before


def test_a_label_is_moved_only_from_the_version_that_is_named(secrets: "SecretsManagerClient") -> None:
    stage(secrets, 1)
    with pytest.raises(ClientError):
        secrets.update_secret_version_stage(
            SecretId=NAME, VersionStage="AWSPENDING", MoveToVersionId=token(0)
        )
    assert labels(secrets) == {token(0): {"AWSCURRENT"}, token(1): {"AWSPENDING"}}
    secrets.update_secret_version_stage(
        SecretId=NAME, VersionStage="AWSPENDING", RemoveFromVersionId=token(1)
    )
    assert labels(secrets) == {token(0): {"AWSCURRENT"}}


def test_one_promotion_wins_a_race(secrets: "SecretsManagerClient") -> None:
    for generation in range(1, 13):
        stage(secrets, generation)

    def lost_by(generation: int) -> str | None:
        try:
            promote(secrets, generation, base=0)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return None

    with ThreadPoolExecutor(max_workers=12) as pool:
        codes = list(pool.map(lost_by, range(1, 13)))
    assert sorted(code or "" for code in codes) == ["", *["InvalidParameterException"] * 11]


def test_versions_without_labels_are_listed_on_request_and_in_pages(
    secrets: "SecretsManagerClient", clock: Clock
) -> None:
    for generation in (1, 2, 3):
        clock.now += 1200
        stage(secrets, generation)
        promote(secrets, generation, base=generation - 1)
    shown = secrets.list_secret_version_ids(SecretId=NAME)["Versions"]
    assert {version["VersionId"] for version in shown} == {token(2), token(3)}
    first = secrets.list_secret_version_ids(SecretId=NAME, IncludeDeprecated=True, MaxResults=3)
    rest = secrets.list_secret_version_ids(
        SecretId=NAME, IncludeDeprecated=True, MaxResults=3, NextToken=first["NextToken"]
    )
    listed = [*first["Versions"], *rest["Versions"]]
    assert [version["VersionId"] for version in listed] == [token(number) for number in range(4)]
    assert "NextToken" not in rest
    ages = [listed[-1]["CreatedDate"] - version["CreatedDate"] for version in listed]
    assert [age.total_seconds() for age in ages] == [3600, 2400, 1200, 0]


def _rotate(secrets: "SecretsManagerClient", clock: Clock, *, runs: int, every_seconds: float) -> None:
    for generation in range(1, runs + 1):
        clock.now += every_seconds
        stage(secrets, generation)
        promote(secrets, generation, base=generation - 1)


def test_72_versions_a_day_always_fit(secrets: "SecretsManagerClient", clock: Clock) -> None:
    _rotate(secrets, clock, runs=250, every_seconds=20 * 60)
    listed = secrets.list_secret_version_ids(SecretId=NAME, IncludeDeprecated=True)["Versions"]
    assert 72 < len(listed) <= 100


def test_144_versions_a_day_do_not_fit(secrets: "SecretsManagerClient", clock: Clock) -> None:
    with pytest.raises(ClientError) as refused:
        _rotate(secrets, clock, runs=144, every_seconds=10 * 60)
    assert code(refused) == "LimitExceededException"
    assert secrets.get_secret_value(SecretId=NAME)["SecretString"] == "value 99"
