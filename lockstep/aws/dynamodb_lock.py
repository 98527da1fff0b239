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
longer than an execution, a function and clock skew together (protocol L12), so its holder has stopped before it ends.

The reply of a write can get lost, so every condition also accepts a repeated write (protocol L11): a holder acquires
its own lock again (with a new fence), a claim or a head that is already there is a success, and a release may find the
lock free as long as the fence is unchanged.

In AWS the state machine acquires, releases and raises the fence itself. `cdk/statemachine.py` takes the expressions for
`statemachine.asl.json` from here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lockstep.aws.clients import Trouble, translated
from lockstep.errors import (
    FenceLostError,
    LockTableAccessDeniedError,
    LockTableUnreachableError,
    LostCompareAndSetError,
)
from lockstep.model import ChainHead, Claim, ClaimKind, Lease, LockRecord, Release

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

Item = Mapping[str, Any]
"""An item, or a map inside an item: names to typed values."""

FAR_FUTURE = 253402300799
"""9999-12-31T23:59:59Z, in epoch seconds: later than every due time."""

ACQUIRE_UPDATE = "SET holder = :holder, expires_at = :expires_at, acquired_at = :now ADD fence :one"
ACQUIRE_CONDITION = (
    "(attribute_not_exists(holder) OR expires_at < :now OR holder = :holder) "
    "AND (attribute_exists(pending_generation) "
    "OR ((attribute_not_exists(next_due_at) OR next_due_at <= :due_by) "
    "AND (attribute_not_exists(not_before) OR not_before <= :overlap_by)))"
)
"""Free, expired or already held by this run; and a generation is in flight, or it is due and the overlap has ended.

ACQUIRE (protocol L4).
"""

RAISE_UPDATE = "ADD fence :one"
RAISE_CONDITION = "holder = :holder"
"""No other run has acquired the lock; each run has its own holder name (protocol L5)."""

CLAIM_UPDATE = (
    "SET claim_kind = :kind, pending_generation = :generation, base_generation = :base, "
    "claim_previous_generation = :previous, claim_rotation_id = :rotation_id, highest_generation = :generation"
)
_HELD = "holder = :holder AND fence = :fence"
_NEWEST = "(attribute_not_exists(highest_generation) OR highest_generation < :generation)"
CLAIM_CONDITION = f"{_HELD} AND attribute_not_exists(pending_generation) AND {_NEWEST}"
"""Still held by this run, nothing in flight, and a generation that was never used (protocol L6)."""
REPLACE_CONDITION = f"{_HELD} AND pending_generation = :replaced AND {_NEWEST}"
"""Still held by this run, and the refused generation is in flight (protocol L7)."""

HEAD_UPDATE = "SET #head = :head"
FIRST_HEAD_CONDITION = "attribute_not_exists(#head) OR #head = :head"
HEAD_CONDITION = "#head = :after OR #head = :head"
"""The head is the one that was read. Not under the fence: a run without it records its failure (protocol L8)."""

RELEASE_DONE_UPDATE = (
    "SET current_generation = :current, previous_generation = :previous, "
    "next_due_at = :next_due_at, not_before = :not_before "
    "REMOVE holder, expires_at, acquired_at, claim_kind, pending_generation, base_generation, "
    "claim_previous_generation, claim_rotation_id"
)
RELEASE_UPDATE = "REMOVE holder, expires_at, acquired_at"
RELEASE_CONDITION = "fence = :fence AND (holder = :holder OR attribute_not_exists(holder))"
"""No other run has acquired the lock since (protocol L10)."""

_HEAD = "head_"
_ERRORS = {
    Trouble.UNREACHABLE: LockTableUnreachableError,
    Trouble.THROTTLED: LockTableUnreachableError,
    Trouble.DENIED: LockTableAccessDeniedError,
    Trouble.REJECTED: LockTableAccessDeniedError,
}


