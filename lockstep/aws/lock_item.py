"""The lock's DynamoDB item as a record (protocol L3)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lockstep import formats
from lockstep.aws.clients import Trouble
from lockstep.errors import LockTableAccessDeniedError, LockTableUnreachableError
from lockstep.model import AwsSigns, ChainHead, Claim, ClaimKind, LockRecord

Item = Mapping[str, Any]
"""An item, or a map inside an item: names to typed values."""
HEAD = "head_"
"""How the attributes of the audit chains' heads begin; a stream's name follows."""

UNWITNESSED = "unwitnessed_"
"""How the attributes begin that say since when a stream has had entries that no other stream names."""

LOCK_TABLE_ERRORS = {
    Trouble.UNREACHABLE: LockTableUnreachableError,
    Trouble.THROTTLED: LockTableUnreachableError,
    Trouble.DENIED: LockTableAccessDeniedError,
    Trouble.REJECTED: LockTableAccessDeniedError,
}
"""What a call of the lock table that failed is, for runs and operators."""


def record_of(credential_id: str, item: Item) -> LockRecord:
    """The item as a record.

    Raises:
        LockTableAccessDeniedError: The item is not a record of Lockstep.
        NewerFormatError: A newer build has claimed in it.
    """
    try:
        formats.require_known(_int(item, "format"), credential=credential_id)
        return LockRecord(
            credential_id=credential_id,
            holder=_text(item["holder"]) if "holder" in item else None,
            fence=_int(item, "fence") or 0,
            expires_at=_datetime(item, "expires_at"),
            plan=_text(item["plan"]) if "plan" in item else None,
            claim=_claim(item),
            promoting=_flag(item, "promoting"),
            current_generation=_int(item, "current_generation"),
            alive=_generations(item, "alive"),
            highest_generation=_int(item, "highest_generation") or 0,
            next_due_at=_datetime(item, "next_due_at"),
            not_before=_datetime(item, "not_before"),
            paused=_flag(item, "paused"),
            activate=_text(item["activate"]) if "activate" in item else None,
            revoke_through=_int(item, "revoke_through"),
            enrol=_names(item, "enrol"),
            muted=_names(item, "muted"),
            aws=AwsSigns(seen_at=_datetime(item, "aws_seen_at"), began_at=_datetime(item, "aws_began_at")),
            led_at=_datetime(item, "aws_led_at"),
            unwitnessed={
                name.removeprefix(UNWITNESSED): since
                for name in item
                if name.startswith(UNWITNESSED) and (since := _datetime(item, name))
            },
            heads={
                name.removeprefix(HEAD): _chain_head(value["M"])
                for name, value in item.items()
                if name.startswith(HEAD)
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


def _flag(item: Item, name: str) -> bool:
    flag: object = item.get(name, {"BOOL": False})["BOOL"]
    if not isinstance(flag, bool):
        raise TypeError
    return flag


def _names(item: Item, name: str) -> frozenset[str]:
    return frozenset(_text({"S": value}) for value in item.get(name, {"SS": []})["SS"])


def _generations(item: Item, name: str) -> frozenset[int]:
    return frozenset(int(value) for value in item.get(name, {"NS": []})["NS"])


def _int(item: Item, name: str) -> int | None:
    value = item.get(name, {"NULL": True})
    return None if "NULL" in value else int(value["N"])


def _datetime(item: Item, name: str) -> datetime | None:
    seconds = _int(item, name)
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
