"""`lockstep history`, and what `lockstep status` tells of the last and the next run, after real runs."""

from lockstep.protocol.orders import Pause
from tests.statemachine.conftest import Case
from tests.statemachine.test_cli import document, run


def test_history_shows_the_newest_runs_first(plain: Case) -> None:
    assert run(plain, "history").stdout == "no runs\n"
    plain.rotate()
    plain.again()
    plain.order(Pause())  # An entry that is no run's.
    shown = run(plain, "history").stdout.splitlines()
    assert [line.split(", trigger")[0].split(" in ")[0].split("aws: ")[1] for line in shown] == [
        "generation 2, rotated",
        "generation 1, rotated",
    ]
    assert shown[0].startswith(plain.credential.id)
    assert " ago), aws: " in shown[0]
    assert len(run(plain, "history", "-n", "1").stdout.splitlines()) == 1
    [newest, first] = document(run(plain, "history", "--json"), "history")["runs"]
    assert (newest["generation"], newest["outcome"], newest["error"], newest["next"]) == (
        2,
        "rotated",
        None,
        None,
    )
    assert newest["seconds"] > 0
    assert first["ended_at"] < newest["ended_at"] or first["seq"] < newest["seq"]


def test_a_failed_run_is_told_with_what_fixes_it(plain: Case) -> None:
    plain.settle()
    plain.set_password("crm", "not-the-password")
    failed = plain.rotate()
    assert failed.status == "FAILED"
    for command in ("history", "status"):
        shown = run(plain, command)
        assert f", with {failed.error}: " in shown.stdout
        assert "next: " in shown.stdout
        assert "not-the-password" not in shown.output
    [credential] = document(run(plain, "status", "--json"), "status")["credentials"]
    assert credential["last_run"]["error"] == failed.error
    assert credential["last_run"]["next"]


def test_status_says_who_rotates_next_and_since_when_the_value_is_current(plain: Case) -> None:
    plain.rotate()
    plain.again()
    shown = run(plain, "status").stdout
    assert "generation 2: promoted at " in shown
    assert "previous generation 1: sure to log in until " in shown
    assert "; the turn of aws" in shown
    assert "last run: " in shown
    utc = run(plain, "status", "--utc").stdout
    assert "promoted at 20" in utc
    [credential] = document(run(plain, "status", "--json"), "status")["credentials"]
    assert credential["leader"] == "aws"
    assert credential["current_since"].endswith("Z")
