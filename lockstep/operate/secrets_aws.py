"""Secrets of credentials in AWS Secrets Manager: looked at, tagged, and made where they are missing.

AWS Secrets Manager: the tags of a secret, and what else decides whether Lockstep may use it.

DescribeSecret shows no value (https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_DescribeSecret.html).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lockstep.aws.clients import STORE_ERRORS, translated
from lockstep.operate.secrets import (
    AWS_DESCRIPTION,
    FIRST_TEXT,
    Decision,
    Found,
    StackTerms,
    Wanted,
    in_aws,
    taken,
)

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


# AWS Secrets Manager: the secrets of credentials, as a place where secrets are made.
#
#     decide    DescribeSecret
#     make      CreateSecret, with the tags: there is no secret without them
#     tag       TagResource
#
# No value is ever read, or written into a secret that exists.


@dataclass(frozen=True, kw_only=True)
class StackSecrets:
    """The secrets of a stack, as a place where secrets are made.

    Attributes:
        client: Of the region.
        terms: What they get.
        wanted: What the plan names, by name.
    """

    client: "SecretsManagerClient"
    terms: StackTerms
    wanted: Mapping[str, Wanted]

    def decide(self, name: str) -> Decision:
        """As `Place`.

        Raises:
            StoreAccessDeniedError: Likewise the other Store* errors.
        """
        return in_aws(self.wanted[name], describe(self.client, name), self.terms)

    def make(self, decision: Decision) -> bool:
        """As `Place`; errors as `decide`."""
        with translated(STORE_ERRORS, store="aws", secret=decision.name):
            try:
                self.client.create_secret(
                    Name=decision.name,
                    Description=AWS_DESCRIPTION,
                    KmsKeyId=self.terms.key,
                    SecretString=FIRST_TEXT,
                    Tags=[{"Key": key, "Value": value} for key, value in decision.tags.items()],
                )
            except self.client.exceptions.ResourceExistsException:
                return False
        return True

    def tag(self, decision: Decision) -> None:
        """As `Place`; errors as `decide`."""
        tag(self.client, decision.name, decision.tags)

    def taken(self, name: str) -> Decision:
        """As `Place`."""
        return taken(name)


# OCI Vault: the slots of rings, as a place where secrets are made.
#
#     decide    ListSecrets, once for the rings' compartment and for Lockstep's own; again, by name, for what was
#     tried
#     make      CreateSecret, with content and tags
#
# No content is ever read, or written into a slot that exists.
