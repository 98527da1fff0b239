"""The lock: one DynamoDB item per credential. It alone decides which run rotates and which generation is pending.

It is the lock record of the protocol (protocol L1, L3).

What each runner may do over time. A name is a write whose condition holds; a name with ✗ is one whose condition fails:

    time ──────────────────────────────────────────────────────────────────────────────────────────▶
    aws   ACQUIRE (free, due)      CLAIM 7    RELEASE_DONE
          │fence 7                 │          │ next_due_at, not_before
          ├────── holds until expires_at ─────┤┄┄┄┄┄┄┄ not due ┄┄┄┄┄┄┄┤
    oci                  ACQUIRE✗ (held)         ACQUIRE✗ (not due)   ACQUIRE (free, due) fence 8 ──▶

    aws   ACQUIRE fence 9   CLAIM 9   †crash                       wakes up: REQUIRE✗, CLAIM✗, RELEASE✗
          ├─────────────────┼── holds until expires_at ──┤         (the fence is 10)
    oci                          ACQUIRE✗ (held)          ACQUIRE (expired, 9 is pending) fence 10
                                                          finishes 9: the claim stays until RELEASE_DONE

    aws   ACQUIRE fence 11  CLAIM 11  fails  RELEASE       the claim stays: due at once, for either runner
                                                           ACQUIRE (free, 11 is pending) fence 12

A lease ends at its `expires_at`, compared with the runner's clock; DynamoDB's TTL deletes days late. The lease is
longer than an execution, a function and clock skew together (protocol R9), so its holder has stopped before it ends.

The reply of a write can get lost, so every condition also accepts a repeated write (protocol L10): a holder acquires
its own lock again (with a new fence), a claim that is already there is a success, and a release may find the
lock free as long as the fence is unchanged, and where it finishes a rotation, as this run has left it.

In AWS the state machine acquires and releases the lock itself, with the same expressions (`lock_expressions`). What
operators order is written by others, without the lock; a run only removes what it has fulfilled.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import ValidationError

from lockstep.aws.clients import translated
from lockstep.protocol import model
from lockstep.protocol.deadlines import CLOCK_SKEW
from lockstep.protocol.errors import (
    MALFORMED_ITEM,
    FenceLostError,
    LockstepError,
    LockTableAccessDeniedError,
    LockTableUnreachableError,
    errors_of,
)
from lockstep.protocol.lock_rule import LATEST_END, has_lease, is_in_time
from lockstep.protocol.messages import Recorded
from lockstep.protocol.model import (
    Claim,
    Lease,
    LockRecord,
    Release,
)
from lockstep.protocol.orders import ACCOUNT_PREFIX
from lockstep.protocol.ports import Table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef


# The writes of the lock record as DynamoDB expressions: what each sets, and under which condition (protocol L3).
#
# In AWS the state machine acquires and releases the lock itself: `cdk/statemachine.py` takes the expressions for
# `statemachine.asl.json` from here.

FAR_FUTURE = 253402300799
"""9999-12-31T23:59:59Z, in epoch seconds: later than every due time."""

ACQUIRE_UPDATE = "SET holder = :holder, expires_at = :expires_at, acquired_at = :now ADD fence :one"
FREE_CONDITION = (
    "attribute_not_exists(holder) OR attribute_not_exists(expires_at) OR expires_at < :now "
    "OR expires_at > :latest_end OR holder = :holder"
)
"""Free, expired, held until a time that cannot be, or already held by this run (protocol L17). An operator who takes
the lock waits for nothing else."""
ACQUIRE_CONDITION = (
    f"({FREE_CONDITION}) "
    "AND (attribute_not_exists(paused) OR paused <> :heeded) "
    "AND (attribute_exists(activate) OR attribute_exists(take_over) OR attribute_exists(pending_generation) "
    "OR attribute_not_exists(next_due_at) OR next_due_at <= :due_by OR next_due_at > :latest "
    "OR rotated_at > :skewed OR (attribute_exists(revoke_through) "
    "AND (attribute_not_exists(valid_from) OR valid_from <= revoke_through)))"
)
"""Free, expired or held by this run; not paused; and due, or something is ordered or in flight (protocol L4)."""
PAUSE_HEEDED, PAUSE_WAIVED = True, False
"""`:heeded`, for a scheduled run and for a forced one: the value of `paused` that stops it."""

CLAIM_UPDATE = (
    "SET claim_kind = :kind, pending_generation = :generation, base_generation = :base, "
    "claim_rotation_id = :rotation_id, highest_generation = :generation, #plan = :plan, #format = :format"
)
RAISE_ORDER = ", revoke_through = :generation"
REMOVE_PHASE = " REMOVE promoting"
REMOVE_ACTIVATION = ", activate"
SET_VALID_FROM = ", valid_from = :valid_from"
ADD_VALID = " ADD valid :valid"
HELD = "holder = :holder AND fence = :fence"
NEWEST = "(attribute_not_exists(highest_generation) OR highest_generation < :generation)"
UNDER_ACTIVE_PLAN = "#plan = :plan"
UNDER_ORDERED_PLAN = "activate = :plan"
NOTHING_IN_FLIGHT = "attribute_not_exists(pending_generation)"
_REPLACED = (
    "pending_generation = :replaced AND claim_kind = :replaced_kind AND base_generation = :replaced_base "
    "AND claim_rotation_id = :replaced_run"
)
OPEN = f"{_REPLACED} AND attribute_not_exists(promoting)"
PROMOTING = f"{_REPLACED} AND attribute_exists(promoting)"
"""CLAIM: still held by this run, in flight is what was seen, the generation was never used, and the plan is the active
one or becomes so with this write (protocol L6)."""

PROMOTE_UPDATE = (
    "SET promoting = :true, valid_from = if_not_exists(valid_from, :generation) ADD valid :generations"
)
PROMOTE_CONDITION = (
    f"{HELD} AND expires_at > :now AND pending_generation = :generation AND claim_rotation_id = :rotation_id "
    "AND #format <= :format"
)
"""Still held by this run, and its claim is in flight, and no newer build has made it (protocol L14, R10)."""

MOVE_HEAD = "SET #head = :head"
"""The newest entry of the runner's own stream is this run's. The head is a hint: it may go back (protocol L10)."""

RELEASE_DONE_UPDATE = (
    f"{MOVE_HEAD}, current_generation = :current, valid = :valid, valid_from = :valid_from, "
    "next_due_at = :next_due_at, not_before = :not_before, rotated_by = :holder, "
    "rotated_at = :rotated_at "
    "REMOVE holder, expires_at, acquired_at, claim_kind, pending_generation, base_generation, "
    "claim_rotation_id, promoting "
    "DELETE take_over :proven"
)
RELEASE_UPDATE = "REMOVE holder, expires_at, acquired_at"
RELEASE_FAILED_UPDATE = f"{MOVE_HEAD} {RELEASE_UPDATE}"
RELEASE_UNCHANGED_UPDATE = f"{RELEASE_UPDATE} DELETE take_over :proven"
"""Nothing was to be done: consent that is used up goes."""
RELEASE_CONDITION = "fence = :fence AND (holder = :holder OR attribute_not_exists(holder))"
"""No other run has acquired the lock since (protocol L10)."""
RELEASE_DONE_CONDITION = (
    "fence = :fence AND (holder = :holder OR (attribute_not_exists(holder) AND rotated_by = :holder))"
)
"""Likewise, and a free lock is the one that this very write has left: a restored table may give a fence twice."""


# The lock's DynamoDB item as a record (protocol L3).

Item = Mapping[str, Any]
"""An item, or a map inside an item: names to typed values."""
HEAD = "head_"
"""How the attributes of the audit chains' heads begin; a stream's name follows."""
NO_VALUES: Mapping[str, object] = MappingProxyType({})
NO_NAMES: Mapping[str, str] = MappingProxyType({})

LOCK_TABLE_ERRORS = errors_of(LockTableUnreachableError, LockTableAccessDeniedError)
"""What a call of the lock table that failed is, for runs and operators."""


_TIMES = ("expires_at", "next_due_at", "not_before", "rotated_at")
_AS_NAMED = {f.name for f in fields(LockRecord)} - {"credential_id", "claim", "heads"}
"""The attributes that have the names of the record's fields."""


