"""One of a credential's two secrets in one store, with what its texts mean."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from lockstep.contents import (
    BINARY,
    FORGED,
    decode_app_user,
    decode_blob_generation,
    decode_claim_id,
    fitting,
    require_known_format,
)
from lockstep.errors import (
    EditedMeanwhileError,
    FenceLostError,
    LostCompareAndSetError,
    SecretMalformedError,
)
from lockstep.extras import NO_EXTRAS, Extras, carried, extras_in, serving
from lockstep.model import CredentialValue, Login
from lockstep.versioned_secret import Observed, SecretVersion, Staged, VersionedSecret


class OneSecret:
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

    def value(self, version: SecretVersion) -> CredentialValue | None:
        """The value in a version of `app_user`; None for a placeholder."""
        login = self.login(version)
        if login is None:
            return None
        claim_id = decode_claim_id(self._text(version), version.generation, **self._where)
        return CredentialValue(version.generation, login, claim_id)

    def blob_generation(self, version: SecretVersion) -> int:
        """The generation of a version of `connection_blob`.

        A text that Lockstep did not write need not make sense: the next rotation replaces it (protocol V7).
        """
        if version.generation:
            self._check(version, decode_blob_generation(self._text(version), **self._where))
        return version.generation

    def malformed(self, code: str) -> SecretMalformedError:
        """The error for this secret."""
        return SecretMalformedError(**self._where, code=code)

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
            FenceLostError: A higher generation is current (protocol V11).
            EditedMeanwhileError: It would replace keys of others that were written after it was staged (protocol V21).
        """
        found = self.versions.observe(generation, seen=seen)
        if found.generation > generation:
            raise FenceLostError(**self._where, generation=generation)
        if found.replaces and self._would_lose(found.replaces, generation):
            raise EditedMeanwhileError(**self._where, generation=generation)
        return found if found.generation < generation else replace(found, commit=None)

    def spread(self, generation: int, *, gently: bool) -> list[Observed]:
        """As `VersionedSecret.spread`; gently: not over keys of others that the generation lacks (protocol V20)."""
        found = self.versions.spread(generation, gently=gently)
        return [one for one in found if not (gently and self._would_lose_keys(one.replaces, generation))]

    def _would_lose_keys(self, replaced: str, generation: int) -> bool:
        theirs, ours = self._extras_of(replaced, generation) if replaced else (NO_EXTRAS, NO_EXTRAS)
        return self._rewritten(ours.also(theirs)) != self._rewritten(ours)

    def _would_lose(self, replaced: str, generation: int) -> bool:
        theirs, ours = self._extras_of(replaced, generation)
        return self._rewritten(theirs) != self._rewritten(ours)

    def _extras_of(self, replaced: str, generation: int) -> tuple[Extras, Extras]:
        """The keys of what is to be replaced, and of what replaces it; none of both where the first says nothing."""
        edit, staged = self.versions.read_version(replaced), self.versions.read_generation(generation)
        theirs = extras_in(edit.text or "") if edit else None
        if theirs is None or staged is None:
            return NO_EXTRAS, NO_EXTRAS
        return theirs, extras_in(staged.text or "") or NO_EXTRAS

    def _text(self, version: SecretVersion) -> str:
        if version.text is None:
            raise self.malformed(BINARY)
        require_known_format(version.text, **self._where)
        return version.text

    def _check(self, version: SecretVersion, claimed: int) -> None:
        """Refuse a version of ours whose text claims another generation: it is forged (protocol V7)."""
        if version.generation not in (0, claimed):
            raise self.malformed(FORGED)


def committed(found: Observed | None) -> str:
    """Compare and set; the version that is current then, empty where the comparison was lost or there is none.

    Whoever loses it looks again, once; a second loss ends the step, which is tried again (protocol V10, V12).
    """
    if found is None or found.commit is None:
        return ""
    try:
        found.commit()
    except LostCompareAndSetError:
        return ""
    return found.version
