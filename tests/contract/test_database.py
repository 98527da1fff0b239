"""On every database current logs in throughout, while values are staged and retired, repeatedly and with cuts."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from typing import Any

import pytest

from lockstep.databases.verifiers import sha256_crypt
from lockstep.protocol import errors
from lockstep.protocol.deadlines import DatabaseTimeouts
from lockstep.protocol.model import CredentialValue, Engine, Login, SecretStr
from tests.contract import database_harness as db
from tests.support.statement_faults import FrontedMySqlServer

pytest_plugins = ["tests.contract.database_harness"]

every_database = db.worlds(*db.MEMORY_WORLDS, *db.SQL_WORLDS)
# For what takes seconds, and depends on no version of PostgreSQL.
every_strategy = db.worlds(*db.MEMORY_WORLDS, *db.PAIRED_WORLDS)
World = db.MemoryHarness | db.SqlHarness


@every_database
def test_a_wrong_password_and_an_unknown_user_are_no_errors(world: World) -> None:
    for username in world.credential.usernames:
        assert not world.accepted(world.value(1, username=username))[0], "no password opens a fresh account"
        assert not world.database.accepts(Login(username, SecretStr("")))
    world.stage(None, 1)
    assert world.accepted(1) == [True]
    login = world.login(1)
    for other in (world.wrong(1), Login(login.username, SecretStr("")), Login("nobody", login.password)):
        assert not world.database.accepts(other)


# Of each step: what is done, its two generations, and which generations log in afterwards.
STORIES: dict[str, list[tuple[str, int | None, int, set[int]]]] = {
    "the first value leaves no other": [("stage", None, 1, {1}), ("stage", None, 3, {3})],
    "the next one ends the one before current": [
        ("stage", None, 1, {1}),
        ("stage", 1, 2, {1, 2}),
        ("stage", 2, 3, {2, 3}),
        ("stage", 3, 4, {3, 4}),
        ("retire", 3, 4, {4}),
        ("stage", 4, 5, {4, 5}),
    ],
    "of values that replace each other the last one stays": [
        ("stage", None, 2, {2}),
        ("stage", 2, 3, {2, 3}),
        ("stage", 2, 5, {2, 5}),
        ("stage", 2, 7, {2, 7}),
        ("stage", 2, 3, {2, 3}),
    ],
    "a pending value is withdrawn, and another staged": [
        ("stage", None, 1, {1}),
        ("retire", 1, 1, {1}),
        ("stage", 1, 2, {1, 2}),
        ("retire", 2, 1, {1}),
        ("stage", 1, 4, {1, 4}),
    ],
}


@every_strategy
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_exactly_these_values_log_in_after_each_step_whoever_repeats_it(
    world: World, story: list[tuple[str, int | None, int, set[int]]]
) -> None:
    """MySQL's ATTRIBUTE, which two passwords need, says the same of the account (protocol D12)."""
    is_said = isinstance(world, db.MemoryHarness) or world.engine is Engine.MYSQL
    says = is_said and len(world.credential.usernames) == 1
    named, known = set[int](), set[int]()
    for act, first, second, log_in in story:
        named |= log_in
        base = None if first is None else world.value(first)
        for runner in (world.database, world.rival()):
            with runner.exclusive() as stager:
                assert stager.recorded() == (known if says else set())
                if act == "stage":
                    stager.stage(current=base, pending=world.value(second))
                else:
                    assert base
                    left = stager.retire(drop=base, keep=world.value(second))
                    # It works for the account whose password was dropped, so that a refusal is taken back.
                    assert (left.username, world.database.accepts(left)) == (base.login.username, True)
                assert stager.recorded() == (log_in if says else set())
            known = log_in
        assert {g for g in named if world.accepted(g)[0]} == log_in


