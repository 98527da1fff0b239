"""When the long-lived keys of the runners were made. No call gives a value."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from lockstep.aws.clients import STORE_ERRORS, translated

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

_CURRENT = "AWSCURRENT"


def stored_at(client: "SecretsManagerClient", secret: str) -> datetime | None:
    """When the current version of a secret was made; None where it has none.

    The secret's own date of change is moved by a tag, too.

    Raises:
        StoreAccessDeniedError: The identity may not list the versions; likewise the other Store* errors.
    """
    with translated(STORE_ERRORS, store="aws", secret=secret):
        # Only versions with a label are listed, which are few.
        versions = client.list_secret_version_ids(SecretId=secret)["Versions"]
        return next((v["CreatedDate"] for v in versions if _CURRENT in v.get("VersionStages", ())), None)


def oldest_access_key(client: Any, user: str) -> datetime | None:  # noqa: ANN401 - botocore makes its clients' types
    """When the oldest active key of a user was made; None where it has none.

    Raises:
        StoreAccessDeniedError: The identity may not list the keys; likewise the other Store* errors.
    """
    with translated(STORE_ERRORS, username=user):
        keys = client.list_access_keys(UserName=user)["AccessKeyMetadata"]
        return min((key["CreateDate"] for key in keys if key["Status"] == "Active"), default=None)