def record_of(credential_id: str, item: Item) -> LockRecord:
    """The item as a record.

    Raises:
        LockTableAccessDeniedError: The item is not a record of Lockstep.
        NewerFormatError: A newer build has claimed in it.
    """
    try:
        model.require_known(_plain(item, "format"), credential=credential_id)
        found = {name: value for name in _AS_NAMED if (value := _plain(item, name)) is not None}
        found |= {n: _time(found[n]) for n in _TIMES if n in found}
        claim = {
            "kind": _plain(item, "claim_kind"),
            "generation": _plain(item, "pending_generation"),
            "base_generation": _plain(item, "base_generation"),
            "rotation_id": _plain(item, "claim_rotation_id"),
        }
        return msgspec.convert(
            {
                **found,
                "credential_id": credential_id,
                "claim": claim if "pending_generation" in item else None,
                "heads": {n.removeprefix(HEAD): _plain(item, n) for n in item if n.startswith(HEAD)},
            },
            LockRecord,
        )
    except (LookupError, ValueError, TypeError, AttributeError, OverflowError, OSError, ValidationError):
        raise LockTableAccessDeniedError(credential=credential_id, code=MALFORMED_ITEM) from None


def _time(seconds: float) -> datetime | None:
    """A time; None for a number that is none (protocol L17)."""
    with suppress(OverflowError, OSError, ValueError):
        return datetime.fromtimestamp(seconds, UTC)
    return None


