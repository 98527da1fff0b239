"""OCI Vault as a store: one credential in two rings of secrets (`lockstep.oci.ring`).

What stands where is decided by management's list of versions; contents come from the read side. With k slots:

    operation          calls
    read_current       2k       get_secret_bundle, each slot
    stage              2k + 3   list_secret_versions, each slot; update_secret, each secret; get_secret_bundle
    promote            2k + 4   list_secret_versions, each slot; get_secret and update_secret, each secret
    serves             2k       get_secret_bundle, each slot
    read_version       1        get_secret_bundle
    read_generation    k + 1    list_secret_versions, each slot of app_user; get_secret_bundle, or get_secret
    version_of         0        after a promotion by the same object, else k
    prune              2        schedule_secret_version_deletion, each secret; else 2k more, as version_of

and one list_secrets for each slot that a process has not met yet. A slot that is deleted, or about to be, is passed
over: the ring goes on with the others, and says so in the log.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from lockstep.contents import decode_app_user, decode_blob_generation, encode_app_user, encode_connection_blob
from lockstep.errors import (
    FenceLostError,
    LockstepError,
    LostCompareAndSetError,
    ReadSideLaggingError,
    SecretMalformedError,
    SecretNotFoundError,
    StagedValueConflictError,
    StoreQuotaExceededError,
    StoreRejectedError,
)
from lockstep.model import Credential, CredentialValue, Login, StoredValue
from lockstep.oci import ring
from lockstep.oci.ring import Slot, Slots, Version
from lockstep.oci.vault import Content, Vault
from lockstep.ports import Clock
from lockstep.store_kinds import oci_vault
from lockstep.store_kinds.oci_budget import DELETION_LEAD

READ_BACK_TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 0.5
PRUNED_AT_ONCE = 5
"""Of one slot; a rotation supersedes one version, so what an outage left over is gone after a few."""

logger = logging.getLogger("lockstep")


class VaultRingStore:
    """The port `Store` on two rings of one vault.

    Args:
        vault: Where the slots are.
        credential: Whose secrets.
        slots: How many slots each ring has.
        clock: For the bounded wait for the read side, and for the time of deletions.
    """

    def __init__(self, vault: Vault, credential: Credential, *, slots: int, clock: Clock) -> None:
        self._credential = credential
        self._store = vault.store
        names = credential.secret_names
        self._user = _Ring(vault, names.app_user, credential.id, slots, clock)
        self._blob = _Ring(vault, names.connection_blob, credential.id, slots, clock)

    @property
    def name(self) -> str:
        """The store's name in the plan."""
        return self._store

    def read_current(self) -> StoredValue:
        """What applications get now."""
        slot, user = self._user.read_serving()
        _, blob = self._blob.read_serving()
        return StoredValue(
            login=self._login(user),
            generation=self._user.generation_of(user),
            blob_generation=self._blob_generation(blob),
            version=_version(slot, user.number),
        )

    def read_version(self, version: str) -> Login | None:
        """The login in a version of `app_user`, named `<slot>:<version number>`."""
        slot, _, number = version.partition(":")
        if not (slot.isdecimal() and number.isdecimal()):
            return None
        found = self._user.read(int(slot), int(number))
        return self._login(found) if found else None

    def read_generation(self, generation: int) -> CredentialValue | None:
        """The value of a generation; for 0 what Lockstep found in the first slot, while a stage names it."""
        found = self._user.read_generation(generation)
        login = self._login(found) if found else None
        return CredentialValue(generation, login) if login else None

    def stage(self, value: CredentialValue) -> CredentialValue:
        """Put the value into both rings as PENDING, unless its generation stands there in whatever stage."""
        slot, _ = self._user.stage(value.generation, encode_app_user(value, self._credential))
        login = self._login(self._user.read_back(slot, value.generation))
        if login is None:
            raise SecretMalformedError(store=self._store, secret=self._user.secret)
        # What stands there may be another run's, so connection_blob follows it and not the argument.
        standing = CredentialValue(value.generation, login)
        blob_text = encode_connection_blob(standing, self._credential)
        slot, is_ours = self._blob.stage(value.generation, blob_text)
        if not is_ours:
            # Written with an older plan, it is fine; forged, it is not.
            self._blob_generation(self._blob.read_back(slot, value.generation))
        return standing

    def promote(self, generation: int, still_ours: Callable[[], object]) -> None:
        """Make the generation's slot serve it, `app_user` first."""
        promotions = [r.promotion(generation) for r in (self._user, self._blob)]
        still_ours()
        for promote in filter(None, promotions):
            promote()

    def serves(self, generation: int) -> bool:
        """Whether the read side shows the generation as the value of both rings."""
        return all(r.generation_of(r.read_serving()[1]) == generation for r in (self._user, self._blob))

    def version_of(self, generation: int) -> str:
        """`<slot>:<version number>` of a generation in `app_user`; empty where it stands nowhere."""
        found = self._user.find(generation)
        return _version(found[0].index, found[1].number) if found else ""

    def prune(self) -> int:
        """Schedule the deletion of superseded versions; how many.

        Never raises a store's error: the rotation is done when this is called, and what stays now goes next time.
        Each failure is a warning in the log; one that lasts ends in StoreQuotaExceededError, before any change.
        """
        return self._user.prune() + self._blob.prune()

    def _login(self, content: Content) -> Login | None:
        text = self._user.text(content)
        login, claimed = decode_app_user(text, store=self._store, secret=self._user.secret)
        self._user.check(content, claimed)
        return login

    def _blob_generation(self, content: Content) -> int:
        written = self._blob.generation_of(content)
        if written:
            text = self._blob.text(content)
            claimed = decode_blob_generation(text, store=self._store, secret=self._blob.secret)
            self._blob.check(content, claimed)
        # What somebody else put there need not make sense: it is derived anew from the plan.
        return written


