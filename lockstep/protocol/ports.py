"""The ports: what the steps may ask of the clouds, the databases and the clock.

Foreign exceptions never cross a port: each adapter turns them into one of `lockstep.protocol.errors`. No adapter
retries; retries are said once, in `lockstep.protocol.deadlines`, for both clouds. Every call has a time-out (protocol
F1, F3, F5).
"""

import re
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Protocol

from lockstep.protocol.messages import Recorded
from lockstep.protocol.model import (
    Claim,
    CredentialValue,
    Lease,
    LockRecord,
    Login,
    PasswordPolicy,
    Release,
    SecretStr,
    StoreVersions,
)


class Clock(Hashable, Protocol):
    """Time, as the code under test sees it; equal to itself only."""

    def now(self) -> datetime:
        """The wall clock, aware, UTC."""

    def monotonic(self) -> float:
        """Seconds that only grow, for bounded waits."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class PasswordSource(Protocol):
    """Where new passwords come from."""

    def new_password(self, policy: PasswordPolicy) -> SecretStr:
        """A fresh password that satisfies the policy."""


StillOurs = Callable[[], object]
"""Raises FenceLostError if another run holds the lock, or the claim is not this run's any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What a store holds of a generation after it was staged: perhaps another value than the one that was given.

    Attributes:
        seen: What the promotion will replace; empty ids where that is not known.
    """

    value: CredentialValue
    seen: StoreVersions


class Stager(Protocol):
    """A database under its advisory lock, on the very connection that makes the changes."""

    def stage(self, *, current: CredentialValue | None, pending: CredentialValue) -> None:
        """Make the database accept exactly current and pending; idempotent, current logs in throughout (protocol D5).

        With current None: pending alone. With alternating users only pending's account is changed. No login with
        pending is tried before, unless it was staged already or the server keeps no record of that.
        """

    @property
    def takes_refusals_back(self) -> bool:
        """Whether `accepts_after_all` leaves an account as far from being locked as it was before the refusal."""

    def recorded(self) -> frozenset[int]:
        """The generations that the account has, where the server says so; empty where it does not."""

    def retire(self, *, drop: CredentialValue, keep: CredentialValue) -> Login:
        """Revoke `drop`; idempotent, `keep` logs in throughout.

        Returns:
            A login that works for the account whose password was dropped. To be tried before and after `drop` is
            refused: it takes back the refusal of a run that died, proves that the password was refused and not the
            account, and takes this refusal back (protocol D18).
        """

    def accepts_after_all(self, login: Login) -> bool:
        """Look again at a refusal that was not expected; False if the password is wrong (protocol D14).

        Not every server tells a client why it is refused. This asks as the rotation user, and logs in again if that
        may help. It brings the account no closer to being locked.

        Raises:
            AccountUnusableError: The account is barred, whatever its password.
            AccountMissingError: There is no such account.
        """


class Replica(Protocol):
    """Another host at which applications reach a database. It only proves logins (protocol D15).

    Errors: as `Database`, apart from those of changes.
    """

    @property
    def name(self) -> str:
        """The database's name in the plan; for another host with that host."""

    def accepts(self, login: Login) -> bool:
        """Log in for real, on a new connection: True, or False for a wrong password or unknown user.

        Anything else is an error: an outage never looks like a wrong password.
        """


class Database(Replica, Protocol):
    """A server on which every live generation must log in.

    Errors: DatabaseUnreachableError, DatabaseBusyError, AdvisoryLockBusyError, TlsVerificationError,
    AccountUnusableError (all three), AccountMissingError, AccountPluginError, AccountSetupError,
    HostBlockedError, AdminCredentialRejectedError, PrivilegeMissingError, PasswordRefusedByPolicyError,
    UnsupportedServerError, DatabaseRejectedError.
    """

    @property
    def plaintext(self) -> bool:
        """Whether the plan allows connections without TLS."""

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """The hosts that must accept a value too, before it is promoted."""

    @property
    def admin(self) -> Hashable:
        """Whose login the rotation user has: databases with the same one may share what `admin_login` returns."""

    def admin_login(self) -> Login:
        """The rotation user's login as it is now (protocol D22); raises also the errors of a store."""

    def exclusive(self, admin: Login | None = None) -> AbstractContextManager[Stager]:
        """Hold the server's advisory lock for the accounts; waits some seconds, then AdvisoryLockBusyError.

        Args:
            admin: The rotation user's login, as it was just read; None: it is read now. It is read again if the server
                refuses it.
        """


def lets_in(database: Database, stager: Stager, login: Login) -> bool:
    """Whether a database accepts a login; a refusal is looked at again as the rotation user (protocol D14)."""
    return database.accepts(login) or stager.accepts_after_all(login)


