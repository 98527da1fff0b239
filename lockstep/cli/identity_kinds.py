"""The two kinds of long-lived keys: an API key of OCI in a secret in AWS, an access key of AWS in OCI Vault."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from lockstep.aws.access_keys import MOST as MOST_ACCESS_KEYS
from lockstep.aws.access_keys import AccessKeys, owner_of
from lockstep.aws.access_keys import prove as prove_access_key
from lockstep.aws.clients import AwsKeys
from lockstep.aws.key_secret import KeySecret, KeyVersion
from lockstep.aws.secrets_manager import PENDING, PREVIOUS
from lockstep.environment import AwsActionDeniedError
from lockstep.errors import (
    LockstepError,
    LostCompareAndSetError,
    ReadSideLaggingError,
    StoreAccessDeniedError,
    TerminalError,
)
from lockstep.identity import aws_access_key, oci_api_key
from lockstep.model import SecretStr
from lockstep.oci.api_keys import MOST as MOST_API_KEYS
from lockstep.oci.api_keys import ApiKeys, KeyPair, new_pair, pair_of
from lockstep.oci.api_keys import prove as prove_api_key
from lockstep.oci.clients import OciClients, OciIdentity
from lockstep.oci.vault import Content, Vault
from lockstep.ports import Clock
from lockstep.runner_keys import ForeignOwnerError, Held, KeyState, UnknownOwnerError

_READ_SIDE_SECONDS = 60.0


class SignedClients(Protocol):
    """Gives clients that sign with a key of a runner."""

    @property
    def clock(self) -> Clock:
        """Bounds what is waited for."""

    def oci(self, identity: OciIdentity, region: str) -> OciClients:
        """Of a region of OCI."""

    def sts(self, keys: AwsKeys) -> Any:  # noqa: ANN401 - botocore makes its clients' types at run time
        """Of STS."""


@dataclass(kw_only=True)
class ApiKeyInAws:
    """An API key for OCI: `lockstep.runner_keys.RunnerKey`.

    Attributes:
        store: The secret.
        regions: Of OCI, in which the runner signs with the key: a new one is known in each of them at its own time
            (https://docs.oracle.com/iaas/Content/Identity/Tasks/managingregions.htm).
        operator: Gives the clients of a region of OCI, of who changes keys.
        signed: Gives those that sign with the key.
    """

    store: KeySecret
    regions: Sequence[str]
    operator: Any
    signed: SignedClients
    kind: str = "API key"

    @property
    def secret(self) -> str:
        """Its name."""
        return self.store.name

    def look(self) -> KeyState:
        """What there is now."""
        current, document = self._current()
        return KeyState(
            owner=document["user"],
            current=Held(id=document["fingerprint"], since=current.made_at),
            previous=self._other(PREVIOUS, document),
            pending=self._other(PENDING, document),
            registered=self._keys(document).listed(),
            most=MOST_API_KEYS,
        )

    def replace(self, state: KeyState) -> str:
        """Stage a new key, or take the pending one; register it, prove it, let the secret serve it, and prove that."""
        current, document = self._current()
        pair = self._pending_pair(state, document)
        text = json.dumps(
            {**document, "fingerprint": pair.fingerprint, "private_key": pair.private_key.reveal()}
        )
        if state.pending is None or state.pending.id != pair.fingerprint:
            self.store.stage(text)  # Before it is registered: what is registered is never lost.
        if pair.fingerprint not in state.ids:
            self._keys(document).upload(pair.public_key)
        self._prove(text)
        # Staged anew, so that the date of the version is that of the replacement.
        self.store.promote(self.store.stage(text), seen=current.id)
        self._prove(self._current()[0].text)
        return pair.fingerprint

    def delete(self, key: str) -> None:
        """Prove what is stored once more, and delete another key of the user."""
        current, document = self._current()
        if document["fingerprint"] == key:
            raise _served_again("aws", self.secret)
        self._prove(current.text)
        self._keys(document).delete(key)

    def _current(self) -> tuple[KeyVersion, Mapping[str, Any]]:
        found = self.store.read()
        if found is None:
            raise StoreAccessDeniedError(store="aws", secret=self.secret, code="not-a-key")
        oci_api_key(found.text, store="aws", secret=self.secret)
        return found, json.loads(found.text)

    def _other(self, label: str, current: Mapping[str, Any]) -> Held | None:
        """The key of the same user in the version with a label."""
        found = self.store.read(label)
        try:
            key = oci_api_key(found.text, store="aws", secret=self.secret).config if found else None
        except StoreAccessDeniedError:
            return None
        is_of_user = found and key and key["user"] == current["user"]
        return Held(id=key["fingerprint"], since=found.made_at) if found and key and is_of_user else None

    def _pending_pair(self, state: KeyState, current: Mapping[str, Any]) -> KeyPair:
        if state.pending is None or state.pending.id == current["fingerprint"]:
            return new_pair()
        found = self.store.read(PENDING)
        try:
            return pair_of(SecretStr(json.loads(found.text)["private_key"])) if found else new_pair()
        except (ValueError, LookupError, TypeError):
            return new_pair()

    def _keys(self, document: Mapping[str, Any]) -> ApiKeys:
        return ApiKeys(
            self.operator, tenancy=document["tenancy"], user=document["user"], region=document["region"]
        )

    def _prove(self, text: str) -> None:
        identity = oci_api_key(text, store="aws", secret=self.secret)
        for region in dict.fromkeys((identity.config["region"], *self.regions)):
            prove_api_key(self.signed.oci(identity, region), self.signed.clock)


@dataclass(kw_only=True)
class AccessKeyInOci:
    """An access key for AWS: `lockstep.runner_keys.RunnerKey`.

    Attributes:
        vault: Where its secret is.
        secret: Its name there.
        iam: A client of IAM, of who changes keys.
        signed: Gives those that sign with the key.
        user: Whose key it is, if that is not to be asked.
    """

    vault: Vault
    secret: str
    iam: Any
    signed: SignedClients
    user: str | None = None
    kind: str = "access key"
    _owner: str | None = field(default=None, init=False)

    def look(self) -> KeyState:
        """What there is now."""
        secret_id, current = self._current()
        key = self._key(current)
        self._owner = self._owner or self.user or owner_of(self.iam, key.access_key_id)
        if self._owner is None:
            raise UnknownOwnerError(key.access_key_id)
        registered = AccessKeys(self.iam, self._owner).listed()
        if key.access_key_id not in {known.id for known in registered}:
            self._require_no_other_owner(key.access_key_id)
        return KeyState(
            owner=self._owner,
            current=Held(id=key.access_key_id, since=current.created_at or self.signed.clock.now()),
            previous=self._previous(secret_id),
            registered=registered,
            most=MOST_ACCESS_KEYS,
        )

    def _require_no_other_owner(self, key: str) -> None:
        """The runner is not made another user: the key may be deleted, but is not somebody else's.

        Raises:
            ForeignOwnerError: It is, as far as this identity may ask.
        """
        with suppress(AwsActionDeniedError):
            owner = owner_of(self.iam, key)
            if owner not in {None, self._owner}:
                raise ForeignOwnerError(key, str(owner))

    def replace(self, state: KeyState) -> str:
        """Make a key, prove it, let the secret serve it, and prove that.

        A key whose secret could not be stored is of no use to anyone, and is deleted.
        """
        secret_id, current = self._current()
        etag = self.vault.state(self.secret, secret_id).etag
        document = json.loads(self.vault.text(self.secret, current))
        keys = AccessKeys(self.iam, state.owner)
        made = keys.make()
        text = json.dumps(
            {
                **document,
                "access_key_id": made.access_key_id,
                "secret_access_key": made.secret_access_key.reveal(),
            }
        )
        try:
            prove_access_key(self.signed.sts(made), self.signed.clock)
        except (LockstepError, KeyboardInterrupt):
            keys.delete(made.access_key_id)
            raise
        try:
            self.vault.put_current(self.secret, secret_id, text, etag=etag)
        except (TerminalError, LostCompareAndSetError):
            # After any other error it may be stored, now or in a moment, and whoever reads it must be able to use it.
            keys.delete(made.access_key_id)
            raise
        self._prove_stored(made.access_key_id)
        return made.access_key_id

    def delete(self, key: str) -> None:
        """Let another key of the user work no more, prove what is stored once more, and delete the other."""
        _, current = self._current()
        held = self._key(current).access_key_id
        if held == key:
            raise _served_again(self.vault.store, self.secret)
        keys = AccessKeys(self.iam, self.look().owner)
        keys.deactivate(key)
        self._prove_stored(held)
        keys.delete(key)

    def _current(self) -> tuple[str, Content]:
        """The secret's OCID, and its current version once the read side has what management says.

        Raises:
            SecretNotFoundError, StoreAccessDeniedError: It is not there; likewise the other Store* errors.
            ReadSideLaggingError: The read side does not have it in time.
        """
        secret_id = self.vault.secret_id(self.secret)
        if secret_id is None:
            raise StoreAccessDeniedError(store=self.vault.store, secret=self.secret, code="deleted")
        number = self.vault.state(self.secret, secret_id).current_number
        clock = self.signed.clock
        deadline = clock.monotonic() + _READ_SIDE_SECONDS
        while (found := self.vault.current(self.secret, secret_id)).number != number:
            if clock.monotonic() > deadline:
                raise ReadSideLaggingError(store=self.vault.store, secret=self.secret)
            clock.sleep(1)
        return secret_id, found

    def _previous(self, secret_id: str) -> Held | None:
        versions = self.vault.versions(self.secret, secret_id)
        number = next((v.version_number for v in versions if "PREVIOUS" in v.stages), None)
        found = self.vault.read(self.secret, secret_id, version_number=number) if number else None
        if found is None or found.text is None:
            return None
        try:
            key = self._key(found)
        except StoreAccessDeniedError:
            return None
        return Held(id=key.access_key_id, since=found.created_at or self.signed.clock.now())

    def _key(self, content: Content) -> AwsKeys:
        return aws_access_key(
            self.vault.text(self.secret, content), store=self.vault.store, secret=self.secret
        )

    def _prove_stored(self, wanted: str) -> None:
        _, current = self._current()
        key = self._key(current)
        if key.access_key_id != wanted:
            raise LostCompareAndSetError(store=self.vault.store, secret=self.secret)
        prove_access_key(self.signed.sts(key), self.signed.clock)


def _served_again(store: str, secret: str) -> LostCompareAndSetError:
    """Somebody has put the old key back since it was looked at: it is not deleted."""
    return LostCompareAndSetError(store=store, secret=secret)
