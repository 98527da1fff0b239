"""The decisions of the protocol, as tables."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.protocol import decide
from lockstep.protocol.decide import Adopt, Begin, Decision, Reconcile
from lockstep.protocol.errors import TakeOverNeededError
from lockstep.protocol.model import (
    Claim,
    ClaimKind,
    Lease,
    LockRecord,
    Login,
    Release,
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


PLAN = "sha256-plan"
BASE = replace(EMPTY, plan=PLAN)
BOTH = ("db-1", "db-2")


def _record(
    current: int | None = None,
    claim: Claim | None = None,
    *,
    promoting: bool = False,
    take_over: tuple[str, ...] = (),
    **more: object,
) -> LockRecord:
    changes = {
        "current_generation": current,
        "claim": claim,
        "promoting": promoting,
        "take_over": frozenset(take_over),
        "highest_generation": 8,
        **more,
    }
    return replace(BASE, **changes)  # type: ignore[arg-type]  # the tables name fields


def _claim(generation: int, base: int, kind: ClaimKind = ClaimKind.NEW) -> Claim:
    return Claim(kind=kind, generation=generation, base_generation=base, rotation_id="run-1")


def _decision(record: LockRecord, *served: StoredValue, refused: int | None = None) -> Decision:
    names = ("aws", "oci")
    return decide.decide(
        record, dict(zip(names, served, strict=False)), plan=PLAN, databases=BOTH, refused=refused
    )


TAKEN_OVER = _stored(0, "before")
PLACEHOLDER = _stored(0)
FIRST, SEVENTH, RECONCILED = _claim(1, 0), _claim(7, 5), _claim(7, 5, ClaimKind.RECONCILE)


@pytest.mark.parametrize(
    ("record", "aws", "oci", "expected"),
    [
        # Nothing in flight
        pytest.param(_record(5), _stored(5), _stored(5), Begin(5), id="all agree"),
        pytest.param(_record(take_over=BOTH), PLACEHOLDER, PLACEHOLDER, Begin(0), id="bootstrap"),
        pytest.param(_record(), TAKEN_OVER, TAKEN_OVER, Reconcile(), id="import"),
        pytest.param(_record(), _stored(57), _stored(57), Reconcile(), id="lock table lost"),
        pytest.param(_record(), TAKEN_OVER, PLACEHOLDER, Reconcile(), id="one placeholder"),
        pytest.param(_record(), _stored(0, "a"), _stored(0, "b"), Reconcile(), id="two logins to take over"),
        pytest.param(_record(5), _stored(5), _stored(0, "typed"), Reconcile(), id="one edited"),
        pytest.param(
            _record(5), _stored(0, "typed"), _stored(0, "typed"), Reconcile(), id="both edited to one login"
        ),
        pytest.param(_record(5), PLACEHOLDER, PLACEHOLDER, Reconcile(), id="both edited to placeholders"),
        pytest.param(_record(5), _stored(0, "password-5"), _stored(5), Reconcile(), id="copied by hand"),
        pytest.param(_record(5), _stored(5, blob=0), _stored(5), Reconcile(), id="blob edited in the first"),
        pytest.param(_record(5), _stored(5), _stored(5, blob=4), Reconcile(), id="blob behind in the second"),
        pytest.param(
            _record(5), _stored(5, blob=4), _stored(5, blob=4), Reconcile(), id="blob behind in both"
        ),
        pytest.param(_record(5), _stored(4), _stored(4), Reconcile(), id="both moved back"),
        pytest.param(_record(5), _stored(5), _stored(4), Reconcile(), id="one moved back"),
        pytest.param(_record(), _stored(57), _stored(58), Reconcile(), id="lock table lost in a promotion"),
        pytest.param(_record(5), _stored(5, "a"), _stored(5, "b"), Reconcile(), id="two lock tables"),
        pytest.param(_record(5), _stored(9), _stored(9), Reconcile(), id="old copy of the lock table"),
        pytest.param(_record(5, activate=PLAN), _stored(5), _stored(5), Reconcile(), id="activation"),
        pytest.param(
            _record(5, activate="another"), _stored(5), _stored(5), Begin(5), id="activation of another plan"
        ),
        pytest.param(
            _record(activate=PLAN, take_over=BOTH),
            PLACEHOLDER,
            PLACEHOLDER,
            Begin(0),
            id="activation with a bootstrap",
        ),
        # An open claim
        pytest.param(_record(5, SEVENTH), _stored(5), _stored(5), Adopt(SEVENTH), id="open"),
        pytest.param(
            _record(None, FIRST, take_over=BOTH), PLACEHOLDER, PLACEHOLDER, Adopt(FIRST), id="open bootstrap"
        ),
        pytest.param(
            _record(5, SEVENTH, activate=PLAN), _stored(5), _stored(5), Reconcile(), id="activation, open"
        ),
        pytest.param(_record(5, SEVENTH), _stored(5), _stored(0, "x"), Reconcile(), id="edited, open"),
        pytest.param(_record(5, SEVENTH), _stored(4), _stored(5), Reconcile(), id="one moved back, open"),
        pytest.param(_record(5, SEVENTH), _stored(4), _stored(4), Reconcile(), id="both moved back, open"),
        pytest.param(_record(5, _claim(7, 4)), _stored(5), _stored(5), Begin(5), id="open on another base"),
        pytest.param(
            _record(5, RECONCILED), _stored(5), _stored(5), Reconcile(), id="open reconcile, all agree again"
        ),
        pytest.param(_record(5, RECONCILED), _stored(5), _stored(0, "x"), Reconcile(), id="open reconcile"),
        pytest.param(
            _record(5, SEVENTH, revoke_through=6),
            _stored(5),
            _stored(5),
            Adopt(SEVENTH),
            id="newer than order",
        ),
        pytest.param(
            _record(5, SEVENTH, revoke_through=7), _stored(5), _stored(5), Begin(5), id="older than order"
        ),
        pytest.param(_record(5, SEVENTH), _stored(9), _stored(9), Reconcile(), id="old copy with a claim"),
        pytest.param(
            _record(5, SEVENTH), _stored(0, "x", blob=9), _stored(5), Reconcile(), id="only the blob is ahead"
        ),
        # A claim in promotion
        pytest.param(
            _record(5, SEVENTH, promoting=True),
            _stored(5),
            _stored(5),
            Reconcile(),
            id="promoting, none served",
        ),
        pytest.param(
            _record(5, SEVENTH, promoting=True), _stored(7), _stored(5), Reconcile(), id="one promoted"
        ),
        pytest.param(
            _record(5, SEVENTH, promoting=True), _stored(7), _stored(7), Reconcile(), id="all promoted"
        ),
        pytest.param(
            _record(5, SEVENTH, promoting=True),
            _stored(7, blob=5),
            _stored(5),
            Reconcile(),
            id="half a store",
        ),
        pytest.param(
            _record(None, FIRST, promoting=True),
            PLACEHOLDER,
            PLACEHOLDER,
            Reconcile(),
            id="promoting bootstrap",
        ),
    ],
)
def test_the_decision_with_two_stores(
    record: LockRecord, aws: StoredValue, oci: StoredValue, expected: Decision
) -> None:
    assert _decision(record, aws, oci) == expected


@pytest.mark.parametrize(
    ("record", "only", "expected"),
    [
        pytest.param(_record(5), _stored(5), Begin(5), id="as recorded"),
        pytest.param(_record(5), _stored(0, "typed"), Reconcile(), id="edited"),
        pytest.param(_record(5), _stored(5, blob=0), Reconcile(), id="blob edited"),
        pytest.param(_record(), _stored(0, "before"), Reconcile(), id="import"),
        pytest.param(_record(5, SEVENTH), _stored(5), Adopt(SEVENTH), id="open"),
        pytest.param(_record(5, SEVENTH, promoting=True), _stored(5), Reconcile(), id="promoting"),
    ],
)
def test_the_decision_with_one_store(record: LockRecord, only: StoredValue, expected: Decision) -> None:
    assert _decision(record, only) == expected


def test_a_claim_that_a_policy_refused_in_this_run_is_not_adopted() -> None:
    record, served = _record(5, SEVENTH), (_stored(5), _stored(5))
    assert _decision(record, *served, refused=7) == Begin(5)
    assert _decision(record, *served, refused=6) == Adopt(SEVENTH)


@pytest.mark.parametrize("claim", [None, FIRST])
@pytest.mark.parametrize("take_over", [(), ("db-1",), ("db-1", "db-3")])
def test_placeholders_alone_need_every_database_under_take_over(
    take_over: tuple[str, ...], claim: Claim | None
) -> None:
    with pytest.raises(TakeOverNeededError):
        _decision(_record(None, claim, take_over=take_over), PLACEHOLDER, PLACEHOLDER)


@pytest.mark.parametrize(
    ("record", "served", "expected"),
    [
        pytest.param(_record(5), (_stored(0, "typed"), _stored(5)), [5, "oci", "aws"], id="newest first"),
        pytest.param(
            _record(5), (_stored(4), _stored(6)), [5, "oci", "aws"], id="the recorded before the newest"
        ),
        pytest.param(
            _record(5, SEVENTH, promoting=True, valid=frozenset({4, 5, 7})),
            (_stored(5), _stored(7)),
            [7, 5, "oci", "aws", 7, 5, 4],
            id="promoting before the recorded, what else is valid at the end",
        ),
        pytest.param(
            _record(5, SEVENTH), (_stored(4), _stored(5)), [5, "oci", "aws"], id="not an open claim"
        ),
        pytest.param(
            _record(), (_stored(0, "a"), _stored(0, "b")), ["aws", "oci"], id="else the plan's order"
        ),
    ],
)
def test_where_a_reconcile_looks_for_a_login_that_works(
    record: LockRecord, served: tuple[StoredValue, StoredValue], expected: list[int | str]
) -> None:
    found = decide.ranked_generations(record, dict(zip(("aws", "oci"), served, strict=True)))
    assert list(found) == expected


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


SCHEDULE = Schedule(
    interval=timedelta(minutes=20), overlap=timedelta(minutes=18), tolerance=timedelta(minutes=1)
)


def _release(
    claim: Claim,
    record: LockRecord,
    *,
    revoked: frozenset[int] = frozenset(),
    started: datetime = NOW,
    promoted: datetime = NOW,
) -> Release:
    return decide.release_after(
        claim, record, SCHEDULE, revoked=revoked, proven=BOTH, started=started, promoted=promoted
    )


def test_the_schedule_counts_from_the_start_and_the_overlap_from_the_promotion() -> None:
    release = _release(SEVENTH, _record(5), promoted=NOW + timedelta(seconds=30))
    assert release.next_due_at == NOW + timedelta(minutes=19)
    assert release.not_before == NOW + timedelta(minutes=18, seconds=30)
    assert (release.current_generation, release.proven) == (7, BOTH)


@pytest.mark.parametrize("claim", [SEVENTH, RECONCILED])
def test_valid_is_what_may_have_been_served_and_is_not_shown_to_be_revoked(claim: Claim) -> None:
    """A rule about leaks: whoever read a value that a store has served can use it (protocol C11)."""
    record = _record(5, claim, valid=frozenset({3, 4, 5}))
    assert _release(claim, record).valid == {3, 4, 5, 7}
    assert _release(claim, record, revoked=frozenset({3, 4})).valid == {5, 7}


@given(late=st.integers(0, 60), early=st.integers(0, 60))
def test_a_trigger_within_the_tolerance_is_never_lost(late: int, early: int) -> None:
    # A rotation that promotes within a minute of its start is finished before the next trigger counts as early.
    promoted = NOW + timedelta(seconds=late)
    release = _release(SEVENTH, _record(5), promoted=promoted)
    trigger = NOW + SCHEDULE.interval - timedelta(seconds=early)
    assert release.next_due_at <= trigger
    assert release.not_before <= trigger
