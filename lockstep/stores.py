"""The rules of a credential's stores, the same for every secrets manager (protocol V1, V2, V5, V6, V8, V9).

`CredentialStore` keeps one credential in the two secrets of one store, `app_user` and `connection_blob`. `Stores` is
the collection of a credential's stores, in the plan's order. Adapters implement `lockstep.ports.VersionedSecret` only.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from lockstep.contents import (
    BINARY,
    FORGED,
    NO_LOGIN,
    decode_app_user,
    decode_blob_generation,
    encode_app_user,
    encode_connection_blob,
    fitting,
    require_known_format,
)
from lockstep.errors import (
    EditedMeanwhileError,
    FenceLostError,
    InvalidRequestError,
    ReadSideLaggingError,
    SecretMalformedError,
    StagedValueConflictError,
)
from lockstep.extras import NO_EXTRAS, Extras, carried, extras_in, serving
from lockstep.model import Credential, CredentialValue, Login, SecretStr, StoredValue
from lockstep.ports import Clock, SecretVersion, Store, VersionedSecret
from lockstep.version_names import VersionNames
from lockstep.workers import SideBySide, one_after_the_other

READ_SIDE_TIMEOUT_SECONDS = 20.0
"""How long a promotion waits for each store's read side."""
POLL_SECONDS = 0.5


class CredentialStore:
    """The port `Store` on two versioned secrets.

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
        names = credential.secret_names
        self._user, self._blob = (
            _Secret(open_secret(VersionNames(credential_id=credential.id, secret=secret)), name, secret)
            for secret in (names.app_user, names.connection_blob)
        )

    @property
    def name(self) -> str:
        """The store's name in the plan."""
        return self._name

    def read_current(self) -> StoredValue:
        """The value that applications read now."""
        user, blob = self._side_by_side([self._user.look, self._blob.look])
        if not (user.generation or blob.generation):
            self._blob.require_object(blob)  # Lockstep has never written it: it is not ours to replace.
        return StoredValue(
            login=self._user.login(user),
            generation=user.generation,
            blob_generation=self._blob.blob_generation(blob),
            version=user.id,
        )

    def generation(self) -> int:
        """The generation that readers of `app_user` get now."""
        return self._user.look().generation

    def read_login(self) -> Login | None:
        """The login that readers of `app_user` get now; None for a placeholder."""
        return self._user.login(self._user.versions.read_current())

    def read_version(self, version: str) -> CredentialValue | None:
        """The value in a version of `app_user`; None if the version is gone or holds a placeholder."""
        return self._value(self._user.versions.read_version(version))

    def read_generation(self, generation: int) -> CredentialValue | None:
        """The value of a generation, whether current or not; None if `app_user` does not hold it."""
        return self._value(self._user.versions.read_generation(generation))

    def stage(self, value: CredentialValue) -> CredentialValue:
        """Make the value pending in both secrets; return the value that is there now."""
        text = self._user.fitting(encode_app_user(value, self._credential, self._user.extras()))
        blob_extras = self._blob.extras(written=self._user.served_generation())
        blob_text = self._blob.fitting(
            encode_connection_blob(value.generation, self._credential, blob_extras)
        )
        login = self._user.login(self._user.versions.stage(value.generation, text).read_back())
        if login is None:
            raise self._user.malformed(NO_LOGIN)
        blob = self._blob.versions.stage(value.generation, blob_text)
        if not blob.is_new:
            # It may have been written from an older plan, and may differ; but it may not be forged (protocol V7).
            self._blob.blob_generation(blob.read_back())
        # `app_user` may hold the value of another run (protocol V6).
        return CredentialValue(value.generation, login)

    def promote(self, generation: int, still_ours: Callable[[], object]) -> None:
        """Make a staged generation current in both secrets: look, check the fence, compare and set (protocol V10)."""
        commits = self._side_by_side(
            [
                partial(self._user.commit_of, generation, self._rewritten_user),
                partial(self._blob.commit_of, generation, self._rewritten_blob),
            ]
        )
        still_ours()
        self._side_by_side([commit for commit in commits if commit])

    def _rewritten_user(self, extras: Extras) -> str:
        return encode_app_user(CredentialValue(0, Login("", SecretStr(""))), self._credential, extras)

    def _rewritten_blob(self, extras: Extras) -> str:
        return encode_connection_blob(0, self._credential, extras)

    def served_logins(self) -> Sequence[Login]:
        """The login of each slot. A slot that was edited by hand into something else has none of ours."""
        found = (self._user.login_of_ours(version) for version in self._user.versions.served())
        return [login for login in found if login]

    def spread(self, generation: int, still_ours: Callable[[], object]) -> None:
        """Make a generation that is current what every slot serves: look, check the fence, compare and set."""
        found = self._side_by_side([partial(s.versions.spread, generation) for s in self._both])
        commits = [commit for commits in found for commit in commits]
        if commits:
            still_ours()
        self._side_by_side(commits)

    def serves(self, generation: int) -> bool:
        """Whether the read side shows the generation as current in both secrets."""
        served = self._side_by_side([s.versions.read_current for s in self._both])
        return all(version.generation == generation for version in served)

    def version_of(self, generation: int) -> str:
        """The store's own id of the version of `app_user` that holds a generation; empty if none does."""
        return self._user.versions.version_of(generation)

    def _value(self, found: SecretVersion | None) -> CredentialValue | None:
        login = self._user.login(found) if found else None
        return CredentialValue(found.generation, login) if found and login else None

    def prune(self) -> int:
        """Remove superseded versions if the store does not do so by itself; return how many."""
        return sum(self._side_by_side([s.versions.prune for s in self._both]))

    @property
    def _both(self) -> "tuple[_Secret, _Secret]":
        return self._user, self._blob


