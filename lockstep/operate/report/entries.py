"""An entry as the report uses it: a run, an order, or something else.

An event is untrusted text with untrusted types, even where its MAC is right: a newer build may have written it. What is
not a run or an order of a known form becomes an `Other`, never an error. Whoever can write to a bucket may have written
the texts, so they are cut, and characters that are not fit to be shown are shown by their number.
"""

from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, ValidationError, convert

from lockstep.audit.chain import Entry
from lockstep.audit.entry import ACTIVITY_PASSWORD_CHANGE, STATUS_SUCCESS, is_of_a_run
from lockstep.operate.formatting import at_milliseconds
from lockstep.protocol.messages import DatabaseOutcome, RevocationResult

Time = Annotated[datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=0)]
"""A number of something, or a generation."""
LONGEST = 160
"""Characters of one text that are shown."""
LONGEST_LINE = 320
"""Characters of several fields that are shown as one line."""
MOST = 256
"""Elements of one list, and fields of one object, that are read."""
DEEPEST = 8
"""Objects in objects that are read."""
LARGEST = 2**53
"""A larger number is not in canonical JSON (RFC 8785)."""
ARCHIVED_RUN, ARCHIVED_ORDER = "archived run", "archived order"
NOT_READ = "it is archived: restore it to have it read"
UNKNOWN = "this version does not know its form"


class Proof(Struct, frozen=True, kw_only=True):
    """What a run showed on one database.

    Attributes:
        outcome: Either says that it accepted the new login.
        revoked: How generations were shown to be revoked: it refused the login, or no store holds the value any more,
            so that no login could be tried.
    """

    outcome: DatabaseOutcome
    revoked: dict[Count, RevocationResult] = {}
    taken_over: bool = False
    plaintext: bool = False

    def revoked_as(self, result: RevocationResult) -> list[int]:
        """The generations that were shown to be revoked in one way."""
        return [generation for generation, how in self.revoked.items() if how is result]


class Run(Struct, frozen=True, kw_only=True):
    """The entry of one run.

    Attributes:
        at: When it ended.
        error: The name of its error; None after a success.
        trigger: Who was behind it: `schedule`, `cli` (an operator, by `lockstep rotate`), or `manual`.
        kind: `new` or `reconcile`; None where it failed before it had a claim.
        base_generation: The one that was current before; of a reconcile the one whose login is given again.
        revoked_on_purpose: The generations that an emergency ended.
        databases: What it showed on each.
    """

    stream: str
    seq: int
    at: Time
    started: Time
    rotation_id: str
    error: str | None
    trigger: str
    forced: bool = False
    kind: Literal["new", "reconcile"] | None = None
    generation: Count | None = None
    base_generation: Count | None = None
    adopted_from: str | None = None
    plan: str | None = None
    revoked_on_purpose: tuple[Count, ...] = ()
    databases: dict[str, Proof] = {}

    def __post_init__(self) -> None:
        """A success names what it promoted."""
        if self.succeeded and (self.generation is None or self.kind is None):
            raise ValueError

    @property
    def succeeded(self) -> bool:
        """Whether every store serves its generation."""
        return self.error is None

    @property
    def outcome(self) -> str:
        """The same in a word."""
        return "rotated" if self.succeeded else "failed"


class Order(Struct, frozen=True, kw_only=True):
    """The entry of an operator's order, whose name is its outcome.

    Attributes:
        details: Its fields, in a line.
    """

    stream: str
    seq: int
    at: Time
    outcome: str
    who: str
    details: str


class Other(Struct, frozen=True, kw_only=True):
    """An entry that counts for nothing.

    Attributes:
        at: None where it names no time that there is.
        outcome: What it calls itself.
        why: Why it does not count.
    """

    stream: str
    seq: int
    at: Time | None
    outcome: str
    details: str
    why: str


Record = Run | Order | Other


def read_entry(entry: Entry, why: str = "") -> Record:
    """What an entry says.

    Args:
        entry: As verification read it.
        why: Why it does not count, if it does not.
    """
    at, is_run = at_milliseconds(entry.time), is_of_a_run(entry.rotation_id)
    place: dict[str, Any] = {"stream": entry.stream, "seq": entry.seq, "at": at}
    if not entry.event:
        outcome = ARCHIVED_RUN if is_run else ARCHIVED_ORDER
        return Other(**place, outcome=outcome, details="", why=NOT_READ)
    event, details = clean(entry.event), clean(entry.details)
    if not why and is_run is (event.get("activity_id") == ACTIVITY_PASSWORD_CHANGE):
        try:
            if is_run:
                return convert({**details, **_of_run(entry, event), **place}, Run, str_keys=True)
            return convert({**_of_order(event, details), **place}, Order)
        except ValidationError:
            pass
    return Other(
        **place,
        outcome=line(event.get("activity_name", "no activity")),
        details=line(details),
        why=why or UNKNOWN,
    )


def _of_run(entry: Entry, event: Mapping[str, Any]) -> Mapping[str, Any]:
    began, is_success = event.get("start_time"), event.get("status_id") == STATUS_SUCCESS
    return {
        "started": at_milliseconds(min(began, entry.time) if type(began) is int else entry.time),
        "rotation_id": shown(entry.rotation_id),
        "error": None if is_success else line(event.get("status_code", "no name")),
    }


def _of_order(event: Mapping[str, Any], details: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "outcome": details.get("order"),
        "who": line(part(part(event, "actor"), "user").get("name")),
        "details": line({name: value for name, value in details.items() if name != "order"}),
    }


def part(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object in an object; empty where it is none."""
    found = of.get(name)
    return found if isinstance(found, dict) else {}


def clean(value: object, depth: int = 0) -> Any:  # noqa: ANN401 - JSON of the same form
    """The same JSON of bounded size, whose texts are fit to be shown; `?` for what has no place in an entry."""
    match value:
        case str():
            return shown(value)
        case None | bool():
            return value
        case int() if abs(value) <= LARGEST:
            return value
        case list() if depth < DEEPEST:
            return [clean(item, depth + 1) for item in value[:MOST]]
        case dict() if depth < DEEPEST:
            few = islice(value.items(), MOST)
            return {shown(name): clean(item, depth + 1) for name, item in few}
    return "?"


def shown(text: str, limit: int = LONGEST) -> str:
    """A text without control and direction characters, which are shown by their number; cut at `limit` characters."""
    few = "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in text[:limit])
    rest = len(text) - limit
    return few if rest <= 0 else f"{few}… (and {rest} more characters)"


def line(value: object) -> str:
    """What `clean` has returned as one line: `name value, name value`."""
    text = _words(value)
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}…"


def _words(value: object) -> str:
    match value:
        case dict():
            return ", ".join(f"{name.replace('_', ' ')} {_words(item)}" for name, item in value.items())
        case list():
            return " ".join(map(_words, value)) or "none"
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
    return str(value)
