"""Orders: what an operator wants, as attributes of the lock record (protocol O2, O4, O5, O6, O7).

An order changes no store and no database. It is first an entry in the credential's audit chain, then one write to the
lock record, without the lock. The next run does what the order says.

    order              in the record                     over with
    pause              paused                            resume; an emergency that says so
    revoke             revoke_through, take_over         the run that shows all up to it to be revoked; it stays
    take_over          take_over, a set of databases     proof on the database; cancel
    activate           activate, a plan digest           the claim that makes it the active plan
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Protocol

from lockstep.protocol.errors import OrderRefusedError
from lockstep.protocol.model import ANY_HOST, ENGINES, Credential, Lease, LockRecord
from lockstep.protocol.names import server_of

ACCOUNT_PREFIX = "account#"
"""Of the keys of accounts in the lock table. Only operators may use these items."""


class _Order:
    """What most orders have in common."""

    __slots__ = ()

    def check(self, record: LockRecord) -> None:
        """Raise OrderRefusedError if the order may not be given in this record."""

    def details(self, _record: LockRecord) -> dict[str, Any]:
        """What the audit entry says besides the name."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfDatabases(_Order):
    """An order about some databases, by their names in the plan."""

    databases: frozenset[str]

    def details(self, _record: LockRecord) -> dict[str, Any]:
        """What the audit entry says besides the name."""
        return {"databases": sorted(self.databases)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(_Order):
    """No scheduled run of either cloud begins (protocol O4)."""

    name: ClassVar[str] = "pause"

    def is_applied(self, record: LockRecord) -> bool:
        """Whether the record says it already."""
        return record.paused


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(_Order):
    """Scheduled runs begin again."""

    name: ClassVar[str] = "resume"

    def is_applied(self, record: LockRecord) -> bool:
        """Whether the record says it already."""
        return not record.paused


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoke(_Order):
    """Emergency: every generation that was claimed so far must die, whatever the schedule says (protocol O5).

    Attributes:
        lift_pause: Whether it also resumes a paused credential, in the same write.
        without: The databases that it does not wait for where they fail. Their accounts may be taken over.
    """

    lift_pause: bool
    without: frozenset[str] = frozenset()
    name: ClassVar[str] = "revoke"

    def is_applied(self, record: LockRecord) -> bool:
        """Whether the record says it already."""
        through = record.revoke_through
        is_ordered = through is not None and through >= record.highest_generation
        return is_ordered and not record.paused and self.without <= record.take_over

    def check(self, record: LockRecord) -> None:
        """Refuse a credential that would stay paused: the runs that finish an emergency would not begin."""
        if record.paused and not self.lift_pause:
            raise OrderRefusedError(credential=record.credential_id, code="paused")

    def details(self, record: LockRecord) -> dict[str, Any]:
        """What the audit entry says besides the name."""
        without = {"without": sorted(self.without)} if self.without else {}
        return {"revoke_through": record.highest_generation, "lifts_pause": self.lift_pause, **without}


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeOver(_OfDatabases):
    """The accounts on these databases may be taken over without a login that works there (protocol O6)."""

    name: ClassVar[str] = "take_over"

    def is_applied(self, record: LockRecord) -> bool:
        """Whether the record says it already."""
        return self.databases <= record.take_over


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelTakeOver(_OfDatabases):
    """What `TakeOver` allows for these databases is not allowed any more."""

    name: ClassVar[str] = "cancel_take_over"

    def is_applied(self, record: LockRecord) -> bool:
        """Whether the record says it already."""
        return not self.databases & record.take_over


@dataclass(frozen=True, slots=True, kw_only=True)
class Activate(_Order):
    """The next claim makes this plan the active one (protocol O7).

    To order the plan that is active withdraws an order for another one.

    Attributes:
        digest: The plan digest that is wanted.
        replaces: The digest that the operator saw as active; None: no plan was.
        leaving: The databases and stores of the old plan that the new one does not name.
    """

    digest: str
    replaces: str | None
    leaving: tuple[str, ...] = ()
    name: ClassVar[str] = "activate"

    def is_applied(self, record: LockRecord) -> bool:
        """Whether the record says it already."""
        if record.plan == self.digest:
            return record.activate is None
        return record.activate == self.digest and record.plan == self.replaces

    def check(self, record: LockRecord) -> None:
        """Refuse a change of a plan that is not the one that the operator saw."""
        if record.plan not in {self.replaces, self.digest}:
            raise OrderRefusedError(credential=record.credential_id, code="another-plan-is-active")

    def details(self, _record: LockRecord) -> dict[str, Any]:
        """What the audit entry says besides the name."""
        return {"plan": self.digest, "replaces": self.replaces, "leaving": list(self.leaving)}


Order = Pause | Resume | Revoke | TakeOver | CancelTakeOver | Activate


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account of a database server, as the lock table knows it (protocol O8).

    Attributes:
        host: Of the server, as in the plan.
        username: The account's name.
        client_host: The host part of its name, on engines that have one.
    """

    database: str
    host: str
    port: int
    username: str
    client_host: str = ANY_HOST

    @property
    def key(self) -> str:
        """The key of its item."""
        host, port = server_of(self.host, self.port)
        return f"{ACCOUNT_PREFIX}{host}:{port}#{self.username}@{self.client_host}"


def accounts_of(credential: Credential) -> Iterator[Account]:
    """Every account that a credential has in the plan."""
    for server in credential.servers:
        client_host = credential.account_host if ENGINES[server.engine].accounts_have_hosts else ANY_HOST
        for username in credential.usernames:
            yield Account(
                database=server.name,
                host=server.host,
                port=server.port,
                username=username,
                client_host=client_host,
            )


class Orders(Protocol):
    """What an operator may change in the lock table, for one credential. Errors of every method: LockTable*."""

    def write(self, order: Order) -> LockRecord:
        """Put an order into the record, if it may stand there; if it stands there already, that is success.

        Raises:
            OrderRefusedError: The record does not allow it.
        """

    def hold(self, *, holder: str, now: datetime, expires_at: datetime) -> Lease | None:
        """Take the lock if it is free, expired or ours, whatever the schedule says; else None."""

    def register(self, account: Account) -> None:
        """Make the account this credential's.

        Raises:
            OrderRefusedError: It is another's.
        """

    def unregister(self, account: Account) -> bool:
        """Let another credential have the account; False if another has it."""
