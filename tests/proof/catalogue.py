"""The catalogue: rules of the protocol, each left out once, and the checkers that must see the difference.

A checker that finds nothing proves nothing until it finds what is there. Each entry patches the product; most are
mistakes that a rotator has really made. One name holds for all checkers:

    .venv/bin/python -m tests.proof.model --story NAME          the shortest way to harm, step by step
    .venv/bin/python -m tests.proof.run --seed N --bug NAME     one race
"""

from collections.abc import Mapping
from typing import NamedTuple

from tests.proof import plants, plants_in_apply_db, plants_in_ports, plants_in_repairs
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
        waives: Invariants that are known to break within this budget: see `model_bounds.KNOWN`.
    """

    invariant: str
    budget: Budget = Budget(terms=2)
    engines: tuple[str, str] = MYSQL
    is_slow: bool = False
    waives: frozenset[str] = frozenset()


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


class Bug:
    """A rule that is left out.

    Args:
        clause: Of docs/protocol.md.
        what: The mistake, in one clause.
        plant: Makes it, for the length of a block. Its name is the bug's.
        checks: The checkers that must find it, or must not.
    """

    def __init__(
        self, clause: str, what: str, plant: Plant, *checks: "Races | Faults | Model | StandIn"
    ) -> None:
        self.clause, self.what, self.plant, self.checks = clause, what, plant, checks
        self.name = plant.__name__.replace("_", "-")

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
        "L1",
        "what is pending is what a store's label says, not what the lock record names",
        plants.adopt_by_label,
        Model("I13", engines=POSTGRESQL),
    ),
    Bug(
        "L6",
        "the claim is written without asking whether the lock is still held and nothing is in flight",
        plants_in_ports.claim_without_condition,
        Model("I14", Budget(terms=2), POSTGRESQL),
    ),
    Bug(
        "L10",
        "the lock is released without asking whether it is still held",
        plants_in_ports.release_without_condition,
        StandIn(
            "the fence: a run that has lost the lock changes nothing after it", Budget(terms=2), POSTGRESQL
        ),
    ),
    Bug(
        "M1",
        "a failed run clears the claim as it gives the lock back",
        plants_in_ports.claim_dropped_on_failure,
        Races(("I4",)),
        Model("I5", is_slow=True),
    ),
    Bug(
        "C3, V22",
        "a generation is named without a look at the stores, and what they hold of that name is taken for its value",
        plants.generation_reused,
        Model("I13", Budget(terms=1, losses=1, edits=1), POSTGRESQL),
    ),
    Bug(
        "C3",
        "a generation is named without a look at what the stores serve",
        plants.named_without_a_look,
        StandIn(
            "the claim that a value names: what another claim has staged is not taken",
            Budget(terms=1, losses=1, edits=1),
            POSTGRESQL,
        ),
    ),
    Bug(
        "R9",
        "the lease is shorter than an execution",
        plants.lease_shorter_than_run,
        Races(("I8",)),
    ),
    Bug(
        "L4",
        "a runner rotates although it is not due, also within the overlap",
        plants_in_ports.standby_ignores_due,
        Races(("I1",)),
        Model("I1", is_slow=True),
    ),
    Bug(
        "D1",
        "the databases are changed without their advisory lock",
        plants_in_ports.no_advisory_lock,
        Races(("I1", "I5", "I9"), ("steady", "revoked-meanwhile")),
        Model("I12", is_slow=True),
    ),
    Bug(
        "D4",
        "the lock record is not read before an account is changed",
        plants.fence_not_read,
        Races(("I1", "I5", "I9"), ("revoked-meanwhile",)),
        Model("I5", Budget(terms=2, revokes=1), POSTGRESQL, is_slow=True),
    ),
    Bug(
        "D4",
        "the lock record is read, but before the advisory lock is taken",
        plants.fence_read_before_advisory_lock,
        Races(("I1", "I5", "I9"), ("revoked-meanwhile",)),
        Model("I5", Budget(terms=2, revokes=1), POSTGRESQL, is_slow=True),
    ),
    Bug(
        "D4",
        "the databases are changed while the lock record is still being read",
        plants_in_apply_db.changed_before_the_fence_answered,
        Races(("I1", "I5", "I9"), ("revoked-meanwhile",)),
        Model("I5", Budget(terms=2, revokes=1), POSTGRESQL, is_slow=True),
    ),
    Bug(
        "D3",
        "an account is changed without asking whether base logs in",
        plants.base_not_probed,
        Races(("I1", "I11"), ("changed-by-dba",)),
        StandIn(
            "the fence under the advisory lock, unless a person changes the account",
            Budget(terms=2),
            POSTGRESQL,
        ),
    ),
    Bug(
        "D3, D4",
        "neither the lock record is read nor base asked for before an account is changed",
        plants.neither_fence_nor_base,
        Races(("I1", "I5", "I9")),
        Model("I5", Budget(terms=2, revokes=1), POSTGRESQL, is_slow=True),
    ),
    Bug(
        "D7",
        "a database that acknowledged the change is believed without a login",
        plants.proof_skipped,
        Races(("I1", "I3"), ("steady", "forgetful")),
        Model("I3", Budget(terms=1, deaf=1)),
    ),
    Bug(
        "D5",
        "a database gets the new password in place of the old one",
        plants_in_ports.base_not_kept,
        Races(("I1",)),
    ),
    Bug(
        "M3",
        "the value is promoted when one database has accepted it",
        plants.one_database_is_enough,
        Races(("I1", "I3")),
        Model("I3", Budget(terms=1)),
    ),
    Bug(
        "V1",
        "each runner stages in the store of its own cloud first",
        plants.own_store_first,
        Model("I4", engines=POSTGRESQL),
    ),
    Bug(
        "V10",
        "a store is made to serve a generation without a look at what it serves",
        plants_in_ports.blind_promote,
        Races(("I1", "I5")),
    ),
    Bug(
        "V10",
        "promotion compares and sets, but asks neither whether current is newer nor whether the lock is held",
        plants_in_ports.promote_below_newer,
        Races(("I1", "I5")),
    ),
    Bug(
        "V10",
        "after a lost comparison a store is looked at and promoted without another look at the lock record",
        plants.fence_not_read_before_promotion,
        StandIn(
            "the compare-and-set: what is promoted late is what is in flight, or is refused",
            Budget(terms=2),
            POSTGRESQL,
        ),
    ),
    Bug(
        "V10",
        "stores compare and set before the claim is marked as promoting, under the fence",
        plants.promoted_before_the_conditional_write,
        Model("I5", Budget(terms=2, revokes=1), POSTGRESQL, is_slow=True),
    ),
    Bug(
        "V10, V20",
        "a promotion replaces what is current, whatever Generate saw when it made the text",
        plants_in_ports.seen_not_compared,
        Races(("V20", "V21"), ("edited-meanwhile",)),
    ),
    Bug(
        "M2, V1",
        "databases are changed although a store other than the first did not take the value",
        plants.other_stores_not_waited_for,
        Races(("I2",)),
    ),
    Bug(
        "M2",
        "databases accept the value before every store holds it",
        plants.databases_before_write_ahead,
        Races(("I2",)),
        Model("I2", Budget(terms=1)),
    ),
    Bug(
        "C5",
        "stores that disagree are not reconciled; the first one is believed",
        plants.reconcile_skipped,
        Races(("I1", "I8"), ("edited",)),
        Model("I13", Budget(terms=1, edits=1)),
    ),
    Bug(
        "M2",
        "base is revoked before the stores serve pending",
        plants.revoked_before_promotion,
        Model("I12", Budget(terms=1, revokes=1)),
    ),
    Bug(
        "E9",
        "a run writes its entry whether or not the log has it",
        plants.own_entry_not_looked_for,
        Races(("I7",)),
    ),
    Bug(
        "D12",
        "MySQL's RETAIN is run without asking which generation is in which slot",
        plants_in_ports.retain_without_probe,
        Faults("mysql", ("I1",)),
        Model("I12", Budget(terms=1)),
    ),
    Bug(
        "D12",
        "MySQL's RETAIN is run without making base the primary password first",
        plants_in_ports.primary_not_set_to_base,
        Model("I12", Budget(terms=1, failovers=1)),
    ),
    Bug(
        "D12",
        "MariaDB's ALTER USER names the pending verifier alone",
        plants_in_ports.verifier_of_base_left_out,
        Faults("mariadb", ("I1",)),
        Model("I12", Budget(terms=1), MARIADB),
    ),
    Bug(
        "D13",
        "the alternating users do not alternate",
        plants_in_ports.same_user_again,
        Faults("alternating", ("I1",)),
        Model("I12", Budget(terms=1), POSTGRESQL),
    ),
    Bug(
        "D9",
        "what should be revoked is said to be revoked without a login",
        plants.past_not_proven_revoked,
        Races(("I9",), ("sticky",)),
        Model("I9", Budget(terms=1, clinging=1), MARIADB),
    ),
    Bug(
        "L14",
        "a claim stays open while stores begin to serve its value",
        plants.promotion_not_marked,
        Model("I5", Budget(terms=2, revokes=1), POSTGRESQL, is_slow=True),
    ),
    Bug(
        "I4",
        "where all stores still serve base, a promotion under way is replaced by a new value",
        plants.promotion_replaced_by_a_new_value,
        Model("I4", Budget(terms=2), POSTGRESQL, is_slow=True),
    ),
    Bug(
        "C2",
        "where all stores still serve base, a reconcile that replaced a promotion is replaced by a new value",
        plants.reconcile_replaced_by_a_new_value,
        StandIn("what works is kept beside a new value, whatever the claim", Budget(terms=2), POSTGRESQL),
    ),
    Bug(
        "L9",
        "a step goes on whether the claim is open or promoting",
        plants.phase_not_compared,
        StandIn(
            "the advisory lock: a step that comes late finds base revoked, and stops",
            Budget(terms=1, twins=1, revokes=1),
            MARIADB,
        ),
    ),
    Bug(
        "C2",
        "a value in flight is finished although a store was moved back to an earlier value that works",
        plants.adopt_whatever_stores_serve,
        Races(("I1",), ("moved-back",)),
    ),
    Bug(
        "O7",
        "a plan becomes active with a new value; what the stores serve is not reconciled first",
        plants.activation_begins_a_new_value,
        Model("I12", Budget(terms=2, sudden_losses=1), POSTGRESQL, is_slow=True),
    ),
    Bug(
        "I10",
        "a runner acts under its own plan, whatever the record says",
        plants.plan_not_compared,
        Races(("I1", "I3"), ("two-plans",)),
    ),
    Bug(
        "I11",
        "accounts of which no login is known are taken over without consent",
        plants.take_over_not_asked,
        Races(("I11",), ("placeholders",)),
    ),
    Bug(
        "C11",
        "only the value before the current one is remembered as valid",
        plants.past_forgotten,
        StandIn("staging leaves exactly base and pending", Budget(terms=1, edits=1)),
    ),
    Bug(
        "C11",
        "a value counts as revoked when one database refuses it",
        plants.revocation_on_one_database_is_enough,
        StandIn("a login that should be revoked and is accepted fails the run before", Budget(terms=1)),
    ),
    Bug(
        "O5",
        "a value that was staged before the emergency order is promoted as its answer",
        plants.emergency_adopts_an_old_value,
        StandIn("a value at or below the order does not answer it", Budget(terms=1, revokes=1)),
    ),
    Bug(
        "O5",
        "after an emergency order a new value is promoted, and the old ones live on",
        plants.emergency_without_revocation,
        Model("I9", Budget(terms=1, revokes=1)),
    ),
    Bug(
        "O5",
        "a reconcile, which gives an old login again, ends an emergency",
        plants.emergency_ended_by_a_reconcile,
        Model("I9", Budget(terms=1, revokes=1, edits=1)),
    ),
    Bug(
        "O4",
        "scheduled runs begin although the credential is paused",
        plants_in_ports.pause_ignored,
        Races(("O4",), ("paused",)),
    ),
    Bug(
        "D3",
        "a database is changed once it accepts base, though another one may refuse it",
        plants.live_barrier_missing,
        StandIn("an open claim may be replaced, and staging keeps base", Budget(terms=1, restores=1)),
    ),
    Bug(
        "D18",
        "what must be refused is shown last, so that a run ends with a refusal and the next begins with one",
        plants.refusal_not_taken_back,
        Races(("I1",)),
    ),
    Bug(
        "D18",
        "all logins of an account that must be refused are shown at the same time",
        plants_in_apply_db.refusals_side_by_side,
        Races(("I1",), ("steady", "edited", "forgetful")),
    ),
    Bug(
        "D20",
        "a database that refuses what should work is asked again by every run",
        plants.unexpected_refusal_not_blocked,
        Races(("I1",), ("changed-by-dba",)),
    ),
    Bug(
        "D20",
        "a database that is blocked is asked all the same",
        plants.blocked_database_asked,
        Races(("I1",), ("changed-by-dba",)),
    ),
    Bug(
        "D3, I13",
        "a database that refuses base is blocked at once, and a person is waited for",
        plants_in_repairs.refused_base_not_reconciled,
        Races(("I8",), ("fails-over",)),
        Model("I13", Budget(terms=1, failovers=1)),
    ),
    Bug(
        "L4, I14",
        "a run that would repair waits until a rotation may begin, also one that is forced",
        plants_in_repairs.repairs_wait_for_the_overlap,
        Model("I14", Budget(terms=1, edits=1)),
    ),
    Bug(
        "C12, I15",
        "consent is used without a look at what works on the database",
        plants_in_repairs.consent_applied_without_a_search,
        Races(("I1",), ("consented",)),
    ),
    Bug(
        "C12",
        "on a database that refuses the winner nothing is kept beside it",
        plants_in_repairs.winner_staged_alone,
        Races(("I1",), ("moved-to-what-works",)),
    ),
    Bug(
        "C12, I12",
        "the winner is staged whatever it ends",
        plants_in_repairs.room_not_asked,
        Races(("I1",), ("no-room",)),
    ),
    Bug(
        "C2, I16",
        "each run replaces what it finds half done by a version of its own",
        plants_in_repairs.half_done_claim_replaced,
        Model("I16", Budget(terms=1, edits=1), POSTGRESQL),
    ),
    Bug(
        "C12",
        "where nothing works that may be valid, nothing older is shown",
        plants_in_repairs.superseded_not_shown,
        Races(("I8",), ("fails-over-twice",)),
        Model("I13", Budget(terms=1, failovers=2), POSTGRESQL),
    ),
    Bug(
        "C11",
        "what a search has seen to log in is not valid on record",
        plants_in_repairs.accepted_not_recorded,
        Races(("O5",), ("leaked-again",)),
    ),
    Bug(
        "C12",
        "the search goes on, whatever an account has refused",
        plants_in_repairs.every_candidate_shown,
        Races(("I1",), ("changed-by-dba",)),
    ),
    Bug(
        "V20",
        "a reconcile writes the login without the keys of others that the secret had",
        plants_in_ports.keys_lost_on_reissue,
        Races(("V20",), ("edited",)),
    ),
)
CATALOGUE: Mapping[str, Bug] = {bug.name: bug for bug in _BUGS}
HUNTED: Mapping[str, Bug] = {name: bug for name, bug in CATALOGUE.items() if bug.races or bug.faults}
"""What races or faults have to find."""