class _Secret:
    """One of the two secrets, with what its texts mean."""

    def __init__(self, versions: VersionedSecret, store: str, name: str) -> None:
        self.versions = versions
        self._where = {"store": store, "secret": name}
        self._served: Sequence[SecretVersion] = ()

    def look(self) -> SecretVersion:
        """The version that is the secret's value now, by what every place of it serves."""
        self._served = self.versions.served()
        return serving(self._served)

    def served_generation(self) -> int:
        """The generation of what was last looked at."""
        return serving(self._served or (self.look(),)).generation

    def extras(self, *, written: int = 0) -> Extras:
        """What the next value carries on of what was last looked at (protocol V20).

        Args:
            written: Where no place serves a JSON object: the generation of Lockstep's that has what was there before.
        """
        if not self._served:
            self.look()
        found = carried(self._served)
        if found is None and written:
            before = self.versions.read_generation(written)
            found = extras_in(before.text or "") if before else None
        return found or NO_EXTRAS

    def fitting(self, text: str) -> str:
        """The text, if it is not too large for the store."""
        return fitting(text, max_bytes=self.versions.max_bytes, **self._where)

    def require_object(self, version: SecretVersion) -> None:
        """Refuse what holds no keys: a bare string, a list, a binary secret (protocol V8)."""
        require_known_format(self._text(version), **self._where)

    def login(self, version: SecretVersion) -> Login | None:
        """The login in a version of `app_user`; None for a placeholder."""
        login, claimed = decode_app_user(self._text(version), **self._where)
        self._check(version, claimed)
        return login

    def login_of_ours(self, version: SecretVersion) -> Login | None:
        """As `login`; None also for a text that is no login, where Lockstep did not write it."""
        try:
            return self.login(version)
        except SecretMalformedError:
            if version.generation:
                raise
            return None

    def blob_generation(self, version: SecretVersion) -> int:
        """The generation of a version of `connection_blob`.

        A text that Lockstep did not write need not make sense: the next rotation replaces it (protocol V7).
        """
        if version.generation:
            self._check(version, decode_blob_generation(self._text(version), **self._where))
        return version.generation

    def commit_of(self, generation: int, rewritten: Callable[[Extras], str]) -> Callable[[], None] | None:
        """The compare-and-set that makes a generation current; None if it is current (protocol V10, V11, V12).

        Args:
            generation: The generation.
            rewritten: A text that differs for keys of others that differ, and only for those.

        Raises:
            EditedMeanwhileError: It would replace such keys that were written after it was staged (protocol V21).
        """
        seen = self.versions.observe(generation)
        if seen.generation > generation:
            raise FenceLostError(**self._where, generation=generation)
        if seen.replaces and self._would_lose(seen.replaces, generation, rewritten):
            raise EditedMeanwhileError(**self._where, generation=generation)
        return seen.commit if seen.generation < generation else None

    def _would_lose(self, replaced: str, generation: int, rewritten: Callable[[Extras], str]) -> bool:
        edit, staged = self.versions.read_version(replaced), self.versions.read_generation(generation)
        if edit is None or staged is None:
            return False
        theirs, ours = extras_in(edit.text or ""), extras_in(staged.text or "")
        return theirs is not None and rewritten(theirs) != rewritten(ours or NO_EXTRAS)

    def malformed(self, code: str) -> SecretMalformedError:
        return SecretMalformedError(**self._where, code=code)

    def _text(self, version: SecretVersion) -> str:
        if version.text is None:
            raise self.malformed(BINARY)
        require_known_format(version.text, **self._where)
        return version.text

    def _check(self, version: SecretVersion, claimed: int) -> None:
        """Refuse a version of ours whose text claims another generation: it is forged (protocol V7)."""
        if version.generation not in (0, claimed):
            raise self.malformed(FORGED)