class Lock(Protocol):
    """The lock table's item of one credential. Errors: LockTable*, FenceLostError."""

    def read(self) -> LockRecord:
        """The record, by a consistent read."""

    def acquire(
        self,
        *,
        holder: str,
        now: datetime,
        expires_at: datetime,
        force: bool,
        due_by: datetime | None = None,
        interval: timedelta | None = None,
    ) -> Lease | None:
        """Take the lock if it is free, expired or already ours, and the credential is due; else None.

        Args:
            holder: The run.
            now: By the runner's clock.
            expires_at: When the lease ends.
            force: Waives that it is due.
            due_by: What is due later is left alone; None: what is due later than now. (protocol R8)
            interval: Of the credential's schedule: a due time that it cannot give counts as none (protocol L17).
        """

    def claim(
        self, lease: Lease, claim: Claim, *, over: LockRecord, plan: str, served: Collection[int]
    ) -> None:
        """Name the generation in flight, in the place of the claim that was seen, if the lease holds.

        If the record names the same claim already, that is success.

        Args:
            lease: Of this run.
            claim: Its generation is above every one that was claimed before.
            over: The record that was seen: the same claim, or none, must be in flight, in the same phase.
            plan: The digest under which the run acts: it must be the active one, or the one that is to become active.
            served: The generations that stores serve; they count as valid from now on.
        """

    def begin_promotion(self, lease: Lease, claim: Claim, *, now: datetime) -> LockRecord:
        """Mark the claim as promoting, if the lease and the claim hold, else FenceLostError; the record afterwards."""

    def require(self, lease: Lease, claim: Claim, *, promoting: bool, now: datetime) -> LockRecord:
        """The record by a consistent read, if lease, claim and phase hold; else FenceLostError."""

    def require_lease(self, lease: Lease, *, now: datetime) -> LockRecord:
        """The record by a consistent read, if the lease holds, whatever is in flight; else FenceLostError."""

    def release(
        self,
        lease: Lease,
        done: Release | None,
        *,
        entry: Recorded | None = None,
        proven: Collection[str] = (),
    ) -> None:
        """Give the lock back; else FenceLostError.

        Args:
            lease: Of this run.
            done: With it, clear the claim and move the schedule on; without it, leave both.
            entry: The run's own, to which the head of its chain moves; None: no head is moved.
            proven: Where nothing was to be done: the databases that are no longer under take-over.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectVersion:
    """A version of an object below a chain's prefix, or the marker that hides the older ones.

    Attributes:
        key: The object's name in the bucket.
        is_delete_marker: Whether it says that the object was deleted. It has no content.
        is_latest: Whether it is what a read without a version id meets.
        at: When it was written, by the service's clock.
    """

    key: str
    version_id: str
    is_delete_marker: bool
    is_latest: bool
    at: datetime
    size: int

    @property
    def seq(self) -> int:
        """The number of the entry; 0 if the name is not an entry's."""
        folder, _, name = self.key.rpartition("/")
        return number_of(name) if folder.count("/") == 1 else 0