@every_strategy
def test_current_logs_in_at_every_instant_of_many_rotations(world: World) -> None:
    """An application that holds the value which is current during a step is never refused within it."""
    world.stage(None, 1)

    def refusals_of(value: CredentialValue, until: Event, started: Event) -> int:
        refused = 0
        while not until.is_set():
            refused += not world.rival().accepts(value.login)
            started.set()
        return refused

    with ThreadPoolExecutor(1) as pool:
        for pending in range(2, 6):
            done, started = Event(), Event()
            refused = pool.submit(refusals_of, world.value(pending - 1), done, started)
            assert started.wait(30)
            try:
                world.stage(pending - 1, pending)
                world.stage(pending - 1, pending)
                world.retire(drop=pending, keep=pending - 1)
                world.stage(pending - 1, pending)
            finally:
                done.set()
            assert refused.result(30) == 0


@every_database
def test_a_value_that_is_both_current_and_pending_keeps_logging_in(world: World) -> None:
    """As after a reconcile, which gives a login another generation."""
    world.stage(None, 1)
    world.stage(1, 2)
    world.stage(2, replace(world.value(2), generation=5))
    assert world.accepted(2) == [True]
    if len(world.credential.usernames) == 1:
        assert world.accepted(1) == [False]


@every_database
def test_one_runner_is_inside_and_one_that_fails_or_is_cut_off_loses_the_lock(world: World) -> None:
    with pytest.raises(ZeroDivisionError), world.database.exclusive():  # noqa: PT012 - it fails at the end
        with db.fails(errors.AdvisoryLockBusyError):
            db.enter(world.rival())
        raise ZeroDivisionError
    world.stage(None, 1, world.rival())
    with db.fails(errors.DatabaseUnreachableError), world.database.exclusive() as stager:
        world.end_admin_sessions()
        stager.stage(current=world.value(1), pending=world.value(2))
    assert world.accepted(1, 2) == [True, False]
    world.stage(1, 2, world.rival())
    assert world.accepted(1, 2) == [True, True]


@db.each_engine
def test_a_server_that_does_not_answer_is_no_wrong_password(world: db.SqlHarness) -> None:
    world.stage(None, 1)
    hasty = world.open(timeouts=DatabaseTimeouts(connect_seconds=1, io_seconds=1.1, lock_seconds=1))
    world.sandbox.pause()
    try:
        with db.fails(errors.DatabaseUnreachableError):
            hasty.accepts(world.login(1))
        with db.fails(errors.DatabaseUnreachableError):
            db.enter(hasty)
    finally:
        world.sandbox.resume()
    assert world.accepted(1) == [True]


@db.worlds("postgresql")
def test_a_password_that_the_policy_refuses_leaves_current_alone(world: db.SqlHarness) -> None:
    """The module passwordcheck: of a verifier it can tell only that it is the username's."""
    world.stage(None, 2)
    world.run("ALTER ROLE {rotator} SET session_preload_libraries = 'passwordcheck'")
    idle = world.login(3).username
    refused = CredentialValue(3, Login(idle, SecretStr(idle)))
    with db.fails(errors.PasswordRefusedByPolicyError):
        world.stage(2, refused)
    world.run("ALTER ROLE {rotator} RESET session_preload_libraries")
    assert world.accepted(2, refused) == [True, False]


# MySQL's two slots, on the real server: from every state that a crash or a hand can leave, current logs in

Slots = tuple[str, str | None]

# (primary, secondary): by name, and None for a free slot.
STATES: list[Slots] = [
    ("current", None),
    ("current", "old"),
    ("current", "pending"),
    ("current", "current"),
    ("pending", "current"),
    ("old", "current"),
    # A person has already replaced current.
    ("pending", None),
    ("pending", "pending"),
    ("pending", "old"),
    ("old", "pending"),
    ("old", None),
]
GENERATIONS = {"current": 4, "pending": 6, "old": 3}


