"""Orders in the lock's DynamoDB item, and the owners of accounts in items of their own (`lockstep.protocol.orders`).

Every write names the attributes of its order and no others, so it can meet any write of a run and neither is lost
(protocol O2). It is not under the fence, because an operator does not hold the lock.
"""

from collections.abc import Mapping
from datetime import datetime

from lockstep.aws.dynamodb_lock import FREE_CONDITION, LockItem, record_of
from lockstep.protocol.errors import OrderRefusedError
from lockstep.protocol.model import Lease, LockRecord
from lockstep.protocol.orders import (
    Account,
    Activate,
    CancelTakeOver,
    Order,
    Pause,
    Resume,
    Revoke,
    TakeOver,
)

PAUSE_UPDATE = "SET paused = :true"
RESUME_UPDATE = "REMOVE paused"
"""One attribute for the scheduled runs of both clouds (protocol O4)."""

REVOKE_UPDATE = "SET revoke_through = if_not_exists(highest_generation, :zero)"
REVOKE_CONDITION = "attribute_not_exists(paused)"
"""The table itself takes the highest generation, so that no claim can come between (protocol O5)."""
AND_RESUME = " REMOVE paused"
AND_WITHOUT = " ADD take_over :databases"
"""What an emergency does not wait for may be taken over."""

TAKE_OVER_UPDATE = "ADD take_over :databases"
CANCEL_UPDATE = "DELETE take_over :databases"
"""Sets, changed by element: two operators, or an operator and a run, do not undo each other (protocol O6)."""

ACTIVATE_UPDATE = "SET activate = :digest"
WITHDRAW_UPDATE = "REMOVE activate"
FIRST_PLAN_CONDITION = "attribute_not_exists(#plan)"
PLAN_CONDITION = "#plan = :replaces"
"""The active plan is the one that the operator saw (protocol O7)."""

REGISTER_UPDATE = "SET owned_by = :credential"
UNREGISTER_UPDATE = "REMOVE owned_by"
OWNER_CONDITION = "attribute_not_exists(owned_by) OR owned_by = :credential"
"""No other credential's account (protocol O8)."""


class DynamoDbOrders(LockItem):
    """The port `Orders` on one item. Every method makes one call."""

    def write(self, order: Order) -> LockRecord:
        """Put an order into the record.

        Raises:
            OrderRefusedError: Its condition does not hold, and the order is not in the record already.
        """
        is_written, item = self._update(*_expressions(order), returns="ALL_NEW")
        found = record_of(self._credential_id, item)
        if not is_written and not order.is_applied(found):
            raise OrderRefusedError(credential=self._credential_id, code=order.name)
        return found

    def hold(self, *, holder: str, now: datetime, expires_at: datetime) -> Lease | None:
        """Take the lock under a new fence; None where FREE_CONDITION does not hold."""
        return self._take(FREE_CONDITION, holder=holder, now=now, expires_at=expires_at)

    def register(self, account: Account) -> None:
        """Make the account this credential's.

        Raises:
            OrderRefusedError: It is another's, who is named.
        """
        if owner := self._change_owner(account, REGISTER_UPDATE):
            raise OrderRefusedError(
                credential=self._credential_id,
                database=account.database,
                username=account.username,
                owner=owner,
                code="account-owned",
            )

    def unregister(self, account: Account) -> bool:
        """Let another credential have the account; False if another has it."""
        return self._change_owner(account, UNREGISTER_UPDATE) is None

    def _change_owner(self, account: Account, update: str) -> str | None:
        """The other owner, where there is one; then nothing was changed."""
        is_done, before = self._update(
            update, OWNER_CONDITION, {"credential": self._credential_id}, key=account.key
        )
        if is_done:
            return None
        with self._translated():
            return str(before["owned_by"]["S"])


def _expressions(order: Order) -> tuple[str, str, Mapping[str, object]]:
    """The update of an order, the condition where it has one, and the values of both."""
    found: tuple[str, str, Mapping[str, object]]
    match order:
        case Pause():
            found = PAUSE_UPDATE, "", {"true": True}
        case Resume():
            found = RESUME_UPDATE, "", {}
        case Revoke(lift_pause=lift_pause, without=without):
            update = f"{REVOKE_UPDATE}{AND_RESUME if lift_pause else ''}{AND_WITHOUT if without else ''}"
            values = {"zero": 0, **({"databases": without} if without else {})}
            found = update, "" if lift_pause else REVOKE_CONDITION, values
        case TakeOver(databases=databases):
            found = TAKE_OVER_UPDATE, "", {"databases": databases}
        case CancelTakeOver(databases=databases):
            found = CANCEL_UPDATE, "", {"databases": databases}
        case Activate(replaces=None, digest=digest):
            found = ACTIVATE_UPDATE, FIRST_PLAN_CONDITION, {"digest": digest}
        case Activate(replaces=replaces, digest=digest) if replaces == digest:
            found = WITHDRAW_UPDATE, PLAN_CONDITION, {"replaces": replaces}
        case Activate(replaces=replaces, digest=digest):
            found = ACTIVATE_UPDATE, PLAN_CONDITION, {"digest": digest, "replaces": replaces}
    return found