class AuditLog(Protocol):
    """An append-only stream of objects: the entries of one credential, by their numbers. Errors: AuditLog*."""

    @property
    def stream(self) -> str:
        """`aws` or `oci`."""

    def put(self, number: int, body: bytes, metadata: Mapping[str, str]) -> bool:
        """Write an object if there is none under its number; False if there is one."""

    def look(self, number: int) -> Mapping[str, str] | None:
        """The metadata of the object under a number; None if there is none."""

    def read(self, number: int) -> bytes | None:
        """The body of the object under a number; None if there is none."""

    def numbers(self, *, after: int = 0) -> Iterator[int]:
        """The numbers above one that have an object, ascending; listed page by page as they are asked for."""

    def dated(self, *, after: int = 0) -> Iterator[tuple[int, datetime]]:
        """The same, each with the time at which it was written, by the store's clock."""

    def history(self) -> Iterator[ObjectVersion]:
        """Every version and delete marker below the prefix, by name, the latest of each name first; page by page.

        A log that is only appended to has one version of each entry and no marker.

        Raises:
            AuditLogAccessDeniedError: The reader may not list versions. That is another right than to read entries.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Mac:
    """An HMAC-SHA-256.

    Attributes:
        key_id: The key that made it, by the id that it keeps.
    """

    key_id: str
    value: bytes


class Signer(Protocol):
    """The HMAC-SHA-256 keys of one stream: the one that signs, and those that did. Errors: AuditLog*."""

    @property
    def orders(self) -> "Signer":
        """The keys that sign orders: others than these, or these where one key signs everything."""

    def sign(self, digest: bytes) -> Mac:
        """The MAC over 32 bytes, by the key that signs."""

    def prepare(self) -> None:
        """Do of signing what can be done before it is known what is signed, so that it waits beside something else."""

    def verify(self, digest: bytes, mac: Mac) -> bool:
        """Whether the key that a MAC names is one of these, and made it."""

    def rank(self, key_id: str) -> tuple[int, int]:
        """The place of a key among these: of two keys that verify, the one that came later has the higher rank."""


# The port of a secrets manager: one secret with its versions, which is what an adapter of a store implements.
#
# The steps do not see it: they use `lockstep.stores.credential.CredentialStore`, which is made of two secrets.


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretVersion:
    """One version of a secret, as it was read.

    Attributes:
        id: The store's own id of the version.
        generation: The generation in the version's name; 0 if Lockstep did not write the version.
        text: Its content; None if that is not text.
        created_at: When it was made, by the store's clock; None if the store does not say.
        arn: Of the secret, in AWS.
    """

    id: str
    generation: int
    text: str | None = field(repr=False)
    created_at: datetime | None = None
    arn: str = field(default="", compare=False)


def serving(served: Sequence[SecretVersion]) -> SecretVersion:
    """The version that is a secret's value, of those that its places serve: the highest generation (protocol V13)."""
    return max(served, key=lambda version: version.generation)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionName:
    """A version of a secret by its name alone; attributes as those of `SecretVersion`."""

    id: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """What staging a version did.

    Attributes:
        is_new: Whether this call wrote the version; False if the secret already held the generation.
        read_back: Reads the version that the secret holds under the generation now. Raises ReadSideLaggingError if
            the read side does not have it yet.
        seen: The id of what the promotion will replace, as it was when the staged text was made; empty where that is
            not known.
    """

    is_new: bool
    read_back: Callable[[], SecretVersion]
    seen: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What was seen of a secret before a promotion.

    Attributes:
        generation: The generation that was current.
        version: The id of the version that has the wanted generation.
        commit: Makes the wanted generation current if what was observed still is; else LostCompareAndSetError. Not to
            be called, and None in some adapters, if the generation that was current is not lower than the wanted one.
        replaces: The store's own id of the version that the commit replaces, if Lockstep did not write that and the
            wanted one may have been made without a look at it; else empty.
    """

    generation: int
    version: str
    commit: Callable[[], None] | None
    replaces: str = ""


class VersionedSecret(Protocol):
    """One secret of a secrets manager, whose versions are named by generation (`lockstep.protocol.names`).

    The whole of what an adapter of a store implements; `lockstep.stores.credential.CredentialStore` has the rules.

    Errors of every method: the Store* families, SecretNotFoundError, SecretMalformedError.
    """

    @property
    def max_bytes(self) -> int:
        """The most that the store keeps in one version."""

    @property
    def only_strings(self) -> bool:
        """Whether every member of a text is written as a string (protocol V23)."""

    def read_current(self) -> SecretVersion:
        """The version that applications read now, from the read side."""

    def served(self) -> Sequence[SecretVersion]:
        """Every version that some reader may read as current: one for each slot of a ring (protocol V20)."""

    def named(self) -> VersionName:
        """The version that is current, by its name: of a ring, in the slot whose value is the ring's.

        Reads no content, so whoever may list versions and read no password can ask. A name does not say what a version
        holds that Lockstep did not write, nor whether a text is what its name says.
        """

    def read_version(self, version: str) -> SecretVersion | None:
        """A version by the store's own id; None if there is none."""

    def read_generation(self, generation: int) -> SecretVersion | None:
        """The version that holds a generation, whether current or not; None if there is none.

        For generation 0: the current version if Lockstep did not write it, else the previous one if Lockstep did not
        write that.
        """

    def version_of(self, generation: int) -> str:
        """The store's own id of the version that `read_generation` reads; empty if there is none."""

    def prepare(self, generation: int, *, over: Sequence[SecretVersion] = ()) -> Callable[[str], Staged]:
        """Look at what staging a generation needs. Changes nothing.

        Args:
            generation: The generation.
            over: What `served` answered, where this run has just named the generation. Then an adapter may look at
                less, and `Staged.seen` says which of these versions the promotion will replace.

        Returns:
            Writes a text as a pending version, unless the secret already holds that generation. What is current stays.

        Raises:
            StoreQuotaExceededError: The secret has no room for another version. The write may raise it, too.
        """

    def from_seen(self, generation: int, seen: str) -> Observed:
        """For a compare-and-set that makes a generation current in the place of the version that staging has seen.

        Raises:
            LostCompareAndSetError: That is not current any more. An adapter may leave this to `commit`.
        """

    def observe(self, generation: int, *, seen: str = "") -> Observed:
        """Look at what is current, for a compare-and-set that makes a generation current.

        Args:
            generation: The generation.
            seen: What staging has seen there, if that is known: what a person wrote later has not been looked at.

        Raises:
            StoreRejectedError: The secret does not hold that generation. An adapter may leave this to `commit`.
        """

    def shows(self, version: str) -> bool:
        """Whether the read side has a version as what its place serves."""

    def prune(self) -> int:
        """Remove superseded versions if the store does not do so by itself; return how many."""


