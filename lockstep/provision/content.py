"""What a secret holds and says of itself before its first rotation: the same, whoever makes it.

The stack (`cdk/foundation.py`) and Terraform (`oci_fn/terraform/secrets.tf`) make secrets too; tests compare them.
"""

import json
import string
from typing import Final

from lockstep.extras import GENERATED, PLACEHOLDER
from lockstep.model import PasswordPolicy
from lockstep.ports import PasswordSource

AWS_DESCRIPTION: Final = "Lockstep rotates this secret"
AWS_TEMPLATE: Final = json.dumps({PLACEHOLDER: "lockstep"})
"""The first content of a secret in AWS, to which `GENERATED` is added.

Do not change it: if it changes, CloudFormation generates it again and overwrites the value that applications use.
"""
GENERATED_LENGTH: Final = 32
_CLASSES = (string.ascii_letters, string.digits)

OCI_DESCRIPTION: Final = "A slot of a ring. Lockstep rotates it."
OCI_TEXT: Final = json.dumps({PLACEHOLDER: "the first rotation replaces this"}, separators=(",", ":"))
"""The first content of a slot in OCI, which is no secret: Terraform keeps it in its state."""


def aws_text(passwords: PasswordSource) -> str:
    """The first content of a secret in AWS, as Secrets Manager generates it for the stack."""
    drawn = passwords.new_password(PasswordPolicy(length=GENERATED_LENGTH, classes=_CLASSES))
    return json.dumps({**json.loads(AWS_TEMPLATE), GENERATED: drawn.reveal()})
