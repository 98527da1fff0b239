"""The rules of a credential's stores, the same for every secrets manager (protocol V1, V5, V3, V8, V22).

`CredentialStore` keeps one credential in the two secrets of one store, `app_user` and `connection_blob`. `Stores` is
the collection of a credential's stores, in the plan's order. Adapters implement only `VersionedSecret` of
`lockstep.protocol.ports`.

What does not depend on each other is asked at the same time: both secrets, all stores. Staging and promotion have two
parts, a look and a write, so that a caller can look while it does something else.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from lockstep.protocol.errors import (
    EditedMeanwhileError,
    FenceLostError,
    InvalidRequestError,
    LostCompareAndSetError,
    ReadSideLaggingError,
    SecretMalformedError,
    StagedValueConflictError,
)
from lockstep.protocol.messages import CandidateRef
from lockstep.protocol.model import (
    Credential,
    CredentialValue,
    LockRecord,
    Login,
    SecretStr,
    StoredValue,
    StoreVersions,
)
from lockstep.protocol.names import VersionNames
from lockstep.protocol.ports import (
    BINARY,
    FORGED,
    AuditLog,
    Clock,
    Database,
    Lock,
    Observed,
    PasswordSource,
    Pending,
    SecretVersion,
    Signer,
    Staged,
    StillOurs,
    VersionedSecret,
    serving,
)
from lockstep.protocol.workers import SideBySide, one_after_the_other, run_all
from lockstep.stores.contents import (
    NO_EXTRAS,
    Extras,
    carried,
    decode_app_user,
    decode_blob_generation,
    decode_claim_id,
    encode_app_user,
    encode_connection_blob,
    extras_in,
    fitting,
    object_in,
    require_known_format,
    with_numbers,
)

# One of a credential's two secrets in one store, with what its texts mean.


class CredentialSecret:
    """The rules of one secret.

    Args:
        versions: The adapter.
        store: The store's name, for errors.
        name: The secret's name, for errors.
        rewritten: A text that differs for keys of others that differ, and only for those.
    """

    def __init__(
        self, versions: VersionedSecret, store: str, name: str, rewritten: Callable[[Extras], str]
    ) -> None:
        self.versions = versions
        self._where = {"store": store, "secret": name}
        self._rewritten = rewritten
        self._served: Sequence[SecretVersion] = ()

    # ---- What is served

    def look(self) -> SecretVersion:
        """The version that is the secret's value now, by what every place of it serves."""
        self._served = self.versions.served()
        return serving(self._served)

    def looked_at(self) -> Sequence[SecretVersion]:
        """What every place served when it was last looked at."""
        if not self._served:
            self.look()
        return self._served

    def extras(self, *, written: int = 0) -> Extras:
        """What the next value carries on of what was last looked at (protocol V20).

        Args:
            written: Where no place serves a JSON object: the generation of Lockstep's that has what was there before.
        """
        found = carried(self.looked_at())
        if found is None and written:
            before = self.versions.read_generation(written)
            found = extras_in(before.text or "") if before else None
        return found or NO_EXTRAS

    # ---- What texts mean

    def fitting(self, text: str) -> str:
        """The text, if it is not too large for the store."""
        return fitting(text, max_bytes=self.versions.max_bytes, **self._where)

    def login(self, version: SecretVersion) -> Login | None:
        """The login in a version of `app_user`; None for a placeholder."""
        login, claimed = decode_app_user(self._text(version), **self._where)
        self._check(version, claimed)
        return login

    def value(self, version: SecretVersion) -> CredentialValue | None:
        """The value in a version of `app_user`; None for a placeholder, and for what holds no credential."""
        try:
            login = self.login(version)
        except SecretMalformedError:
            return None
        if login is None:
            return None
        claim_id = decode_claim_id(self._text(version), version.generation, **self._where)
        return CredentialValue(version.generation, login, claim_id)

    def require_blob(self, version: SecretVersion) -> None:
        """Refuse a version of `connection_blob` that holds no keys, or is forged (protocol V8)."""
        self._check(version, decode_blob_generation(self._text(version), **self._where))

    def malformed(self, code: str) -> SecretMalformedError:
        """The error for this secret."""
        return SecretMalformedError(**self._where, code=code)

    def require_as_written(self, version: SecretVersion, ours: str) -> None:
        """Refuse a version under our name in which a key that Lockstep writes says something else (protocol V22)."""
        found, written = (object_in(with_numbers(text)) or {} for text in (version.text or "", ours))
        if any(found.get(key) != value for key, value in written.items()):
            raise StagedValueConflictError(**self._where, generation=version.generation)

    # ---- Staging and promotion

    def prepare(self, generation: int, *, is_new: bool) -> Callable[[str], Staged]:
        """As `VersionedSecret.prepare`; a generation that this run has just named goes over what was looked at."""
        return self.versions.prepare(generation, over=self.looked_at() if is_new else ())

    def from_seen(self, generation: int, seen: str) -> Observed | None:
        """As `VersionedSecret.from_seen`; None where that cannot be compared with, and one must look."""
        if not seen:
            return None
        try:
            found = self.versions.from_seen(generation, seen)
        except LostCompareAndSetError:
            return None
        return found if found.generation < generation else None

    def observe(self, generation: int, seen: str) -> Observed:
        """What a compare-and-set needs that makes a generation current; without it if the generation is current.

        Raises:
            FenceLostError: A higher generation is current (protocol V10).
            EditedMeanwhileError: It would replace keys of others that were written after it was staged (protocol V20).
        """
        found = self.versions.observe(generation, seen=seen)
        if found.generation > generation:
            raise FenceLostError(**self._where, generation=generation)
        edit = self.versions.read_version(found.replaces) if found.replaces else None
        theirs = extras_in(edit.text or "") if edit else None
        if theirs is not None and self._has_other_keys(generation, theirs):
            raise EditedMeanwhileError(**self._where, generation=generation)
        return found if found.generation < generation else replace(found, commit=None)

    def lacks_keys(self, generation: int, written: int = 0) -> bool:
        """Whether the generation is held without keys of others that `extras` would give it now."""
        return self._has_other_keys(generation, self.extras(written=written))

    def _has_other_keys(self, generation: int, theirs: Extras) -> bool:
        """Whether the generation is held, and with other keys of others than these."""
        staged = self.versions.read_generation(generation)
        ours = extras_in(staged.text or "") or NO_EXTRAS if staged else theirs
        return self._rewritten(theirs) != self._rewritten(ours)

    def _text(self, version: SecretVersion) -> str:
        if version.text is None:
            raise self.malformed(BINARY)
        require_known_format(version.text, **self._where)
        return version.text

    def _check(self, version: SecretVersion, claimed: int) -> None:
        """Refuse a version of ours whose text claims another generation: it is forged (protocol V8)."""
        if version.generation not in (0, claimed):
            raise self.malformed(FORGED)


