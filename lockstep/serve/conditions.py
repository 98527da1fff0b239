"""What is the matter with a credential, in one word, and the command that shows or mends it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from lockstep.environment import line_of, told
from lockstep.errors import LockstepError
from lockstep.html.formatting import error_text
from lockstep.serve.looking import Seen


class Condition(StrEnum):
    """The word, the gravest first."""

    OUT_OF_STEP = "not in step"
    REVOKING = "emergency"
    UNREADABLE = "unreadable"
    MUTED = "muted"
    OTHER_PLAN = "other plan"
    FAILED = "last run failed"
    LATE = "late"
    UNKNOWN = "not known"
    PAUSED = "paused"
    ROTATING = "rotating"
    NEW = "never rotated"
    UNREAD = "not read yet"
    IN_STEP = "in step"


LOOKS = {
    **dict.fromkeys((Condition.OUT_OF_STEP, Condition.REVOKING, Condition.UNREADABLE), "bad"),
    **dict.fromkeys((Condition.MUTED, Condition.OTHER_PLAN, Condition.FAILED, Condition.LATE), "warn"),
    **dict.fromkeys((Condition.UNKNOWN, Condition.PAUSED), "warn"),
    **dict.fromkeys((Condition.NEW, Condition.UNREAD), "calm"),
    Condition.ROTATING: "busy",
    Condition.IN_STEP: "good",
}
"""The look of its chip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something that a person should know.

    Attributes:
        ids: The credentials of which it is true.
        text: One sentence.
        command: What mends it, or shows more, for the first of them; advice that is no command stands in `text`.
    """

    ids: tuple[str, ...]
    condition: Condition
    text: str
    command: str = ""

    @property
    def look(self) -> str:
        """Its look."""
        return LOOKS[self.condition]


def condition(seen: Seen, now: datetime) -> Condition:
    """The gravest one; `IN_STEP` where there is nothing to tell."""
    return min(_conditions(seen, now), key=list(Condition).index)


def _conditions(seen: Seen, now: datetime) -> Iterator[Condition]:
    state = seen.state
    if seen.problem:
        yield Condition.UNREADABLE
    if seen.runner(now):
        # What is half done is not out of step: a run is promoting.
        yield Condition.ROTATING
    elif state.is_in_step is None:
        is_away = any(isinstance(answer, LockstepError) for answer in state.look.answers.values())
        yield Condition.UNREAD if seen.read_at is None else Condition.UNKNOWN if is_away else Condition.NEW
    for alarm in alarms(seen, now):
        yield alarm.condition
    yield Condition.NEW if seen.unrotated else Condition.IN_STEP


def alarms(seen: Seen, now: datetime) -> Iterator[Alarm]:
    """What a person should know of a credential."""
    of = seen.credential.id
    for state, text, command in (*_by_record(seen), *_by_stores(seen, now), *_by_last_run(seen)):
        yield Alarm(ids=(of,), condition=state, text=text, command=command.format(of))


def together(alarms: Iterable[Alarm]) -> list[Alarm]:
    """Those that say the same as one, the gravest first."""
    found: dict[tuple[Condition, str], Alarm] = {}
    for alarm in alarms:
        first = found.setdefault((alarm.condition, alarm.text), alarm)
        if first is not alarm:
            found[alarm.condition, alarm.text] = replace(first, ids=first.ids + alarm.ids)
    return sorted(found.values(), key=lambda alarm: list(Condition).index(alarm.condition))


def _by_record(seen: Seen) -> Iterator[tuple[Condition, str, str]]:
    record = seen.record
    if seen.problem:
        yield Condition.UNREADABLE, f"The lock record cannot be read: {seen.problem}.", ""
    if record.is_revoking:
        text = f"Emergency: every generation up to {record.revoke_through} must die; the next run does it."
        yield Condition.REVOKING, text, "lockstep rotate {} --force"
    for database in sorted(record.muted):
        text = f"No run asks {database} any more, because it refused logins."
        yield Condition.MUTED, text, f"lockstep retry {{}} {database}"
    if record.plan and seen.credential.plan_digest not in {record.plan, record.activate}:
        text = "Another plan than this file is the active one, so no run under this file changes anything."
        yield Condition.OTHER_PLAN, text, f"lockstep plan activate {{}} --from {record.plan}"
    if record.paused:
        yield Condition.PAUSED, "No scheduled run begins.", "lockstep resume {}"
    elif seen.stale:
        yield Condition.LATE, "It was not rotated for two intervals.", "lockstep status -c {}"


def _by_stores(seen: Seen, now: datetime) -> Iterator[tuple[Condition, str, str]]:
    state = seen.state
    if state.is_in_step is False and not seen.unrotated and not seen.runner(now):
        forecast = state.next_run
        text = f"The stores do not serve the same login. The next run: {forecast.meaning if forecast else 'not known'}."
        yield Condition.OUT_OF_STEP, text, "lockstep status -c {}"
    for name, value in state.look.answers.items():
        if isinstance(value, LockstepError):
            text = f"What store {name} serves is not known. {line_of(value)}"
            yield Condition.UNKNOWN, text, "" if told(value).advice else "lockstep status -c {}"


def _by_last_run(seen: Seen) -> Iterator[tuple[Condition, str, str]]:
    last = seen.state.last_run
    if last and last.error:
        text = f"The last run failed with {last.error}: {error_text(last.error)} {last.next or ''}".strip()
        yield Condition.FAILED, text, "lockstep history -c {}"
