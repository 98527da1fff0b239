"""The nouns of the protocol. Frozen, without I/O.

A *generation* is a positive integer that names one value of a credential; it only grows. Generation 0 is what
stood in the stores before Lockstep: a login that is taken over, or a placeholder.
"""

import hmac
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import NoReturn, final

from msgspec import structs

from lockstep.protocol.errors import NewerFormatError, SecretMalformedError
from lockstep.protocol.strict_json import Instant, Message

MASK = "**********"

ROTATION_USER = "lockstep_rotator"
"""The account that changes the others' passwords, on every server."""

ANY_HOST = "%"
"""The host part of an account that takes logins from every host, on MySQL and MariaDB."""


class Unprintable:
    """What cannot be printed, formatted, logged or pickled by accident."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled or copied")


@final
class SecretStr(Unprintable):
    """A secret string. It is not compared in variable time."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The string itself. Every call of this is a place to look at in a review."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretStr):
            return NotImplemented
        return hmac.compare_digest(_bytes(self._value), _bytes(other._value))

    __hash__ = None  # type: ignore[assignment]  # a hash of a password is a hint at the password


def _bytes(value: str) -> bytes:
    # An encoding error would carry the value with it.
    return value.encode("utf-8", "surrogatepass")


class Strategy(StrEnum):
    """How a database accepts the pending value beside the current one (protocol D12, D13)."""

    DUAL_PASSWORD = "dual_password"  # noqa: S105 - the name of a strategy
    ALTERNATING_USERS = "alternating_users"


class Engine(StrEnum):
    """Kinds of database server."""

    MYSQL = "mysql"
    MARIADB = "mariadb"
    POSTGRESQL = "postgresql"


@dataclass(frozen=True, slots=True)
class Login:
    """What a client shows a database."""

    username: str
    password: SecretStr


@dataclass(frozen=True, slots=True)
class CredentialValue:
    """One value of a credential, named by its generation.

    Attributes:
        claim_id: The run that made the claim for which the value was staged (`Claim.rotation_id`). None where its text
            names none: a person wrote it.
    """

    generation: int
    login: Login
    claim_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredValue:
    """What a store serves as current.

    Attributes:
        login: None where the secret holds a placeholder.
        generation: The generation under which Lockstep wrote this version; 0 for a version that Lockstep did
            not write, whatever its text says.
        blob_generation: The same for the `connection_blob` secret.
        version: The store's own name of the version, for references and for the audit entry.
        malformed: What is wrong with a text that holds no credential, of one of the two secrets: it is replaced.
    """

    login: Login | None
    generation: int
    blob_generation: int
    version: str
    malformed: SecretMalformedError | None = None


class StoreVersions(Message):
    """A version of each of the two secrets in one store, by the store's own ids; an empty id is not known.

    Attributes:
        store: The store's name in the plan.
    """

    store: str
    app_user: str
    connection_blob: str


class ClaimKind(StrEnum):
    """Why there is a generation in flight."""

    NEW = "new"
    RECONCILE = "reconcile"


class Claim(Message):
    """The one generation in flight, as the lock record names it.

    Attributes:
        kind: `new` has a password of its own, `reconcile` gives the login that works a new generation.
        generation: The pending generation.
        base_generation: What pending follows: for a new one the current generation, for a reconcile the one whose login
            it gives again.
        rotation_id: The run that made the claim; another run that finishes it has adopted it.
    """

    kind: ClaimKind
    generation: int
    base_generation: int
    rotation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainHead:
    """The newest entry of an audit stream."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRecord:
    """The lock's item. Absent attributes are None, False or empty. Times are aware, whole seconds.

    Attributes:
        plan: The digest of the active plan; None before the first activation, and where the table was lost.
        claim: The generation in flight.
        promoting: Whether a store may serve the claim's value already; until then the claim is open.
        valid: The generations that may have been served and are not yet shown to be revoked.
        paused: An order: no scheduled run.
        activate: An order: the digest that becomes the active plan with the next claim.
        revoke_through: An order: every generation up to this one is to be revoked.
        take_over: An order: the databases whose account may be taken over without a login that works.
        rotated_by: The run that finished the last rotation.
        rotated_at: When that run began.
    """

    credential_id: str
    holder: str | None = None
    fence: int = 0
    expires_at: datetime | None = None
    plan: str | None = None
    claim: Claim | None = None
    promoting: bool = False
    current_generation: int | None = None
    valid: frozenset[int] = frozenset()
    highest_generation: int = 0
    next_due_at: datetime | None = None
    not_before: datetime | None = None
    paused: bool = False
    activate: str | None = None
    revoke_through: int | None = None
    take_over: frozenset[str] = frozenset()
    rotated_by: str | None = None
    rotated_at: datetime | None = None
    heads: Mapping[str, ChainHead] = field(default_factory=dict)

    @property
    def is_revoking(self) -> bool:
        """Whether the order `revoke_through` is not fulfilled: a generation that it names may be valid."""
        through = self.revoke_through
        return through is not None and min(self.valid, default=0) <= through

    def allows(self, plan_digest: str) -> bool:
        """Whether runs act under a plan: it is the active one, or is ordered to become it (protocol I10)."""
        return plan_digest in (self.plan, self.activate)

    def may_pass_over(self, failed: Collection[str], databases: Collection[str]) -> bool:
        """Whether a run may go on without the databases that have failed in it (protocol O5).

        In an emergency alone, with consent to take each of them over, and with one left.
        """
        return self.is_revoking and self.take_over.issuperset(failed) and not set(databases).issubset(failed)

    @property
    def is_half_done(self) -> bool:
        """Whether a store may serve what is in flight, or a reconcile is: only a reconcile goes on from there."""
        return self.promoting or (self.claim is not None and self.claim.kind is ClaimKind.RECONCILE)

    def raises_order(self, claim: Claim) -> bool:
        """Whether an emergency order reaches up to a claim: a reconcile gives a login again, which may have leaked."""
        return self.is_revoking and claim.kind is ClaimKind.RECONCILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Proof of having acquired the lock: what every write of this run is conditional on."""

    credential_id: str
    holder: str
    fence: int


