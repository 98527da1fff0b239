"""The catalogue: rules of the protocol, each left out once, and the checkers that must see the difference.

A checker that finds nothing proves nothing until it finds what is there. Each entry patches the product; most are
mistakes that a rotator has really made. One name holds for all checkers:

    .venv/bin/python -m tests.proof.model --story NAME          the shortest way to harm, step by step
    .venv/bin/python -m tests.proof.run --seed N --bug NAME     one race
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tests.proof import plants, plants_in_ports
from tests.proof.model_bounds import MARIADB, MYSQL, POSTGRESQL, Budget
from tests.proof.patching import Plant


class Races(NamedTuple):
    """Random schedules of runners in memory find it.

    Attributes:
        caught_as: Invariants; one of them is seen to break.
        scenarios: Where the hunt looks.
    """

    caught_as: tuple[str, ...]
    scenarios: tuple[str, ...] = ("steady",)


class Faults(NamedTuple):
    """Faults on the wire to real servers find it.

    Attributes:
        kind: The kind of credential.
        caught_as: As with races.
    """

    kind: str
    caught_as: tuple[str, ...]


class Model(NamedTuple):
    """The explicit-state model finds it.

    Attributes:
        invariant: What breaks first.
        budget: How much has to happen for it.
        engines: Where it shows.
        is_slow: It takes too many states for `make test`.
    """

    invariant: str
    budget: Budget = Budget(terms=2)
    engines: tuple[str, str] = MYSQL
    is_slow: bool = False


class StandIn(NamedTuple):
    """The model finds nothing, because another rule gives the same protection.

    Attributes:
        rule: The other rule.
        budget: What is explored to the end.
        engines: On these engines.
    """

    rule: str
    budget: Budget = Budget(terms=2)
    engines: tuple[str, str] = MYSQL


@dataclass(frozen=True)
class Bug:
    """A rule that is left out.

    Attributes:
        clause: Of docs/protocol.md.
        what: The mistake, in one clause.
        plant: Makes it, for the length of a block.
        checks: The checkers that must find it, or must not.
    """

    name: str
    clause: str
    what: str
    plant: Plant
    checks: tuple[Races | Faults | Model | StandIn, ...]

    @property
    def races(self) -> Races | None:
        """How races find it, if they have to."""
        return next((c for c in self.checks if isinstance(c, Races)), None)

    @property
    def faults(self) -> Faults | None:
        """How faults find it, if they have to."""
        return next((c for c in self.checks if isinstance(c, Faults)), None)

    @property
    def model(self) -> Model | StandIn | None:
        """What the model says of it, if anything."""
        return next((c for c in self.checks if isinstance(c, Model | StandIn)), None)


_BUGS = (
    Bug(
        "adopt-by-label",
        "L1",
        "what is pending is what a store's label says, not what the lock record names",
        plants.adopt_by_label,
        (Races(("I1", "I2", "I3", "I4", "I5"), ("steady", "refused")), Model("I4")),
    ),
    Bug(
        "adopt-the-highest-version",
        "L1",
        "what is pending is the highest version in a store, not what the lock record names",
        plants.adopt_the_highest_version,
        (Model("I5", is_slow=True),),
    ),
    Bug(
        "claim-without-condition",
        "L6",
        "the claim is written without asking whether the lock is still held and nothing is in flight",
        plants_in_ports.claim_without_condition,
        (Races(("I1", "I4")), Model("I4")),
    ),
    Bug(
        "release-without-condition",
        "L10",
        "the lock is released without asking whether it is still held",
        plants_in_ports.release_without_condition,
        (Races(("I1", "I4")), Model("I1", Budget(terms=3), is_slow=True)),
    ),
    Bug(
        "claim-dropped-on-failure",
        "M8",
        "a failed run clears the claim as it gives the lock back",
        plants_in_ports.claim_dropped_on_failure,
        (Races(("I4",)), Model("I5")),
    ),
    Bug(
        "new-password-on-retry",
        "C2",
        "a half-done generation is replaced by a new password instead of being finished",
        plants.new_password_on_retry,
        (Races(("I4",)), Model("I5")),
    ),
    Bug(
        "generation-reused",
        "C3",
        "a generation is named without asking whether a store holds a value of that name",
        plants.generation_reused,
        (Model("I8", Budget(terms=1, losses=1)),),
    ),
    Bug(
        "lease-shorter-than-run",
        "L12",
        "the lease is shorter than an execution",
        plants.lease_shorter_than_run,
        (Races(("I8",)),),
    ),
    Bug(
        "standby-ignores-due",
        "L4",
        "a runner rotates although it is not due, also within the overlap",
        plants_in_ports.standby_ignores_due,
        (Races(("I1",)), Model("I1", is_slow=True)),
    ),
    Bug(
        "no-advisory-lock",
        "D1",
        "the databases are changed without their advisory lock",
        plants_in_ports.no_advisory_lock,
        (Races(("I1", "I5", "I9"), ("steady", "refused")), Model("I1", is_slow=True)),
    ),
    Bug(
        "fence-not-read",
        "D4",
        "the lock record is not read before an account is changed",
        plants.fence_not_read,
        (Races(("I1", "I5", "I9"), ("refused",)), Model("I5", Budget(terms=2, refusals=1), is_slow=True)),
    ),
    Bug(
        "fence-read-before-advisory-lock",
        "D4",
        "the lock record is read, but before the advisory lock is taken",
        plants.fence_read_before_advisory_lock,
        (Races(("I1", "I5", "I9"), ("refused",)), Model("I5", Budget(terms=2, refusals=1), is_slow=True)),
    ),
    Bug(
        "base-not-probed",
        "D3",
        "an account is changed without asking whether base logs in",
        plants.base_not_probed,
        (
            Races(("I1",), ("changed-by-dba",)),
            StandIn("the fence under the advisory lock, unless a person changes the account"),
        ),
    ),
    Bug(
        "neither-fence-nor-base",
        "D3, D4",
        "neither the lock record is read nor base asked for before an account is changed",
        plants.neither_fence_nor_base,
        (Races(("I1", "I5", "I9")), Model("I5", Budget(terms=2, refusals=1), is_slow=True)),
    ),
    Bug(
        "proof-skipped",
        "D7",
        "a database that acknowledged the change is believed without a login",
        plants.proof_skipped,
        (Races(("I1", "I3"), ("steady", "forgetful")), Model("I3", Budget(terms=1, deaf=1))),
    ),
    Bug(
        "previous-not-proven-dead",
        "D9",
        "the generation before base is said to be dead without a login",
        plants.previous_not_proven_dead,
        (Races(("I9",), ("sticky",)), Model("I9", Budget(terms=1, clinging=1), MARIADB)),
    ),
    Bug(
        "base-not-kept",
        "D5",
        "a database gets the new password in place of the old one",
        plants_in_ports.base_not_kept,
        (Races(("I1",)),),
    ),
    Bug(
        "one-database-is-enough",
        "M3",
        "the value is promoted when one database has accepted it",
        plants.one_database_is_enough,
        (Races(("I1", "I3")), Model("I1", Budget(terms=1))),
    ),
    Bug(
        "fence-not-raised",
        "L5",
        "a refused password is withdrawn while the branches of the first attempt still have a valid fence",
        plants.fence_not_raised,
        (Model("I4", Budget(terms=1, twins=1, refusals=1), is_slow=True),),
    ),
    Bug(
        "no-withdrawal",
        "M5",
        "a password that one database refused by policy is replaced without being withdrawn from the others",
        plants.no_withdrawal,
        (Model("I4", Budget(terms=1, refusals=1)),),
    ),
    Bug(
        "own-store-first",
        "V1",
        "each runner stages in the store of its own cloud first",
        plants.own_store_first,
        (Races(("I4", "I8")), Model("I4")),
    ),
    Bug(
        "blind-promote",
        "V10",
        "a store is made to serve a generation without a look at what it serves",
        plants_in_ports.blind_promote,
        (Races(("I1", "I5")), Model("I5", is_slow=True)),
    ),
    Bug(
        "promote-below-newer",
        "V11",
        "promotion compares and sets, but asks neither whether current is newer nor whether the lock is held",
        plants_in_ports.promote_below_a_newer_one,
        (Races(("I1", "I5")),),
    ),
    Bug(
        "fence-not-read-before-promotion",
        "V10",
        "the lock record is not read between looking at a store and promoting in it",
        plants.fence_not_read_before_promotion,
        (StandIn("the compare-and-set: what is promoted late is what is in flight, or is refused"),),
    ),
    Bug(
        "databases-before-write-ahead",
        "M2",
        "databases accept the value before every store holds it",
        plants.databases_before_write_ahead,
        (Races(("I2",)), Model("I2")),
    ),
    Bug(
        "heal-skipped",
        "C5",
        "stores that disagree are not healed; the first one is believed",
        plants.heal_skipped,
        (Races(("I1", "I8"), ("edited",)), Model("I8", Budget(terms=1, edits=1))),
    ),
    Bug(
        "revoked-before-promotion",
        "M6",
        "base is revoked before the stores serve pending",
        plants.revoked_before_promotion,
        (Model("I1", Budget(terms=1, revokes=1)),),
    ),
    Bug(
        "head-not-compared",
        "L8",
        "the head of the audit chain is moved without comparing it",
        plants_in_ports.head_not_compared,
        (Races(("I7",)),),
    ),
    Bug(
        "retain-without-probe",
        "D2",
        "MySQL's RETAIN is run without asking who logs in already",
        plants_in_ports.retain_without_probe,
        (Faults("mysql", ("I1",)), Model("I8")),
    ),
    Bug(
        "primary-not-set-to-base",
        "D12",
        "MySQL's RETAIN is run without making base the primary password first",
        plants_in_ports.primary_not_set_to_base,
        (Model("I8", Budget(terms=1, losses=1)),),
    ),
    Bug(
        "verifier-of-base-left-out",
        "D12",
        "MariaDB's ALTER USER names the pending verifier alone",
        plants_in_ports.verifier_of_base_left_out,
        (Faults("mariadb", ("I1",)), Model("I8", engines=MARIADB)),
    ),
    Bug(
        "same-user-again",
        "D13",
        "the alternating users do not alternate",
        plants_in_ports.same_user_again,
        (Faults("alternating", ("I1",)), Model("I8", engines=POSTGRESQL)),
    ),
)
CATALOGUE: Mapping[str, Bug] = {bug.name: bug for bug in _BUGS}
HUNTED: Mapping[str, Bug] = {name: bug for name, bug in CATALOGUE.items() if bug.races or bug.faults}
"""What races or faults have to find."""
