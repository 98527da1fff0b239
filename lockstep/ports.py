"""The ports: what the steps may ask of the clouds, the databases and the clock.

Foreign exceptions never cross a port: each adapter turns them into one of `lockstep.errors`. No adapter retries;
retries are said once, in `lockstep.timing`, for both clouds. Every call has a time-out (protocol F1, F3, F5).
"""

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from lockstep.model import (
    Acquired,
    ChainHead,
    Claim,
    Credential,
    CredentialValue,
    Lease,
    LockRecord,
    Login,
    PasswordPolicy,
    Release,
    SecretStr,
    StoredValue,
    StoreVersions,
    Told,
)
from lockstep.workers import SideBySide

if TYPE_CHECKING:
    from lockstep.audit.fingerprints import FingerprintKey
    from lockstep.standby import Bounds
    from lockstep.stores import Stores


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


class Store(Protocol):
    """A credential's two secrets in one secrets manager: what steps need of `lockstep.stores.CredentialStore`.

    Errors of every method: as `VersionedSecret`.
    """

    @property
    def name(self) -> str:
        """The store's name in the plan."""

    def read_current(self) -> StoredValue:
        """The value that applications read now."""

    def generation(self) -> int:
        """The generation that readers of `app_user` get now."""

    def read_version(self, version: str) -> CredentialValue | None:
        """The value in a version that `read_current` has named; None if it is gone or a placeholder."""

    def read_generation(self, generation: int) -> CredentialValue | None:
        """The value of a generation, whether current or not; None if the store does not hold it."""

    def prepare(self, generation: int, *, is_new: bool = False) -> Callable[[CredentialValue], Pending]:
        """Look at what staging a generation needs. Changes nothing.

        Args:
            generation: The generation.
            is_new: This run has just named it, after `read_current`.

        Returns:
            Makes a value of that generation pending in both secrets, unless the store already holds one.
        """

    def prepare_promotion(
        self, generation: int, *, seen: StoreVersions | None = None
    ) -> Callable[[StillOurs], StoreVersions]:
        """Look at what promoting a generation needs, where it is known what was seen before it was staged.

        Returns:
            Makes the generation current in both secrets, by compare-and-set, and returns the versions that are current
            then. To be called after the fence was read. Where somebody has changed what was seen, or nothing was seen,
            it looks at what is current, asks whether the lock is still ours, and compares and sets once more.

        Raises:
            FenceLostError: A higher generation is current, or the lock is not ours.
            LostCompareAndSetError: The current version changed in between.
            EditedMeanwhileError: It would replace keys of others that are not in what was staged.
        """

    def served_logins(self) -> Sequence[Login]:
        """The login of each slot: what some reader of any one slot may use (protocol V18)."""

    def spread(self, generation: int, still_ours: StillOurs, *, gently: bool = False) -> Callable[[], bool]:
        """Make a generation that is current what every slot of both secrets serves, as `promote` does.

        Args:
            generation: The generation.
            still_ours: Looks at the fence.
            gently: Leave a slot that has no room, or keys of others that the generation does not have.

        Returns:
            Says whether the read side has it in every slot.
        """

    def shows(self, promoted: StoreVersions) -> bool:
        """Whether the read side has these versions as current."""

    def version_of(self, generation: int) -> str:
        """The store's own id of the version that holds a generation, for the audit entry."""

    def prune(self) -> int:
        """Remove superseded versions if the store does not do so by itself; return how many."""


class Stager(Protocol):
    """A database under its advisory lock, on the very connection that makes the changes."""

    def stage(self, *, current: CredentialValue | None, pending: CredentialValue) -> None:
        """Make the database accept exactly current and pending; idempotent, current logs in throughout (protocol D5).

        With current None: pending alone. With alternating users only pending's account is changed. No login with
        pending is tried before, unless it was staged already or the server keeps no record of that.
        """

    def retire(self, *, drop: CredentialValue, keep: CredentialValue) -> Login:
        """Make `drop` dead; idempotent, `keep` logs in throughout.

        Returns:
            A login that works for the account whose password was dropped. To be tried before and after `drop` is
            refused: it takes back the refusal of a run that died, proves that the password was refused and not the
            account, and takes this refusal back (protocol D18).
        """

    def accepts_after_all(self, login: Login) -> bool:
        """Look again at a refusal that was not expected; False if the password is wrong (protocol D14).

        Not every server tells a client why it is refused. This asks as the rotator admin, and logs in again if that
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
        """The database's name in the plan, with the host."""

    def accepts(self, login: Login) -> bool:
        """As `Database.accepts`."""