class Stores:
    """A credential's stores, in the plan's order. The first one decides what a generation's value is.

    Args:
        stores: Them.
        side_by_side: Asks all of them at the same time.
    """

    def __init__(self, stores: Sequence[Store], *, side_by_side: SideBySide = one_after_the_other) -> None:
        self._stores = tuple(stores)
        self._side_by_side = side_by_side

    def __iter__(self) -> Iterator[Store]:
        return iter(self._stores)

    @property
    def first(self) -> Store:
        """The store that decides what a generation's value is."""
        return self._stores[0]

    def served(self) -> dict[str, StoredValue]:
        """What each store serves as current, by the store's name.

        Raises:
            StoreUnreachableError: A store cannot be read; likewise the other errors of `Store`.
        """
        values = self._side_by_side([store.read_current for store in self._stores])
        return {store.name: value for store, value in zip(self._stores, values, strict=True)}

    def served_logins(self) -> Iterator[Login]:
        """What every slot of every store serves, read when it is asked for (protocol V18)."""
        for logins in self._side_by_side([store.served_logins for store in self._stores]):
            yield from logins

    def find_generation(self, generation: int) -> CredentialValue | None:
        """The value of a generation, from the first store that holds it; None if no store does."""
        return next((v for s in self._stores if (v := s.read_generation(generation))), None)

    def holder_of(self, generation: int) -> Store | None:
        """The first store that holds a generation; None if no store does."""
        return next((s for s in self._stores if s.read_generation(generation)), None)

    def read_version(self, *, store: str, version: str) -> CredentialValue | None:
        """The value in one version of one store; None if the version is gone or holds a placeholder.

        Raises:
            InvalidRequestError: There is no store of that name.
        """
        found = next((s for s in self._stores if s.name == store), None)
        if found is None:
            raise InvalidRequestError(store=store)
        return found.read_version(version)

    def versions_of(self, generation: int) -> dict[str, str]:
        """Each store's own id of the version that holds a generation, by the store's name."""
        found = self._side_by_side([partial(store.version_of, generation) for store in self._stores])
        return {store.name: version for store, version in zip(self._stores, found, strict=True)}

    def stage(self, value: CredentialValue) -> CredentialValue:
        """Make a value pending in every store, and return what all of them hold now.

        The first store keeps a value that it already has under this generation. The others get a copy of what the
        first store holds (protocol V2).

        Raises:
            StagedValueConflictError: Another store already holds another value under this generation.
        """
        held, others = self.first.stage(value), self._stores[1:]
        copies = self._side_by_side([partial(store.stage, held) for store in others])
        for store, copy in zip(others, copies, strict=True):
            if copy != held:
                raise StagedValueConflictError(store=store.name, generation=value.generation)
        return held

    def promote(self, generation: int, still_ours: Callable[[], object]) -> None:
        """Make a staged generation current in every store.

        Args:
            generation: The generation to promote.
            still_ours: As `Store.promote` calls it, once for each store.

        Raises:
            FenceLostError: A store serves a higher generation, or `still_ours` raises it.
            LostCompareAndSetError: A current version changed in between.
        """
        self._side_by_side([partial(store.promote, generation, still_ours) for store in self._stores])

    def spread(self, generation: int, still_ours: Callable[[], object]) -> None:
        """Make a promoted generation what every slot of every store serves (protocol V19)."""
        self._side_by_side([partial(store.spread, generation, still_ours) for store in self._stores])

    def wait_until_served(self, generation: int, clock: Clock) -> None:
        """Wait until every store's read side shows a generation in both secrets.

        Raises:
            ReadSideLaggingError: A store does not show it within 20 seconds.
        """
        self._side_by_side([partial(_wait, store, generation, clock) for store in self._stores])

    def prune(self) -> None:
        """Remove superseded versions from every store that does not do so by itself."""
        self._side_by_side([store.prune for store in self._stores])


def _wait(store: Store, generation: int, clock: Clock) -> None:
    deadline = clock.monotonic() + READ_SIDE_TIMEOUT_SECONDS
    while not store.serves(generation):
        if clock.monotonic() >= deadline:
            raise ReadSideLaggingError(store=store.name, generation=generation)
        clock.sleep(POLL_SECONDS)
