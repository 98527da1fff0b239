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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockstep.aws.clients import Trouble, error_code, translated
from lockstep.contents import decode_app_user, decode_blob_generation, encode_app_user, encode_connection_blob
from lockstep.errors import (
    FenceLostError,
    LostCompareAndSetError,
    ReadSideLaggingError,
    SecretMalformedError,
    SecretNotFoundError,
    StoreAccessDeniedError,
    StoreQuotaExceededError,
    StoreRejectedError,
    StoreThrottledError,
    StoreUnreachableError,
)
from lockstep.model import Credential, CredentialValue, Login, StoredValue

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
    return (
        f"{digest[:8]}-{digest[8:12]}-8{digest[12:15]}-8{digest[15:18]}-{generation:0{_GENERATION_DIGITS}d}"
    )


def generation_of(version: str, credential_id: str, secret: str) -> int:
    """The generation that a version id spells; 0 where Lockstep did not write that version."""
    own = version_id(credential_id, secret, 0)[:-_GENERATION_DIGITS]
    match = re.fullmatch(re.escape(own) + rf"([0-9]{{{_GENERATION_DIGITS}}})", version)
    return int(match[1]) if match else 0


def read_secret(client: "SecretsManagerClient", store: str, secret: str) -> str:
    """The current text of any secret."""
    return _Secret(client, store, secret).read_current().text


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
        self._user = _CredentialSecret(client, name, names.app_user, credential.id)
        self._blob = _CredentialSecret(client, name, names.connection_blob, credential.id)

    @property
    def name(self) -> str:
        """The store's name in the plan."""
        return self._name

    def read_current(self) -> StoredValue:
        """What applications get now."""
        user, blob = self._user.read_current(), self._blob.read_current()
        return StoredValue(
            login=self._login(user),
            generation=self._user.generation_of(user),
            blob_generation=self._blob_generation(blob),
            version=user.id,
        )

    def read_version(self, version: str) -> Login | None:
        """The login in a version of `app_user`."""
        found = self._user.read(version)
        return self._login(found) if found else None

    def read_generation(self, generation: int) -> CredentialValue | None:
        """The value of a generation, labelled or not; for 0 what Lockstep found, while a label names it."""
        found = (
            self._user.read(self._user.version_id(generation)) if generation else self._user.read_foreign()
        )
        login = self._login(found) if found else None
        return CredentialValue(generation, login) if login else None

    def stage(self, value: CredentialValue) -> CredentialValue:
        """Put the value into both secrets as AWSPENDING, unless its version ids are taken."""
        self._user.put(self._user.version_id(value.generation), encode_app_user(value, self._credential))
        standing = self.read_generation(value.generation)
        if standing is None:
            raise ReadSideLaggingError(store=self._name, generation=value.generation)
        # What stands there may be another run's, so connection_blob follows it and not the argument.
        blob_id = self._blob.version_id(value.generation)
        written = self._blob.put(blob_id, encode_connection_blob(standing, self._credential))
        if not written and (taken := self._blob.read(blob_id)):
            self._blob_generation(taken)  # Written with an older plan, it is fine; forged, it is not.
        return standing

    def promote(self, generation: int, still_ours: Callable[[], object]) -> None:
        """Move AWSCURRENT to the generation, app_user first."""
        secrets = (self._user, self._blob)
        seen = [s.current_below(generation) for s in secrets]
        still_ours()
        for secret, current in zip(secrets, seen, strict=True):
            if current:
                secret.move_current(current, secret.version_id(generation))

    def serves(self, generation: int) -> bool:
        """Whether both secrets answer with the generation."""
        return all(s.generation_of(s.read_current()) == generation for s in (self._user, self._blob))

    def version_of(self, generation: int) -> str:
        """The version id of a generation in `app_user`; empty for a generation 0 that no label names."""
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
        written = self._blob.generation_of(version)
        if written:
            claimed = decode_blob_generation(version.text, store=self._name, secret=self._blob.name)
            self._blob.check(version, claimed)
        # What somebody else put there need not make sense: it is derived anew from the plan.
        return written


