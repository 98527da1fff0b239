"""AWS Secrets Manager as a store: one credential in two secrets.

A generation's version id is known before the version exists, is the same for every runner, and spells the
generation out, so that a list of versions reads by itself:

    7c9f3d1e-60b4-8a2f-9c11-000000000042
    └──────── whose ───────┘ └─ which ─┘
    SHA-256 of credential    generation,
    id and secret name       12 decimal digits

It is a version 8 UUID (RFC 9562, section 5.8), since AWS recommends UUIDs. It makes staging idempotent: Secrets
Manager never puts other content under an id that it has
(https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html).

    operation          calls
    read_current       2   GetSecretValue, each secret
    stage              3   PutSecretValue, each secret; GetSecretValue of app_user
    promote            4   DescribeSecret and UpdateSecretVersionStage, each secret; 2 where it is done
    serves             2   GetSecretValue, each secret
    read_version       1   GetSecretValue
    read_generation    1   GetSecretValue; 2 for generation 0 once it is superseded
    version_of         0   2 at most for generation 0

A version that is not found costs one DescribeSecret more: AWS gives a missing secret the same error code.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from lockstep.aws.clients import Trouble, error_code, translated
from lockstep.contents import decode_app_user, decode_blob_generation, encode_app_user, encode_connection_blob
from lockstep.errors import (
    FenceLostError,
    LostCompareAndSetError,
    SecretMalformedError,
    SecretNotFoundError,
    StoreAccessDeniedError,
    StoreQuotaExceededError,
    StoreRejectedError,
    StoreThrottledError,
    StoreUnreachableError,
)
from lockstep.model import CredentialValue, Login, StoredValue
from lockstep.plan import Credential

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

CURRENT, PENDING, PREVIOUS = "AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"
_ERRORS = {
    Trouble.UNREACHABLE: StoreUnreachableError,
    Trouble.THROTTLED: StoreThrottledError,
    Trouble.DENIED: StoreAccessDeniedError,
    Trouble.REJECTED: StoreRejectedError,
}
_GENERATION_DIGITS = 12


def version_id(credential_id: str, secret: str, generation: int) -> str:
    """The id under which Lockstep writes a generation into a secret."""
    digest = hashlib.sha256(f"{credential_id}\n{secret}".encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[12:15]}-8{digest[15:18]}-{generation:0{_GENERATION_DIGITS}d}"


def generation_of(version: str, credential_id: str, secret: str) -> int:
    """The generation that a version id spells; 0 where Lockstep did not write that version."""
    own = version_id(credential_id, secret, 0)[:-_GENERATION_DIGITS]
    match = re.fullmatch(re.escape(own) + rf"([0-9]{{{_GENERATION_DIGITS}}})", version)
    return int(match[1]) if match else 0


def read_secret(client: "SecretsManagerClient", store: str, secret: str) -> str:
    """The current text of any secret."""
    return _Secret(client, store, "", secret).read_current().text


@dataclass(frozen=True, slots=True)
class _Version:
    id: str
    text: str


class SecretsManagerStore:
    """The port `Store` on two secrets of one region."""

    def __init__(self, client: "SecretsManagerClient", name: str, credential: Credential) -> None:
        self._name = name
        self._credential = credential
        names = credential.secret_names
        self._user = _Secret(client, name, credential.id, names.app_user)
        self._blob = _Secret(client, name, credential.id, names.connection_blob)

    @property
    def name(self) -> str:
        """The store's name in the plan."""
        return self._name

    def read_current(self) -> StoredValue:
        """What applications get now."""
        user, blob = self._user.read_current(), self._blob.read_current()
        return StoredValue(
            login=self._login(user),
            generation=self._user.generation_of(user.id),
            blob_generation=self._blob_generation(blob),
            version=user.id,
        )

    def read_version(self, version: str) -> Login | None:
        """The login in a version of `app_user`."""
        found = self._user.read(version)
        return self._login(found) if found else None

    def read_generation(self, generation: int) -> CredentialValue | None:
        """The value of a generation, labelled or not; for 0 what Lockstep has found or just superseded."""
        found = self._user.read_foreign() if generation == 0 else self._user.read(self.version_of(generation))
        login = self._login(found) if found else None
        return CredentialValue(generation, login) if login else None

    def stage(self, value: CredentialValue) -> CredentialValue:
        """Put the value into both secrets as AWSPENDING, unless its version ids are taken."""
        self._user.put(value.generation, encode_app_user(value, self._credential))
        standing = self.read_generation(value.generation)
        if standing is None:
            # Written a moment ago, so only the read side can be behind.
            raise LostCompareAndSetError(store=self._name, generation=value.generation)
        # connection_blob names the user of what stands in app_user, whoever put that there.
        self._blob.put(value.generation, encode_connection_blob(standing, self._credential))
        return standing

    def promote(self, generation: int) -> None:
        """Move AWSCURRENT to the generation, app_user first."""
        self._user.promote(generation)
        self._blob.promote(generation)

    def serves(self, generation: int) -> bool:
        """Whether both secrets answer with the generation."""
        return all(s.generation_of(s.read_current().id) == generation for s in (self._user, self._blob))

    def version_of(self, generation: int) -> str:
        """The version id of a generation in `app_user`; empty for a generation 0 that is gone."""
        if generation:
            return self._user.version_id(generation)
        found = self._user.read_foreign()
        return found.id if found else ""

    def prune(self) -> int:
        """Nothing to do: Secrets Manager removes versions without labels by itself."""
        return 0

    def _login(self, version: _Version) -> Login | None:
        login, claimed = decode_app_user(version.text, store=self._name, secret=self._user.name)
        self._user.check(version, claimed)
        return login

    def _blob_generation(self, version: _Version) -> int:
        written = self._blob.generation_of(version.id)
        if written:
            claimed = decode_blob_generation(version.text, store=self._name, secret=self._blob.name)
            self._blob.check(version, claimed)
        # What somebody else has put here is derived anew from the plan, so it need not make sense.
        return written


