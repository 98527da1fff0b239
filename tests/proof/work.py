"""What `make proof` does, each part in a process of its own."""

import io
import json
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.wire import FaultKind
from tests.proof import races, schedules
from tests.proof.catalogue import CATALOGUE
from tests.proof.enumeration import Case, Enumeration, Failure, Tally
from tests.proof.estate import IMPATIENT, PATIENT, estate
from tests.proof.invariants import ViolationError
from tests.proof.planted import hunt, hunt_on_the_wire
from tests.proof.runners import RunnerName, Runners
from tests.tiers import PROOF_TIER

ROOT = Path(__file__).resolve().parents[2]
HUNT_SCHEDULES = 6000


@dataclass(kw_only=True)
class FaultResult:
    """One partition of the enumeration: a kind of credential and a runner."""

    name: str
    boundaries: int
    planned: int
    tally: Tally
    leaks_searched: int = 0


@dataclass(kw_only=True)
class RaceResult:
    """Races of correct code."""

    interleavings: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Catch:
    """What became of a planted bug."""

    bug: str
    invariant: str
    story: str
    seed: int | None
    tries: int


def enumerate_faults(kind: str, runner: RunnerName, *, hangs: bool, minutes: float, seed: int) -> FaultResult:
    """Every fault at every call of one runner on one kind of credential, changes first, until the time is over."""
    _be_quiet()
    rng = random.Random(seed)  # noqa: S311 - repeatable
    log = _Log()
    with estate([kind], IMPATIENT if hangs else PATIENT) as world, Runners(world).ready() as runners:
        enumeration = Enumeration(world, runners, kind)
        boundaries = len(enumeration.undisturbed(runner))
        cases = enumeration.cases(runner, rng=rng, hangs=hangs)
        name = f"{kind}, {runner}{', hangs' if hangs else ''}"
        result = FaultResult(name=name, boundaries=boundaries, planned=len(cases), tally=Tally())
        until = time.monotonic() + minutes * 60
        for case in cases:
            # After a violation the credential is broken, and every further case would only say so.
            if time.monotonic() > until or result.tally.failures:
                break
            enumeration.run(case, result.tally)
        result.tally.logins = enumeration.observer.logins
        result.tally.looks = enumeration.observer.looks
        texts = {
            "histories and answers": "".join(enumeration.texts),
            "logs": log.text(),
            "lock": enumeration.observer.lock_text(),
        }
        result.leaks_searched = sum(len(t) for t in texts.values())
        try:
            enumeration.observer.leaks(texts)
        except ViolationError as violation:
            result.tally.failures.append(_leak(violation, name))
    return result


def _leak(violation: ViolationError, name: str) -> Failure:
    case = Case(kind=name, runner="aws", fault=FaultKind.FAIL, at=0, recoverer="aws")
    return Failure(case=case, violation=str(violation), story="found in what the runs have left")


def race(*, first_seed: int, minutes: float) -> RaceResult:
    """Races, one seed after the other, until the time is over."""
    until, result = time.monotonic() + minutes * 60, RaceResult()
    while time.monotonic() < until:
        found = races.play(schedules.schedule_of(first_seed + result.interleavings))
        result.interleavings += 1
        if found:
            short = races.shrunk(found)
            result.failures.append(
                f"seed {found.schedule.seed}: {found.invariant}: {short.what}; {short.schedule.story()}"
            )
            if len(result.failures) >= 5:
                break
    return result


def catch(name: str) -> Catch:
    """Hunt one planted bug."""
    _be_quiet()
    bug = CATALOGUE[name]
    if bug.faults:
        invariant, story, tries = hunt_on_the_wire(bug, bug.faults)
        found_as = invariant if invariant in bug.faults.caught_as else ""
        return Catch(bug=name, invariant=found_as, story=story, seed=None, tries=tries)
    assert bug.races
    found, tries = hunt(bug, bug.races, schedules=HUNT_SCHEDULES)
    if found is None:
        return Catch(bug=name, invariant="", story="", seed=None, tries=tries)
    return Catch(
        bug=name,
        invariant=found.invariant,
        story=f"{found.schedule.story()}. Then {found.what}",
        seed=found.schedule.seed,
        tries=tries,
    )


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """What another command of the proof has come to.

    Attributes:
        holds: Whether it ended with status 0.
        figures: Its line of JSON.
        output: All that it said, where it does not hold.
    """

    holds: bool
    figures: dict[str, Any]
    output: str


def model(bound: str) -> CommandResult:
    """The explicit-state model."""
    return _command(["-m", "tests.proof.model", "--bound", bound])


def fuzz(*, at_length: bool) -> CommandResult:
    """The fuzzing of everything that is parsed: as in `make test`, or with twenty times the inputs, and new ones."""
    command = ["-m", "pytest", "--quiet", "-p", "no:cacheprovider", "tests/fuzz"]
    return _command(command, HYPOTHESIS_PROFILE="proof" if at_length else "")


def second_tier(part: str, *, minutes: float) -> CommandResult:
    """The tests that `make test` leaves out, one after the other; after the time no further one begins."""
    bounded = ["-p", "tests.proof.bounded", "--bound-minutes", str(minutes)]
    command = [
        "-m",
        "pytest",
        "--quiet",
        "-p",
        "no:cacheprovider",
        *bounded,
        "-m",
        "proof",
        *PROOF_TIER[part],
    ]
    return _command(command)


def _command(arguments: Sequence[str], **environment: str) -> CommandResult:
    done = subprocess.run(  # noqa: S603 - our own modules
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    holds = done.returncode == 0 and bool(lines)
    figures = json.loads(lines[-1]) if lines else {}
    return CommandResult(holds=holds, figures=figures, output="" if holds else done.stdout + done.stderr)


class _Log:
    """Everything that Lockstep and the drivers log, at the level at which a careless operator would run them."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        handler = logging.StreamHandler(self._stream)
        for name in ("lockstep", "urllib3", "pg8000", "pymysql", "botocore"):
            logging.getLogger(name).addHandler(handler)

    def text(self) -> str:
        return self._stream.getvalue()


def _be_quiet() -> None:
    """Take away the handler that fdk gives the root logger."""
    root = logging.getLogger()
    for handler in root.handlers:
        root.removeHandler(handler)
    root.addHandler(logging.NullHandler())
