"""MySQL's two slots, on the real server: from every state that a crash or a hand can leave, current logs in."""

import json
import re
from collections.abc import Iterator

import pytest

from lockstep.databases.verifiers import sha256_crypt
from lockstep.protocol.errors import AccountPluginError, DatabaseUnreachableError
from lockstep.protocol.model import CredentialValue, Login, SecretStr, Strategy
from tests.contract.database_harness import MySqlHarness, fails, value_of
from tests.support.statement_faults import FrontedMySqlServer, StatementFaults

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
    # A person has already replaced current.
    ("pending", None),
    ("pending", "pending"),
    ("pending", "old"),
    ("old", "pending"),
    ("old", None),
]
GENERATIONS = {"old": 3, "current": 4, "abandoned": 5, "pending": 6}

CUTS = [(1, "before"), (1, "after"), (2, "before"), (2, "after")]


def named(world: MySqlHarness, name: str) -> CredentialValue:
    return CredentialValue(GENERATIONS[name], Login(world.credential.usernames[0], SecretStr(name)))


def fill(world: MySqlHarness, slots: Slots) -> None:
    """Change the account as a person would: without the record."""
    primary, secondary = slots
    account = f"ALTER USER '{world.credential.usernames[0]}'@'%'"
    world.execute(f"{account} IDENTIFIED BY '{secondary or primary}'", f"{account} DISCARD OLD PASSWORD")
    if secondary:
        world.execute(f"{account} IDENTIFIED BY '{primary}' RETAIN CURRENT PASSWORD")


def record(world: MySqlHarness, slots: Slots) -> None:
    primary, secondary = (name and GENERATIONS[name] for name in slots)
    text = json.dumps({"lockstep": {"primary": primary, "secondary": secondary}})
    world.execute(f"ALTER USER '{world.credential.usernames[0]}'@'%' ATTRIBUTE '{text}'")


def attribute_of(world: MySqlHarness) -> object:
    ((text,),) = world.execute(
        f"SELECT attribute FROM information_schema.user_attributes WHERE user = '{world.credential.usernames[0]}'"  # noqa: S608
    )
    return json.loads(text)


def recorded(world: MySqlHarness) -> object:
    attribute = attribute_of(world)
    assert isinstance(attribute, dict)
    return attribute["lockstep"]


def slots_of(world: MySqlHarness) -> Slots:
    """The values whose verifiers the server itself holds."""
    ((primary, secondary),) = world.execute(
        "SELECT authentication_string, user_attributes->>'$.additional_password' FROM mysql.user"  # noqa: S608
        f" WHERE user = '{world.credential.usernames[0]}'"
    )
    return name_of(primary), name_of(secondary) if secondary else None


def name_of(verifier: str) -> str:
    found = re.fullmatch(r"\$A\$(\w{3})\$(.{20})(.{43})", verifier, re.DOTALL)
    assert found
    rounds, salt, digest = int(found[1], 16) * 1000, found[2].encode(), found[3]
    return next((n for n in GENERATIONS if sha256_crypt(n.encode(), salt, rounds) == digest), "unknown")


def stage(world: MySqlHarness) -> None:
    with world.database.exclusive() as stager:
        stager.stage(current=named(world, "current"), pending=named(world, "pending"))


def retire(world: MySqlHarness) -> None:
    with world.database.exclusive() as stager:
        stager.retire(drop=named(world, "pending"), keep=named(world, "current"))


def accepts(world: MySqlHarness, name: str) -> bool:
    return world.database.accepts(named(world, name).login)


@pytest.fixture
def faults(world: MySqlHarness) -> Iterator[StatementFaults]:
    world.faults.clear()
    yield world.faults
    world.faults.clear()


@pytest.fixture(params=STATES, ids=lambda slots: f"{slots[0]}+{slots[1]}")
def slots(request: pytest.FixtureRequest, world: MySqlHarness) -> Slots:
    found: Slots = request.param
    fill(world, found)
    assert slots_of(world) == found
    return found


# From every state


KNOWN = ["not recorded", "recorded", "recorded, then changed by hand"]


def prepare(world: MySqlHarness, slots: Slots, known: str) -> None:
    """Bring the record into one of the states of `KNOWN`."""
    if known == "recorded":
        record(world, slots)
    elif known == "recorded, then changed by hand":
        # Only Lockstep's own statements make pending a password, so a record may leave it out only if it is in no slot.
        record(world, ("pending" if "pending" in slots else "current", "old"))


def is_known_as_staged(slots: Slots, known: str) -> bool:
    return set(slots) == {"current", "pending"} and known != "not recorded"


@pytest.mark.parametrize("known", KNOWN)
def test_staging_from_any_state(
    world: MySqlHarness, faults: StatementFaults, slots: Slots, known: str
) -> None:
    prepare(world, slots, known)
    alive: list[bool] = []
    faults.look = lambda: alive.append(accepts(world, "current"))
    stage(world)
    is_known = is_known_as_staged(slots, known)
    assert slots_of(world) == (slots if is_known else ("pending", "current"))
    assert all(alive)
    assert len(alive) == (0 if is_known else 2)
    if not is_known:
        assert recorded(world) == {"primary": 6, "secondary": 4}


@pytest.mark.parametrize("known", KNOWN)
def test_a_refusal_while_staging_has_a_success_before_and_after_it(
    world: MySqlHarness, faults: StatementFaults, slots: Slots, known: str
) -> None:
    del faults
    prepare(world, slots, known)
    tried: list[str] = []
    genuine = world.database.accepts

    def accepts_and_notes(login: Login) -> bool:
        answer = genuine(login)
        tried.append(f"{login.password.reveal()} {'in' if answer else 'refused'}")
        return answer

    world.database.accepts = accepts_and_notes  # type: ignore[method-assign]
    stage(world)
    assert tried == logins_of_staging(slots, known)


