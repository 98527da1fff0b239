"""Import blocks of Terraform, by which it takes slots that were made outside it."""

from collections.abc import Iterable

_HEAD = """\
# Written by `lockstep provision --imports`. With secrets = "terraform" an apply takes these slots into the state and
# changes no content; then delete this file.
"""


def import_blocks(slots: Iterable[tuple[str, str]]) -> str:
    """The text of a file of Terraform.

    Args:
        slots: Names, which need no escapes in HCL, and OCIDs.
    """
    # `for_each` in an import block needs Terraform 1.7, and Resource Manager runs 1.5.
    blocks = (
        f'\nimport {{\n  to = oci_vault_secret.slot["{name}"]\n  id = "{ocid}"\n}}\n'
        for name, ocid in sorted(slots)
    )
    return _HEAD + "".join(blocks)
