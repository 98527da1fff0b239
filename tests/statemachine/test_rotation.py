"""The deployed state machine with the real handlers, on real databases, without faults."""

from datetime import datetime, timedelta

from lockstep.protocol.orders import Revoke
from tests.statemachine.conftest import Case, login_text

CANARY = "hunter2-of-another-team"
PROBED = ["Generate", "IsAnythingToDo", "ApplyDb", "EveryDatabaseAccepts"]
NORMAL = [
    "CheckInput",
    "AcquireLock",
    "Generate",
    "IsAnythingToDo",
    "ApplyDb",
    "EveryDatabaseAccepts",
    "UpdateSecrets",
    "RevokeOrdered",
    "Audit",
    "ReleaseLock",
]


def test_every_kind_of_credential_rotates_and_older_values_are_revoked(any_kind: Case) -> None:
    logins = [any_kind.stored_login()]
    for generation in (1, 2, 3):
        is_activation = generation == 1
        execution = any_kind.rotate() if is_activation else any_kind.again()
        told = dict(execution.output)
        promoted = told.pop("promoted")
        promoted_at, ends_at = promoted.pop("promoted_at"), promoted.pop("overlap_ends_at")
        assert (ends_at is None) is is_activation
        if ends_at:
            overlap = datetime.fromisoformat(ends_at) - datetime.fromisoformat(promoted_at)
            assert timedelta() < overlap < any_kind.credential.schedule.interval
        same = {"generation": generation, "kind": "reconcile" if is_activation else "new", "adopted": False}
        entry = {"stream": "aws", "seq": generation}
        assert told == {"outcome": "rotated", **same, "audit": entry}
        assert {name: promoted[name] for name in same} == same
        assert (promoted["credential"], promoted["runner"]) == (any_kind.credential.id, "aws")
        assert (promoted["previous_generation"], promoted["stores"]) == (generation - 1, ["aws"])
        assert (promoted["revoked"], promoted["entry"]) == (False, entry)
        asked = PROBED if is_activation else []
        assert execution.states_entered == [*NORMAL[:2], *asked, *NORMAL[2:]]
        assert any_kind.locked_out() == []
        logins.append(any_kind.stored_login())
    # The activation serves the login of before under a generation of its own.
    assert logins.pop(0) == logins[0]
    passwords = [login.password.reveal() for login in logins]
    assert len(set(passwords)) == len(passwords)
    assert any_kind.lock.keys().isdisjoint({"holder", "pending_generation", "expires_at"})
    details = [e.event["unmapped"]["lockstep"] for e in any_kind.entries()]
    assert [d["generation"] for d in details] == [1, 2, 3]
    revocations = [db["revoked"] for d in details for db in d["databases"].values()]
    before_the_third = len(revocations) * 2 // 3
    assert not any(revocations[:before_the_third])
    assert all(revoked == {"1": "refused"} for revoked in revocations[before_the_third:])


def test_force_rotates_before_the_due_time_and_only_an_emergency_within_the_overlap(mariadb: Case) -> None:
    mariadb.rotate()
    before, item = mariadb.stored_login(), mariadb.lock
    execution = mariadb.rotate()
    assert (execution.status, execution.output) == ("SUCCEEDED", {"outcome": "skipped"})
    assert execution.states_entered == ["CheckInput", "AcquireLock", "Skipped"]
    assert (mariadb.stored_login(), mariadb.lock) == (before, item)
    execution = mariadb.rotate(force=True)
    assert execution.output == {"outcome": "skipped"}
    assert execution.states_entered == [
        "CheckInput",
        "AcquireLock",
        *PROBED,
        "Generate",
        "IsAnythingToDo",
        "ReleaseLockUnchanged",
    ]
    assert len(mariadb.entries()) == 1
    assert "holder" not in mariadb.lock
    revoked = mariadb.stored_login()
    mariadb.order(Revoke(lift_pause=False))
    execution = mariadb.rotate()
    assert execution.output["outcome"] == "rotated"
    assert "RevokeDb" in execution.states_entered
    assert mariadb.entries()[-1].event["unmapped"]["lockstep"]["revoked_on_purpose"] == [1]
    assert mariadb.accepted(revoked) == []
    # The order is fulfilled: the schedule counts again.
    assert mariadb.rotate().output == {"outcome": "skipped"}
    # The revoked value is put back by hand. It no longer logs in, so it is reconciled.
    mariadb.edit_secret(login_text(revoked))
    assert mariadb.again().output["kind"] == "reconcile"
    assert mariadb.locked_out() == []


def test_an_input_that_a_step_would_refuse_is_refused_before_the_lock(mariadb: Case) -> None:
    """Also the name of an execution; every wrong input is in `test_payloads`."""
    world, good = mariadb.world, {"credential_id": mariadb.credential.id}
    before = world.outside.lock_item(mariadb.credential.id)
    for given, name in ((5, None), ({**good, "force": 1}, None), (good, "it's")):
        execution = world.aws.run_execution(world.machine_arn, given, name=name)
        assert (execution.status, execution.error) == ("FAILED", "InvalidRequestError"), given
        assert execution.states_entered == ["CheckInput", "InvalidInput"], given
    assert world.outside.lock_item(mariadb.credential.id) == before
    # It is the step that does not know a credential; the table gets an item without a plan, which no run acts on.
    unknown = world.rotate("multi-cloud/unknown")
    assert (unknown.status, unknown.error) == ("FAILED", "InvalidRequestError")
    assert world.outside.lock_item("multi-cloud/unknown").keys() == {"credential_id", "fence"}