def _plain(item: Item, name: str) -> Any:  # noqa: ANN401 - what it is, the record checks
    """An attribute without its type; None where there is none."""
    if name not in item:
        return None
    ((kind, value),) = item[name].items()
    match kind:
        case "S" | "BOOL":
            return value
        case "N":
            return int(value)
        case "NS":
            return frozenset(map(int, value))
        case "SS":
            return frozenset(value)
        case "M":
            return {inner: _plain(value, inner) for inner in value}
    raise ValueError(kind)


def _typed(value: object) -> "AttributeValueTypeDef":
    """A value with its type: a text, a number, a truth, a time in seconds, a map, or a set of texts or of numbers."""
    match value:
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case str():
            return {"S": value}
        case datetime():
            return {"N": str(int(value.timestamp()))}
        case Mapping():
            return {"M": {name: _typed(inner) for name, inner in value.items()}}
        case Collection():
            members = sorted(value)
            is_texts = all(isinstance(member, str) for member in members)
            return {"SS": members} if is_texts else {"NS": [str(member) for member in members]}
    raise TypeError(type(value).__name__)


class LockItem:
    """A credential's item, written under conditions."""

    def __init__(self, client: "DynamoDBClient", table: str, credential_id: str) -> None:
        self._client = client
        self._table = table
        self._credential_id = credential_id
        self._translated = partial(translated, LOCK_TABLE_ERRORS, credential=credential_id)

    def _update(
        self,
        update: str,
        condition: str = "",
        values: Mapping[str, object] = NO_VALUES,
        *,
        names: Mapping[str, str] = NO_NAMES,
        key: str = "",
        returns: str = "",
        old: bool = True,
    ) -> tuple[bool, Item]:
        """Make one write.

        Args:
            update: What it sets.
            condition: Under which; empty: under none.
            values: Those that both name, without their colons.
            names: What placeholders of both stand for; `#plan` for `plan`, unless it is among these.
            key: Another item's than this one's.
            returns: Which attributes are asked for.
            old: Whether those from before are asked for where the condition does not hold. Runs that take, keep
                or free the lock do not, as the state machine's own writes.

        Returns:
            Whether its condition held; and the attributes that it asked for, those from before where it did not hold.
        """
        named = {found: found[1:] for found in re.findall(r"#\w+", f"{update} {condition}")}
        call: dict[str, Any] = {
            "UpdateExpression": update,
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {**named, **names},
            "ExpressionAttributeValues": {f":{name}": _typed(value) for name, value in values.items()},
            "ReturnValues": returns,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD" if condition and old else "",
        }
        with self._translated():
            try:
                reply = self._client.update_item(
                    TableName=self._table,
                    Key={"credential_id": {"S": key or self._credential_id}},
                    **{name: value for name, value in call.items() if value},
                )
            except self._client.exceptions.ConditionalCheckFailedException as error:
                response: Item = error.response  # The stubs lack the item in this response.
                return False, response.get("Item", {})
            return True, reply["Attributes"] if returns else {}

    def _take(
        self, condition: str, *, holder: str, now: datetime, expires_at: datetime, **more: object
    ) -> Lease | None:
        """Take the lock under a new fence; None where the condition, which has `more` values, does not hold."""
        values = {
            "holder": holder,
            "expires_at": expires_at,
            "now": now,
            "latest_end": now + LATEST_END,
            "one": 1,
            **more,
        }
        is_taken, found = self._update(ACQUIRE_UPDATE, condition, values, returns="UPDATED_NEW", old=False)
        if not is_taken:
            return None
        with self._translated():
            fence = int(found["fence"]["N"])
        return Lease(credential_id=self._credential_id, holder=holder, fence=fence)


