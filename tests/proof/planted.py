"""Bugs planted into the protocol, each by a patch from outside, and the hunt that has to find it.

A harness that finds nothing proves nothing until it is seen to find what is there. Each bug is a mistake that a
rotator could plausibly make; most have been made by one.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.proof import plants
from tests.proof.enumeration import Enumeration, Tally
from tests.proof.estate import estate
from tests.proof.races import Failure, Plant, play, shrunk
from tests.proof.runners import Runners
from tests.proof.schedules import schedule_of


@dataclass(frozen=True, kw_only=True)
class Bug:
    """A planted bug.

    Attributes:
        what: The mistake, in one sentence.
        plant: Makes it, for the length of a block.
        caught_as: The invariants of which the hunt must see one broken.
        scenarios: Where it shows; where the hunt looks.
        wire: The kind of credential on which faults over the wire have to find it; empty: races do.
    """

    name: str
    what: str
    plant: Plant
    caught_as: tuple[str, ...]
    scenarios: tuple[str, ...] = ("steady",)
    wire: str = ""


def hunt(bug: Bug, *, schedules: int, first_seed: int = 0, shrink: bool = True) -> tuple[Failure | None, int]:
    """Look for a planted bug by races; a story that shows it, and how many schedules it took.

    Args:
        bug: What to plant.
        schedules: How many to try.
        first_seed: Of them.
        shrink: Cut the story down to the shortest.
    """
    for seed in range(first_seed, first_seed + schedules):
        found = play(schedule_of(seed, scenarios=bug.scenarios), bug.plant)
        if found and found.invariant in bug.caught_as:
            return shrunk(found, bug.plant, tries=150) if shrink else found, seed - first_seed + 1
    return None, schedules


def hunt_on_the_wire(bug: Bug, *, seed: int = 0) -> tuple[str, str, int]:
    """Look for a planted bug by faults at calls of a database; the invariant, the story, and how many cases it took.

    The invariant is empty where nothing was found.
    """
    rng, tally = random.Random(seed), Tally()  # noqa: S311 - it must be the same every time
    with estate([bug.wire]) as world, Runners(world).ready() as runners:
        found = Enumeration(world, runners, bug.wire)
        calls = [c for c in found.undisturbed("oci") if c.operation.startswith("ALTER")]
        for case in found.cases("oci", calls=calls, rng=rng, hangs=False):
            with bug.plant():
                found.run(case, tally)
            if tally.failures:
                failure = tally.failures[0]
                return failure.violation.partition(":")[0], f"{case}: {failure.violation}", tally.cases
    return "", "", tally.cases


_BUGS: Sequence[Bug] = (
    Bug(
        name="adopt-by-label",
        what="what is pending is what a store's label says, not what the lock record names",
        plant=plants.adopt_by_label,
        caught_as=("I1", "I2", "I3", "I4", "I5"),
        scenarios=("steady", "refused"),
    ),
    Bug(
        name="claim-without-condition",
        what="the claim is written without asking whether the lock is still held and nothing is in flight",
        plant=plants.claim_without_condition,
        caught_as=("I1", "I4"),
    ),
    Bug(
        name="release-without-condition",
        what="the lock is released without asking whether it is still held",
        plant=plants.release_without_condition,
        caught_as=("I1", "I4"),
    ),
    Bug(
        name="claim-dropped-on-failure",
        what="a failed run clears the claim as it gives the lock back",
        plant=plants.claim_dropped_on_failure,
        caught_as=("I4",),
    ),
    Bug(
        name="new-password-on-retry",
        what="a half-done generation is replaced by a new password instead of being finished",
        plant=plants.new_password_on_retry,
        caught_as=("I4",),
    ),
    Bug(
        name="lease-shorter-than-run",
        what="the lease is shorter than an execution",
        plant=plants.lease_shorter_than_run,
        caught_as=("I8",),
    ),
    Bug(
        name="standby-ignores-due",
        what="a runner rotates whether it is due or not, also within the overlap",
        plant=plants.standby_ignores_due,
        caught_as=("I1",),
    ),
    Bug(
        name="no-advisory-lock",
        what="the databases are changed without their advisory lock",
        plant=plants.no_advisory_lock,
        caught_as=("I1", "I5", "I9"),
        scenarios=("steady", "refused"),
    ),
    Bug(
        name="fence-not-read",
        what="the lock record is not read before an account is changed",
        plant=plants.fence_not_read,
        caught_as=("I1", "I5", "I9"),
        scenarios=("refused",),
    ),
    Bug(
        name="fence-read-before-advisory-lock",
        what="the lock record is read, but before the advisory lock is taken",
        plant=plants.fence_read_before_advisory_lock,
        caught_as=("I1", "I5", "I9"),
        scenarios=("refused",),
    ),
    Bug(
        name="base-not-probed",
        what="an account is changed without asking whether base logs in",
        plant=plants.base_not_probed,
        caught_as=("I1",),
        scenarios=("changed-by-dba",),
    ),
    Bug(
        name="neither-fence-nor-base",
        what="neither of the two",
        plant=plants.neither_fence_nor_base,
        caught_as=("I1", "I5", "I9"),
    ),
    Bug(
        name="proof-skipped",
        what="a database that acknowledged the change is believed, without a login",
        plant=plants.proof_skipped,
        caught_as=("I1", "I3"),
        scenarios=("steady", "forgetful"),
    ),
    Bug(
        name="previous-not-proven-dead",
        what="the generation before base is said to be dead without a login",
        plant=plants.previous_not_proven_dead,
        caught_as=("I9",),
        scenarios=("sticky",),
    ),
    Bug(
        name="base-not-kept",
        what="a database gets the new password in place of the old one",
        plant=plants.base_not_kept,
        caught_as=("I1",),
    ),
    Bug(
        name="one-database-is-enough",
        what="the value is promoted when one database has accepted it",
        plant=plants.one_database_is_enough,
        caught_as=("I1", "I3"),
    ),
    Bug(
        name="own-store-first",
        what="each runner stages in the store of its own cloud first",
        plant=plants.own_store_first,
        caught_as=("I4", "I8"),
    ),
    Bug(
        name="blind-promote",
        what="a store is told to serve a generation, whatever it serves",
        plant=plants.blind_promote,
        caught_as=("I1", "I5"),
    ),
    Bug(
        name="promote-below-newer",
        what="promotion compares and sets, but does not ask whether current is newer, nor whether the lock is held",
        plant=plants.promote_below_a_newer_one,
        caught_as=("I1", "I5"),
    ),
    Bug(
        name="databases-before-write-ahead",
        what="databases accept the value before every store holds it",
        plant=plants.databases_before_write_ahead,
        caught_as=("I2",),
    ),
    Bug(
        name="heal-skipped",
        what="stores that disagree are not healed, the first one is believed",
        plant=plants.heal_skipped,
        caught_as=("I1", "I8"),
        scenarios=("edited",),
    ),
    Bug(
        name="head-not-compared",
        what="the head of the audit chain is moved without comparing it",
        plant=plants.head_not_compared,
        caught_as=("I7",),
    ),
    Bug(
        name="retain-without-probe",
        what="MySQL's RETAIN is run without asking who logs in already",
        plant=plants.retain_without_probe,
        caught_as=("I1",),
        wire="mysql",
    ),
)
_BUGS_ON_THE_WIRE = (
    Bug(
        name="verifier-of-base-left-out",
        what="MariaDB's ALTER USER names the pending verifier alone",
        plant=plants.verifier_of_base_left_out,
        caught_as=("I1",),
        wire="mariadb",
    ),
    Bug(
        name="same-user-again",
        what="the alternating users do not alternate",
        plant=plants.same_user_again,
        caught_as=("I1",),
        wire="alternating",
    ),
)
BUGS: Mapping[str, Bug] = {bug.name: bug for bug in (*_BUGS, *_BUGS_ON_THE_WIRE)}
