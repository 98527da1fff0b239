"""An entry's event as the report uses it: a run, an order, or something else (see `event.py`, `order_event.py`).

An event is untrusted text with untrusted types, even where its MAC is right: a newer build may have written it. What is
not a run or an order of a known form becomes an `Other`, never an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lockstep.audit.event import ACTIVITY_PASSWORD_CHANGE, STATUS_SUCCESS
from lockstep.audit.report.text import clean, fields, part, whole

FUTURE = timedelta(hours=1)
"""An entry that is later than now by more than this has no time that can be believed."""
MOST_DATABASES = 64
MOST_DEAD = 256
KINDS = ("new", "heal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a run showed on one database.

    Attributes:
        refused: The generations whose login was refused, which proves them dead.
        unreadable: The generations that no store holds any more, so no login could be tried.
    """

    database: str
    outcome: str
    refused: tuple[int, ...]
    unreadable: tuple[int, ...]
    enrolled: bool
    plaintext: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The entry of one run.

    Attributes:
        at: When it ended.
        error: The name of its error; None after a success.
        kind: `new` or `heal`; None where it failed before it had a claim.
        base: The generation that was current before; of a heal the one whose login is given again.
        ended: The generations that an emergency ended.
    """

    stream: str
    seq: int
    at: datetime
    started: datetime
    rotation_id: str
    error: str | None
    trigger: str
    forced: bool
    kind: str | None
    generation: int | None
    base: int | None
    adopted_from: str | None
    plan: str | None
    proofs: tuple[Proof, ...]
    ended: tuple[int, ...]

    @property
    def succeeded(self) -> bool:
        """Whether every store serves its generation."""
        return self.error is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The entry of an operator's order.

    Attributes:
        through: Of a revocation: the highest generation that must die.
        lifts_pause: Of a revocation: whether it also resumes.
    """

    stream: str
    seq: int
    at: datetime
    name: str
    who: str
    details: str
    through: int | None
    lifts_pause: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """An entry that is neither, or that does not count.

    Attributes:
        at: None where it names no time that can be believed.
        why: Why it does not count; empty where it is a kind of its own.
    """

    stream: str
    seq: int
    at: datetime | None
    what: str
    details: str
    why: str = ""


Record = Run | Order | Other


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
        what=clean(event.get("activity_name", "no activity"), 60),
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
        name=clean(name, 40),
        who=clean(part(part(event, "actor"), "user").get("name")),
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
    generation, kind = whole(details.get("generation")), details.get("kind")
    succeeded = event.get("status_id") == STATUS_SUCCESS
    if event.get("activity_id") != ACTIVITY_PASSWORD_CHANGE or (
        succeeded and (generation is None or kind not in KINDS)
    ):
        return None
    adopted, plan = details.get("adopted_from"), details.get("plan")
    return Run(
        stream=stream,
        seq=seq,
        at=at,
        started=min(_moment(event.get("start_time"), now) or at, at),
        rotation_id=clean(part(event, "metadata").get("uid"), 80),
        error=None if succeeded else clean(event.get("status_code", "no name"), 60),
        trigger=clean(details.get("trigger"), 40),
        forced=details.get("forced") is True,
        kind=kind if isinstance(kind, str) and kind in KINDS else None,
        generation=generation,
        base=whole(details.get("base_generation")),
        adopted_from=None if adopted is None else clean(adopted, 80),
        plan=None if plan is None else clean(plan, 80),
        proofs=tuple(_proofs(part(details, "databases"))),
        ended=_numbers(details.get("revoked_on_purpose")),
    )


def _proofs(databases: Mapping[str, object]) -> list[Proof]:
    few = list(databases)[:MOST_DATABASES]
    return [_proof(name, part(databases, name)) for name in few]


def _proof(name: str, told: Mapping[str, object]) -> Proof:
    dead = list(part(told, "dead").items())[:MOST_DEAD]
    return Proof(
        database=clean(name, 60),
        outcome=clean(told.get("outcome"), 40),
        refused=_numbers([_key(generation) for generation, death in dead if death == "refused"]),
        unreadable=_numbers([_key(generation) for generation, death in dead if death == "unreadable"]),
        enrolled=told.get("enrolled") is True,
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
    if found is None:
        return None
    try:
        moment = datetime.fromtimestamp(found / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if moment <= now + FUTURE else None