class _Secret:
    """One secret: calls, and what their failures mean."""

    def __init__(self, client: "SecretsManagerClient", store: str, credential_id: str, name: str) -> None:
        self.name = name
        self._client = client
        self._store = store
        self._credential_id = credential_id

    def version_id(self, generation: int) -> str:
        return version_id(self._credential_id, self.name, generation)

    def generation_of(self, version: str) -> int:
        return generation_of(version, self._credential_id, self.name)

    def check(self, version: _Version, claimed: int) -> None:
        """A version that Lockstep wrote says its own generation in its text, or somebody forged it."""
        if self.generation_of(version.id) not in (0, claimed):
            raise SecretMalformedError(store=self._store, secret=self.name)

    def read_current(self) -> _Version:
        found = self._read_label(CURRENT)
        if found is None:
            # The secret is there and has never held a value.
            raise SecretMalformedError(store=self._store, secret=self.name)
        return found

    def read_foreign(self) -> _Version | None:
        """The version that Lockstep found in place, while a label still names it."""
        for label in (CURRENT, PREVIOUS):
            found = self._read_label(label)
            if found and not self.generation_of(found.id):
                return found
        return None

    def read(self, version: str) -> _Version | None:
        """A version by its id, also one without labels; None where the secret has no such version."""
        with self._translated():
            try:
                reply = self._client.get_secret_value(SecretId=self.name, VersionId=version)
            except self._client.exceptions.ResourceNotFoundException:
                self._labels()
                return None
            return self._version(reply.get("VersionId", ""), reply.get("SecretString"))

    def _read_label(self, label: str) -> _Version | None:
        with self._translated():
            try:
                reply = self._client.get_secret_value(SecretId=self.name, VersionStage=label)
            except self._client.exceptions.ResourceNotFoundException:
                self._labels()
                return None
            return self._version(reply.get("VersionId", ""), reply.get("SecretString"))

    def _version(self, version: str, text: str | None) -> _Version:
        if text is None:
            # A binary secret.
            raise SecretMalformedError(store=self._store, secret=self.name)
        return _Version(version, text)

    def put(self, generation: int, text: str) -> None: ...

    def promote(self, generation: int) -> None: ...

    @contextmanager
    def _translated(self) -> Iterator[None]: ...