class Database(Protocol):
    """A server on which every live generation must log in.

    Errors: DatabaseUnreachableError, DatabaseBusyError, AdvisoryLockBusyError, TlsVerificationError,
    AccountUnusableError (all four), AccountMissingError, AccountPluginError, AmbiguousAccountError, LockoutLimitError,
    HostBlockedError, AdminCredentialRejectedError, PrivilegeMissingError, PasswordRefusedByPolicyError,
    VerifierRefusedError, UnsupportedServerError, DatabaseRejectedError.
    """

    @property
    def name(self) -> str:
        """The database's name in the plan."""

    @property
    def plaintext(self) -> bool:
        """Whether the plan allows connections without TLS."""

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """The hosts that must accept a value too, before it is promoted."""

    def accepts(self, login: Login) -> bool:
        """Log in for real, on a new connection: True, or False for a wrong password or unknown user.

        Anything else is an error: an outage never looks like a wrong password.
        """

    @property
    def admin(self) -> Hashable:
        """Whose login the rotator admin has: databases with the same one may share what `admin_login` returns."""

    def admin_login(self) -> Login:
        """The rotator admin's login as it is now (protocol D22); raises also the errors of a store."""

    def exclusive(self, admin: Login | None = None) -> AbstractContextManager[Stager]:
        """Hold the server's advisory lock for the accounts; waits some seconds, then AdvisoryLockBusyError.

        Args:
            admin: The rotator admin's login, as it was just read; None: it is read now. It is read again if the server
                refuses it.
        """


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
        leads: bool = False,
        limits: "Bounds | None" = None,
    ) -> Acquired | None:
        """Take the lock if it is free, expired or already ours, and the credential is due; else None.

        Args:
            holder: The run.
            now: By the runner's clock.
            expires_at: When the lease ends.
            force: Waives that it is due.
            leads: It is a run of AWS, which leaves the sign that it has begun (protocol R8).
            limits: It is a scheduled run of the standby, which leaves to AWS what these bounds allow (protocol R8).
        """

    def recall(self, lease: Lease, told: Told) -> LockRecord | None:
        """The record that `acquire` has told, without a call; None where it shows another lease, or is no record.

        Since then the record may have changed (protocol L16).
        """

    def note_skip(self, now: datetime) -> None:
        """Note that a run of AWS did not get the lock (protocol R8)."""

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
            served: The generations that stores serve; they count as alive from now on.
        """

    def begin_promotion(self, lease: Lease, claim: Claim, *, now: datetime) -> LockRecord:
        """Mark the claim as promoting, if the lease and the claim hold, else FenceLostError; the record afterwards."""

    def require(self, lease: Lease, claim: Claim, *, promoting: bool, now: datetime) -> LockRecord:
        """The record by a consistent read, if lease, claim and phase hold; else FenceLostError."""

    def require_lease(self, lease: Lease, *, now: datetime) -> None:
        """Return if a consistent read shows that the lease holds, whatever is in flight; else FenceLostError."""

    def mute(self, lease: Lease, databases: Collection[str]) -> None:
        """Show these databases no login until an operator retries or enrols them; else FenceLostError."""

    def move_head(
        self,
        stream: str,
        head: ChainHead,
        *,
        after: ChainHead | None,
        at: datetime | None,
        witnesses: Collection[str] = (),
    ) -> None:
        """Move an audit chain's head on, if it is still `after`; else LostCompareAndSetError.

        Args:
            stream: The chain's stream.
            head: Its newest entry.
            after: The head that was read.
            at: When the entry was written; None for one that needs no witness itself.
            witnesses: The other streams whose heads the entry names.
        """

    def release(self, lease: Lease, done: Release | None) -> None:
        """Give the lock back. With `done`, clear the claim and move the schedule on; without it, leave both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectVersion:
    """A version of an object below a chain's prefix, or the marker that hides the older ones.

    Attributes:
        key: The object's name.
        seq: The number of the entry; 0 if the name is not an entry's.
        is_delete_marker: Whether it says that the object was deleted. It has no content.
        is_latest: Whether it is what a read without a version id meets.
        at: When it was written, by the service's clock.
    """

    key: str
    seq: int
    version_id: str
    is_delete_marker: bool
    is_latest: bool
    at: datetime
    size: int


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

    def sign(self, digest: bytes) -> Mac:
        """The MAC over 32 bytes, by the key that signs."""

    def fingerprint_key(self) -> "FingerprintKey":
        """The key of fingerprints that follows from the key that signs. It is made again where another one signs."""

    def verify(self, digest: bytes, mac: Mac) -> bool:
        """Whether the key that a MAC names is one of these, and made it."""

    def rank(self, key_id: str) -> tuple[int, int]:
        """The place of a key among these: of two keys that verify, the one that came later has the higher rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The world of one rotation, for one credential and one runner.

    Attributes:
        home_store: The store in the runner's cloud, or else the first.
        other_logs: Opens the audit logs of the other clouds, which this runner only reads.
    """

    runner: str
    credential: Credential
    stores: "Stores"
    databases: Mapping[str, Database]
    side_by_side: SideBySide
    lock: Lock
    home_store: Store
    audit_log: AuditLog
    other_logs: Callable[[], Sequence[AuditLog]]
    signer: Signer
    clock: Clock
    passwords: PasswordSource
