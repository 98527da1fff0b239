"""The deployed state machine with the real handlers, on real databases, without faults."""

from concurrent.futures import ThreadPoolExecutor

from tests.statemachine.conftest import Case, failure_names, login_text

NORMAL = [
    "CheckInput",
    "AcquireLock",
    "Generate",
    "StoresAgree",
    "ApplyDb",
    "EveryDatabaseAccepts",
    "UpdateSecrets",
    "RevokeAsked",
    "Audit",
    "ReleaseLock",
    "Rotated",
]


def test_every_kind_of_credential_rotates_and_older_values_are_dead(any_kind: Case) -> None:
    logins = [any_kind.stored_login()]
    for generation in (1, 2, 3):
        execution = any_kind.again() if generation > 1 else any_kind.rotate()
        assert execution.output == {
            "outcome": "rotated",
            "generation": generation,
            "kind": "new",
            "adopted": False,
            "audit": {"stream": "aws", "seq": generation},
        }
        assert [s for s in execution.states_entered if s != "ApplyOneDb"] == NORMAL
        assert any_kind.locked_out() == []
        logins.append(any_kind.stored_login())
    passwords = [login.password.reveal() for login in logins]
    assert len(set(passwords)) == len(passwords)
    assert any_kind.lock.keys().isdisjoint({"holder", "pending_generation", "expires_at"})
    details = [e.event["unmapped"]["lockstep"] for e in any_kind.entries()]
    assert [d["generation"] for d in details] == [1, 2, 3]
    assert {db["previous"] for d in details[1:] for db in d["databases"].values()} == {"refused"}


def test_a_run_that_is_not_due_is_skipped_and_changes_nothing(mariadb: Case) -> None:
    mariadb.rotate()
    before, item = mariadb.stored_login(), mariadb.lock
    execution = mariadb.rotate()
    assert (execution.status, execution.output) == ("SUCCEEDED", {"outcome": "skipped"})
    assert execution.states_entered == ["CheckInput", "AcquireLock", "Skipped"]
    assert (mariadb.stored_login(), mariadb.lock) == (before, item)
    assert len(mariadb.entries()) == 1


def test_force_rotates_before_the_due_time_and_only_with_revocation_within_the_overlap(mariadb: Case) -> None:
    mariadb.rotate()
    assert mariadb.rotate(force=True).output == {"outcome": "skipped"}
    revoked = mariadb.stored_login()
    execution = mariadb.rotate(force=True, revoke_previous=True)
    assert execution.output["outcome"] == "rotated"
    assert "RevokeDb" in execution.states_entered
    assert mariadb.entries()[-1].event["unmapped"]["lockstep"]["revoked_on_purpose"] == [1]
    # The revoked value is put back by hand. It no longer logs in, so it is healed.
    mariadb.edit_secret(login_text(revoked))
    assert mariadb.again().output["kind"] == "heal"
    assert mariadb.locked_out() == []


def test_two_executions_at_the_same_moment_rotate_once(spanning: Case) -> None:
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(spanning.rotate) for _ in range(2)]
    outcomes = sorted(run.result().output["outcome"] for run in runs)
    assert outcomes == ["rotated", "skipped"]
    assert spanning.lock["current_generation"] == "1"
    assert spanning.locked_out() == []


def test_a_run_takes_over_after_the_lease_of_a_dead_holder(mariadb: Case) -> None:
    mariadb.hold_lock("dead")
    assert mariadb.rotate().output == {"outcome": "skipped"}
    mariadb.hold_lock("dead", expires_at=1)
    assert mariadb.rotate().output["outcome"] == "rotated"
    assert mariadb.lock["fence"] == "3"


def test_an_edited_secret_is_healed_with_the_login_that_works(spanning: Case) -> None:
    spanning.rotate()
    works = spanning.stored_login()
    spanning.edit_secret(login_text(works).replace(works.password.reveal(), "not the password"))
    assert spanning.locked_out() == ["orders", "ledger"]
    execution = spanning.again()
    assert execution.output["kind"] == "heal"
    assert spanning.stored_login() == works
    assert spanning.locked_out() == []
    assert spanning.again().output["kind"] == "new"
    assert failure_names(spanning.entries()) == [None, None, None]


def test_a_placeholder_is_bootstrapped(mariadb: Case) -> None:
    mariadb.edit_secret('{"placeholder": true}')
    assert mariadb.rotate().output["generation"] == 1
    assert mariadb.locked_out() == []


def test_an_input_that_a_step_would_refuse_is_refused_before_the_lock(mariadb: Case) -> None:
    world = mariadb.world
    good: dict[str, object] = {"credential_id": mariadb.credential.id}
    ids: tuple[object, ...] = (None, 7, {}, "", "it's")
    flags: tuple[object, ...] = (None, 1, "yes")
    before = world.outside.lock_item(mariadb.credential.id)
    inputs: list[dict[str, object]] = [
        {},
        *({"credential_id": value} for value in ids),
        *({**good, "trigger": value} for value in ids),
        *({**good, "force": value} for value in flags),
        {**good, "revoke_prevoius": True},
    ]
    bad = [*((given, None) for given in inputs), (good, "it's")]
    for given, name in bad:
        execution = world.aws.run_execution(world.machine_arn, given, name=name)
        assert (execution.status, execution.error) == ("FAILED", "InvalidRequestError"), given
        assert execution.states_entered == ["CheckInput", "InvalidInput"], given
    assert world.outside.lock_item(mariadb.credential.id) == before


def test_an_unknown_credential_is_an_invalid_request(mariadb: Case) -> None:
    execution = mariadb.world.rotate("multi-cloud/unknown")
    assert (execution.status, execution.error) == ("FAILED", "InvalidRequestError")
