"""AWS Secrets Manager: the tags of a secret, and what else decides whether Lockstep may use it.

DescribeSecret shows no value (https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_DescribeSecret.html).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lockstep.adoption import Found
from lockstep.aws.clients import STORE_ERRORS, translated

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient


def describe(client: "SecretsManagerClient", name: str) -> Found | None:
    """The secret as it is; None where there is none of this name.

    Raises:
        StoreAccessDeniedError: The identity may not describe it; likewise the other Store* errors.
    """
    with translated(STORE_ERRORS, store="aws", secret=name):
        try:
            reply = client.describe_secret(SecretId=name)
        except client.exceptions.ResourceNotFoundException:
            return None
        return _found(reply)


def _found(entry: Mapping[str, Any]) -> Found:
    return Found(
        arn=entry["ARN"],
        tags={tag["Key"]: tag["Value"] for tag in entry.get("Tags", [])},
        key=entry.get("KmsKeyId"),
        is_rotated=bool(entry.get("RotationEnabled")),
        is_deleted="DeletedDate" in entry,
        primary_region=entry.get("PrimaryRegion"),
        owning_service=entry.get("OwningService"),
    )


def tag(client: "SecretsManagerClient", name: str, tags: Mapping[str, str]) -> None:
    """Add tags; others stay.

    Raises:
        StoreAccessDeniedError: The identity may not tag it; likewise the other Store* errors.
    """
    with translated(STORE_ERRORS, store="aws", secret=name):
        client.tag_resource(SecretId=name, Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