class Account:
    """The one account of a credential, whose passwords are the names of `GENERATIONS`."""

    def __init__(self, world: db.SqlHarness) -> None:
        self.world, self.faults = world, world.sandbox.faults
        [self.username] = world.credential.usernames

    def value(self, name: str) -> CredentialValue:
        return CredentialValue(GENERATIONS[name], Login(self.username, SecretStr(name)))

    def fill(self, slots: Slots, recorded: Slots | None = None) -> None:
        """Change the account as a person would; by default it never had a record."""
        self.faults.clear()
        primary, secondary = slots
        self.world.run(f"{{alter}} IDENTIFIED BY '{secondary or primary}'; {{alter}} DISCARD OLD PASSWORD")
        if secondary:
            self.world.run(f"{{alter}} IDENTIFIED BY '{primary}' RETAIN CURRENT PASSWORD")
        generations = [name and GENERATIONS[name] for name in recorded or ()]
        record = dict(zip(("primary", "secondary"), generations, strict=True)) if recorded else None
        self.set_attribute({"lockstep": record})

    def set_attribute(self, content: object) -> None:
        self.world.run("{alter} ATTRIBUTE '{content}'", content=json.dumps(content))

    @property
    def attribute(self) -> Any:  # noqa: ANN401 - JSON
        query = "SELECT attribute FROM information_schema.user_attributes WHERE user = '{username}'"
        ((text,),) = self.world.run(query)
        return json.loads(text)

    @property
    def slots(self) -> Slots:
        """The values whose verifiers the server itself holds."""
        ((primary, secondary),) = self.world.run(
            "SELECT authentication_string, user_attributes->>'$.additional_password' FROM mysql.user"
            " WHERE user = '{username}'"
        )
        return name_of(primary), name_of(secondary) if secondary else None

    def stage(self) -> None:
        self.world.stage(self.value("current"), self.value("pending"))

    def retire(self) -> None:
        self.world.retire(drop=self.value("pending"), keep=self.value("current"))

    def accepts(self, name: str) -> bool:
        return self.world.accepted(self.value(name))[0]


def name_of(verifier: str) -> str:
    found = re.fullmatch(r"\$A\$(\w{3})\$(.{20})(.{43})", verifier, re.DOTALL)
    assert found
    rounds, salt, digest = int(found[1], 16) * 1000, found[2].encode(), found[3]
    return next((n for n in GENERATIONS if sha256_crypt(n.encode(), salt, rounds) == digest), "unknown")


@pytest.fixture
def account(mysql_server: FrontedMySqlServer) -> Iterator[Account]:
    made = Account(db.SqlHarness(mysql_server, db.SQL_WORLDS["mysql-dual"]))
    yield made
    made.faults.clear()


# From every state

every_state = pytest.mark.parametrize("slots", STATES, ids=lambda slots: f"{slots[0]}+{slots[1]}")


@every_state
def test_staging_from_any_state(account: Account, slots: Slots) -> None:
    """Current logs in after each change, and a refusal has a success of the same account before and after it."""
    alive: list[bool] = []
    tried: list[str] = []
    genuine = account.world.database.accepts

    def accepts_and_notes(login: Login) -> bool:
        answer = genuine(login)
        tried.append(f"{login.password.reveal()} {'in' if answer else 'refused'}")
        return answer

    account.world.database.accepts = accepts_and_notes  # type: ignore[method-assign]
    # Only Lockstep's own statements make pending a password: a record may leave it out if it is in no slot.
    others = ("pending" if "pending" in slots else "current", "old")
    records = {
        "not recorded": None,
        "recorded": slots,
        "recorded, then changed by hand": others,
        "staged, then changed by hand": ("pending", "current"),
    }
    for known, recorded in records.items():
        account.fill(slots, recorded)
        alive.clear()
        tried.clear()
        account.faults.look = lambda: alive.append(genuine(account.value("current").login))
        account.stage()
        assert tried == logins_of_staging(slots, recorded), known
        # What is staged already is not touched: pending may be promoted in one cloud by then.
        is_known = set(slots) == {"current", "pending"} and known != "not recorded"
        assert account.slots == (slots if is_known else ("pending", "current")), known
        assert alive == ([] if is_known else [True, True]), known
        if not is_known:
            assert account.attribute["lockstep"] == {"primary": 6, "secondary": 4}, known


