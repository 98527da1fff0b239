"""IAM's OIDC providers, by their API and as a template makes them, and the access keys of users."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.executions import Client
from tests.emulators.aws.issuer import ADDRESS, AUDIENCE

URL = f"https://{ADDRESS}"


@pytest.fixture(name="iam")
def _iam(aws: AwsSandbox) -> Client:
    return aws.client("iam")


def code(call: Callable[[], object]) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


def create(iam: Client, **changed: object) -> str:
    asked = {"Url": URL, "ClientIDList": [AUDIENCE], "ThumbprintList": [], **changed}
    return str(iam.create_open_id_connect_provider(**asked)["OpenIDConnectProviderArn"])


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"Url": f"http://{ADDRESS}"}, "ValidationError"),
        ({"Url": "https://issuer.example.com:443"}, "ValidationError"),
        ({"Url": "https://issuer.example.com:8443/path"}, "ValidationError"),
        ({"Url": "https://issuer.example.com/path?query"}, "ValidationError"),
        ({"Url": "https://issuer.example.com/?"}, "ValidationError"),
        ({"Url": "https://issuer.example.com/#part"}, "ValidationError"),
        ({"Url": "https://user@issuer.example.com"}, "ValidationError"),
        ({"Url": "issuer.example.com"}, "ValidationError"),
        ({"Url": f"https://{'a' * 250}.com"}, "ValidationError"),
        ({"ThumbprintList": ["g" * 40]}, "InvalidInput"),
        ({"ThumbprintList": ["a" * 41]}, "InvalidInput"),
        ({"ClientIDList": ["a" * 256]}, "ValidationError"),
        ({"ClientIDList": [str(number) for number in range(101)]}, "LimitExceeded"),
    ],
    ids=str,
)
def test_what_the_api_reference_excludes_is_refused(
    iam: Client, changed: dict[str, Any], expected: str
) -> None:
    assert code(lambda: create(iam, **changed)) == expected


def test_there_is_one_provider_of_a_url(aws: AwsSandbox, iam: Client) -> None:
    assert create(iam) == f"arn:aws:iam::{aws.account_id}:oidc-provider/{ADDRESS}"
    assert code(lambda: create(iam)) == "EntityAlreadyExists"


def test_a_user_has_two_access_keys_at_most_and_a_dead_one_signs_nothing(
    aws: AwsSandbox, iam: Client
) -> None:
    iam.create_user(UserName="runner")
    first, second = (iam.create_access_key(UserName="runner")["AccessKey"]["AccessKeyId"] for _ in range(2))
    assert code(lambda: iam.create_access_key(UserName="runner")) == "LimitExceeded"

    def alive(key: str) -> bool:
        errors = {
            "secretsmanager": "UnrecognizedClientException",
            "sts": "InvalidClientTokenId",
            "s3": "InvalidAccessKeyId",
        }
        calls: dict[str, Callable[[Client], object]] = {
            "secretsmanager": lambda client: client.list_secrets(),
            "sts": lambda client: client.get_caller_identity(),
            "s3": lambda client: client.list_buckets(),
        }
        refused = set()
        for service, call in calls.items():
            try:
                call(aws.client_as(key, service))
            except ClientError as error:
                assert error.response["Error"]["Code"] == errors[service]  # noqa: PT017 - of three services
                refused.add(service)
        assert refused in (set(), set(errors))
        return not refused

    assert alive(first)
    iam.update_access_key(UserName="runner", AccessKeyId=first, Status="Inactive")
    assert (alive(first), alive(second)) == (False, True)
    iam.update_access_key(UserName="runner", AccessKeyId=first, Status="Active")
    assert alive(first)
    iam.delete_access_key(UserName="runner", AccessKeyId=first)
    assert not alive(first)
    listed = iam.list_access_keys(UserName="runner")["AccessKeyMetadata"]
    assert [one["AccessKeyId"] for one in listed] == [second]
