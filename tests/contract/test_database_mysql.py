"""MySQL's two slots, on the real server: from every state that a crash or a hand can leave, current logs in."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lockstep.databases.verifiers import sha256_crypt
from lockstep.protocol.errors import AccountPluginError, DatabaseUnreachableError
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from tests.contract.database_harness import SQL_WORLDS, SqlHarness, fails, worlds
from tests.support.statement_faults import FrontedMySqlServer, StatementFaults

pytest_plugins = ["tests.contract.database_harness"]
pytestmark = worlds("mysql-dual")

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

    def __init__(self, world: SqlHarness) -> None:
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
def account(world: SqlHarness) -> Iterator[Account]:
    made = Account(world)
    faults: StatementFaults = made.faults
    faults.clear()
    yield made
    faults.clear()


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
    records = {"not recorded": None, "recorded": slots, "recorded, then changed by hand": others}
    for known, recorded in records.items():
        account.fill(slots, recorded)
        alive.clear()
        tried.clear()
        account.faults.look = lambda: alive.append(genuine(account.value("current").login))
        account.stage()
        assert tried == logins_of_staging(slots, known), known
        # What is staged already is not touched: pending may be promoted in one cloud by then.
        is_known = set(slots) == {"current", "pending"} and known != "not recorded"
        assert account.slots == (slots if is_known else ("pending", "current")), known
        assert alive == ([] if is_known else [True, True]), known
        if not is_known:
            assert account.attribute["lockstep"] == {"primary": 6, "secondary": 4}, known


def logins_of_staging(slots: Slots, known: str) -> list[str]:
    if known == "not recorded" or "pending" not in slots:
        return []
    if "current" not in slots:
        return ["current refused"]  # A rotation does not get here: it has just seen current log in.
    return ["current in", "pending in"]


@every_state
@pytest.mark.parametrize("act", [Account.stage, Account.retire])
def test_what_is_cut_off_leaves_current_and_is_finished_by_the_next(
    account: Account, slots: Slots, act: Callable[[Account], None]
) -> None:
    for cut in ((1, "before"), (1, "after"), (2, "after")):
        account.fill(slots)
        account.faults.cut = cut
        with fails(DatabaseUnreachableError):
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
    with fails(AccountPluginError, match="IDENTIFIED WITH caching_sha2_password BY"):
        account.stage()
    assert account.slots == ("current", None)


def test_an_idle_account_loses_its_second_password(
    world: SqlHarness, mysql_server: FrontedMySqlServer
) -> None:
    del world
    alternating = SqlHarness(mysql_server, SQL_WORLDS["mysql-alternating"])
    pending = alternating.login(2)
    alternating.run(
        "{alter} IDENTIFIED BY 'old'; {alter} IDENTIFIED BY 'older' RETAIN CURRENT PASSWORD", pending.username
    )
    alternating.stage(1, 2)
    old = [Login(pending.username, SecretStr(password)) for password in ("old", "older")]
    assert [alternating.database.accepts(login) for login in (*old, pending)] == [False, False, True]