def logins_of_staging(slots: Slots, recorded: Slots | None) -> list[str]:
    if recorded is None or "pending" not in recorded:
        return []
    if "current" not in slots:
        return ["current refused"]  # A rotation does not get here: it has just seen current log in.
    return ["current in", *(["pending in"] if "pending" in slots else ["pending refused", "current in"])]


@every_state
@pytest.mark.parametrize("act", [Account.stage, Account.retire])
def test_what_is_cut_off_leaves_current_and_is_finished_by_the_next(
    account: Account, slots: Slots, act: Callable[[Account], None]
) -> None:
    for cut in ((1, "before"), (1, "after"), (2, "after")):
        account.fill(slots)
        account.faults.cut = cut
        with db.fails(errors.DatabaseUnreachableError):
            act(account)
        if "current" in slots:
            assert account.accepts("current"), cut
        account.faults.clear()
        act(account)
        left = {"current", "pending"} if act == Account.stage else {"current", None}
        assert set(account.slots) == left, cut


@every_state
def test_retiring_from_any_state_and_the_first_value_are_the_only_one(account: Account, slots: Slots) -> None:
    account.fill(slots, slots)
    account.retire()
    assert (account.slots, account.attribute["lockstep"]) == (("current", None), {"primary": 4})
    account.fill(slots)
    account.world.stage(None, account.value("pending"))
    assert (account.slots, account.attribute["lockstep"]) == (("pending", None), {"primary": 6})


@pytest.mark.parametrize(
    "theirs", [{"team": "orders", "deep": {"a": [1]}}, {"lockstep": "no record of ours"}], ids=str
)
def test_what_others_keep_in_the_attribute_survives(account: Account, theirs: dict[str, object]) -> None:
    account.fill(("current", None))
    account.set_attribute(theirs)
    account.stage()
    account.retire()
    assert account.attribute == {**theirs, "lockstep": {"primary": 4}}
    assert account.slots == ("current", None)


# What the server demands


def test_an_account_keeps_its_plugin(account: Account) -> None:
    """A real account of `sha256_password`; no server that can be had here has `mysql_native_password`."""
    account.world.run("{alter} IDENTIFIED WITH sha256_password BY 'current'")
    account.stage()
    assert [account.accepts(name) for name in ("current", "pending")] == [True, True]
    assert account.attribute["lockstep"] == {"primary": 6, "secondary": 4, "plugin": "sha256_password"}
    account.stage()
    account.retire()
    assert [account.accepts(name) for name in ("current", "pending")] == [True, False]
    plugin = account.world.run("SELECT plugin FROM mysql.user WHERE user = '{username}'")
    assert plugin == [("sha256_password",)]


def test_an_account_with_a_plugin_of_no_verifier_is_told_the_way_out(account: Account) -> None:
    account.fill(("current", None))
    account.faults.refused = {"ALTER USER … IDENTIFIED WITH": 3894}
    with db.fails(errors.AccountPluginError, match="IDENTIFIED WITH caching_sha2_password BY"):
        account.stage()
    assert account.slots == ("current", None)


@db.worlds("mysql-alternating")
def test_an_idle_account_loses_its_second_password(world: db.SqlHarness) -> None:
    pending = world.login(2)
    world.run(
        "{alter} IDENTIFIED BY 'old'; {alter} IDENTIFIED BY 'older' RETAIN CURRENT PASSWORD", pending.username
    )
    world.stage(1, 2)
    old = [Login(pending.username, SecretStr(password)) for password in ("old", "older")]
    assert [world.database.accepts(login) for login in (*old, pending)] == [False, False, True]
