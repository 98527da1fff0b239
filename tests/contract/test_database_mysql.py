"""MySQL's two slots: from every state that a crash can leave, current logs in until pending stands beside it."""

import pytest

from lockstep.errors import DatabaseRejectedError, DatabaseUnreachableError
from lockstep.model import Login, SecretStr, Strategy
from sandbox.mysql_fake import Fault, MySqlFake, PasswordPolicy, auth
from tests.contract.database_harness import MySqlHarness, fails, login

pytest_plugins = ["tests.contract.database_fixtures"]

pytestmark = pytest.mark.parametrize("world", ["mysql-dual"], indirect=True)

Slots = tuple[str, str | None]

# (primary, secondary): by name, and None for a free slot.
STATES: list[Slots] = [
    ("current", None),
    ("current", "old"),
    ("current", "pending"),
    ("current", "abandoned"),
    ("current", "current"),
    ("pending", "current"),
    ("abandoned", "current"),
    # Current is shut out already, by somebody else.
    ("pending", None),
    ("pending", "pending"),
    ("pending", "old"),
    ("old", "pending"),
    ("old", None),
]

# Where a runner may be cut off: before or after a statement takes effect.
STAGING = ["BY 'current'", "BY 'pending'"]
RETIRING = ["BY 'current'", "DISCARD"]
MOMENTS = ["before", "after"]


def value(world: MySqlHarness, name: str) -> Login:
    return Login(world.credential.usernames[0], SecretStr(name))


def fill(world: MySqlHarness, slots: Slots) -> None:
    primary, secondary = slots
    account = f"ALTER USER '{world.credential.usernames[0]}'@'%'"
    world.execute(f"{account} IDENTIFIED BY '{secondary or primary}'", f"{account} DISCARD OLD PASSWORD")
    if secondary:
        world.execute(f"{account} IDENTIFIED BY '{primary}' RETAIN CURRENT PASSWORD")


def slots_of(world: MySqlHarness) -> Slots:
    account = world.sandbox.accounts[world.credential.usernames[0], "%"]

    def name_of(verifier: bytes) -> str:
        names = ("current", "pending", "old", "abandoned")
        return next((n for n in names if auth.matches(account.plugin, verifier, n.encode())), "nobody's")

    return name_of(account.primary), name_of(account.secondary) if account.secondary else None


def arm(world: MySqlHarness, moment: str, statement: str) -> Fault:
    drop = {"before": world.sandbox.drop_connection_before, "after": world.sandbox.drop_connection_after}
    return drop[moment](statement)


def stage(world: MySqlHarness) -> None:
    with world.database.exclusive() as stager:
        stager.stage(current=value(world, "current"), pending=value(world, "pending"))


def retire(world: MySqlHarness) -> None:
    with world.database.exclusive() as stager:
        stager.retire(drop=value(world, "pending"), keep=value(world, "current"))


@pytest.fixture(params=STATES, ids=lambda slots: f"{slots[0]}+{slots[1]}")
def slots(request: pytest.FixtureRequest, world: MySqlHarness) -> Slots:
    found: Slots = request.param
    fill(world, found)
    assert slots_of(world) == found
    return found


def test_staging_from_any_state(world: MySqlHarness, slots: Slots) -> None:
    stage(world)
    both_were_there = set(slots) == {"current", "pending"}
    assert slots_of(world) == (slots if both_were_there else ("pending", "current"))


@pytest.mark.parametrize("statement", STAGING)
@pytest.mark.parametrize("moment", MOMENTS)
def test_staging_that_is_cut_off(world: MySqlHarness, slots: Slots, moment: str, statement: str) -> None:
    if set(slots) == {"current", "pending"}:
        stage(world)  # nothing to cut off
        return
    fault = arm(world, moment, statement)
    with fails(DatabaseUnreachableError):
        stage(world)
    assert fault.struck
    if "current" in slots:
        assert world.database.accepts(value(world, "current"))
    if slots[0] == "pending":
        assert world.database.accepts(value(world, "pending"))
    stage(world)
    assert set(slots_of(world)) == {"current", "pending"}


def test_retiring_from_any_state(world: MySqlHarness, slots: Slots) -> None:
    del slots
    retire(world)
    assert slots_of(world) == ("current", None)


@pytest.mark.parametrize("statement", RETIRING)
@pytest.mark.parametrize("moment", MOMENTS)
def test_retiring_that_is_cut_off(world: MySqlHarness, slots: Slots, moment: str, statement: str) -> None:
    fault = arm(world, moment, statement)
    with fails(DatabaseUnreachableError):
        retire(world)
    assert fault.struck
    if "current" in slots:
        assert world.database.accepts(value(world, "current"))
    retire(world)
    assert slots_of(world) == ("current", None)


def test_the_first_value_stands_alone(world: MySqlHarness, slots: Slots) -> None:
    del slots
    with world.database.exclusive() as stager:
        stager.stage(current=None, pending=value(world, "pending"))
    assert slots_of(world) == ("pending", None)


def test_what_is_staged_already_is_not_touched(world: MySqlHarness) -> None:
    """Not for an instant: pending may be promoted in one cloud by then."""
    fill(world, ("pending", "current"))
    before = world.sandbox.general_log_text()
    stage(world)
    assert "ALTER USER" not in world.sandbox.general_log_text().removeprefix(before)


def test_a_policy_that_refuses_current_is_not_cured_by_another_pending_value(world: MySqlHarness) -> None:
    fill(world, ("current", None))
    world.sandbox.settings.password_policy = PasswordPolicy()
    try:
        with fails(DatabaseRejectedError):
            stage(world)
        with fails(DatabaseRejectedError):
            retire(world)
    finally:
        world.sandbox.settings.password_policy = None
    assert slots_of(world) == ("current", None)


def test_the_account_keeps_its_plugin(world: MySqlHarness) -> None:
    account = world.sandbox.accounts[world.credential.usernames[0], "%"]
    world.sandbox.settings.mysql_native_password = True
    try:
        world.execute(
            f"ALTER USER '{world.credential.usernames[0]}'@'%' IDENTIFIED WITH mysql_native_password BY 'current'"
        )
        stage(world)
        assert slots_of(world) == ("pending", "current")
        assert account.plugin == auth.NATIVE
    finally:
        world.sandbox.settings.mysql_native_password = False


def test_an_idle_account_loses_its_secondary_password(world: MySqlHarness, mysql_server: MySqlFake) -> None:
    del world
    alternating = MySqlHarness(mysql_server, Strategy.ALTERNATING_USERS)
    pending = login(alternating, 2)
    account = f"ALTER USER '{pending.username}'@'%' IDENTIFIED BY"
    alternating.execute(f"{account} 'old'", f"{account} 'older' RETAIN CURRENT PASSWORD")
    with alternating.database.exclusive() as stager:
        stager.stage(current=login(alternating, 1), pending=pending)
    for password in ("old", "older"):
        assert not alternating.database.accepts(Login(pending.username, SecretStr(password)))
    assert alternating.database.accepts(pending)