def committed(found: Observed | None) -> str:
    """Compare and set; the version that is current then, empty where the comparison was lost or there is none.

    Whoever loses it looks again, once; a second loss ends the step, which is tried again (protocol V10).
    """
    if found is None or found.commit is None:
        return ""
    try:
        found.commit()
    except LostCompareAndSetError:
        return ""
    return found.version


READ_SIDE_TIMEOUT_SECONDS = 20.0
"""How long a promotion waits for each store's read side."""
POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNames:
    """What a store has as current, by names. Attributes as those of `lockstep.protocol.model.StoredValue`."""

    generation: int
    blob_generation: int
    version: str


class CredentialStore:
    """A credential's two secrets in one secrets manager. Errors of every method: as `VersionedSecret`.

    Args:
        name: The store's name in the plan.
        credential: The credential that is kept.
        open_secret: Makes the adapter for one secret, from its name and the names of its versions.
        side_by_side: Asks for both secrets at the same time.
    """

    def __init__(
        self,
        name: str,
        credential: Credential,
        open_secret: Callable[[VersionNames], VersionedSecret],
        *,
        side_by_side: SideBySide = one_after_the_other,
    ) -> None:
        self._name = name
        self._side_by_side = side_by_side
        self._credential = credential

        def opened(secret: str, rewritten: Callable[[Extras], str]) -> CredentialSecret:
            versions = open_secret(VersionNames(credential_id=credential.id, secret=secret))
            return CredentialSecret(versions, name, secret, rewritten)

        names = credential.secret_names
        self._user = opened(names.app_user, self._rewritten_user)
        self._blob = opened(names.connection_blob, self._rewritten_blob)

    @property
    def name(self) -> str:
        """The store's name in the plan."""
        return self._name

    # ---- Reading

    def read_current(self) -> StoredValue:
        """The value that applications read now. A text that holds no credential serves no login (protocol V8)."""
        user, blob = self._side_by_side([self._user.look, self._blob.look])
        login, malformed = None, None
        for read in (partial(self._blob.require_blob, blob), partial(self._user.login, user)):
            try:
                login = read()
            except SecretMalformedError as error:
                malformed = error
        return StoredValue(
            login=login,
            generation=user.generation,
            blob_generation=blob.generation,
            version=user.id,
            malformed=malformed,
        )

    def read_names(self) -> StoredNames:
        """Which generation is current in both secrets, by the names of versions alone."""
        user, blob = self._side_by_side([s.versions.named for s in self._both])
        return StoredNames(generation=user.generation, blob_generation=blob.generation, version=user.id)

    def read_login(self) -> Login | None:
        """The login that readers of `app_user` get now; None for a placeholder."""
        return self._user.login(self._user.versions.read_current())

    def read_version(self, version: str) -> CredentialValue | None:
        """The value in a version of `app_user`; None if the version is gone or holds a placeholder."""
        return self._value(self._user.versions.read_version(version))

    def read_generation(self, generation: int) -> CredentialValue | None:
        """The value of a generation, whether current or not; None if `app_user` does not hold it."""
        return self._value(self._user.versions.read_generation(generation))

    def lacks_keys(self, generation: int) -> bool:
        """Whether it holds a generation without keys of others that it serves, as last looked at (protocol V20)."""
        written = serving(self._user.looked_at()).generation
        lacking = [
            partial(self._user.lacks_keys, generation),
            partial(self._blob.lacks_keys, generation, written),
        ]
        return any(self._side_by_side(lacking))

    def version_of(self, generation: int) -> str:
        """The store's own id of the version of `app_user` that holds a generation; empty if none does."""
        return self._user.versions.version_of(generation)

    def _value(self, found: SecretVersion | None) -> CredentialValue | None:
        return self._user.value(found) if found else None

    # ---- Staging

    def prepare(self, generation: int, *, is_new: bool = False) -> Callable[[CredentialValue], Pending]:
        """Look at what staging a generation needs in both secrets. Changes nothing.

        Args:
            generation: The generation.
            is_new: This run has just named it, after `read_current`.

        Returns:
            Makes a value of that generation pending in both secrets, unless the store already holds one.
        """
        user, blob = self._side_by_side([partial(s.prepare, generation, is_new=is_new) for s in self._both])
        return partial(self._stage, user, blob)

    def stage(self, value: CredentialValue) -> Pending:
        """Make the value pending in both secrets, unless the store holds one of that generation."""
        return self.prepare(value.generation)(value)

    def _stage(
        self, put_user: Callable[[str], Staged], put_blob: Callable[[str], Staged], value: CredentialValue
    ) -> Pending:
        text = self._user.fitting(self._user_text(value, self._user.extras()))
        extras = self._blob.extras(written=serving(self._user.looked_at()).generation)
        blob_text = self._blob.fitting(self._blob_text(value.generation, extras))
        (held, seen), blob_seen = run_all(
            self._side_by_side,
            partial(self._put_user, put_user, text, value),
            partial(self._put_blob, put_blob, blob_text),
        )
        return Pending(
            value=held, seen=StoreVersions(store=self._name, app_user=seen, connection_blob=blob_seen)
        )

    def _put_user(
        self, put: Callable[[str], Staged], text: str, value: CredentialValue
    ) -> tuple[CredentialValue, str]:
        staged = put(text)
        if staged.is_new:
            return value, staged.seen
        # It may be the value of another run, or of another claim (protocol V3, V22).
        found = staged.read_back()
        held = self._value(found)
        if held is None:
            raise StagedValueConflictError(store=self._name, generation=value.generation)
        self._user.require_as_written(found, self._user_text(held, NO_EXTRAS))
        return held, staged.seen

    def _put_blob(self, put: Callable[[str], Staged], text: str) -> str:
        staged = put(text)
        if not staged.is_new:
            found = staged.read_back()
            self._blob.require_as_written(found, self._blob_text(found.generation, NO_EXTRAS))
        return staged.seen

    # ---- Promotion

    def prepare_promotion(
        self, generation: int, *, seen: StoreVersions | None = None
    ) -> Callable[[StillOurs], StoreVersions]:
        """Look at what promoting a generation needs, where it is known what was seen before it was staged.

        Returns:
            Makes the generation current in both secrets, by compare-and-set, and returns the versions that are current
            then. To be called after the fence was read. Where somebody has changed what was seen, or nothing was seen,
            it looks at what is current, asks whether the lock is still ours, and compares and sets once more (protocol
            V10).

        Raises:
            FenceLostError: A higher generation is current, or the lock is not ours.
            LostCompareAndSetError: The current version changed in between.
            EditedMeanwhileError: It would replace keys of others that are not in what was staged.
        """
        ids = (seen.app_user, seen.connection_blob) if seen else ("", "")
        found = self._side_by_side(
            [partial(s.from_seen, generation, id_) for s, id_ in zip(self._both, ids, strict=True)]
        )
        return partial(self._promote, generation, ids, found)

    def promote(self, generation: int, still_ours: StillOurs) -> StoreVersions:
        """Make a staged generation current in both secrets: look, check the fence, compare and set."""
        return self.prepare_promotion(generation)(still_ours)

    def _promote(
        self,
        generation: int,
        seen: tuple[str, str],
        found: tuple[Observed | None, ...],
        still_ours: StillOurs,
    ) -> StoreVersions:
        versions = self._side_by_side([partial(committed, one) for one in found])
        if not all(versions):
            left = [
                partial(secret.observe, generation, id_)
                for secret, id_, version in zip(self._both, seen, versions, strict=True)
                if not version
            ]
            looked = self._side_by_side(left)
            still_ours()
            self._side_by_side([one.commit for one in looked if one.commit])
            others = iter(looked)
            versions = tuple(version or next(others).version for version in versions)
        app_user, connection_blob = versions
        return StoreVersions(store=self._name, app_user=app_user, connection_blob=connection_blob)

    def _rewritten_user(self, extras: Extras) -> str:
        return self._user_text(CredentialValue(0, Login("", SecretStr(""))), extras)

    def _rewritten_blob(self, extras: Extras) -> str:
        return self._blob_text(0, extras)

    def _user_text(self, value: CredentialValue, extras: Extras) -> str:
        only_strings = self._user.versions.only_strings
        return encode_app_user(value, self._credential, extras, only_strings=only_strings)

    def _blob_text(self, generation: int, extras: Extras) -> str:
        only_strings = self._blob.versions.only_strings
        return encode_connection_blob(generation, self._credential, extras, only_strings=only_strings)

    def shows(self, promoted: StoreVersions) -> bool:
        """Whether the read side has these versions as current."""
        ids = (promoted.app_user, promoted.connection_blob)
        return all(
            self._side_by_side(
                [partial(s.versions.shows, id_) for s, id_ in zip(self._both, ids, strict=True)]
            )
        )

    def serves(self, generation: int) -> bool:
        """Whether the read side shows the generation as current in both secrets."""
        served = self._side_by_side([s.versions.read_current for s in self._both])
        return all(version.generation == generation for version in served)

    def prune(self) -> int:
        """Remove superseded versions if the store does not do so by itself; return how many."""
        return sum(self._side_by_side([s.versions.prune for s in self._both]))

    @property
    def _both(self) -> tuple[CredentialSecret, CredentialSecret]:
        return self._user, self._blob