def logins_of_staging(slots: Slots, known: str) -> list[str]:
    if known == "not recorded" or "pending" not in slots:
        return []
    if "current" not in slots:
        return ["current refused"]  # A rotation does not get here: it has just seen current log in.
    if "pending" in slots:
        return ["current in", "pending in"]
    return ["current in", "pending refused", "current in"]


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_staging_that_is_cut_off(
    world: MySqlHarness, faults: StatementFaults, slots: Slots, cut: tuple[int, str]
) -> None:
    faults.cut = cut
    with fails(DatabaseUnreachableError):
        stage(world)
    if "current" in slots:
        assert accepts(world, "current")
    faults.clear()
    stage(world)
    assert set(slots_of(world)) == {"current", "pending"}


def test_retiring_from_any_state(world: MySqlHarness, slots: Slots) -> None:
    record(world, slots)
    retire(world)
    assert slots_of(world) == ("current", None)
    assert recorded(world) == {"primary": 4}


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_retiring_that_is_cut_off(
    world: MySqlHarness, faults: StatementFaults, slots: Slots, cut: tuple[int, str]
) -> None:
    faults.cut = cut
    with fails(DatabaseUnreachableError):
        retire(world)
    if "current" in slots:
        assert accepts(world, "current")
    faults.clear()
    retire(world)
    assert slots_of(world) == ("current", None)


def test_the_first_value_is_the_only_one(world: MySqlHarness, slots: Slots) -> None:
    del slots
    with world.database.exclusive() as stager:
        stager.stage(current=None, pending=named(world, "pending"))
    assert slots_of(world) == ("pending", None)
    assert recorded(world) == {"primary": 6}


# The record


def test_what_is_staged_already_is_not_touched(world: MySqlHarness, faults: StatementFaults) -> None:
    """Neither password is missing for an instant: pending may be promoted in one cloud by then."""
    fill(world, ("pending", "current"))
    for known in (("pending", "current"), ("current", "pending"), ("old", "pending")):
        record(world, known)
        stage(world)
    assert faults.changes == []


def test_no_login_is_refused_to_find_out_that_pending_is_in_no_slot(world: MySqlHarness) -> None:
    fill(world, ("current", "old"))
    record(world, ("current", "old"))
    logged = world.sandbox.watch_general_log()
    stage(world)
    assert f"Connect\t{world.credential.usernames[0]}@" not in logged.added()
    stage(world)
    assert f"Connect\t{world.credential.usernames[0]}@" in logged.added()


@pytest.mark.parametrize(
    "theirs", [{"team": "orders", "deep": {"a": [1]}}, {"lockstep": "no record of ours"}]
)
def test_what_others_keep_in_the_attribute_survives(world: MySqlHarness, theirs: dict[str, object]) -> None:
    fill(world, ("current", None))
    world.execute(f"ALTER USER '{world.credential.usernames[0]}'@'%' ATTRIBUTE '{json.dumps(theirs)}'")
    stage(world)
    retire(world)
    assert attribute_of(world) == {**theirs, "lockstep": {"primary": 4}}
    assert slots_of(world) == ("current", None)


# What the server demands


def test_no_policy_is_asked_about_a_verifier(world: MySqlHarness) -> None:
    """Neither about a password that is in use nor about a new one: the generator alone decides how it looks."""
    fill(world, ("current", None))
    with world.strict_policy():
        stage(world)
        retire(world)
    assert slots_of(world) == ("current", None)


def test_an_account_keeps_its_plugin(world: MySqlHarness) -> None:
    """A real account of `sha256_password`; no server that can be had here has `mysql_native_password`."""
    account = f"ALTER USER '{world.credential.usernames[0]}'@'%' IDENTIFIED WITH"
    world.execute(f"{account} sha256_password BY 'current'")
    stage(world)
    assert accepts(world, "current")
    assert accepts(world, "pending")
    assert recorded(world) == {"primary": 6, "secondary": 4, "plugin": "sha256_password"}
    stage(world)
    retire(world)
    assert accepts(world, "current")
    assert not accepts(world, "pending")
    assert world.execute(
        f"SELECT plugin FROM mysql.user WHERE user = '{world.credential.usernames[0]}'"  # noqa: S608
    ) == [("sha256_password",)]


def test_an_account_with_a_plugin_of_no_verifier_is_told_the_way_out(
    world: MySqlHarness, faults: StatementFaults
) -> None:
    fill(world, ("current", None))
    faults.refused = {"ALTER USER … IDENTIFIED WITH": 3894}
    with pytest.raises(AccountPluginError, match="IDENTIFIED WITH caching_sha2_password BY"):
        stage(world)
    assert slots_of(world) == ("current", None)


def test_an_idle_account_loses_its_secondary_password(
    world: MySqlHarness, mysql_server: FrontedMySqlServer
) -> None:
    del world
    alternating = MySqlHarness(mysql_server, Strategy.ALTERNATING_USERS)
    pending = value_of(alternating, 2)
    account = f"ALTER USER '{pending.login.username}'@'%' IDENTIFIED BY"
    alternating.execute(f"{account} 'old'", f"{account} 'older' RETAIN CURRENT PASSWORD")
    with alternating.database.exclusive() as stager:
        stager.stage(current=value_of(alternating, 1), pending=pending)
    for password in ("old", "older"):
        assert not alternating.database.accepts(Login(pending.login.username, SecretStr(password)))
    assert alternating.database.accepts(pending.login)
