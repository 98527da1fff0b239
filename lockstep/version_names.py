"""The name under which Lockstep writes a generation into a secret: the same rule for every store.

The name is known before the version exists, is the same for every runner, and contains the generation in plain
digits, so that a list of versions can be read without reading any value (protocol V3, V4):

    7c9f3d1e-60b4-8a2f-9c11-000000000042
    └──────── owner ───────┘ generation, 12 decimal digits
    SHA-256 of credential id and secret name

A deterministic name makes staging idempotent, since no store accepts two contents under one name. A version under any
other name was not written by Lockstep and is generation 0, whatever its text says (ADR 3).

The name is a version 8 UUID (RFC 9562, section 5.8). AWS recommends UUIDs as the token that becomes a version id, of
32 to 64 characters
(https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html); OCI takes letters, digits,
hyphens, underscores and periods as the name of a secret's content.
"""

import hashlib
import re
from dataclasses import dataclass

_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionNames:
    """The names of a secret's versions.

    Attributes:
        credential_id: Owner of the secret.
        secret: The secret's name in the plan. Its name in OCI, with dots for slashes, gives the same version names.
    """

    credential_id: str
    secret: str

    def name_of(self, generation: int) -> str:
        """The name of a generation's version."""
        return f"{self._prefix}{generation:0{_DIGITS}d}"

    def generation_of(self, name: str | None) -> int:
        """The generation in a version's name; 0 if Lockstep did not write that version."""
        match = re.fullmatch(re.escape(self._prefix) + rf"([0-9]{{{_DIGITS}}})", name or "")
        return int(match[1]) if match else 0

    @property
    def _prefix(self) -> str:
        secret = self.secret.replace("/", ".")
        digest = hashlib.sha256(f"{self.credential_id}\n{secret}".encode()).hexdigest()
        return f"{digest[:8]}-{digest[8:12]}-8{digest[12:15]}-8{digest[15:18]}-"