# The names of an entry's objects, the same in both clouds: `<stream>/<credential>/<number, 12 digits>.json`.
#
# A slash in the credential's id is a dot.

MAX_ENTRY_BYTES = 262_144
NO_METADATA: Mapping[str, str] = MappingProxyType({})
_NAME = re.compile(r"([0-9]{12})\.json")


def chain_folder(credential_id: str) -> str:
    """The folder of a credential's chain; no two credentials of a plan have the same one."""
    return credential_id.replace("/", ".")


def entry_name(number: int) -> str:
    """The name of an entry's object in the folder of its chain."""
    return f"{number:012d}.json"


def number_of(name: str) -> int:
    """The number in such a name; 0 for an object that is not an entry."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What the lock table holds.

    Attributes:
        records: The records that can be read, by credential id.
        unreadable: The names of the errors of those that cannot, by credential id.
    """

    records: Mapping[str, LockRecord]
    unreadable: Mapping[str, str]

    def record(self, credential_id: str) -> LockRecord:
        """The record of a credential; an empty one where there is none, or it cannot be read."""
        return self.records.get(credential_id) or LockRecord(credential_id=credential_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An object in a folder of a bucket.

    Attributes:
        name: In that folder.
        size: In bytes.
        tag: What the service says of its content; the content has it if it is the same.
        at: When it was written, by the store's clock.
    """

    name: str
    size: int
    tag: str
    at: datetime


class Folder(Protocol):
    """A folder of a bucket: published plans, or digests of the audit log. Errors: Plan*, or AuditLog*."""

    def read(self, name: str, limit: int) -> bytes | None:
        """The content of an object, and no more than `limit` bytes and one; None where there is none."""

    def create(self, name: str, file: bytes) -> bool:
        """Write an object; False where the name is taken."""

    def listed(self, *, after: str = "") -> Iterator[Listed]:
        """The objects by their names, page by page; those whose names come after a text alone."""

    def folders(self) -> Iterator[str]:
        """The names of the folders in this one, page by page."""


class EntryFolder(Folder, Protocol):
    """The folder of a chain, whose objects have metadata, and are kept in every version. Errors: AuditLog*."""

    @property
    def stream(self) -> str:
        """`aws` or `oci`."""

    def create(self, name: str, file: bytes, metadata: Mapping[str, str] = NO_METADATA) -> bool:
        """As `Folder`, with metadata."""

    def look(self, name: str) -> Mapping[str, str] | None:
        """The metadata of an object; None if there is none."""

    def history(self) -> Iterator[ObjectVersion]:
        """As `AuditLog`."""


class EntryLog:
    """The port `AuditLog` on the folder of a chain, in either cloud."""

    def __init__(self, folder: EntryFolder) -> None:
        self._folder = folder
        self.stream = folder.stream

    def put(self, number: int, body: bytes, metadata: Mapping[str, str]) -> bool:
        """As `AuditLog`."""
        return self._folder.create(entry_name(number), body, metadata)

    def look(self, number: int) -> Mapping[str, str] | None:
        """As `AuditLog`."""
        return self._folder.look(entry_name(number))

    def read(self, number: int) -> bytes | None:
        """As `AuditLog`; of a longer object no more than shows that it is longer than an entry can be."""
        return self._folder.read(entry_name(number), MAX_ENTRY_BYTES)

    def numbers(self, *, after: int = 0) -> Iterator[int]:
        """As `AuditLog`."""
        return (number for number, _ in self.dated(after=after))

    def dated(self, *, after: int = 0) -> Iterator[tuple[int, datetime]]:
        """As `AuditLog`."""
        for item in self._folder.listed(after=entry_name(after)):
            if (number := number_of(item.name)) > after:
                yield number, item.at

    def history(self) -> Iterator[ObjectVersion]:
        """As `AuditLog`."""
        return self._folder.history()


MAX_TEXT_BYTES = 65_536
"""The most that any store keeps in a secret."""


def moment(value: object) -> datetime | None:
    """When a version was made, as a store says it; None if that is no time with a zone."""
    return value if isinstance(value, datetime) and value.tzinfo else None


NOT_AN_OBJECT, NO_LOGIN, BINARY, FORGED = "not-a-json-object", "no-login", "binary", "forged"


class EditableSecret(VersionedSecret, Protocol):
    """A versioned secret as a person edits it."""

    def serves(self, matches: Callable[[str], bool]) -> bool:
        """Whether every place from which applications read the secret holds a text that matches, by the read side."""

    def edit(self, text: str, *, unless: Callable[[str], bool]) -> None:
        """Make a text current in each of these places, except where `unless` holds for the text that is there."""
