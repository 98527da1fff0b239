"""The store kind `aws-secrets-manager`."""

from typing import ClassVar, Literal

from lockstep.plan_fields import Name
from lockstep.store_kinds.base import StoreKind


class AwsSecretsManager(StoreKind):
    """The AWS store."""

    adapter: ClassVar[str] = "lockstep.aws.secrets_manager:open_secret"

    kind: Literal["aws-secrets-manager"]
    name: Name = "aws"
    region: str
