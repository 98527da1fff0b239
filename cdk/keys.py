"""Keys of KMS that sign, as the plan names them: made under an alias, adopted by it, or given by id or ARN."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aws_cdk import Aws, CfnResource, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from cdk.audit_policy import signers_only

KEPT = RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE
"""What outlives the stack. A deployment that makes it and fails removes it again, so that the next one can make it."""


@dataclass(frozen=True, kw_only=True)
class NamedKey:
    """A key, as a policy can name it.

    Attributes:
        arn: Its ARN; of any key of the account and region, if only its alias is known.
        alias: The alias that it must have, where `arn` does not name one key.
    """

    arn: str
    alias: str | None = None

    @property
    def named(self) -> str:
        """What a call names: the key, or its alias where that is all that is known."""
        return self.arn.replace("key/*", self.alias) if self.alias else self.arn

    @property
    def condition(self) -> Mapping[str, Mapping[str, object]]:
        """The condition under which a key is this one, where it is known by its alias only."""
        # https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html#conditions-kms-resource-aliases
        return {"ForAnyValue:StringEquals": {"kms:ResourceAliases": self.alias}} if self.alias else {}


@dataclass(frozen=True, kw_only=True)
class Made:
    """How a key is made.

    Attributes:
        construct_id: The name of its construct.
    """

    construct_id: str
    description: str
    spec: kms.KeySpec
    usage: kms.KeyUsage


def digest_alias(stack: str) -> str:
    """The alias of the key that signs digests. The plan has its public half only."""
    return f"alias/{stack}-digests"


def named_key(
    scope: Construct, named: str, made: Made, *, adopted: bool, signers: Sequence[str] | None = None
) -> NamedKey:
    """The key that the plan names. For an alias it is made here, unless it is adopted.

    Args:
        scope: Where it is made.
        named: Its name in the plan.
        made: How it is made.
        adopted: Whether it exists.
        signers: The principals that may sign with one that is made here; None: those whom IAM lets.
    """
    if named.startswith("arn:"):
        return NamedKey(arn=named)
    keys = f"arn:{Aws.PARTITION}:kms:{Aws.REGION}:{Aws.ACCOUNT_ID}:key"
    if not named.startswith("alias/"):
        return NamedKey(arn=f"{keys}/{named}")
    if adopted:
        return NamedKey(arn=f"{keys}/*", alias=named)
    key = kms.Key(
        scope,
        made.construct_id,
        alias=named,
        description=made.description,
        key_spec=made.spec,
        key_usage=made.usage,
        removal_policy=KEPT,
    )
    keep_alias(key)
    if signers is not None:
        action = "kms:Sign" if made.usage == kms.KeyUsage.SIGN_VERIFY else "kms:GenerateMac"
        key.add_to_resource_policy(iam.PolicyStatement.from_json(signers_only(action, signers)))
    return NamedKey(arn=key.key_arn)


def keep_alias(key: kms.Key) -> None:
    """Without its alias nothing would find the key again, and the next deployment would make another one."""
    alias = key.node.find_child("Alias").node.default_child
    if isinstance(alias, CfnResource):
        alias.apply_removal_policy(KEPT)