def _version(slot: int, number: int) -> str:
    return f"{slot}:{number}"


class _Ring:
    """One secret of the credential: its slots, and the calls that each operation makes."""

    def __init__(self, vault: Vault, secret: str, credential_id: str, slots: int, clock: Clock) -> None:
        self.secret = secret
        self._vault = vault
        self._credential_id = credential_id
        self._names = [oci_vault.slot_name(secret, i) for i in range(slots)]
        self._clock = clock
        # What the last promotion saw: good enough to prune by, since Vault deletes nothing that is not superseded.
        self._seen: Slots = ()
        self._is_pruned = False

    def generation_of(self, content: Content) -> int:
        return ring.generation_of(content.name, self._credential_id, self.secret)

    def text(self, content: Content) -> str:
        return self._vault.text(self.secret, content)

    def check(self, content: Content, claimed: int) -> None:
        """A version with a name of ours that claims another generation has been forged."""
        if self.generation_of(content) not in (0, claimed):
            raise SecretMalformedError(store=self._vault.store, secret=self.secret)

    # ---- contents, from the read side

    def read_serving(self) -> tuple[int, Content]:
        """The slot whose value is the ring's, and that value."""
        found = [(i, self._read_current(i, secret_id)) for i, secret_id in self._alive()]
        return max(found, key=lambda item: (self.generation_of(item[1]), -item[0]))

    def read(self, index: int, number: int) -> Content | None:
        """One version; None where there is none, or no such slot."""
        secret_id = dict(self._alive()).get(index)
        return self._vault.read(self._names[index], secret_id, version_number=number) if secret_id else None

    def read_generation(self, generation: int) -> Content | None:
        """A generation's version; None where there is none, or it is about to be deleted."""
        slots = self._look()
        found = ring.holder(slots, generation)
        if found is None:
            # Management lists the versions of a deleted secret, too.
            self._vault.state(self._names[slots[0].index], slots[0].secret_id)
            return None
        slot, version = found
        return self._arrived(slot, generation, version_number=version.number)

    def read_back(self, slot: Slot, generation: int) -> Content:
        """What stands under a generation's name in the slot that `stage` has named."""
        name = ring.version_name(self._credential_id, self.secret, generation)
        return self._arrived(slot, generation, secret_version_name=name)

    def _read_current(self, index: int, secret_id: str) -> Content:
        found = self._vault.read(self._names[index], secret_id)
        if found is None:
            raise ReadSideLaggingError(store=self._vault.store, secret=self._names[index])
        return found

    def _arrived(self, slot: Slot, generation: int, **which: str | int) -> Content:
        name = self._names[slot.index]
        deadline = self._clock.monotonic() + READ_BACK_TIMEOUT_SECONDS
        while (found := self._vault.read(name, slot.secret_id, **which)) is None:
            if self._clock.monotonic() >= deadline:
                raise ReadSideLaggingError(store=self._vault.store, secret=name, generation=generation)
            self._clock.sleep(POLL_SECONDS)
        return found

    # ---- versions, from management

    def find(self, generation: int) -> tuple[Slot, Version] | None:
        """Where a generation stands."""
        found = ring.holder(self._seen, generation) if self._seen else None
        return found or ring.holder(self._look(), generation)

    def stage(self, generation: int, text: str) -> tuple[Slot, bool]:
        """Write a pending version, unless the generation stands somewhere; its slot, and whether it was written now.

        Raises:
            StoreQuotaExceededError: No slot has room.
            StagedValueConflictError: The generation stands there, but somebody has scheduled its deletion.
        """
        slots = self._look()
        if standing := ring.holder(slots, generation):
            return standing[0], False
        slot = ring.staging_slot(slots, generation)
        if slot is None:
            raise StoreQuotaExceededError(store=self._vault.store, secret=self.secret)
        if slot.room <= 0:
            self._delete(slot, ring.disposable(slot, below=generation)[0])
        name = ring.version_name(self._credential_id, self.secret, generation)
        if self._vault.stage(self._names[slot.index], slot.secret_id, name=name, text=text):
            return slot, True
        return self._met(slot, generation), False

    def promotion(self, generation: int) -> Callable[[], None] | None:
        """What makes the generation current in its slot, by compare-and-set on what is seen now; None where it is.

        The other slots need no comparison: a lower generation that is promoted late leaves the ring's value as it is.
        """
        slots = self._seen = self._look()
        self._is_pruned = False
        newest = ring.serving(slots).generation
        if newest == generation:
            return None
        if newest > generation:
            raise FenceLostError(store=self._vault.store, secret=self.secret, generation=generation)
        standing = ring.holder(slots, generation)
        if standing is None:
            raise StoreRejectedError(store=self._vault.store, secret=self.secret, generation=generation)
        slot, version = standing
        name = self._names[slot.index]
        state = self._vault.state(name, slot.secret_id)
        if slot.current is None or state.current_number != slot.current.number:
            raise LostCompareAndSetError(store=self._vault.store, secret=name, generation=generation)
        return partial(self._vault.promote, name, slot.secret_id, version.number, etag=state.etag)

    def prune(self) -> int:
        """Schedule the deletion of superseded versions, as far as Vault lets us; how many."""
        count = 0
        try:
            slots = self._look() if self._is_pruned or not self._seen else self._seen
        except LockstepError as error:
            self._warn(error)
            return 0
        self._is_pruned = True
        newest = ring.serving(slots).generation
        for slot in slots:
            for version in ring.disposable(slot, below=newest)[:PRUNED_AT_ONCE]:
                try:
                    self._delete(slot, version)
                except LockstepError as error:
                    self._warn(error)
                    break
                count += 1
        return count

    def _look(self) -> Slots:
        return [
            Slot(index=i, secret_id=secret_id, versions=self._versions(i, secret_id))
            for i, secret_id in self._alive()
        ]

    def _alive(self) -> list[tuple[int, str]]:
        found = ((i, self._vault.secret_id(name)) for i, name in enumerate(self._names))
        alive = [(i, secret_id) for i, secret_id in found if secret_id]
        if not alive:
            raise SecretNotFoundError(store=self._vault.store, secret=self.secret)
        return alive

    def _versions(self, index: int, secret_id: str) -> list[Version]:
        return [
            Version(
                number=v.version_number,
                generation=ring.generation_of(v.name, self._credential_id, self.secret),
                stages=frozenset(v.stages),
                is_pending_deletion=v.time_of_deletion is not None,
            )
            for v in self._vault.versions(self._names[index], secret_id)
        ]

    def _met(self, slot: Slot, generation: int) -> Slot:
        now = replace(slot, versions=self._versions(slot.index, slot.secret_id))
        if ring.holder([now], generation):
            return now
        taken = any(v.generation == generation for v in now.versions)
        error = StagedValueConflictError if taken else StoreRejectedError
        raise error(store=self._vault.store, secret=self._names[slot.index], generation=generation)

    def _delete(self, slot: Slot, version: Version) -> None:
        at = self._clock.now() + DELETION_LEAD
        self._vault.schedule_deletion(self._names[slot.index], slot.secret_id, version.number, at=at)

    def _warn(self, error: LockstepError) -> None:
        logger.warning(json.dumps({"warning": "not pruned", "error": type(error).__name__, **error.where}))
