"""Which account a login is matched to, and each way to bar it: every one has its own error, and its way out works."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from msgspec import structs

from lockstep.protocol.errors import (
    AccountBlockedError,
    AccountExpiredError,
    AccountLockedError,
    AccountMissingError,
    AdvisoryLockBusyError,
    AmbiguousAccountError,
    LockoutLimitError,
    UnknownUsernameError,
)
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from tests.contract.database_harness import (
    ADMIN,
    SQL_WORLDS,
    DatabaseHarness,
    MariaDbHarness,
    MySqlFamilyHarness,
    MySqlHarness,
    PostgresHarness,
    SqlHarness,
    fails,
    value_of,
)

pytest_plugins = ["tests.contract.database_fixtures"]


def worlds(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("world", names, indirect=True)


with_hosts = worlds("mariadb-dual", "mysql-dual", "mariadb-alternating", "mysql-alternating")
each_server = worlds("mariadb-dual", "mysql-dual", "postgresql")


def rotate(world: DatabaseHarness, current: CredentialValue | None, pending: CredentialValue) -> None:
    with world.database.exclusive() as stager:
        stager.stage(current=current, pending=pending)


def accepts_after_all(world: DatabaseHarness, login: Login) -> bool:
    with world.database.exclusive() as stager:
        return stager.accepts_after_all(login)


def wrong(value: CredentialValue) -> Login:
    return Login(value.login.username, SecretStr("wrong"))


# The advisory lock is the account's (protocol D1)


@each_server
def test_one_account_under_two_ids_is_changed_by_one_run_at_a_time(world: SqlHarness) -> None:
    mine = world.database
    world.credential = structs.replace(world.credential, id="another/id")
    with mine.exclusive(), fails(AdvisoryLockBusyError), world.open().exclusive():
        pass


@each_server
def test_two_accounts_are_changed_side_by_side(world: SqlHarness) -> None:
    mine = world.database
    world.credential = structs.replace(
        world.credential, usernames=("other_a", "other_b")[: len(world.credential.usernames)]
    )
    with mine.exclusive(), world.open().exclusive():
        pass


# One username, several accounts (protocol D17)


def add_entry(world: MySqlFamilyHarness, host: str, password: str) -> None:
    username = value_of(world, 1).login.username
    world.execute(
        f"CREATE USER '{username}'@'{host}' IDENTIFIED BY '{password}'",
        f"GRANT SELECT ON app_db.* TO '{username}'@'{host}'",
    )


@with_hosts
def test_a_more_specific_account_with_the_same_password_is_no_proof(world: MySqlFamilyHarness) -> None:
    """The server matches it instead, so a login proves nothing about the account that is rotated."""
    username = value_of(world, 1).login.username
    rotate(world, None, CredentialValue(1, Login(username, SecretStr("same"))))
    add_entry(world, "127.0.0.1", "same")
    with fails(AmbiguousAccountError):
        world.database.accepts(Login(username, SecretStr("same")))


@with_hosts
def test_a_username_with_two_hosts_is_not_changed(world: MySqlFamilyHarness) -> None:
    """Also if the other one takes logins from elsewhere, as an application's."""
    rotate(world, None, value_of(world, 1))
    add_entry(world, "192.0.2.%", "other")
    with pytest.raises(AmbiguousAccountError, match="DROP USER <username>@<host>"):
        rotate(world, value_of(world, 1), value_of(world, 2))
    assert world.database.accepts(value_of(world, 1).login)
    world.execute(f"DROP USER '{value_of(world, 1).login.username}'@'192.0.2.%'")
    rotate(world, value_of(world, 1), value_of(world, 2))


@with_hosts
def test_a_host_that_is_not_the_plans_is_named_as_such(world: MySqlFamilyHarness) -> None:
    world.credential = structs.replace(world.credential, account_host="192.0.2.%")
    with fails(AmbiguousAccountError), world.open().exclusive():
        pass


@worlds("mariadb-dual")
def test_an_admin_that_may_not_see_the_hosts_goes_by_the_logins(world: MariaDbHarness) -> None:
    weak = world.powerless_admin()
    world.execute(f"GRANT CREATE USER ON *.* TO {weak.username}@'%'")
    add_entry(world, "192.0.2.%", "other")
    with world.open(admin=lambda: weak).exclusive() as stager:
        stager.stage(current=None, pending=value_of(world, 1))
    assert world.database.accepts(value_of(world, 1).login)


# Accounts that lock themselves (protocol D18)


@contextmanager
def limited(world: MySqlFamilyHarness, limit: int) -> Iterator[None]:
    """So many wrong passwords in a row lock an account."""
    if isinstance(world, MariaDbHarness):
        world.execute(f"SET GLOBAL max_password_errors = {limit}")
        yield
        world.execute("SET GLOBAL max_password_errors = DEFAULT", "FLUSH PRIVILEGES")
    else:
        for username in world.credential.usernames:
            world.execute(
                f"ALTER USER '{username}'@'%' FAILED_LOGIN_ATTEMPTS {limit} PASSWORD_LOCK_TIME UNBOUNDED"
            )
        yield


@with_hosts
def test_a_limit_of_one_is_found_before_anything_is_refused(world: MySqlFamilyHarness) -> None:
    value = value_of(world, 1)
    rotate(world, None, value)
    with limited(world, 1), pytest.raises(LockoutLimitError, match="Allow at least 2"):
        world.database.accepts(value.login)
    with limited(world, 2):
        assert world.database.accepts(value.login)


