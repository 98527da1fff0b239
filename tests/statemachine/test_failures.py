"""The deployed state machine under faults: each fault has its own error, and the current value still works."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from lockstep.protocol.model import ROTATION_USER, Login, SecretStr
from lockstep.protocol.orders import TakeOver, Unblock
from sandbox.emulators.aws import Execution
from sandbox.emulators.databases import Certificate, CertificateAuthority, MariaDbServer
from sandbox.estate import Estate
from sandbox.servers import set_password
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


def assert_next_run_finishes(case: Case, *, adopted: bool) -> None:
    """Check that the next run is due at once and finishes the rotation."""
    execution = case.rotate()
    assert execution.status == "SUCCEEDED", execution.cause
    assert (execution.output["outcome"], execution.output["adopted"]) == ("rotated", adopted)
    assert case.locked_out() == []
    assert "pending_generation" not in case.lock
    assert failure_names(case.entries())[-1] is None


@pytest.fixture
def started(spanning: Case) -> Case:
    """A credential on MariaDB and PostgreSQL after its first rotation, due again."""
    spanning.settle()
    return spanning


@contextmanager
def database_down(case: Case, _authority: CertificateAuthority) -> Iterator[None]:
    ledger = case.world.servers["ledger"]
    ledger.kill()
    try:
        yield
    finally:
        ledger.start()


@contextmanager
def admin_password_wrong(case: Case, _authority: CertificateAuthority) -> Iterator[None]:
    secrets, name = case.world.aws.client("secretsmanager"), "lockstep/admin/orders"
    right = secrets.get_secret_value(SecretId=name)["SecretString"]
    case.edit_secret(login_text(Login(ROTATION_USER, SecretStr("wrong"))), secret=name)
    try:
        yield
    finally:
        case.edit_secret(right, secret=name)


@contextmanager
def certificate_expired(case: Case, authority: CertificateAuthority) -> Iterator[None]:
    restart_with(case, authority.issue_expired())
    try:
        yield
    finally:
        restart_with(case, authority.issue())


def restart_with(case: Case, certificate: Certificate) -> None:
    server = case.world.servers["orders"]
    assert isinstance(server, MariaDbServer)
    server.stop()
    server.certificate = certificate
    # The sandbox's check that the server is up is only a TLS handshake.
    server.start()


@contextmanager
def account_locked(case: Case, _authority: CertificateAuthority) -> Iterator[None]:
    server, account = case.world.servers["orders"], f"'{case.stored_login().username}'@'%'"
    server.execute_as_superuser(f"ALTER USER {account} ACCOUNT LOCK")
    try:
        yield
    finally:
        server.execute_as_superuser(f"ALTER USER {account} ACCOUNT UNLOCK")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (database_down, "DatabaseUnreachableError"),
        (admin_password_wrong, "AdminCredentialRejectedError"),
        (certificate_expired, "TlsVerificationError"),
        (account_locked, "AccountLockedError"),
    ],
)
def test_a_fault_has_its_own_error_and_the_next_run_finishes(
    started: Case,
    authority: CertificateAuthority,
    fault: Callable[[Case, CertificateAuthority], AbstractContextManager[None]],
    error: str,
) -> None:
    before = started.stored_login()
    with fault(started, authority):
        execution = started.rotate()
    assert_failed_safely(started, execution, error, before)
    assert started.locked_out() == []
    assert_next_run_finishes(started, adopted=True)


def test_a_policy_of_the_server_refuses_the_change(mysql: Case) -> None:
    mysql.settle()
    before = mysql.stored_login()
    with crm_policy(mysql.world):
        execution = mysql.rotate()
        assert execution.states_entered.count("ApplyDb") == 1
        assert_failed_safely(mysql, execution, "PasswordRefusedByPolicyError", before)
        assert mysql.locked_out() == []
    assert_next_run_finishes(mysql, adopted=True)


@contextmanager
def crm_policy(world: Estate) -> Iterator[FrontedMySqlServer]:
    """A policy on crm that refuses every password but current, which is set first."""
    server = world.servers["crm"]
    assert isinstance(server, FrontedMySqlServer)
    server.faults.look = lambda: server.faults.refused.update({"ALTER USER … IDENTIFIED WITH": 1819})
    try:
        yield server
    finally:
        server.faults.clear()


def test_a_secret_is_not_json(mariadb: Case) -> None:
    mariadb.rotate()
    mariadb.world.outside.expire_schedule(mariadb.credential.id)
    before = mariadb.stored_login()
    mariadb.edit_secret("hunter2, not JSON")
    execution = mariadb.rotate()
    assert (execution.status, execution.error) == ("FAILED", "SecretMalformedError")
    assert "hunter2" not in execution.text
    assert failure_names(mariadb.entries())[-1] == "SecretMalformedError"
    mariadb.edit_secret(login_text(before))
    assert mariadb.locked_out() == []
    assert mariadb.rotate().output["outcome"] == "rotated"


# Base is refused

SEARCH = [
    "Generate",
    "IsAnythingToDo",
    "ApplyDb",
    "EveryDatabaseAccepts",
    "Generate",
    "IsAnythingToDo",
    "ApplyDb",
    "EveryDatabaseAccepts",
    "Generate",
]
"""The states of a run whose base is refused, up to what serves the login that was found."""


def test_a_login_that_works_is_served_where_a_database_refuses_base(spanning: Case) -> None:
    """A fail-over has lost the last change, on the server that has two in the sandbox: nobody is asked."""
    spanning.settle()
    works = spanning.stored_login()
    spanning.again()
    spanning.set_password("ledger", "of an old backup")
    assert spanning.locked_out() == ["ledger"]
    execution = spanning.again()
    assert execution.output["kind"] == "reconcile", execution.cause
    entered = execution.states_entered
    assert entered[entered.index("Generate") :][: len(SEARCH)] == SEARCH
    assert (spanning.stored_login(), spanning.locked_out()) == (works, [])
    assert "blocked" not in spanning.lock
    assert spanning.again().output["kind"] == "new"
    assert spanning.locked_out() == []


def test_a_database_on_which_nothing_works_is_blocked(mariadb: Case) -> None:
    """No store changes, and no run adds to its refused logins until an operator says so (protocol D20)."""
    mariadb.settle()
    current = mariadb.stored_login()
    mariadb.set_password("orders", "changed outside")
    for is_first in (True, False):
        execution = mariadb.again() if is_first else mariadb.rotate()
        assert_failed_safely(mariadb, execution, "DatabaseBlockedError", current)
        assert "lockstep unblock" in (execution.cause or "")
        assert execution.states_entered.count("ApplyDb") == (2 if is_first else 0)
    # The operator who changed the account puts its password into the secret; the next run builds on it.
    mariadb.edit_secret(login_text(Login(current.username, SecretStr("changed outside"))))
    mariadb.order(Unblock(database="orders"))
    assert mariadb.rotate().output["kind"] == "reconcile"
    assert mariadb.again().output["kind"] == "new"
    assert mariadb.locked_out() == []


def test_a_restored_database_is_taken_over(spanning: Case) -> None:
    """It knows no value of any store any more, the other database knows the current one (protocol O6)."""
    spanning.settle()
    spanning.again()
    current = spanning.stored_login()
    for username in spanning.credential.usernames:
        set_password(spanning.world.servers["ledger"], Login(username, SecretStr("of an old backup")))
    assert_failed_safely(spanning, spanning.again(), "DatabaseBlockedError", current)
    assert spanning.locked_out() == ["ledger"]
    spanning.order(TakeOver(databases=frozenset({"ledger"})))
    execution = spanning.rotate()
    assert (execution.output["outcome"], execution.output["kind"]) == ("rotated", "reconcile")
    assert spanning.locked_out() == []
    # Also what the other cloud's applications may have cached logs in on both.
    assert spanning.accepted(current) == ["orders", "ledger"]
    assert spanning.lock.keys().isdisjoint({"take_over", "blocked"})
    databases = spanning.entries()[-1].event["unmapped"]["lockstep"]["databases"]
    assert {name: d["taken_over"] for name, d in databases.items()} == {"orders": False, "ledger": True}
    assert spanning.again().output["kind"] == "new"
