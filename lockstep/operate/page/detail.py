"""What is known of one credential, as its page shows it. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lockstep.operate.documents import Run
from lockstep.operate.execution import Entered
from lockstep.operate.formatting import NONE, clock_time, generation_name, relative, stamp
from lockstep.operate.history import run_ending
from lockstep.operate.page.fleet import (
    CLOUDS,
    LOOKS,
    Alarm,
    Bar,
    Condition,
    age_of,
    alarms,
    bar_of,
    condition,
    who,
)
from lockstep.operate.page.snapshot import Snapshot
from lockstep.protocol.errors import LockstepError, described, line_of
from lockstep.protocol.model import StoredValue

STEPS = ("Generate", "ApplyDb", "UpdateSecrets", "RevokeDb", "Audit")
"""States that call a function; the others are the machine's own."""
OTHERS = "the machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a run; `left` and `width` in percent of the longest run that is shown."""

    name: str
    look: str
    left: float
    width: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """A run that has ended."""

    cloud: str
    title: str
    text: str
    failed: bool
    why: str
    next: str
    parts: Sequence[Part]
    steps: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of a run that is under way."""

    name: str
    time: str
    is_over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A run that is under way."""

    credential_id: str
    cloud: str
    run: str
    phases: Sequence[Phase]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """All of it."""

    id: str
    condition: Condition
    look: str
    age: timedelta | None
    who: str
    alarms: Sequence[Alarm]
    progress: Progress | None
    bar: Bar | None
    stores: Sequence[Sequence[str]]
    read: str
    runs: Sequence[RunLine]
    unread: Sequence[str]


def detail(seen: Snapshot, now: datetime) -> Detail:
    """The page of a credential."""
    credential, state = seen.credential, condition(seen, now)
    return Detail(
        id=credential.id,
        condition=state,
        look=LOOKS[state],
        age=age_of(seen, now),
        who=who(seen, now),
        alarms=tuple(alarms(seen, now)),
        progress=progress(seen, now),
        bar=bar_of(seen, now),
        stores=tuple(_stores(seen)),
        read=f"read {relative(seen.read_at, now)}" if seen.read_at else "not read since the last change",
        runs=tuple(_runs(seen, now)),
        unread=tuple(f"{CLOUDS[cloud]}: {line_of(error)}" for cloud, error in seen.state.unread.items()),
    )


def _stores(seen: Snapshot) -> Iterator[Sequence[str]]:
    for name, answer in seen.state.look.answers.items():
        if isinstance(answer, LockstepError):
            yield name, type(described(answer)).__name__, NONE, NONE
            continue
        is_placeholder = isinstance(answer, StoredValue) and answer.login is None
        served = "a placeholder" if is_placeholder else generation_name(answer.generation)
        yield name, served, generation_name(answer.blob_generation), answer.version


def _runs(seen: Snapshot, now: datetime) -> Iterator[RunLine]:
    longest = max((run.seconds or 0 for run in seen.runs), default=0) or 1
    for run in seen.runs:
        parts = _parts(seen.steps.get(run.rotation_id, ()), run, longest)
        yield RunLine(
            cloud=CLOUDS[run.cloud],
            title=f"{stamp(run.ended_at)} UTC, run {run.rotation_id}",
            text=clock_time(run.ended_at, now),
            failed=run.outcome == "failed",
            why=run_ending(run),
            next=run.advice or "",
            parts=parts,
            steps=_summed(parts),
        )


def _parts(states: Sequence[Entered], run: Run, longest: float) -> list[Part]:
    if not states:
        whole = run.seconds or 0.0
        return [_part("run", 0.0, whole, longest)]
    found: list[Part] = []
    begun = states[0].at
    for state in states:
        if state.left_at is None:
            continue
        name = state.name if state.name in STEPS else OTHERS
        start = (state.at - begun).total_seconds()
        if found and found[-1].name == name:
            start, before = start - found[-1].seconds, found.pop().seconds
            found.append(_part(name, start, before + (state.seconds or 0.0), longest))
        else:
            found.append(_part(name, start, state.seconds or 0.0, longest))
    return found


def _summed(parts: Sequence[Part]) -> str:
    """How long each step took in all: a step that was tried again is in a run twice."""
    sums: dict[str, float] = {}
    for part in parts:
        sums[part.name] = sums.get(part.name, 0.0) + part.seconds
    return " · ".join(f"{name} {sums[name]:.1f} s" for name in (*STEPS, OTHERS) if name in sums)


def _part(name: str, start: float, seconds: float, longest: float) -> Part:
    left = min(100.0, round(100 * start / longest, 2))
    return Part(
        name=name,
        look=name.lower().replace(" ", "-"),
        left=left,
        width=min(round(100 * seconds / longest, 2), round(100 - left, 2)),
        seconds=seconds,
    )


def progress(seen: Snapshot, now: datetime) -> Progress | None:
    """The run that has the lock; None if none has."""
    cloud, record = seen.runner(now), seen.record
    if cloud is None or record.holder is None:
        return None
    states = seen.steps.get(record.holder, ())
    phases = [*_states(states, now)] if states else [*_phases(seen)]
    return Progress(credential_id=seen.credential.id, cloud=CLOUDS[cloud], run=record.holder, phases=phases)


def _states(states: Sequence[Entered], now: datetime) -> Iterator[Phase]:
    for state in states:
        seconds = state.seconds if state.left_at else max((now - state.at).total_seconds(), 0.0)
        yield Phase(name=state.name, time=f"{seconds:.1f} s", is_over=state.left_at is not None)


def _phases(seen: Snapshot) -> Iterator[Phase]:
    """What the lock record shows of a run whose steps are not known: those of the OCI function."""
    record = seen.record
    names = ["took the lock"]
    if record.claim:
        names.append(f"claimed generation {record.claim.generation}")
    if record.promoting:
        names.append("every database has accepted it")
    doing = (
        "the stores take it over"
        if record.promoting
        else "the databases accept it"
        if record.claim
        else "reading"
    )
    yield from (Phase(name=name, time="", is_over=True) for name in names)
    yield Phase(name=doing, time="", is_over=False)
