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

In AWS the state machine acquires and releases the lock itself, with the same expressions (`lock_expressions`). What
operators order is written by others, without the lock; a run only removes what it has fulfilled.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING

from lockstep import formats
from lockstep.aws import lock_expressions as writes
from lockstep.aws.clients import translated
from lockstep.aws.lock_item import HEAD, LOCK_TABLE_ERRORS, UNWITNESSED, Item, record_of
from lockstep.errors import (
    FenceLostError,
    LockTableAccessDeniedError,
    LostCompareAndSetError,
)
from lockstep.lock_rule import has_lease, is_in_time
from lockstep.model import Acquired, ChainHead, Claim, Lease, LockRecord, Release, Told
from lockstep.standby import Bounds

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef


class DynamoDbLock:
    """The port `Lock` on one item. Every method but `recall` makes one call (protocol L2)."""

    def __init__(self, client: "DynamoDBClient", table: str, credential_id: str) -> None:
        self._client = client
        self._table = table
        self._credential_id = credential_id
        self._key: dict[str, AttributeValueTypeDef] = {"credential_id": {"S": credential_id}}

    def read(self) -> LockRecord:
        """The record, by a consistent read; an empty record where there is no item yet."""
        with self._translated():
            reply = self._client.get_item(TableName=self._table, Key=self._key, ConsistentRead=True)
        return record_of(self._credential_id, reply.get("Item", {}))

    def acquire(
        self,
        *,
        holder: str,
        now: datetime,
        expires_at: datetime,
        force: bool,
        leads: bool = False,
        limits: Bounds | None = None,
    ) -> Acquired | None:
        """Take the lock under a new fence; None where the condition of ACQUIRE does not hold."""
        yielding = _limits(limits) if limits else {}
        with self._translated():
            try:
                reply = self._client.update_item(
                    TableName=self._table,
                    Key=self._key,
                    UpdateExpression=writes.LEADER_ACQUIRE_UPDATE if leads else writes.ACQUIRE_UPDATE,
                    ConditionExpression=writes.STANDBY_ACQUIRE_CONDITION
                    if yielding
                    else writes.ACQUIRE_CONDITION,
                    ExpressionAttributeValues={
                        ":holder": {"S": holder},
                        ":expires_at": _time(expires_at),
                        ":now": _time(now),
                        ":one": _number(1),
                        ":due_by": _number(writes.FAR_FUTURE) if force else _time(now),
                        ":heeded": {"BOOL": writes.PAUSE_WAIVED if force else writes.PAUSE_HEEDED},
                        **yielding,
                    },
                    ReturnValues="ALL_NEW",
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                return None
            told = reply["Attributes"]
            fence = int(told["fence"]["N"])
        return Acquired(lease=Lease(credential_id=self._credential_id, holder=holder, fence=fence), told=told)

    def recall(self, lease: Lease, told: Told) -> LockRecord | None:
        """The item that ACQUIRE returned as a record, without a call; None where it is none of this lease.

        Raises:
            NewerFormatError: A newer build has claimed in it.
        """
        # What a service integration has spelled in another way is read from the table instead.
        with suppress(LockTableAccessDeniedError):
            record = record_of(self._credential_id, told)
            if told.get("credential_id") == {"S": self._credential_id} and has_lease(record, lease):
                return record
        return None

    def note_skip(self, now: datetime) -> None:
        """Note that a run of AWS did not get the lock; nothing where there is no record."""
        with self._translated(), suppress(self._client.exceptions.ConditionalCheckFailedException):
            self._client.update_item(
                TableName=self._table,
                Key=self._key,
                UpdateExpression=writes.SKIP_UPDATE,
                ConditionExpression=writes.SKIP_CONDITION,
                ExpressionAttributeValues={":now": _time(now)},
            )

    def claim(
        self, lease: Lease, claim: Claim, *, over: LockRecord, plan: str, served: Collection[int]
    ) -> None:
        """Name the generation in flight.

        Raises:
            FenceLostError: The condition of CLAIM does not hold, and the record has another claim.
        """
        activates = over.activate == plan
        values: dict[str, AttributeValueTypeDef] = {
            **_lease(lease),
            ":kind": {"S": claim.kind.value},
            ":generation": _number(claim.generation),
            ":base": _number(claim.base_generation),
            ":rotation_id": {"S": claim.rotation_id},
            ":plan": {"S": plan},
            ":format": _number(formats.FORMAT),
        }
        in_flight = writes.NOTHING_IN_FLIGHT
        if over.claim:
            values |= {
                ":replaced": _number(over.claim.generation),
                ":replaced_kind": {"S": over.claim.kind.value},
                ":replaced_base": _number(over.claim.base_generation),
                ":replaced_run": {"S": over.claim.rotation_id},
            }
            in_flight = writes.PROMOTING if over.promoting else writes.OPEN
        alive = over.alive.union(served)
        if alive:
            values[":alive"] = _numbers(alive)
            values[":alive_from"] = _number(min(alive))
        with self._translated():
            try:
                self._client.update_item(
                    TableName=self._table,
                    Key=self._key,
                    UpdateExpression=(
                        f"{writes.CLAIM_UPDATE}{writes.SET_ALIVE_FROM if alive else ''}"
                        f"{writes.RAISE_ORDER if over.raises_order(claim) else ''}"
                        f"{writes.REMOVE_PHASE}{writes.REMOVE_ACTIVATION if activates else ''}"
                        f"{writes.ADD_ALIVE if alive else ''}"
                    ),
                    ConditionExpression=(
                        f"{writes.HELD} AND {in_flight} AND {writes.NEWEST} "
                        f"AND {writes.UNDER_ORDERED_PLAN if activates else writes.UNDER_ACTIVE_PLAN}"
                    ),
                    ExpressionAttributeNames={"#plan": "plan", "#format": "format"},
                    ExpressionAttributeValues=values,
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except self._client.exceptions.ConditionalCheckFailedException as error:
                reply: Item = error.response  # The stubs lack the item in this response.
                found = record_of(self._credential_id, reply.get("Item", {}))
                if not (has_lease(found, lease) and found.claim == claim):
                    raise self._lost(claim) from None

    def begin_promotion(self, lease: Lease, claim: Claim, *, now: datetime) -> LockRecord:
        """Mark the claim as promoting, and its generation as alive.

        Raises:
            FenceLostError: PROMOTE_CONDITION does not hold.
        """
        with self._translated():
            try:
                reply = self._client.update_item(
                    TableName=self._table,
                    Key=self._key,
                    UpdateExpression=writes.PROMOTE_UPDATE,
                    ConditionExpression=writes.PROMOTE_CONDITION,
                    ExpressionAttributeNames={"#format": "format"},
                    ExpressionAttributeValues={
                        ":format": _number(formats.FORMAT),
                        **_lease(lease),
                        ":now": _time(now),
                        ":true": {"BOOL": True},
                        ":generation": _number(claim.generation),
                        ":generations": _numbers([claim.generation]),
                        ":rotation_id": {"S": claim.rotation_id},
                    },
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except self._client.exceptions.ConditionalCheckFailedException as error:
                refused: Item = error.response  # The stubs lack the item in this response.
                record_of(self._credential_id, refused.get("Item", {}))
                raise self._lost(claim) from None
            return record_of(self._credential_id, reply["Attributes"])

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

    def require_lease(self, lease: Lease, *, now: datetime) -> None:
        """Read the record consistently, and check that it has this lease (protocol L9).

        Raises:
            FenceLostError: Another run holds the lock, or the lease has ended.
        """
        record = self.read()
        if not (has_lease(record, lease) and is_in_time(record, now)):
            raise FenceLostError(credential=self._credential_id)

    def mute(self, lease: Lease, databases: Collection[str]) -> None:
        """Show these databases no login until an operator retries or enrols them.

        Raises:
            FenceLostError: MUTE_CONDITION does not hold.
        """
        with self._translated():
            try:
                self._client.update_item(
                    TableName=self._table,
                    Key=self._key,
                    UpdateExpression=writes.MUTE_UPDATE,
                    ConditionExpression=writes.MUTE_CONDITION,
                    ExpressionAttributeValues={**_lease(lease), ":databases": {"SS": sorted(databases)}},
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                raise FenceLostError(credential=self._credential_id) from None

    def move_head(
        self,
        stream: str,
        head: ChainHead,
        *,
        after: ChainHead | None,
        at: datetime | None,
        witnesses: Collection[str] = (),
    ) -> None:
        """Move a stream's head.

        Raises:
            LostCompareAndSetError: The head is no longer `after`.
        """
        values = {":head": _head(head)}
        witnessed = {f"#witnessed{i}": f"{UNWITNESSED}{other}" for i, other in enumerate(sorted(witnesses))}
        names = {"#head": f"{HEAD}{stream}", **witnessed}
        update = writes.HEAD_UPDATE
        if at:
            update, names["#since"], values[":at"] = (
                writes.UNWITNESSED_UPDATE,
                f"{UNWITNESSED}{stream}",
                _time(at),
            )
        if after:
            values[":after"] = _head(after)
        with self._translated():
            try:
                self._client.update_item(
                    TableName=self._table,
                    Key=self._key,
                    UpdateExpression=update + (f" REMOVE {', '.join(witnessed)}" if witnessed else ""),
                    ConditionExpression=writes.HEAD_CONDITION if after else writes.FIRST_HEAD_CONDITION,
                    ExpressionAttributeNames=names,
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
        values = {**_lease(lease), **(_done(done) if done else {})}
        update = writes.RELEASE_DONE_UPDATE if done else writes.RELEASE_UPDATE
        if done and done.led_at:
            update, values[":now"] = writes.LEADER_RELEASE_DONE_UPDATE, _time(done.led_at)
        with self._translated():
            try:
                self._client.update_item(
                    TableName=self._table,
                    Key=self._key,
                    UpdateExpression=update,
                    ConditionExpression=writes.RELEASE_CONDITION,
                    ExpressionAttributeValues=values,
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                raise FenceLostError(credential=self._credential_id) from None

    def _lost(self, claim: Claim) -> FenceLostError:
        return FenceLostError(credential=self._credential_id, generation=claim.generation)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with translated(LOCK_TABLE_ERRORS, credential=self._credential_id):
            yield


def _number(value: int) -> "AttributeValueTypeDef":
    return {"N": str(value)}


def _numbers(values: Collection[int]) -> "AttributeValueTypeDef":
    return {"NS": [str(value) for value in sorted(values)]}


def _lease(lease: Lease) -> "dict[str, AttributeValueTypeDef]":
    return {":holder": {"S": lease.holder}, ":fence": _number(lease.fence)}


def _time(value: datetime) -> "AttributeValueTypeDef":
    return _number(int(value.timestamp()))


def _limits(limits: Bounds) -> "dict[str, AttributeValueTypeDef]":
    return {
        ":late_by": _time(limits.late_by),
        ":turn_by": _time(limits.turn_by),
        ":seen_after": _time(limits.seen_after),
        ":began_by": _time(limits.began_by),
    }


def _done(done: Release) -> "dict[str, AttributeValueTypeDef]":
    return {
        ":current": _number(done.current_generation),
        ":alive": _numbers(done.alive),
        ":alive_from": _number(min(done.alive)),
        ":proven": {"SS": list(done.proven)},
        ":next_due_at": _time(done.next_due_at),
        ":not_before": _time(done.not_before),
    }


def _head(head: ChainHead) -> "AttributeValueTypeDef":
    return {"M": {"seq": _number(head.seq), "hash": {"S": head.hash}, "rotation_id": {"S": head.rotation_id}}}
