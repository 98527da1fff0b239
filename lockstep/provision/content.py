"""What a secret holds and says of itself before its first rotation."""

import json
from typing import Final

from lockstep.extras import PLACEHOLDER

FIRST_TEXT: Final = json.dumps({PLACEHOLDER: "the first rotation replaces this"}, separators=(",", ":"))
"""The first content, in both clouds. It is no secret."""
AWS_DESCRIPTION: Final = "Lockstep rotates this secret"
OCI_DESCRIPTION: Final = "A slot of a ring. Lockstep rotates it."
