"""What an entry of `stores` in a plan can be."""

from typing import Annotated

from pydantic import Field

from lockstep.store_kinds.aws_secrets_manager import AwsSecretsManager
from lockstep.store_kinds.oci_vault import OciVault

StoreConfig = Annotated[AwsSecretsManager | OciVault, Field(discriminator="kind")]
"""One entry of `stores` in a plan."""
