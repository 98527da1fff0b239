"""Tamper with real chains in every way, live honest lives, and say what verification saw.

    .venv/bin/python -m tests.proof.tampering                        # everything, some minutes
    .venv/bin/python -m tests.proof.tampering --backend memory       # half a minute
    .venv/bin/python -m tests.proof.tampering --only "cut"           # mutations by their names, with what is seen

A mutation is caught if verification says NOT VERIFIED or UNREADABLE of the credential, at once or after the next runs,
or if the next entry states it. One that is not is listed with the words of docs/threat-model.md that say why. Ends with
one line of JSON, and with status 1 if a mutation is neither caught nor listed, is listed and caught, or an honest state
raises an alarm.
"""

import argparse
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.proof.honest import Life
from tests.proof.raw_logs import BACKENDS, Backend
from tests.proof.report import say
from tests.proof.tampered import Mutation, Outcome, outcome_of, scene
from tests.proof.tampering_catalogue import catalogue

DOCUMENT = Path(__file__).parents[2] / "docs" / "threat-model.md"
SAY_EVERY_SECONDS = 10
_STREAM_OF = {"s3": "aws", "object-storage": "oci"}


@dataclass
class Tally:
    """What became of the mutations over one backend.

    Attributes:
        impossible: Those that are not seen by design, with the words of the threat model.
        wrong: What must not be.
    """

    tried: int = 0
    caught: int = 0
    impossible: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, mutation: Mutation, outcome: Outcome) -> None:
        """Count one."""
        self.tried += 1
        self.caught += outcome.caught
        if not outcome.caught and mutation.by_design:
            self.impossible[mutation.name] = mutation.by_design
        elif not outcome.caught:
            self.wrong.append(f"not caught: {mutation.name}")
        elif mutation.by_design:
            self.wrong.append(f"caught, and listed as impossible: {mutation.name}")


def threat_model() -> str:
    """Its text, as one line."""
    return re.sub(r"\s+", " ", DOCUMENT.read_text())


def concerns(mutation: Mutation, backend: str) -> bool:
    """Whether a mutation may touch the stream that a backend has over an emulator."""
    streams = set(re.findall(r"\b(?:aws|oci)\b", mutation.name))
    return backend not in _STREAM_OF or not streams or _STREAM_OF[backend] in streams


def tamper(
    backend: Backend,
    mutations: Iterable[Mutation],
    *,
    briefly: bool,
    said: Callable[[Mutation, Outcome], None] = lambda _mutation, _outcome: None,
) -> Tally:
    """Try mutations, each on new chains in new buckets; see `outcome_of`."""
    tally = Tally()
    for mutation in mutations:
        outcome = outcome_of(mutation, scene(backend), briefly=briefly)
        tally.add(mutation, outcome)
        said(mutation, outcome)
    return tally


def lives(seeds: Iterable[int], *, acts: int) -> tuple[int, list[str]]:
    """Honest states, and the alarms in them."""
    lived = [Life(seed).live(acts) for seed in seeds]
    return sum(life.states for life in lived), [alarm for life in lived for alarm in life.alarms]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Tamper with real chains in every way.")
    parser.add_argument("--backend", choices=BACKENDS, action="append")
    parser.add_argument("--only", default="", help="Mutations whose names have this in them.")
    parser.add_argument("--flips", type=int, default=400, help="Bit flips in each stream in memory.")
    parser.add_argument("--lives", type=int, default=100)
    return parser.parse_args()


class _Progress:
    """Says how far it is; with `--only`, what is seen of each mutation."""

    def __init__(self, backend: str, total: int, *, each: bool) -> None:
        self._backend, self._total, self._each = backend, total, each
        self._done, self._said = 0, time.monotonic()

    def __call__(self, mutation: Mutation, outcome: Outcome) -> None:
        self._done += 1
        if self._each:
            say(f"{mutation.name}: {outcome.seen or ('stated' if outcome.stated else 'not seen')}")
        elif time.monotonic() - self._said > SAY_EVERY_SECONDS:
            self._said = time.monotonic()
            say(f"{self._backend}: {self._done} of {self._total}, now: {mutation.name}")


def main() -> int:
    """Run it; the exit code."""
    given = _arguments()
    logging.disable(logging.CRITICAL)
    result: dict[str, object] = {}
    wrong: list[str] = []
    for name in given.backend or BACKENDS:
        flips = given.flips if name == "memory" else given.flips // 10
        chosen = [m for m in catalogue(flips) if given.only in m.name and concerns(m, name)]
        began = time.monotonic()
        progress = _Progress(name, len(chosen), each=bool(given.only))
        with BACKENDS[name]() as backend:
            tally = tamper(backend, chosen, briefly=name != "memory", said=progress)
        wrong += [f"{name}: {one}" for one in tally.wrong]
        result[name] = {
            "mutations": tally.tried,
            "caught": tally.caught,
            "impossible": tally.impossible,
            "seconds": round(time.monotonic() - began),
        }
    states, alarms = lives(range(given.lives), acts=30)
    result |= {"honest_states": states, "false_alarms": len(alarms), "wrong": [*wrong, *alarms[:5]]}
    say(json.dumps(result))
    return 1 if wrong or alarms else 0


if __name__ == "__main__":
    sys.exit(main())
