"""A secret in AWS with a key of a runner, as a person replaces its value.

A new value is staged under AWSPENDING before anything depends on it, so that a key that was registered is never lost.
It becomes current by a compare-and-set of the label.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from lockstep.aws.reads import explained
from lockstep.aws.secrets_manager import CURRENT, PENDING

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyVersion:
    """A version of the secret."""

    id: str
    text: str = field(repr=False)
    made_at: datetime


class KeySecret:
    """One secret. Every method raises an EnvironmentalError where Secrets Manager does not do it.

    Args:
        client: Of the secret's region.
        name: Its name, or its ARN.
    """

    def __init__(self, client: "SecretsManagerClient", name: str) -> None:
        self._client = client
        self.name = name

    def read(self, label: str = CURRENT) -> KeyVersion | None:
        """The version with a label; None where no version has it."""
        with explained():
            try:
                reply = self._client.get_secret_value(SecretId=self.name, VersionStage=label)
            except self._client.exceptions.ResourceNotFoundException:
                if label == CURRENT:
                    raise
                return None
            return KeyVersion(
                id=reply["VersionId"], text=reply.get("SecretString", ""), made_at=reply["CreatedDate"]
            )

    def stage(self, text: str) -> str:
        """Make a new version with the label AWSPENDING; its id."""
        with explained():
            return self._client.put_secret_value(
                SecretId=self.name, SecretString=text, VersionStages=[PENDING]
            )["VersionId"]

    def promote(self, version: str, *, seen: str) -> None:
        """Make a version current, if the one that was seen still is."""
        with explained():
            self._client.update_secret_version_stage(
                SecretId=self.name, VersionStage=CURRENT, MoveToVersionId=version, RemoveFromVersionId=seen
            )