@worlds("mariadb-alternating", "mysql-dual", "mysql-alternating")
def test_a_blocked_account_is_no_wrong_password(world: MySqlFamilyHarness) -> None:
    value = value_of(world, 1)
    rotate(world, None, value)
    with limited(world, 2):
        block(world, value)
        with pytest.raises(AccountBlockedError, match="ACCOUNT UNLOCK"):
            world.database.accepts(value.login)
        world.execute(f"ALTER USER '{value.login.username}'@'%' ACCOUNT UNLOCK")
        assert world.database.accepts(value.login)


def block(world: MySqlFamilyHarness, value: CredentialValue) -> None:
    """Refuse an account as often as the limit says; the last answer may name the block already."""
    assert not world.database.accepts(wrong(value))
    try:
        assert not world.database.accepts(wrong(value))
    except AccountBlockedError:
        assert isinstance(world, MySqlHarness)


@worlds("mariadb-dual")
def test_a_blocked_mariadb_account_with_two_passwords_is_neither_revoked_nor_changed(
    world: MariaDbHarness,
) -> None:
    """The server refuses the one that it names first as if it were wrong."""
    base, pending = value_of(world, 1), value_of(world, 2)
    rotate(world, None, base)
    rotate(world, base, pending)
    with limited(world, 2):
        block(world, base)
        assert not world.database.accepts(pending.login)
        assert accepts_after_all(world, pending.login)
        block(world, base)
        assert not world.database.accepts(pending.login)
        assert world.database.accepts(base.login)  # which ends the block
        assert world.database.accepts(pending.login)


@worlds("mariadb-dual", "mariadb-alternating")
def test_a_second_look_leaves_no_refusal_behind(world: MariaDbHarness) -> None:
    value = value_of(world, 1)
    rotate(world, None, value)
    with limited(world, 2):
        for _ in range(5):
            assert not world.database.accepts(wrong(value))
            assert not accepts_after_all(world, wrong(value))
        assert world.database.accepts(value.login)


@worlds("mysql-dual", "mysql-alternating")
def test_mysql_names_the_block_so_there_is_no_second_look(world: MySqlHarness) -> None:
    value = value_of(world, 1)
    rotate(world, None, value)
    with limited(world, 2):
        assert not world.database.accepts(wrong(value))
        assert not accepts_after_all(world, wrong(value))
        assert world.database.accepts(value.login)


@worlds("mariadb-dual", "mariadb-alternating")
def test_a_second_look_unlocks_nothing_that_a_person_has_locked(world: MariaDbHarness) -> None:
    value = value_of(world, 1)
    rotate(world, None, value)
    world.lock_account(value.login.username)
    for _ in range(2):
        with fails(AccountLockedError):
            accepts_after_all(world, value.login)


# Accounts that end


@worlds("mysql-dual", "mysql-alternating", "mariadb-dual", "mariadb-alternating")
def test_a_password_whose_lifetime_is_over_is_let_in_again(world: MySqlFamilyHarness) -> None:
    value = value_of(world, 1)
    rotate(world, None, value)
    account = f"'{value.login.username}'@'%'"
    world.execute(f"ALTER USER {account} PASSWORD EXPIRE")
    with pytest.raises(AccountExpiredError, match="PASSWORD EXPIRE NEVER"):
        world.database.accepts(value.login)
    world.execute(f"ALTER USER {account} PASSWORD EXPIRE NEVER")
    rotate(world, None, value)  # what take-over does
    assert world.database.accepts(value.login)


@worlds("postgresql", "postgresql-18-plaintext")
def test_a_role_whose_time_is_over_is_told_from_a_wrong_password(world: PostgresHarness) -> None:
    value = value_of(world, 1)
    rotate(world, None, value)
    assert not accepts_after_all(world, wrong(value))
    world.execute(f"ALTER ROLE {value.login.username} VALID UNTIL '2000-01-01'")
    assert not world.database.accepts(value.login)
    with pytest.raises(AccountExpiredError, match="VALID UNTIL 'infinity'"):
        accepts_after_all(world, value.login)
    world.execute(f"ALTER ROLE {value.login.username} VALID UNTIL 'infinity'")
    assert world.database.accepts(value.login)
    assert not accepts_after_all(world, wrong(value))


@worlds("mariadb-dual", "postgresql")
def test_an_account_that_is_gone_is_named_as_such(world: SqlHarness) -> None:
    world.drop_account(value_of(world, 1).login.username)
    with pytest.raises(AccountMissingError, match="lockstep plan sql"):
        accepts_after_all(world, value_of(world, 1).login)


@worlds(*SQL_WORLDS)
def test_a_second_look_at_the_credentials_own_accounts_only(world: SqlHarness) -> None:
    with fails(UnknownUsernameError):
        accepts_after_all(world, ADMIN)


# Policies for passwords do not stop a verifier


@worlds("mysql-dual", "mysql-alternating")
@pytest.mark.parametrize(
    "policy",
    [
        "PASSWORD HISTORY 5",
        "PASSWORD REUSE INTERVAL 365 DAY",
        "PASSWORD REQUIRE CURRENT",
        "PASSWORD EXPIRE INTERVAL 1 DAY",
    ],
)
def test_a_policy_of_the_account_does_not_wedge_rotation(world: MySqlHarness, policy: str) -> None:
    rotate(world, None, value_of(world, 1))
    for username in world.credential.usernames:
        world.execute(f"ALTER USER '{username}'@'%' {policy}")
    with world.strict_policy():
        for generation in range(2, 5):
            current, pending = value_of(world, generation - 1), value_of(world, generation)
            rotate(world, current, pending)
            rotate(world, current, pending)
            assert [world.database.accepts(v.login) for v in (current, pending)] == [True, True]
        with world.database.exclusive() as stager:
            left = stager.retire(drop=value_of(world, 3), keep=value_of(world, 4))
        assert world.database.accepts(left)