class DynamoDbLock:
    """The port `Lock` on one item. Every method makes one call (protocol L2)."""

    def __init__(self, client: "DynamoDBClient", table: str, credential_id: str) -> None:
        self._client = client
        self._table = table
        self._credential_id = credential_id
        self._key: dict[str, AttributeValueTypeDef] = {"credential_id": {"S": credential_id}}

    def read(self) -> LockRecord:
        """The record, by a consistent read; an empty record where there is no item yet."""
        with self._translated():
            reply = self._client.get_item(TableName=self._table, Key=self._key, ConsistentRead=True)
        return _record(self._credential_id, reply.get("Item", {}))

    def acquire(
        self, *, holder: str, now: datetime, expires_at: datetime, force: bool, revoke_previous: bool
    ) -> Lease | None:
        """Take the lock under a new fence; None where ACQUIRE_CONDITION does not hold."""
        with self._translated():
            try:
                reply = self._client.update_item(
                    TableName=self._table,
                    Key=self._key,
                    UpdateExpression=ACQUIRE_UPDATE,
                    ConditionExpression=ACQUIRE_CONDITION,
                    ExpressionAttributeValues={
                        ":holder": {"S": holder},
                        ":expires_at": _time(expires_at),
                        ":now": _time(now),
                        ":one": _number(1),
                        ":due_by": _number(FAR_FUTURE) if force else _time(now),
                        ":overlap_by": _number(FAR_FUTURE) if force and revoke_previous else _time(now),
                    },
                    ReturnValues="UPDATED_NEW",
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                return None
            fence = int(reply["Attributes"]["fence"]["N"])
        return Lease(credential_id=self._credential_id, holder=holder, fence=fence)

    def raise_fence(self, lease: Lease) -> Lease:
        """The same lock under a new fence.

        Raises:
            FenceLostError: RAISE_CONDITION does not hold.
        """
        with self._translated():
            try:
                reply = self._client.update_item(
                    TableName=self._table,
                    Key=self._key,
                    UpdateExpression=RAISE_UPDATE,
                    ConditionExpression=RAISE_CONDITION,
                    ExpressionAttributeValues={":holder": {"S": lease.holder}, ":one": _number(1)},
                    ReturnValues="UPDATED_NEW",
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                raise FenceLostError(credential=self._credential_id) from None
            fence = int(reply["Attributes"]["fence"]["N"])
        return replace(lease, fence=fence)

    def claim(self, lease: Lease, claim: Claim, *, replaces: Claim | None) -> None:
        """Name the generation in flight.

        Raises:
            FenceLostError: CLAIM_CONDITION (or REPLACE_CONDITION) does not hold, and the record has another claim.
        """
        values: dict[str, AttributeValueTypeDef] = {
            ":holder": {"S": lease.holder},
            ":fence": _number(lease.fence),
            ":kind": {"S": claim.kind.value},
            ":generation": _number(claim.generation),
            ":base": _number(claim.base_generation),
            ":previous": _number_or_null(claim.previous_generation),
            ":rotation_id": {"S": claim.rotation_id},
        }
        if replaces:
            values[":replaced"] = _number(replaces.generation)
        with self._translated():
            try:
                self._client.update_item(
                    TableName=self._table,
                    Key=self._key,
                    UpdateExpression=CLAIM_UPDATE,
                    ConditionExpression=REPLACE_CONDITION if replaces else CLAIM_CONDITION,
                    ExpressionAttributeValues=values,
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except self._client.exceptions.ConditionalCheckFailedException as error:
                reply: Item = error.response  # The stubs lack the item in this response.
                found = _record(self._credential_id, reply.get("Item", {}))
                if not (_holds(found, lease) and found.claim == claim):
                    raise FenceLostError(
                        credential=self._credential_id, generation=claim.generation
                    ) from None

    def require(self, lease: Lease, claim: Claim, *, now: datetime) -> LockRecord:
        """Read the record consistently, and check that it has this lease and this claim (protocol L9).

        Raises:
            FenceLostError: Another run holds the lock, the lease has ended, or the record has another claim.
        """
        record = self.read()
        in_time = record.expires_at is not None and now < record.expires_at
        if not (_holds(record, lease) and in_time and record.claim == claim):
            raise FenceLostError(credential=self._credential_id, generation=claim.generation)
        return record

    def move_head(self, stream: str, head: ChainHead, *, after: ChainHead | None) -> None:
        """Move a stream's head.

        Raises:
            LostCompareAndSetError: The head is no longer `after`.
        """
        values = {":head": _head(head)}
        if after:
            values[":after"] = _head(after)
        with self._translated():
            try:
                self._client.update_item(
                    TableName=self._table,
                    Key=self._key,
                    UpdateExpression=HEAD_UPDATE,
                    ConditionExpression=HEAD_CONDITION if after else FIRST_HEAD_CONDITION,
                    ExpressionAttributeNames={"#head": f"{_HEAD}{stream}"},
                    ExpressionAttributeValues=values,
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                raise LostCompareAndSetError(
                    credential=self._credential_id, stream=stream, seq=head.seq
                ) from None

    def release(self, lease: Lease, done: Release | None) -> None:
        """Release the lock. Where the rotation is done, also clear the claim and move the schedule.

        Raises:
            FenceLostError: Another run has acquired the lock since.
        """
        values = {":fence": _number(lease.fence), ":holder": {"S": lease.holder}, **_schedule(done)}
        with self._translated():
            try:
                self._client.update_item(
                    TableName=self._table,
                    Key=self._key,
                    UpdateExpression=RELEASE_DONE_UPDATE if done else RELEASE_UPDATE,
                    ConditionExpression=RELEASE_CONDITION,
                    ExpressionAttributeValues=values,
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                raise FenceLostError(credential=self._credential_id) from None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with translated(_ERRORS, credential=self._credential_id):
            yield


def _holds(record: LockRecord, lease: Lease) -> bool:
    return (record.holder, record.fence) == (lease.holder, lease.fence)


def _number(value: int) -> "AttributeValueTypeDef":
    return {"N": str(value)}


def _number_or_null(value: int | None) -> "AttributeValueTypeDef":
    return {"NULL": True} if value is None else _number(value)


def _time(value: datetime) -> "AttributeValueTypeDef":
    return _number(int(value.timestamp()))


def _schedule(done: Release | None) -> "dict[str, AttributeValueTypeDef]":
    if done is None:
        return {}
    return {
        ":current": _number(done.current_generation),
        ":previous": _number_or_null(done.previous_generation),
        ":next_due_at": _time(done.next_due_at),
        ":not_before": _time(done.not_before),
    }


def _head(head: ChainHead) -> "AttributeValueTypeDef":
    return {"M": {"seq": _number(head.seq), "hash": {"S": head.hash}, "rotation_id": {"S": head.rotation_id}}}


def _record(credential_id: str, item: Item) -> LockRecord:
    """The item as a record.

    Raises:
        LockTableAccessDeniedError: The item is not a record of Lockstep.
    """
    try:
        return LockRecord(
            credential_id=credential_id,
            holder=_text(item["holder"]) if "holder" in item else None,
            fence=_int(item, "fence") or 0,
            expires_at=_datetime(item, "expires_at"),
            claim=_claim(item),
            current_generation=_int(item, "current_generation"),
            previous_generation=_int(item, "previous_generation"),
            highest_generation=_int(item, "highest_generation") or 0,
            next_due_at=_datetime(item, "next_due_at"),
            not_before=_datetime(item, "not_before"),
            heads={
                name.removeprefix(_HEAD): _chain_head(value["M"])
                for name, value in item.items()
                if name.startswith(_HEAD)
            },
        )
    except (LookupError, ValueError, TypeError, AttributeError, OverflowError, OSError):
        raise LockTableAccessDeniedError(credential=credential_id, code="MalformedItem") from None


def _claim(item: Item) -> Claim | None:
    if "pending_generation" not in item:
        return None
    return Claim(
        kind=ClaimKind(_text(item["claim_kind"])),
        generation=int(item["pending_generation"]["N"]),
        base_generation=int(item["base_generation"]["N"]),
        previous_generation=_int(item, "claim_previous_generation"),
        rotation_id=_text(item["claim_rotation_id"]),
    )


def _chain_head(head: Item) -> ChainHead:
    return ChainHead(
        seq=int(head["seq"]["N"]), hash=_text(head["hash"]), rotation_id=_text(head["rotation_id"])
    )


def _text(value: Item) -> str:
    text: object = value["S"]
    if not isinstance(text, str):
        raise TypeError
    return text


def _int(item: Item, name: str) -> int | None:
    value = item.get(name, {"NULL": True})
    return None if "NULL" in value else int(value["N"])


def _datetime(item: Item, name: str) -> datetime | None:
    seconds = _int(item, name)
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
