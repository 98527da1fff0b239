"""Secrets of credentials in AWS Secrets Manager: looked at, tagged, and made where they are missing.

AWS Secrets Manager: the tags of a secret, and what else decides whether Lockstep may use it.

DescribeSecret shows no value (https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_DescribeSecret.html).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lockstep.aws.clients import STORE_ERRORS, translated
from lockstep.aws.reads import Client
from lockstep.operate.secrets import (
    AWS_DESCRIPTION,
    FIRST_TEXT,
    Decision,
    StackTerms,
    Wanted,
    in_aws,
    taken,
)

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient


def describe(client: "SecretsManagerClient", name: str) -> Mapping[str, Any] | None:
    """The secret as it is; None where there is none of this name.

    Raises:
        StoreAccessDeniedError: The identity may not describe it; likewise the other Store* errors.
    """
    with translated(STORE_ERRORS, store="aws", secret=name):
        try:
            found: Mapping[str, Any] = client.describe_secret(SecretId=name)
        except client.exceptions.ResourceNotFoundException:
            return None
        return found


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
        client: Gives a client of a service in a region, which tries each call once.
        terms: What they get.
        wanted: What the plan names, by name.
        consent: Whether what people made is tagged, and nothing is made.
    """

    client: Client
    terms: StackTerms
    wanted: Mapping[str, Wanted]
    consent: bool = False

    def decide(self, name: str) -> Decision:
        """As `Place`.

        Raises:
            StoreAccessDeniedError: Likewise the other Store* errors.
        """
        found = describe(self._at(name), name)
        return in_aws(self.wanted[name], found, self.terms, consent=self.consent)

    def make(self, decision: Decision) -> bool:
        """As `Place`; errors as `decide`."""
        client = self._at(decision.name)
        with translated(STORE_ERRORS, store="aws", secret=decision.name):
            try:
                client.create_secret(
                    Name=decision.name,
                    Description=AWS_DESCRIPTION,
                    KmsKeyId=self.terms.key or "",
                    SecretString=FIRST_TEXT,
                    Tags=[{"Key": key, "Value": value} for key, value in decision.tags.items()],
                )
            except client.exceptions.ResourceExistsException:
                return False
        return True

    def tag(self, decision: Decision) -> None:
        """As `Place`; errors as `decide`."""
        tag(self._at(decision.name), decision.name, decision.tags)

    def taken(self, name: str) -> Decision:
        """As `Place`."""
        return taken(name)

    def _at(self, name: str) -> "SecretsManagerClient":
        found: SecretsManagerClient = self.client("secretsmanager", self.wanted[name].region)
        return found
