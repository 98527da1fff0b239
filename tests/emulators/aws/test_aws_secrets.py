"""The sandbox's Secrets Manager is as strict as the real one."""

from dataclasses import dataclass
from typing import Any

import pytest

from sandbox.emulators.aws import AwsSandbox
from tests.emulators.aws.conftest import refused
from tests.support.aws import Clock

NAME = "multi-cloud/app_user"


def token(generation: int) -> str:
    return f"00000000-0000-4000-8000-{generation:012d}"


@dataclass
class Secret:
    """A secret whose versions are named by numbers; it has 0."""

    client: Any
    clock: Clock

    def stage(self, generation: int, value: str | None = None) -> None:
        self.client.put_secret_value(
            SecretId=NAME,
            ClientRequestToken=token(generation),
            SecretString=value or f"value {generation}",
            VersionStages=["AWSPENDING"],
        )

    def move(self, label: str, *, to: int | None = None, off: int | None = None) -> None:
        versions = {"MoveToVersionId": to, "RemoveFromVersionId": off}
        given = {name: token(number) for name, number in versions.items() if number is not None}
        self.client.update_secret_version_stage(SecretId=NAME, VersionStage=label, **given)

    def rotate(self, to: int, *, every_seconds: float, after: int = 0) -> None:
        for generation in range(after + 1, to + 1):
            self.clock.now += every_seconds
            self.stage(generation)
            self.move("AWSCURRENT", to=generation, off=generation - 1)

    def listed(self, **choice: object) -> Any:  # noqa: ANN401 - boto3's reply
        return self.client.list_secret_version_ids(SecretId=NAME, **choice)

    @property
    def labels(self) -> dict[int, set[str]]:
        found = self.client.describe_secret(SecretId=NAME)["VersionIdsToStages"]
        return {int(version[-12:]): set(stages) for version, stages in found.items() if stages}


@pytest.fixture(name="secret")
def _secret(aws: AwsSandbox, clock: Clock) -> Secret:
    client = aws.client("secretsmanager")
    client.create_secret(Name=NAME, SecretString="value 0", ClientRequestToken=token(0))
    return Secret(client, clock)


def test_a_token_takes_the_same_content_again_and_refuses_other(secret: Secret) -> None:
    for _ in range(2):
        secret.stage(1)
    assert secret.labels == {0: {"AWSCURRENT"}, 1: {"AWSPENDING"}}
    for generation in (0, 1):
        assert refused(secret.stage, generation=generation, value="other") == "ResourceExistsException"
        kept = secret.client.get_secret_value(SecretId=NAME, VersionId=token(generation))
        assert kept["SecretString"] == f"value {generation}"
    secret.move("AWSCURRENT", to=1, off=0)
    secret.stage(1)
    assert secret.labels[1] == {"AWSCURRENT", "AWSPENDING"}
    # Without a stage the current one, also after a promotion.
    assert secret.client.get_secret_value(SecretId=NAME)["VersionId"] == token(1)


@pytest.mark.parametrize(
    ("label", "to", "off"),
    [
        ("AWSCURRENT", 2, 0),
        ("AWSCURRENT", 2, None),
        ("AWSCURRENT", 9, 1),
        ("AWSCURRENT", None, 1),
        ("AWSPENDING", 0, None),
    ],
)
def test_a_label_is_moved_only_from_the_version_that_is_named(
    secret: Secret, label: str, to: int | None, off: int | None
) -> None:
    secret.stage(1)
    secret.move("AWSCURRENT", to=1, off=0)
    secret.stage(2)
    before = secret.labels
    assert refused(lambda: secret.move(label, to=to, off=off)) == "InvalidParameterException"
    assert secret.labels == before
    secret.move("AWSPENDING", off=2)
    assert secret.labels == {0: {"AWSPREVIOUS"}, 1: {"AWSCURRENT"}}


def test_versions_without_labels_are_listed_on_request_and_in_pages(secret: Secret) -> None:
    secret.rotate(3, every_seconds=1200)
    assert {version["VersionId"] for version in secret.listed()["Versions"]} == {token(2), token(3)}
    first = secret.listed(IncludeDeprecated=True, MaxResults=3)
    rest = secret.listed(IncludeDeprecated=True, MaxResults=3, NextToken=first["NextToken"])
    listed = [*first["Versions"], *rest["Versions"]]
    assert [version["VersionId"] for version in listed] == [token(number) for number in range(4)]
    assert "NextToken" not in rest
    ages = [listed[-1]["CreatedDate"] - version["CreatedDate"] for version in listed]
    assert [age.total_seconds() for age in ages] == [3600, 2400, 1200, 0]


def test_72_versions_a_day_fit_and_144_do_not(secret: Secret) -> None:
    secret.rotate(250, every_seconds=20 * 60)
    assert 72 < len(secret.listed(IncludeDeprecated=True)["Versions"]) <= 100
    secret.clock.now += 2 * 86400
    assert refused(lambda: secret.rotate(394, every_seconds=10 * 60, after=250)) == "LimitExceededException"
