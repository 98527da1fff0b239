"""The kinds of store that a plan can name.

A kind is one class: its keys in the plan file, its checks and the name of its adapter. To add a kind, write that class,
add it to `lockstep.store_kinds.kinds`, and what a runner needs of it to `lockstep.compiled`.
"""

from typing import TYPE_CHECKING

from lockstep.loading import load

if TYPE_CHECKING:
    from lockstep.store_kinds.aws_secrets_manager import AwsSecretsManager
    from lockstep.store_kinds.kinds import StoreConfig
    from lockstep.store_kinds.oci_vault import OciVault

__all__ = ["AwsSecretsManager", "OciVault", "StoreConfig"]


def __getattr__(name: str) -> object:
    # An adapter needs the names and the budget beside the kinds, and not pydantic.
    if name in __all__:
        return load(f"lockstep.store_kinds.kinds:{name}")
    raise AttributeError(name)
