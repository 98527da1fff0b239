"""The decisions of the protocol, as tables."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep import decide
from lockstep.decide import Adopt, Begin, Candidate, Decision, Heal
from lockstep.errors import StoresDivergedError, UnknownUsernameError
from lockstep.model import (
    Claim,
    ClaimKind,
    Lease,
    LockRecord,
    Login,
    Schedule,
    SecretStr,
    StoredValue,
)

CREDENTIAL = "multi-cloud/app_user"
EMPTY = LockRecord(credential_id=CREDENTIAL)
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _login(password: str, username: str = "app") -> Login:
    return Login(username, SecretStr(password))


def _stored(generation: int, password: str | None = None, *, blob: int | None = None) -> StoredValue:
    """A stored value. By default the password is named after the generation."""
    password = password or (f"password-{generation}" if generation else None)
    return StoredValue(
        login=_login(password) if password else None,
        generation=generation,
        blob_generation=generation if blob is None else blob,
        version=f"v{generation}-{password}",
    )


def _record(current: int | None = None, claim: Claim | None = None) -> LockRecord:
    return replace(EMPTY, current_generation=current, claim=claim)


def _claim(generation: int, base: int, kind: ClaimKind = ClaimKind.NEW) -> Claim:
    return Claim(
        kind=kind, generation=generation, base_generation=base, previous_generation=None, rotation_id="run-1"
    )


TAKEN_OVER = _stored(0, "before")
PLACEHOLDER = _stored(0)
FIRST, SEVENTH, HEALED = _claim(1, 0), _claim(7, 5), _claim(7, 5, ClaimKind.HEAL)


@pytest.mark.parametrize(
    ("record", "aws", "oci", "expected"),
    [
        # Nothing in flight
        pytest.param(_record(), TAKEN_OVER, TAKEN_OVER, Begin(0), id="take over"),
        pytest.param(_record(), PLACEHOLDER, PLACEHOLDER, Begin(0), id="bootstrap"),
        pytest.param(_record(5), _stored(5), _stored(5), Begin(5), id="all agree"),
        pytest.param(_record(), _stored(57), _stored(57), Begin(57), id="lock table lost"),
        pytest.param(_record(), TAKEN_OVER, PLACEHOLDER, Heal(), id="one placeholder"),
        pytest.param(_record(), _stored(0, "a"), _stored(0, "b"), Heal(), id="two logins to take over"),
        pytest.param(_record(5), _stored(5), _stored(0, "typed"), Heal(), id="one edited"),
        pytest.param(
            _record(5), _stored(0, "typed"), _stored(0, "typed"), Heal(), id="both edited to one login"
        ),
        pytest.param(_record(5), _stored(0, "password-5"), _stored(5), Heal(), id="copied by hand"),
        pytest.param(_record(5), _stored(5, blob=0), _stored(5), Heal(), id="blob edited in the first"),
        pytest.param(_record(5), _stored(5), _stored(5, blob=4), Heal(), id="blob behind in the second"),
        pytest.param(_record(5), _stored(5, blob=4), _stored(5, blob=4), Heal(), id="blob behind in both"),
        pytest.param(_record(5), _stored(4), _stored(4), Heal(), id="both rolled back"),
        pytest.param(_record(5), _stored(5), _stored(4), Heal(), id="one behind"),
        pytest.param(_record(), _stored(57), _stored(58), Heal(), id="lock table lost in a promotion"),
        pytest.param(_record(5), _stored(5, "a"), _stored(5, "b"), Heal(), id="two lock tables"),
        pytest.param(_record(5), _stored(9), _stored(9), Heal(), id="old copy of the lock table"),
        # A generation in flight
        pytest.param(_record(5, SEVENTH), _stored(5), _stored(5), Adopt(SEVENTH), id="nothing promoted"),
        pytest.param(_record(5, SEVENTH), _stored(7), _stored(5), Adopt(SEVENTH), id="one promoted"),
        pytest.param(_record(5, SEVENTH), _stored(7), _stored(7), Adopt(SEVENTH), id="all promoted"),
        pytest.param(_record(5, SEVENTH), _stored(7, blob=5), _stored(5), Adopt(SEVENTH), id="half a store"),
        pytest.param(_record(None, FIRST), TAKEN_OVER, TAKEN_OVER, Adopt(FIRST), id="taken over, in flight"),
        pytest.param(_record(None, FIRST), PLACEHOLDER, PLACEHOLDER, Adopt(FIRST), id="bootstrap, in flight"),
        pytest.param(
            _record(None, FIRST), _stored(1), TAKEN_OVER, Adopt(FIRST), id="taken over, one promoted"
        ),
        pytest.param(_record(5, SEVENTH), _stored(5), _stored(0, "x"), Heal(SEVENTH), id="edited in flight"),
        pytest.param(_record(5, SEVENTH), _stored(4), _stored(5), Heal(SEVENTH), id="rolled back in flight"),
        pytest.param(
            _record(None, FIRST), TAKEN_OVER, _stored(0, "x"), Heal(FIRST), id="edited in the first flight"
        ),
        pytest.param(_record(5, HEALED), _stored(5), _stored(0, "x"), Heal(HEALED), id="heal, in flight"),
        pytest.param(_record(5, HEALED), _stored(7), _stored(7), Heal(HEALED), id="heal, all promoted"),
        pytest.param(_record(5, SEVENTH), _stored(9), _stored(9), Heal(), id="old copy with a claim"),
        pytest.param(_record(5, HEALED), _stored(9), _stored(9), Heal(), id="old copy with a heal"),
        pytest.param(
            _record(5, SEVENTH), _stored(0, "x", blob=9), _stored(5), Heal(), id="only the blob is ahead"
        ),
    ],
)
def test_the_decision_with_two_stores(
    record: LockRecord, aws: StoredValue, oci: StoredValue, expected: Decision
) -> None:
    assert decide.decide(record, {"aws": aws, "oci": oci}) == expected


@pytest.mark.parametrize(
    ("record", "only", "expected"),
    [
        pytest.param(_record(5), _stored(5), Begin(5), id="as recorded"),
        pytest.param(_record(5), _stored(0, "typed"), Heal(), id="edited"),
        pytest.param(_record(5), _stored(5, blob=0), Heal(), id="blob edited"),
        pytest.param(_record(), _stored(0, "before"), Begin(0), id="take over"),
        pytest.param(_record(5, SEVENTH), _stored(5), Adopt(SEVENTH), id="in flight"),
    ],
)
def test_the_decision_with_one_store(record: LockRecord, only: StoredValue, expected: Decision) -> None:
    assert decide.decide(record, {"aws": only}) == expected


@pytest.mark.parametrize(
    ("record", "current", "expected"),
    [
        pytest.param(
            _record(5),
            {"aws": _stored(0, "typed"), "oci": _stored(5)},
            ["oci", "aws"],
            id="the recorded first",
        ),
        pytest.param(
            _record(5), {"aws": _stored(4), "oci": _stored(6)}, ["oci", "aws"], id="then the newest"
        ),
        pytest.param(
            _record(5),
            {"aws": _stored(6), "oci": _stored(5)},
            ["oci", "aws"],
            id="the recorded before the newest",
        ),
        pytest.param(
            _record(),
            {"aws": _stored(0, "a"), "oci": _stored(0, "b")},
            ["aws", "oci"],
            id="else the plan's order",
        ),
        pytest.param(
            _record(5), {"aws": _stored(0, "password-5"), "oci": _stored(5)}, ["oci"], id="each login once"
        ),
        pytest.param(_record(), {"aws": PLACEHOLDER, "oci": TAKEN_OVER}, ["oci"], id="no placeholder"),
        pytest.param(_record(), {"aws": PLACEHOLDER, "oci": PLACEHOLDER}, [], id="only placeholders"),
    ],
)
def test_candidates_for_a_heal(
    record: LockRecord, current: Mapping[str, StoredValue], expected: list[str]
) -> None:
    found = decide.candidates(record, current)
    assert [c.store for c in found] == expected
    assert all(c.version == current[c.store].version for c in found)


A, B = Candidate(store="aws", version="a"), Candidate(store="oci", version="b")


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ({"db-1": [True, True], "db-2": [True, True]}, A),
        ({"db-1": [False, True], "db-2": [False, True]}, B),
        ({"db-1": [False, True], "db-2": [True, True]}, B),
        ({"db-1": [True, False], "db-2": [True, True]}, A),
    ],
)
def test_the_first_candidate_that_logs_in_everywhere_wins(
    accepted: Mapping[str, list[bool]], expected: Candidate
) -> None:
    assert decide.winner([A, B], accepted) == expected


@pytest.mark.parametrize(
    "accepted",
    [{"db-1": [True, False], "db-2": [False, True]}, {"db-1": [False, False], "db-2": [True, True]}],
)
def test_without_a_winner_the_stores_have_diverged(accepted: Mapping[str, list[bool]]) -> None:
    with pytest.raises(StoresDivergedError):
        decide.winner([A, B], accepted)


def test_without_candidates_the_stores_have_diverged() -> None:
    with pytest.raises(StoresDivergedError):
        decide.winner([], {"db-1": [], "db-2": []})


@given(
    fence=st.integers(1, 100),
    highest=st.integers(0, 100),
    stores=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=3),
)
def test_a_new_generation_is_higher_than_any_seen(
    fence: int, highest: int, stores: list[tuple[int, int]]
) -> None:
    lease = Lease(credential_id=CREDENTIAL, holder="run-1", fence=fence)
    record = replace(EMPTY, highest_generation=highest)
    generation = decide.next_generation(lease, record, [_stored(g, blob=b) for g, b in stores])
    assert generation >= fence
    assert generation > highest
    assert all(generation > g and generation > b for g, b in stores)
    seen = max(highest, *(max(pair) for pair in stores))
    assert generation in {fence, seen + 1}


def test_the_generation_is_normally_the_fence() -> None:
    lease = Lease(credential_id=CREDENTIAL, holder="run-1", fence=8)
    assert decide.next_generation(lease, replace(EMPTY, highest_generation=7), [_stored(7)]) == 8


@pytest.mark.parametrize(
    ("kind", "previous"), [(ClaimKind.NEW, 4), (ClaimKind.HEAL, None)], ids=["new", "heal: nothing dies"]
)
def test_a_claim_names_the_generation_that_must_be_dead(kind: ClaimKind, previous: int | None) -> None:
    lease = Lease(credential_id=CREDENTIAL, holder="run-6", fence=6)
    record = replace(EMPTY, current_generation=5, previous_generation=4, highest_generation=5)
    assert decide.next_claim(kind, lease, record, {"aws": _stored(5)}, base_generation=5) == Claim(
        kind=kind, generation=6, base_generation=5, previous_generation=previous, rotation_id="run-6"
    )


@pytest.mark.parametrize(
    ("usernames", "base", "expected"),
    [
        (("app",), None, "app"),
        (("app",), "app", "app"),
        (("app_a", "app_b"), None, "app_a"),
        (("app_a", "app_b"), "app_a", "app_b"),
        (("app_a", "app_b"), "app_b", "app_a"),
    ],
)
def test_the_username_that_gets_the_new_password(
    usernames: tuple[str, ...], base: str | None, expected: str
) -> None:
    login = _login("x", base) if base else None
    assert decide.next_username(usernames, login) == expected


@pytest.mark.parametrize("usernames", [("app",), ("app_a", "app_b")])
def test_a_username_that_is_not_in_the_plan_is_an_error(usernames: tuple[str, ...]) -> None:
    with pytest.raises(UnknownUsernameError):
        decide.next_username(usernames, _login("x", "root"))


SCHEDULE = Schedule(
    interval=timedelta(minutes=20), overlap=timedelta(minutes=18), tolerance=timedelta(minutes=1)
)


def test_the_schedule_counts_from_the_start_and_the_overlap_from_the_promotion() -> None:
    release = decide.release_after(
        SEVENTH, _record(5), SCHEDULE, started=NOW, promoted=NOW + timedelta(seconds=30)
    )
    assert release.next_due_at == NOW + timedelta(minutes=19)
    assert release.not_before == NOW + timedelta(minutes=18, seconds=30)
    assert (release.current_generation, release.previous_generation) == (7, 5)


def test_after_a_heal_previous_stays_the_same() -> None:
    record = replace(_record(5), previous_generation=4)
    release = decide.release_after(HEALED, record, SCHEDULE, started=NOW, promoted=NOW)
    assert (release.current_generation, release.previous_generation) == (7, 4)


@given(late=st.integers(0, 60), early=st.integers(0, 60))
def test_a_trigger_within_the_tolerance_is_never_lost(late: int, early: int) -> None:
    # A rotation that promotes within a minute of its start is finished before the next trigger counts as early.
    promoted = NOW + timedelta(seconds=late)
    release = decide.release_after(SEVENTH, _record(5), SCHEDULE, started=NOW, promoted=promoted)
    trigger = NOW + SCHEDULE.interval - timedelta(seconds=early)
    assert release.next_due_at <= trigger
    assert release.not_before <= trigger
