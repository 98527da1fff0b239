"""The kinds of store that a plan can name.

A kind is one class: its keys in the plan file, its checks and the name of its adapter. To add a kind, write that class
and add it to `StoreConfig`.
"""

from typing import Annotated

from pydantic import Field

from lockstep.store_kinds.aws_secrets_manager import AwsSecretsManager
from lockstep.store_kinds.oci_vault import OciVault

__all__ = ["AwsSecretsManager", "OciVault", "StoreConfig"]

StoreConfig = Annotated[AwsSecretsManager | OciVault, Field(discriminator="kind")]
"""One entry of `stores` in a plan."""
