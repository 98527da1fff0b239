"""The deployed state machine under faults: each fault has its own error, and the current value still works."""

from lockstep.protocol.model import Login
from sandbox.emulators.aws import Execution
from tests.statemachine.conftest import Case, failure_names, login_text
from tests.support.statement_faults import FrontedMySqlServer

FAILED_RUN = ["AuditFailure", "ReleaseLockAfterFailure", "RotationFailed"]


def assert_failed_safely(case: Case, execution: Execution, error: str, before: Login) -> None:
    """Check that the run failed with this error, recorded it, released the lock and left current unchanged."""
    assert (execution.status, execution.error) == ("FAILED", error)
    assert execution.states_entered[-3:] == FAILED_RUN
    assert failure_names(case.entries())[-1] == error
    assert "holder" not in case.lock
    assert case.stored_login() == before


def assert_next_run_finishes(case: Case) -> None:
    """Check that the next run is due at once and finishes the rotation."""
    execution = case.rotate()
    assert execution.status == "SUCCEEDED", execution.cause
    assert (execution.output["outcome"], execution.output["adopted"]) == ("rotated", True)
    assert case.locked_out() == []
    assert "pending_generation" not in case.lock
    assert failure_names(case.entries())[-1] is None


def test_a_policy_of_the_server_refuses_the_change(mysql: Case) -> None:
    """On crm, every password but current, which is set first."""
    mysql.settle()
    before, server = mysql.stored_login(), mysql.world.servers["crm"]
    assert isinstance(server, FrontedMySqlServer)
    faults = server.faults
    faults.look = lambda: faults.refused.update({"ALTER USER … IDENTIFIED WITH": 1819})
    try:
        execution = mysql.rotate()
        assert execution.states_entered.count("ApplyDb") == 1
        assert_failed_safely(mysql, execution, "PasswordRefusedByPolicyError", before)
        assert mysql.locked_out() == []
    finally:
        faults.clear()
    assert_next_run_finishes(mysql)


def test_a_secret_that_is_no_json_object_is_not_replaced(mariadb: Case) -> None:
    """On the first day also that of `connection_blob`, whose keys of others would be lost."""
    names, client = mariadb.credential.secret_names, mariadb.world.aws.client("secretsmanager")
    before = mariadb.stored_login()
    for name, right in ((names.connection_blob, "{}"), (names.app_user, login_text(before))):
        mariadb.edit_secret("hunter2, not JSON", secret=name)
        execution = mariadb.rotate()
        assert (execution.status, execution.error) == ("FAILED", "SecretMalformedError")
        assert "hunter2" not in execution.text
        assert failure_names(mariadb.entries())[-1] == "SecretMalformedError"
        assert client.get_secret_value(SecretId=name)["SecretString"] == "hunter2, not JSON"
        mariadb.edit_secret(right, secret=name)
        mariadb.settle()
    assert mariadb.locked_out() == []
    assert mariadb.rotate().output["outcome"] == "rotated"
