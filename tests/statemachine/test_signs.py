"""What the deployed state machine writes about AWS into the lock record, for the standby to judge (protocol R8)."""

from tests.statemachine.conftest import Case


def test_a_success_a_skip_and_a_failure_leave_their_signs(mariadb: Case) -> None:
    assert mariadb.rotate().status == "SUCCEEDED"
    first = mariadb.lock
    assert "aws_began_at" not in first
    mariadb.world.outside.age_sign(mariadb.credential.id)
    assert mariadb.rotate().output == {"outcome": "skipped"}
    skipped = mariadb.lock
    assert int(str(skipped["aws_seen_at"])) >= int(str(first["aws_seen_at"]))
    mariadb.edit_secret("not JSON")
    assert mariadb.again().status == "FAILED"
    failed = mariadb.lock
    assert "aws_began_at" in failed
    assert failed["aws_seen_at"] == skipped["aws_seen_at"]