class _Secret:
    """One secret: the calls, and what their failures mean."""

    def __init__(self, client: "SecretsManagerClient", store: str, name: str) -> None:
        self.name = name
        self.store = store
        self._client = client

    def read_current(self) -> _Version:
        found = self.read_label(CURRENT)
        if found is None:
            raise self.malformed()  # It is there and has never held a value.
        return found

    def read(self, version: str) -> _Version | None:
        """A version by its id, also one without labels; None where the secret has no such version."""
        return self._read(VersionId=version)

    def read_label(self, label: str) -> _Version | None:
        """The version that a label names; None where it names none."""
        return self._read(VersionStage=label)

    def current_id(self) -> str:
        """The id of the current version, without its text."""
        with self.translated():
            labels = self._client.describe_secret(SecretId=self.name).get("VersionIdsToStages", {})
            found = next((v for v, stages in labels.items() if CURRENT in stages), None)
        if found is None:
            raise self.malformed()
        return found

    def put(self, version: str, text: str) -> bool:
        """Write a pending version; False where other content has that id."""
        with self.translated():
            try:
                self._client.put_secret_value(
                    SecretId=self.name, ClientRequestToken=version, SecretString=text, VersionStages=[PENDING]
                )
            except self._client.exceptions.ResourceExistsException:
                return False
        return True

    def move_current(self, seen: str, target: str) -> None:
        """Make a version current if `seen` still is.

        Raises:
            LostCompareAndSetError: Another version has become current.
        """
        refusals = (
            self._client.exceptions.InvalidParameterException,
            self._client.exceptions.ResourceNotFoundException,
        )
        with self.translated():
            try:
                self._client.update_secret_version_stage(
                    SecretId=self.name,
                    VersionStage=CURRENT,
                    MoveToVersionId=target,
                    RemoveFromVersionId=seen,
                )
            except refusals as error:
                # AWS has no code of its own for a lost compare-and-set, so a second look tells.
                if self.current_id() != seen:
                    raise LostCompareAndSetError(store=self.store, secret=self.name) from None
                raise StoreRejectedError(store=self.store, secret=self.name, code=error_code(error)) from None

    def malformed(self) -> SecretMalformedError:
        return SecretMalformedError(store=self.store, secret=self.name)

    @contextmanager
    def translated(self) -> Iterator[None]:
        with translated(_ERRORS, store=self.store, secret=self.name):
            try:
                yield
            except self._client.exceptions.ResourceNotFoundException:
                raise SecretNotFoundError(store=self.store, secret=self.name) from None
            except self._client.exceptions.LimitExceededException:
                raise StoreQuotaExceededError(store=self.store, secret=self.name) from None

    def _read(self, **which: str) -> _Version | None:
        with self.translated():
            try:
                reply = self._client.get_secret_value(SecretId=self.name, **which)
            except self._client.exceptions.ResourceNotFoundException:
                self._client.describe_secret(SecretId=self.name)  # Is it the secret that is missing?
                return None
            text: object = reply.get("SecretString")
            if not isinstance(text, str):
                raise self.malformed()  # It is binary.
            return _Version(str(reply["VersionId"]), text)


class _CredentialSecret(_Secret):
    """One of a credential's two secrets: versions named by generation."""

    def __init__(self, client: "SecretsManagerClient", store: str, name: str, credential_id: str) -> None:
        super().__init__(client, store, name)
        self._credential_id = credential_id

    def version_id(self, generation: int) -> str:
        return version_id(self._credential_id, self.name, generation)

    def generation_of(self, version: _Version) -> int:
        return generation_of(version.id, self._credential_id, self.name)

    def read_foreign(self) -> _Version | None:
        """The version that Lockstep found in place, while a label still names it."""
        found = (self.read_label(label) for label in (CURRENT, PREVIOUS))
        return next((v for v in found if v and not self.generation_of(v)), None)

    def check(self, version: _Version, claimed: int) -> None:
        """A version with an id of ours that claims another generation has been forged."""
        if self.generation_of(version) not in (0, claimed):
            raise self.malformed()

    def current_below(self, generation: int) -> str | None:
        """The id of the current version, which a promotion replaces; None where it is the generation already."""
        seen = self.current_id()
        current = generation_of(seen, self._credential_id, self.name)
        if current > generation:
            raise FenceLostError(store=self.store, secret=self.name, generation=generation)
        return None if current == generation else seen
