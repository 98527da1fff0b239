"""What becomes of each username's login, from the lock record and what the stores hold."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from lockstep.operate.sessions import LoginState, State, login_states
from lockstep.operate.state import promoted_at
from lockstep.protocol.model import Claim, ClaimKind, Credential, LockRecord, Strategy
from tests.support.memory import make_plan

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DUE = NOW + timedelta(minutes=7)
INTERVAL = timedelta(minutes=20)


def credential(*usernames: str) -> Credential:
    planned = make_plan(strategy=Strategy.ALTERNATING_USERS).credentials[0]
    return structs.replace(
        planned, usernames=usernames, schedule=structs.replace(planned.schedule, interval=INTERVAL)
    )


def record(current: int | None = 41, valid: tuple[int, ...] = (40, 41), **more: object) -> LockRecord:
    known = {"current_generation": current, "valid": frozenset(valid), "next_due_at": DUE}
    return LockRecord(credential_id="app", **{**known, **more})  # type: ignore[arg-type]


def claim(generation: int) -> Claim:
    return Claim(kind=ClaimKind.NEW, generation=generation, base_generation=41, rotation_id="run")


def states(found: LockRecord, holders: dict[int, str], *usernames: str) -> dict[str, LoginState]:
    read = login_states(found, credential(*usernames), holders.get)
    assert [login.username for login in read] == list(usernames)
    return {login.username: login for login in read}


TURNS = {40: "a", 41: "b"}


def test_two_usernames_are_current_and_previous() -> None:
    found = states(record(), TURNS, "a", "b")
    assert (found["b"].state, found["b"].generations, found["b"].dies_at) == (State.CURRENT, (41,), None)
    assert (found["a"].state, found["a"].generations, found["a"].dies_at) == (State.PREVIOUS, (40,), DUE)
    assert found["a"].text(NOW) == "previous, dies in 7m"


def test_after_a_reconcile_the_same_username_is_current_under_its_newest_generation() -> None:
    found = states(record(42, (40, 41, 42)), {**TURNS, 42: "b"}, "a", "b")
    assert (found["b"].state, found["b"].generations) == (State.CURRENT, (42,))
    assert (found["a"].state, found["a"].generations) == (State.PREVIOUS, (40,))


def test_after_an_emergency_the_other_username_is_revoked() -> None:
    found = states(record(valid=(41,)), TURNS, "a", "b")
    assert (found["a"].state, found["a"].generations) == (State.REVOKED, ())
    assert found["a"].text(NOW) == "revoked, new logins are refused"


def test_a_username_whose_generation_is_in_flight_is_in_rotation() -> None:
    found = states(record(claim=claim(42)), {**TURNS, 42: "a"}, "a", "b")
    assert (found["a"].state, found["a"].generations, found["a"].dies_at) == (State.IN_ROTATION, (42,), None)


def test_of_four_usernames_the_one_that_waited_longest_dies_first() -> None:
    held = {38: "c", 39: "d", **TURNS}
    found = states(record(valid=(38, 39, 40, 41)), held, "a", "b", "c", "d")
    assert {u: login.state for u, login in found.items()} == {
        "a": State.PREVIOUS,
        "b": State.CURRENT,
        "c": State.OLDER,
        "d": State.OLDER,
    }
    assert [found[u].dies_at for u in "cda"] == [DUE, DUE + INTERVAL, DUE + 2 * INTERVAL]


def test_a_username_without_a_login_has_its_turn_first() -> None:
    found = states(record(), TURNS, "a", "b", "new")
    assert found["a"].dies_at == DUE + INTERVAL


def test_one_username_is_either_and_no_value_is_read() -> None:
    def read(_: int) -> str | None:
        raise AssertionError

    [login] = login_states(record(), credential("app"), read)
    assert (login.state, login.generations, login.dies_at) == (State.EITHER, (41, 40), DUE)
    assert login.text(NOW) == "current or previous, the latter dies in 7m"
    [alone] = login_states(record(valid=(41,)), credential("app"), read)
    assert (alone.state, alone.generations, alone.dies_at) == (State.CURRENT, (41,), None)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"not_before": NOW + timedelta(minutes=9)}, "previous, dies in 9m"),
        ({"next_due_at": NOW}, "previous, dies with the next run"),
        ({"paused": True}, "previous, dies with the next rotation"),
        ({"next_due_at": None}, "previous, dies with the next rotation"),
        ({"revoke_through": 41}, "previous, must die"),
    ],
)
def test_when_the_previous_login_dies(more: dict[str, Any], text: str) -> None:
    assert states(record(**more), TURNS, "a", "b")["a"].text(NOW) == text


def test_in_an_emergency_the_current_login_must_die_too() -> None:
    found = states(record(revoke_through=41), TURNS, "a", "b")
    assert found["b"].text(NOW) == "current, must die"
    after = states(record(42, (42,), revoke_through=41), {42: "a"}, "a", "b")
    assert after["a"].text(NOW) == "current"


def test_the_promotion_is_an_overlap_before_the_next_may_begin() -> None:
    of = credential("app")
    active = of.plan_digest
    assert promoted_at(record(not_before=DUE, plan=active), of) == DUE - of.schedule.overlap
    assert promoted_at(record(not_before=DUE, plan="another"), of) is None, "its overlap may be another"
    assert promoted_at(record(), of) is None
