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
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.proof.honest import Life
from tests.proof.mutations import catalogue
from tests.proof.raw_logs import BACKENDS, STREAM_OF, Backend
from tests.proof.tampered import Mutation, Outcome, outcome_of, scene

DOCUMENT = Path(__file__).parents[2] / "docs" / "threat-model.md"


@dataclass
class Tally:
    """What became of the mutations over one backend.

    Attributes:
        impossible: Those that are not seen by design, with the words of the threat model.
        wrong: What must not be.
    """

    mutations: int = 0
    caught: int = 0
    impossible: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, mutation: Mutation, outcome: Outcome) -> None:
        """Count one."""
        self.mutations += 1
        self.caught += outcome.caught
        if outcome.caught == bool(mutation.by_design):
            what = "caught, and listed as impossible" if outcome.caught else "not caught"
            self.wrong.append(f"{what}: {mutation.name}")
        elif mutation.by_design:
            self.impossible[mutation.name] = mutation.by_design


def threat_model() -> str:
    """Its text, as one line."""
    return re.sub(r"\s+", " ", DOCUMENT.read_text())


def concerns(mutation: Mutation, backend: str) -> bool:
    """Whether a mutation may touch the stream that a backend has over an emulator."""
    streams = set(re.findall(r"\b(?:aws|oci)\b", mutation.name))
    return backend not in STREAM_OF or not streams or STREAM_OF[backend] in streams


def tamper(backend: Backend, mutations: Iterable[Mutation], *, briefly: bool, tells: bool = False) -> Tally:
    """Try mutations, each on new chains in new buckets; see `outcome_of`."""
    tally = Tally()
    for mutation in mutations:
        outcome = outcome_of(mutation, scene(backend), briefly=briefly)
        tally.add(mutation, outcome)
        if tells:
            _say({"mutation": mutation.name, "seen": outcome.seen, "stated": outcome.stated})
    return tally


def lives(seeds: Iterable[int], *, acts: int) -> tuple[int, list[str]]:
    """Honest states, and the alarms in them."""
    lived = [Life(seed).live(acts) for seed in seeds]
    return sum(life.states for life in lived), [alarm for life in lived for alarm in life.alarms]


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.tampering")
    parser.add_argument("--backend", choices=BACKENDS, action="append")
    parser.add_argument("--only", default="", help="Mutations whose names have this in them.")
    parser.add_argument("--flips", type=int, default=400, help="Bit flips in each stream in memory.")
    parser.add_argument("--lives", type=int, default=100)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    result: dict[str, object] = {}
    wrong: list[str] = []
    for name in given.backend or BACKENDS:
        flips = given.flips if name == "memory" else given.flips // 10
        chosen = [m for m in catalogue(flips) if given.only in m.name and concerns(m, name)]
        with BACKENDS[name]() as backend:
            tally = tamper(backend, chosen, briefly=name != "memory", tells=bool(given.only))
        wrong += tally.wrong
        result[name] = vars(tally)
    states, alarms = lives(range(given.lives), acts=30)
    _say({**result, "honest_states": states, "false_alarms": alarms})
    return 1 if wrong or alarms else 0


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
