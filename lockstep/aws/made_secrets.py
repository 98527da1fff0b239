"""AWS Secrets Manager: the secrets of credentials, as a place where secrets are made.

    decide    DescribeSecret
    make      CreateSecret, with the tags: there is no secret without them
    tag       TagResource

No value is ever read, or written into a secret that exists.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockstep.adoption import Wanted
from lockstep.aws.clients import STORE_ERRORS, translated
from lockstep.aws.secret_tags import describe, tag
from lockstep.provision.content import AWS_DESCRIPTION, FIRST_TEXT
from lockstep.provision.decide import Decision, StackTerms, in_aws, taken

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient


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