class Release(Message):
    """What a finished rotation writes when it gives the lock back. Times are whole seconds.

    Attributes:
        valid: As in the record.
        proven: The databases that were seen to accept the new generation: no longer under take-over.
        rotated_at: When the rotation began.
    """

    current_generation: int
    valid: frozenset[int]
    proven: tuple[str, ...]
    next_due_at: Instant
    not_before: Instant
    rotated_at: Instant


class Schedule(Message):
    """When a credential may and must rotate.

    Attributes:
        interval: From the start of one rotation to the next.
        overlap: How long the previous value keeps logging in after a newer one was promoted.
        tolerance: How much too early a trigger may come and still count as due.
        phase: How long after midnight UTC, and after each interval, AWS is triggered (`lockstep.protocol.schedule`).
    """

    interval: timedelta
    overlap: timedelta
    tolerance: timedelta
    phase: timedelta = timedelta()


class PasswordPolicy(Message):
    """What a generated password looks like: `length` characters, at least one of each of `classes`."""

    length: int
    classes: tuple[str, ...]


class Tls(Message):
    """How a server's certificate is verified: by this CA, for the host name in the plan.

    Attributes:
        ca_file: A PEM file; None: the system's CAs.
    """

    ca_file: Path | None = None


class AdminSecret(Message, tag_field="kind", tag="secret"):
    """A rotation user whose login somebody else keeps in a secret of each cloud that has a runner.

    Attributes:
        aws: Name or ARN in AWS.
        oci: Name in OCI, with slashes, as in the plan.
    """

    aws: str
    oci: str


class AdminIam(Message, tag_field="kind", tag="iam"):
    """A rotation user that logs in by RDS IAM authentication, as the AWS identity of each runner.

    Attributes:
        username: Its account, which has no password.
        region: Where RDS has the server.
    """

    username: str
    region: str


class AdminCredential(Message, tag_field="kind", tag="credential"):
    """A rotation user whose login is itself a credential of the plan (protocol D22).

    Attributes:
        credential: Its id.
    """

    credential: str


Admin = AdminSecret | AdminIam | AdminCredential
"""How the rotation user of a server logs in."""