class DynamoDbLock(LockItem):
    """The port `Lock` on one item. Every method makes one call (protocol L1)."""

    def read(self) -> LockRecord:
        """The record, by a consistent read; an empty record where there is no item yet."""
        with self._translated():
            key: dict[str, AttributeValueTypeDef] = {"credential_id": {"S": self._credential_id}}
            reply = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True)
        return record_of(self._credential_id, reply.get("Item", {}))

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
        """Take the lock under a new fence; None where the condition of ACQUIRE does not hold."""
        return self._take(
            ACQUIRE_CONDITION,
            holder=holder,
            now=now,
            expires_at=expires_at,
            due_by=FAR_FUTURE if force else due_by or now,
            latest=now + CLOCK_SKEW + interval if interval else FAR_FUTURE,
            skewed=now + CLOCK_SKEW,
            heeded=PAUSE_WAIVED if force else PAUSE_HEEDED,
        )

    def claim(
        self, lease: Lease, claim: Claim, *, over: LockRecord, plan: str, served: Collection[int]
    ) -> None:
        """Name the generation in flight.

        Raises:
            FenceLostError: The condition of CLAIM does not hold, and the record has another claim.
        """
        activates = over.activate == plan
        values: dict[str, object] = {
            **_lease(lease),
            "kind": claim.kind.value,
            "generation": claim.generation,
            "base": claim.base_generation,
            "rotation_id": claim.rotation_id,
            "plan": plan,
            "format": model.FORMAT,
        }
        in_flight = NOTHING_IN_FLIGHT
        if over.claim:
            values |= {
                "replaced": over.claim.generation,
                "replaced_kind": over.claim.kind.value,
                "replaced_base": over.claim.base_generation,
                "replaced_run": over.claim.rotation_id,
            }
            in_flight = PROMOTING if over.promoting else OPEN
        valid = over.valid.union(served)
        if valid:
            values |= {"valid": valid, "valid_from": min(valid)}
        is_made, before = self._update(
            f"{CLAIM_UPDATE}{SET_VALID_FROM if valid else ''}"
            f"{RAISE_ORDER if over.raises_order(claim) else ''}"
            f"{REMOVE_PHASE}{REMOVE_ACTIVATION if activates else ''}"
            f"{ADD_VALID if valid else ''}",
            f"{HELD} AND {in_flight} AND {NEWEST} "
            f"AND {UNDER_ORDERED_PLAN if activates else UNDER_ACTIVE_PLAN}",
            values,
        )
        if not is_made:
            found = record_of(self._credential_id, before)
            if not (has_lease(found, lease) and found.claim == claim):
                raise self._lost(claim)

    def begin_promotion(self, lease: Lease, claim: Claim, *, now: datetime) -> LockRecord:
        """Mark the claim as promoting, and its generation as valid.

        Raises:
            FenceLostError: PROMOTE_CONDITION does not hold.
        """
        values = {
            **_lease(lease),
            "format": model.FORMAT,
            "now": now,
            "true": True,
            "generation": claim.generation,
            "generations": {claim.generation},
            "rotation_id": claim.rotation_id,
        }
        is_done, found = self._update(PROMOTE_UPDATE, PROMOTE_CONDITION, values, returns="ALL_NEW")
        record = record_of(self._credential_id, found)
        if not is_done:
            raise self._lost(claim)
        return record

    def require(self, lease: Lease, claim: Claim, *, promoting: bool, now: datetime) -> LockRecord:
        """Read the record consistently, and check that it has this lease and this claim in this phase (protocol L9).

        Raises:
            FenceLostError: Another run holds the lock, the lease has ended, or the record has another claim or phase.
        """
        record = self.read()
        in_flight = (record.claim, record.promoting) == (claim, promoting)
        if not (has_lease(record, lease) and is_in_time(record, now) and in_flight):
            raise self._lost(claim)
        return record

    def require_lease(self, lease: Lease, *, now: datetime) -> LockRecord:
        """Read the record consistently, and check that it has this lease (protocol L9).

        Raises:
            FenceLostError: Another run holds the lock, or the lease has ended.
        """
        record = self.read()
        if not (has_lease(record, lease) and is_in_time(record, now)):
            raise FenceLostError(credential=self._credential_id)
        return record

    def release(
        self,
        lease: Lease,
        done: Release | None,
        *,
        entry: Recorded | None = None,
        proven: Collection[str] = (),
    ) -> None:
        """Release the lock. Where the rotation is done, also clear the claim and move the schedule.

        Args:
            lease: Of this run.
            done: What a rotation that is done writes; it has an entry.
            entry: The run's own; the head moves to it.
            proven: Where nothing was to be done: the databases that are no longer under take-over.

        Raises:
            FenceLostError: Another run has acquired the lock since.
        """
        values, names = _lease(lease), {}
        if entry:
            values["head"], names["#head"] = {"seq": entry.seq, "hash": entry.hash}, f"{HEAD}{entry.stream}"
        if done:
            values |= {
                "current": done.current_generation,
                "valid": done.valid,
                "valid_from": min(done.valid),
                "proven": set(done.proven),
                "next_due_at": done.next_due_at,
                "not_before": done.not_before,
                "rotated_at": done.rotated_at,
            }
        update = RELEASE_FAILED_UPDATE if entry else RELEASE_UPDATE
        if proven:
            values["proven"], update = set(proven), RELEASE_UNCHANGED_UPDATE
        is_done, _ = self._update(
            RELEASE_DONE_UPDATE if done else update,
            RELEASE_DONE_CONDITION if done else RELEASE_CONDITION,
            values,
            names=names,
            old=False,
        )
        if not is_done:
            raise FenceLostError(credential=self._credential_id)

    def _lost(self, claim: Claim) -> FenceLostError:
        return FenceLostError(credential=self._credential_id, generation=claim.generation)


