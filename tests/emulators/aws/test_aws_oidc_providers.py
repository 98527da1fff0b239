"""IAM's OIDC providers and the access keys of users, where moto is more lenient than IAM."""

from typing import Any

import pytest

from sandbox.emulators.aws import AwsSandbox
from tests.emulators.aws.conftest import policy, refused
from tests.emulators.aws.issuer import ADDRESS, AUDIENCE


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        *(
            ({"Url": url}, "ValidationError")
            for url in (
                f"http://{ADDRESS}",
                "https://issuer.example.com:443",
                "https://issuer.example.com/path?query",
                "https://issuer.example.com/#part",
                "https://user@issuer.example.com",
                "issuer.example.com",
            )
        ),
        ({"ThumbprintList": ["g" * 40]}, "InvalidInput"),
    ],
    ids=str,
)
def test_what_the_reference_excludes_is_refused(
    aws: AwsSandbox, changed: dict[str, Any], expected: str
) -> None:
    asked = {"Url": f"https://{ADDRESS}", "ClientIDList": [AUDIENCE], "ThumbprintList": [], **changed}
    assert refused(aws.client("iam").create_open_id_connect_provider, **asked) == expected


def test_a_policy_that_is_attached_stays_and_a_boundary_must_exist(aws: AwsSandbox) -> None:
    iam = aws.client("iam")
    made = iam.create_policy(PolicyName="p", PolicyDocument=policy({"Action": "s3:*"}))
    iam.create_role(RoleName="r", AssumeRolePolicyDocument="{}")
    iam.attach_role_policy(RoleName="r", PolicyArn=made["Policy"]["Arn"])
    assert refused(iam.delete_policy, PolicyArn=made["Policy"]["Arn"]) == "DeleteConflict"
    asked = {"AssumeRolePolicyDocument": "{}", "PermissionsBoundary": f"{made['Policy']['Arn']}-other"}
    assert refused(iam.create_role, RoleName="other", **asked) == "NoSuchEntity"