class VerifyHost(Message):
    """Another host at which applications reach a database: a read replica, a proxy (protocol D15).

    Attributes:
        tls: None where the plan consents to plaintext.
    """

    host: str
    port: int
    tls: Tls | None

    @property
    def name(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"


class DatabaseServer(Message):
    """A server on which every live generation must log in.

    Attributes:
        tls: None where the plan consents to plaintext.
        admin: How the rotation user logs in.
        verify_hosts: Where its accounts must log in too, before a generation is promoted.
    """

    name: str
    engine: Engine
    host: str
    port: int
    dbname: str
    tls: Tls | None
    admin: Admin
    verify_hosts: tuple[VerifyHost, ...] = ()

    @property
    def plaintext(self) -> bool:
        """Whether passwords may cross the network unencrypted."""
        return self.tls is None

    @property
    def copies(self) -> tuple["DatabaseServer", ...]:
        """Its verify hosts as servers, each named after both."""
        return tuple(
            structs.replace(
                self,
                name=f"{self.name}@{end.name}",
                host=end.host,
                port=end.port,
                tls=end.tls,
                verify_hosts=(),
            )
            for end in self.verify_hosts
        )


class SecretNames(Message):
    """The names of a credential's two secrets, as in the plan."""

    app_user: str
    connection_blob: str


class Credential(Message):
    """One logical login: what the steps and the adapters need of the plan.

    Attributes:
        usernames: One with dual passwords, two or more with alternating users. No other account is touched (protocol
            D11).
        owner: The role that owns objects, with alternating users on PostgreSQL.
        servers: Every server on which it must log in, the primary first.
        plan_digest: What both runners must agree on for it, as one value (protocol O1).
        account_host: The host part of its accounts on MySQL and MariaDB.
    """

    id: str
    strategy: Strategy
    usernames: tuple[str, ...]
    owner: str
    schedule: Schedule
    password_policy: PasswordPolicy
    secret_names: SecretNames
    servers: tuple[DatabaseServer, ...]
    plan_digest: str
    account_host: str = ANY_HOST

    @property
    def databases(self) -> tuple[str, ...]:
        """The names of the servers."""
        return tuple(server.name for server in self.servers)

    @property
    def administers(self) -> tuple[str, ...]:
        """The names of those of its servers on which it is the rotation user's own login (protocol D22)."""
        itself = AdminCredential(credential=self.id)
        return tuple(server.name for server in self.servers if server.admin == itself)

    @property
    def primary(self) -> DatabaseServer:
        """The server whose connection fields are in `app_user`."""
        return self.servers[0]


# The format of what Lockstep writes: one number for lock records, secrets and audit entries (protocol R10).
#
# Where a runner or a command meets a higher one it changes nothing. So a change that an older build would misread
# raises `FORMAT`. The plan file has a number of its own, `version`, because people write it.

FORMAT = 1
"""What this build writes."""


def require_known(written: int | None, **where: str | int) -> None:
    """Refuse what a newer build wrote.

    Args:
        written: The format in which it was written; None where it names none.
        where: The fields of the error.

    Raises:
        NewerFormatError: It is higher than this build's.
    """
    if written is not None and written > FORMAT:
        raise NewerFormatError(**where, code=f"format-{written}")


# The engines that a plan can name: one row each.
#
# To add an engine, add a member to `Engine` and a row here, and write its driver
# (`lockstep.runtime.clouds.driver_of`), its provisioning, its listing of sessions and what can be asked of it.


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What Lockstep has to know about an engine.

    Attributes:
        dsn_scheme: The scheme of the URLs in `connection_blob`.
        default_port: Where a server listens unless it is told otherwise.
        strategies: Those that its accounts allow.
        own_accounts: Accounts of the server itself or of its host, which are never an application's.
        longest_username: In characters.
        accounts_have_hosts: Whether an account is a username and a host, so that one username can be several accounts.
        is_refusal: Whether an error of an application's driver means that the server refuses the login.
    """

    dsn_scheme: str
    default_port: int
    strategies: frozenset[Strategy]
    own_accounts: re.Pattern[str]
    longest_username: int
    accounts_have_hosts: bool
    is_refusal: Callable[[Exception], bool]


def is_mysql_refusal(error: Exception) -> bool:
    """Whether a PyMySQL error is 1045, access denied."""
    return bool(error.args) and error.args[0] == 1045  # noqa: PLR2004 - ER_ACCESS_DENIED_ERROR


def is_postgresql_refusal(error: Exception) -> bool:
    """Whether a psycopg error is a refused password.

    libpq gives no SQLSTATE for a failed connection (https://www.psycopg.org/psycopg3/docs/api/errors.html), so the
    server's message is read.
    """
    return getattr(error, "sqlstate", None) == "28P01" or "password authentication failed" in str(error)


ENGINES: Mapping[Engine, EngineSpec] = {
    Engine.MYSQL: EngineSpec(
        dsn_scheme="mysql",
        default_port=3306,
        strategies=frozenset(Strategy),
        own_accounts=re.compile("root|rdsadmin"),
        longest_username=32,
        accounts_have_hosts=True,
        is_refusal=is_mysql_refusal,
    ),
    Engine.MARIADB: EngineSpec(
        dsn_scheme="mariadb",
        default_port=3306,
        strategies=frozenset(Strategy),
        own_accounts=re.compile("root|rdsadmin|mysql|PUBLIC"),
        longest_username=128,
        accounts_have_hosts=True,
        is_refusal=is_mysql_refusal,
    ),
    Engine.POSTGRESQL: EngineSpec(
        dsn_scheme="postgresql",
        default_port=5432,
        strategies=frozenset({Strategy.ALTERNATING_USERS}),  # a role has one password
        own_accounts=re.compile("postgres|rdsadmin|public|none|pg_.*"),
        longest_username=63,
        accounts_have_hosts=False,
        is_refusal=is_postgresql_refusal,
    ),
}