def _lease(lease: Lease) -> dict[str, object]:
    return {"holder": lease.holder, "fence": lease.fence}


# The whole lock table, for `lockstep.operate.watch` and for the page of many credentials (`lockstep.operate.page`).
#
# No other code scans it: a rotation reads its own record (protocol L1).


def read_table(client: "DynamoDBClient", table: str) -> Table:
    """Every lock record, by consistent reads. The owners of accounts (protocol O8) are left out.

    Raises:
        LockTableUnreachableError: The table did not answer, or its answer cannot be read.
        LockTableAccessDeniedError: It is not there, or the role may not read it.
    """
    records, unreadable = {}, {}
    with translated(LOCK_TABLE_ERRORS):
        items = [(str(item["credential_id"]["S"]), item) for item in _items(client, table)]
    for credential_id, item in items:
        if credential_id.startswith(ACCOUNT_PREFIX):
            continue
        try:
            records[credential_id] = record_of(credential_id, item)
        except LockstepError as error:
            unreadable[credential_id] = type(error).__name__
    return Table(records=records, unreadable=unreadable)


def _items(client: "DynamoDBClient", table: str) -> Iterator[dict[str, Any]]:
    # A page is 1 MB at most
    # (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Scan.html#Scan.Pagination).
    more: dict[str, Any] = {}
    while True:
        page = client.scan(TableName=table, ConsistentRead=True, **more)
        yield from page["Items"]
        if "LastEvaluatedKey" not in page:
            return
        more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
