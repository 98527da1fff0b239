"""Names under which Lockstep keeps things: generations, secrets, tags, what a stack makes.

The name under which Lockstep writes a generation into a secret: the same rule for every store.

The name is known before the version exists, is the same for every runner, and contains the generation in plain
digits, so that a list of versions can be read without reading any value (protocol V3):

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
from enum import StrEnum
from typing import Final

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


# What makes two databases one server.

Server = tuple[str, int]
"""Host and port."""


def server_of(host: str, port: int) -> Server:
    """The server at a host and port. Names that only DNS shows to be the same stay different."""
    plain = host.lower().removesuffix(".")
    return "127.0.0.1" if plain == "localhost" else plain, port


# The tags by which IAM policies know Lockstep's secrets.

STACK_TAG = "lockstep:stack"
"""On every resource: the stack that may use it."""

SECRET_TAG = "lockstep:secret"  # noqa: S105 - the name of a tag
"""On every secret: a `SecretKind`."""


class SecretKind(StrEnum):
    """What a secret in AWS is for. Each function may use some kinds only."""

    APP_USER = "app_user"
    CONNECTION_BLOB = "connection_blob"
    ADMIN = "admin"
    RUNNER_KEY = "runner-key"
    """What the AWS runner proves itself with in OCI, where it writes there too: API key or client secret."""
    RUNNER_READER_KEY = "runner-reader-key"
    """The API key of the functions that only read in OCI, where the plan gives them one of their own."""


# The names that a stack gives to what the commands look for in AWS. All begin with the stack's own name.

DEFAULT_STACK = "lockstep"
"""The prefix of all names in AWS, unless `cdk.json` gives another one."""

LIVE: Final = "live"
CANARY: Final = "canary"
"""The aliases of the state machine by which runs start: that of the canary, and that of every other credential."""

DOCTOR: Final = "doctor"
"""The alias of a function in AWS, and the name of the function in OCI, that answers `lockstep doctor --in-cloud` and
nothing else, so that a policy can tell the right to diagnose (ADR 82)."""


def plan_bucket_name(audit_bucket: str) -> str:
    """The name of the bucket that holds the published plan, in both clouds: that of the audit log, with an ending."""
    return f"{audit_bucket}-plans"


def digest_bucket_name(audit_bucket: str) -> str:
    """The name of OCI's bucket of digests: objects of the audit log's Archive tier cannot be read at once."""
    return f"{audit_bucket}-digests"


def state_machine_name(stack: str) -> str:
    """The name of the state machine."""
    return stack


def fleet_machine_name(stack: str) -> str:
    """The name of the state machine that starts the rotations of a shard."""
    return f"{stack}-fleet"


def function_names(stack: str, step: str) -> tuple[str, str]:
    """The names that a step's function can have: from an image, and from a zip.

    Another package type replaces a function, and CloudFormation makes the new one before it deletes the old one.
    """
    name = f"{stack}-{step.replace('_', '-')}"
    return name, f"{name}-zip"


KEY_OUTPUT: Final = "EncryptionKeyArn"
"""The output of the stack that names the key of what it makes."""


# The names of a plan's secrets in OCI Vault.


def oci_name(name: str) -> str:
    """A secret's name as OCI takes it: letters, digits, hyphens, underscores and periods, no slash."""
    return name.replace("/", ".")


def slot_name(secret: str, slot: int) -> str:
    """The OCI secret that is a slot of a secret of the plan."""
    return f"{oci_name(secret)}.{slot}"
