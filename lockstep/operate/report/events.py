"""An entry's event as the report uses it: a run, an order, or something else (see `event.py`, `order_event.py`).

An event is untrusted text with untrusted types, even where its MAC is right: a newer build may have written it. What is
not a run or an order of a known form becomes an `Other`, never an error. Whoever can write to a bucket may have written
the texts, so they are cut, and characters that are not fit to be shown are shown by their number.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

from lockstep.audit.entry import ACTIVITY_PASSWORD_CHANGE, STATUS_SUCCESS
from lockstep.operate.formatting import at_milliseconds
from lockstep.operate.report.data import Order, Other, Proof, Record, Run

FUTURE = timedelta(hours=1)
"""An entry that is later than now by more than this has no time that can be believed."""
MOST_DATABASES = 64
MOST_DEAD = 256
LONGEST = 160
"""Characters of one text that are shown."""
MOST_FIELDS = 24
"""Fields of one object, and elements of one list, that are shown."""
LARGEST = 2**53
"""A larger number is not in canonical JSON (RFC 8785)."""


def read_event(stream: str, seq: int, event: Mapping[str, object], *, now: datetime, why: str = "") -> Record:
    """What an entry says.

    Args:
        stream: The stream that holds it.
        seq: Its number.
        event: Its OCSF event.
        now: The time of the report.
        why: Why it does not count, if it does not.
    """
    details = part(part(event, "unmapped"), "lockstep")
    at = _moment(event.get("time"), now)
    order = details.get("order")
    if at and not why and isinstance(order, str):
        return _order(stream, seq, at, order, event, details)
    run = _run(stream, seq, at, event, details, now) if at and not why else None
    return run or Other(
        stream=stream,
        seq=seq,
        at=at,
        what=sanitize(event.get("activity_name", "no activity"), 60),
        details=fields(details),
        why=why or ("" if at else "it names no time that can be believed"),
    )


def _order(
    stream: str,
    seq: int,
    at: datetime,
    name: str,
    event: Mapping[str, object],
    details: Mapping[str, object],
) -> Order:
    return Order(
        stream=stream,
        seq=seq,
        at=at,
        name=sanitize(name, 40),
        who=sanitize(part(part(event, "actor"), "user").get("name")),
        details=fields({name: value for name, value in details.items() if name != "order"}),
        through=whole(details.get("revoke_through")),
        lifts_pause=details.get("lifts_pause") is True,
    )


def _run(
    stream: str,
    seq: int,
    at: datetime,
    event: Mapping[str, object],
    details: Mapping[str, object],
    now: datetime,
) -> Run | None:
    generation, named = whole(details.get("generation")), details.get("kind")
    kind: Literal["new", "reconcile"] | None = (
        "new" if named == "new" else "reconcile" if named == "reconcile" else None
    )
    succeeded = event.get("status_id") == STATUS_SUCCESS
    if event.get("activity_id") != ACTIVITY_PASSWORD_CHANGE or (
        succeeded and (generation is None or kind is None)
    ):
        return None
    adopted, plan = details.get("adopted_from"), details.get("plan")
    return Run(
        stream=stream,
        seq=seq,
        at=at,
        started=min(_moment(event.get("start_time"), now) or at, at),
        rotation_id=sanitize(part(event, "metadata").get("uid"), 80),
        error=None if succeeded else sanitize(event.get("status_code", "no name"), 60),
        trigger=sanitize(details.get("trigger"), 40),
        forced=details.get("forced") is True,
        kind=kind,
        generation=generation,
        base=whole(details.get("base_generation")),
        adopted_from=None if adopted is None else sanitize(adopted, 80),
        plan=None if plan is None else sanitize(plan, 80),
        proofs=tuple(_proofs(part(details, "databases"))),
        ended=_numbers(details.get("revoked_on_purpose")),
    )


def _proofs(databases: Mapping[str, object]) -> list[Proof]:
    few = list(databases)[:MOST_DATABASES]
    return [_proof(name, part(databases, name)) for name in few]


def _proof(name: str, told: Mapping[str, object]) -> Proof:
    revoked = list(part(told, "revoked").items())[:MOST_DEAD]
    return Proof(
        database=sanitize(name, 60),
        outcome=sanitize(told.get("outcome"), 40),
        refused=_numbers([_key(generation) for generation, revocation in revoked if revocation == "refused"]),
        unreadable=_numbers(
            [_key(generation) for generation, revocation in revoked if revocation == "unreadable"]
        ),
        taken_over=told.get("taken_over") is True,
        plaintext=told.get("plaintext") is True,
    )


def _key(text: str) -> int | None:
    # An object's keys are texts; a long one is no generation.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(2**53)) else None


def _numbers(values: object) -> tuple[int, ...]:
    if not isinstance(values, list):
        return ()
    return tuple(sorted({n for value in values[:MOST_DEAD] if (n := whole(value)) is not None}))


def _moment(milliseconds: object, now: datetime) -> datetime | None:
    found = whole(milliseconds)
    moment = None if found is None else at_milliseconds(found)
    return moment if moment and moment <= now + FUTURE else None


def sanitize(value: object, limit: int = LONGEST) -> str:
    """A value as one short line, without control and direction characters, which are shown by their number."""
    if isinstance(value, str):
        text, rest = value[:limit], len(value) - limit
        shown = text if text.isprintable() else "".join(map(_visible, text))
        return shown if rest <= 0 else f"{shown}… (and {rest} more characters)"
    if value is None or isinstance(value, bool | float):
        return (
            {None: "none", True: "yes", False: "no"}.get(value, "?") if not isinstance(value, float) else "?"
        )
    if isinstance(value, int):
        return str(value) if abs(value) <= LARGEST else "?"
    if isinstance(value, list | tuple):
        shown = " ".join(sanitize(item, limit // 4) for item in value[:MOST_FIELDS])
        return _cut(shown or "none", limit, more=len(value) - MOST_FIELDS)
    if isinstance(value, Mapping):
        return fields(value, limit)
    return "?"


def _visible(character: str) -> str:
    return character if character.isprintable() else f"<U+{ord(character):04X}>"


def fields(whole: Mapping[str, object], limit: int = 2 * LONGEST) -> str:
    """An object as one line: `name value, name value`."""
    few = list(whole.items())[:MOST_FIELDS]
    words = (f"{sanitize(name, 40).replace('_', ' ')} {sanitize(value, limit // 2)}" for name, value in few)
    return _cut(", ".join(words), limit, more=len(whole) - len(few))


def _cut(text: str, limit: int, *, more: int) -> str:
    return text[:limit] + "…" if len(text) > limit or more > 0 else text


def whole(value: object) -> int | None:
    """A number that counts something; None for everything else."""
    # Not a boolean, which is an integer too.
    return value if type(value) is int and 0 <= value <= LARGEST else None


def part(of: Mapping[str, object], name: str) -> Mapping[str, object]:
    """An object inside an object; an empty one where there is none."""
    found = of.get(name)
    return found if isinstance(found, dict) else {}
