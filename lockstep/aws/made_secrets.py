"""AWS Secrets Manager: secrets that are made outside a stack, as the stack makes them.

    decide    DescribeSecret
    make      CreateSecret, with the tags: there is no secret without them
    tag       TagResource
    listed    ListSecrets, for each hundred secrets; what changed in the last minutes may be missing

No value is ever read, or written into a secret that exists.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockstep.adoption import Found, Wanted
from lockstep.aws.clients import STORE_ERRORS, translated
from lockstep.aws.secret_tags import describe, found_in, tag
from lockstep.provision.content import AWS_DESCRIPTION
from lockstep.provision.decide import Decision, StackTerms, in_aws, taken
from lockstep.tags import STACK_TAG

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient


@dataclass(frozen=True, kw_only=True)
class StackSecrets:
    """The secrets of a stack, as a place where secrets are made.

    Attributes:
        client: Of the region.
        terms: What the stack gives them.
        wanted: What the plan names, by name.
        new_text: Draws a first content.
    """

    client: "SecretsManagerClient"
    terms: StackTerms
    wanted: Mapping[str, Wanted]
    new_text: Callable[[], str]

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
                    SecretString=self.new_text(),
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


def listed(client: "SecretsManagerClient", stack: str) -> Iterator[tuple[str, Found]]:
    """Every secret with the tag of a stack, those included that are scheduled for deletion.

    Raises:
        StoreAccessDeniedError: The identity may not list them; likewise the other Store* errors.
    """
    # The filter takes what begins with the words, in any case
    # (https://docs.aws.amazon.com/secretsmanager/latest/userguide/manage_search-secret.html).
    wanted = [{"Key": "tag-key", "Values": [STACK_TAG]}, {"Key": "tag-value", "Values": [stack]}]
    with translated(STORE_ERRORS, store="aws"):
        pages = client.get_paginator("list_secrets").paginate(
            Filters=wanted,  # type: ignore[arg-type]  # literals that a list forgets
            IncludePlannedDeletion=True,
            PaginationConfig={"PageSize": 100},
        )
        for entry in (entry for page in pages for entry in page["SecretList"]):
            found = found_in(entry)
            if found.tags.get(STACK_TAG) == stack:
                yield entry["Name"], found
