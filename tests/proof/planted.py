"""The hunts for the bugs of the catalogue: by races, and by faults on the wire."""

import random

from tests.proof.catalogue import Bug, Faults, Races
from tests.proof.enumeration import Enumeration, Tally
from tests.proof.estate import estate
from tests.proof.races import Failure, play, shrunk
from tests.proof.runners import Runners
from tests.proof.schedules import schedule_of


def hunt(
    bug: Bug, races: Races, *, schedules: int, first_seed: int = 0, shrink: bool = True
) -> tuple[Failure | None, int]:
    """Look for a planted bug by races; a story that shows it, and how many schedules it took.

    Args:
        bug: What to plant.
        races: Where to look, and for what.
        schedules: How many to try.
        first_seed: Of them.
        shrink: Cut the story down to the shortest.
    """
    for seed in range(first_seed, first_seed + schedules):
        found = play(schedule_of(seed, scenarios=races.scenarios), bug.plant)
        if found and found.invariant in races.caught_as:
            return shrunk(found, bug.plant, tries=150) if shrink else found, seed - first_seed + 1
    return None, schedules


def hunt_on_the_wire(bug: Bug, faults: Faults, *, seed: int = 0) -> tuple[str, str, int]:
    """Look for a planted bug by faults at calls of a database; the invariant, the story, and how many cases it took.

    The invariant is empty where nothing was found.
    """
    rng, tally = random.Random(seed), Tally()  # noqa: S311 - it must be the same every time
    with estate([faults.kind]) as world, Runners(world).ready() as runners:
        found = Enumeration(world, runners, faults.kind)
        for case in found.cases(
            "oci", rng=rng, hangs=False, at=lambda call: call.operation.startswith("ALTER")
        ):
            with bug.plant():
                found.run(case, tally)
            if tally.failures:
                failure = tally.failures[0]
                return failure.violation.partition(":")[0], f"{case}: {failure.violation}", tally.cases
    return "", "", tally.cases