class Stores:
    """A credential's stores, in the plan's order. The first one decides what a generation's value is.

    Args:
        stores: Them.
        side_by_side: Asks all of them at the same time.
    """

    def __init__(
        self, stores: Sequence[CredentialStore], *, side_by_side: SideBySide = one_after_the_other
    ) -> None:
        self._stores = tuple(stores)
        self._side_by_side = side_by_side

    def __iter__(self) -> Iterator[CredentialStore]:
        return iter(self._stores)

    @property
    def first(self) -> CredentialStore:
        """The store that decides what a generation's value is."""
        return self._stores[0]

    # ---- Reading

    def served(self) -> dict[str, StoredValue]:
        """What each store serves as current, by the store's name.

        Raises:
            StoreUnreachableError: A store cannot be read; likewise the other errors of `VersionedSecret`.
        """
        values = self._side_by_side([store.read_current for store in self._stores])
        return {store.name: value for store, value in zip(self._stores, values, strict=True)}

    def find_generation(self, generation: int) -> CredentialValue | None:
        """The value of a generation, from the first store that holds it; None if no store does."""
        return next((v for s in self._stores if (v := s.read_generation(generation))), None)

    def find_version(self, generation: int) -> tuple[CandidateRef, CredentialValue] | None:
        """The first store's version that holds a generation, and its value; None if no store has one."""
        for store in self._stores:
            if value := store.read_generation(generation):
                return CandidateRef(store=store.name, version=store.version_of(generation)), value
        return None

    def lacks_keys(self, generation: int) -> bool:
        """Whether a store holds a generation without keys of others that it serves by now (protocol V20)."""
        return any(self._side_by_side([partial(store.lacks_keys, generation) for store in self._stores]))

    def read_version(self, *, store: str, version: str) -> CredentialValue | None:
        """The value in one version of one store; None if the version is gone or holds a placeholder.

        Raises:
            InvalidRequestError: There is no store of that name.
        """
        found = next((s for s in self._stores if s.name == store), None)
        if found is None:
            raise InvalidRequestError(store=store)
        return found.read_version(version)

    def recognized(self, served: Mapping[str, StoredValue], record: LockRecord) -> dict[str, StoredValue]:
        """What they serve; the recorded login is the recorded generation whoever wrote it (protocol V8)."""
        current, found = record.current_generation, dict(served)
        again = [name for name, value in served.items() if value.login and not value.generation]
        held = self.find_generation(current) if again and current else None
        for name in again:
            if held and current and found[name].login == held.login:
                found[name] = replace(found[name], generation=current)
        return found

    # ---- Staging

    def prepare(
        self, generation: int, *, is_new: bool = False
    ) -> Callable[[CredentialValue], tuple[StoreVersions, ...]]:
        """Look at what staging a generation needs in every store. Changes nothing.

        Args:
            generation: The generation.
            is_new: This run has just named it, after `served`.

        Returns:
            Makes a value of that generation pending in every store, as `stage`.
        """
        puts = self._side_by_side(
            [partial(store.prepare, generation, is_new=is_new) for store in self._stores]
        )
        return partial(self._stage, puts)

    def stage(self, value: CredentialValue) -> tuple[StoreVersions, ...]:
        """Make a value pending in every store; what was seen there before, by store.

        The first store keeps a value that it already has under this generation, if it was staged for the same claim.
        The others get a copy of what the first store holds (protocol V1).

        Raises:
            StagedValueConflictError: A store holds a value of another claim under this generation, or another store
                than the first another value (protocol V22).
        """
        return self.prepare(value.generation)(value)

    def _stage(
        self, puts: Sequence[Callable[[CredentialValue], Pending]], value: CredentialValue
    ) -> tuple[StoreVersions, ...]:
        first = puts[0](value)
        held = first.value
        if held.claim_id != value.claim_id:
            raise StagedValueConflictError(store=self.first.name, generation=value.generation)
        others = self._side_by_side([partial(put, held) for put in puts[1:]])
        for store, other in zip(self._stores[1:], others, strict=True):
            if other.value != held:
                raise StagedValueConflictError(store=store.name, generation=value.generation)
        return (first.seen, *(other.seen for other in others))

    # ---- Promotion

    def prepare_promotion(
        self, generation: int, seen: Sequence[StoreVersions]
    ) -> Callable[[StillOurs], tuple[StoreVersions, ...]]:
        """As of `CredentialStore`, in every store.

        Args:
            generation: The generation to promote.
            seen: What staging it has returned; also of some stores, or of none.
        """
        known = {versions.store: versions for versions in seen}
        ready = self._side_by_side(
            [
                partial(store.prepare_promotion, generation, seen=known.get(store.name))
                for store in self._stores
            ]
        )
        return partial(self._promote, ready)

    def _promote(
        self, ready: Sequence[Callable[[StillOurs], StoreVersions]], still_ours: StillOurs
    ) -> tuple[StoreVersions, ...]:
        return self._side_by_side([partial(promote, still_ours) for promote in ready])

    def wait_until_shown(self, generation: int, promoted: Sequence[StoreVersions], clock: Clock) -> None:
        """Wait until every store's read side has the promoted versions of a generation as current.

        Raises:
            ReadSideLaggingError: A store does not have them within 20 seconds.
        """
        by_name = {versions.store: versions for versions in promoted}
        shown = {store.name: partial(store.shows, by_name[store.name]) for store in self._stores}
        self._side_by_side(
            [
                partial(wait_until, is_shown, clock, store=store, generation=generation)
                for store, is_shown in shown.items()
            ]
        )

    def prune(self) -> None:
        """Remove superseded versions from every store that does not do so by itself."""
        self._side_by_side([store.prune for store in self._stores])


def wait_until(holds: Callable[[], bool], clock: Clock, **where: str | int) -> None:
    """Wait for a read side, at most `READ_SIDE_TIMEOUT_SECONDS`.

    Args:
        holds: What is waited for.
        clock: The clock.
        where: Is told if it does not come.

    Raises:
        ReadSideLaggingError: It did not come.
    """
    deadline = clock.monotonic() + READ_SIDE_TIMEOUT_SECONDS
    while not holds():
        if clock.monotonic() >= deadline:
            raise ReadSideLaggingError(**where)
        clock.sleep(POLL_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The world of one rotation, for one credential and one runner."""

    runner: str
    credential: Credential
    stores: "Stores"
    databases: Mapping[str, Database]
    side_by_side: SideBySide
    lock: Lock
    audit_log: AuditLog
    signer: Signer
    clock: Clock
    passwords: PasswordSource
