"""The deployed state machine with the real handlers, on real databases, without faults."""

from datetime import datetime, timedelta

from tests.statemachine.conftest import Case

PROBED = ["Generate", "IsAnythingToDo", "ApplyDb", "EveryDatabaseAccepts"]
NORMAL = [
    *("CheckInput", "AcquireLock", "Generate", "IsAnythingToDo", "ApplyDb", "EveryDatabaseAccepts"),
    *("UpdateSecrets", "RevokeOrdered", "Audit", "ReleaseLock"),
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
