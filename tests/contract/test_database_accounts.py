"""Which account a login is matched to, and each way to bar it: every one has its own error, and its way out works."""

import pytest
from msgspec import structs

from lockstep.protocol.errors import (
    AccountLockedError,
    AccountSetupError,
    AdvisoryLockBusyError,
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
    SqlHarness,
    fails,
    limited,
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
    with fails(AccountSetupError):
        world.database.accepts(Login(username, SecretStr("same")))


@with_hosts
def test_a_host_that_is_not_the_plans_is_named_as_such(world: MySqlFamilyHarness) -> None:
    world.credential = structs.replace(world.credential, account_host="192.0.2.%")
    with fails(AccountSetupError), world.open().exclusive():
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


@worlds("mariadb-alternating", "mysql-dual", "mysql-alternating")
def test_a_blocked_account_is_no_wrong_password(world: MySqlFamilyHarness) -> None:
    value = value_of(world, 1)
    rotate(world, None, value)
    with limited(world, 2):
        block(world, value)
        with pytest.raises(AccountLockedError, match="ACCOUNT UNLOCK"):
            world.database.accepts(value.login)
        world.execute(f"ALTER USER '{value.login.username}'@'%' ACCOUNT UNLOCK")
        assert world.database.accepts(value.login)


def block(world: MySqlFamilyHarness, value: CredentialValue) -> None:
    """Refuse an account as often as the limit says; the last answer may name the block already."""
    assert not world.database.accepts(wrong(value))
    try:
        assert not world.database.accepts(wrong(value))
    except AccountLockedError:
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


@worlds(*SQL_WORLDS)
def test_a_second_look_at_the_credentials_own_accounts_only(world: SqlHarness) -> None:
    with fails(UnknownUsernameError):
        accepts_after_all(world, ADMIN)


# Policies for passwords do not stop a verifier
