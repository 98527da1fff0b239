"""The decisions of the protocol, as tables."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.protocol import decide, errors, model
from lockstep.protocol.decide import Adopt, Begin, Decision, Reconcile, Tried
from lockstep.protocol.messages import Candidate, CandidateRef
from tests.support.memory import make_plan

CREDENTIAL = "multi-cloud/app_user"
EMPTY = model.LockRecord(credential_id=CREDENTIAL)
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _login(password: str, username: str = "app") -> model.Login:
    return model.Login(username, model.SecretStr(password))


def _stored(generation: int, password: str | None = None, *, blob: int | None = None) -> model.StoredValue:
    """A stored value. By default the password is named after the generation."""
    password = password or (f"password-{generation}" if generation else None)
    return model.StoredValue(
        login=_login(password) if password else None,
        generation=generation,
        blob_generation=generation if blob is None else blob,
        version=f"v{generation}-{password}",
    )


PLAN = "sha256-plan"
BOTH = ("db-1", "db-2")


def _record(
    current: int | None = None,
    claim: model.Claim | None = None,
    *,
    promoting: bool = False,
    take_over: tuple[str, ...] = (),
    **more: object,
) -> model.LockRecord:
    fields = {"current_generation": current, "claim": claim, "promoting": promoting, "highest_generation": 8}
    changes = {**fields, "take_over": frozenset(take_over), **more}
    return replace(EMPTY, plan=PLAN, **changes)  # type: ignore[arg-type]  # the tables name fields


def _claim(generation: int, base: int, kind: model.ClaimKind = model.ClaimKind.NEW) -> model.Claim:
    return model.Claim(kind=kind, generation=generation, base_generation=base, rotation_id="run-1")


def _stores(*served: model.StoredValue) -> dict[str, model.StoredValue]:
    return dict(zip(("aws", "oci"), served, strict=False))


def _decision(record: model.LockRecord, *served: model.StoredValue, is_refused: bool = False) -> Decision:
    return decide.decide(record, _stores(*served), plan=PLAN, databases=BOTH, now=NOW, is_refused=is_refused)


TAKEN_OVER = _stored(0, "before")
PLACEHOLDER = _stored(0)
LATER = NOW + timedelta(seconds=1)
FIRST, SEVENTH, RECONCILED = _claim(1, 0), _claim(7, 5), _claim(7, 5, model.ClaimKind.RECONCILE)


EMERGENCY = _record(5, not_before=LATER, revoke_through=5, valid=frozenset({5}))
CASES = {
    # Nothing in flight
    "all agree": (_record(5), _stored(5), _stored(5), Begin(5)),
    "bootstrap": (_record(take_over=BOTH), PLACEHOLDER, PLACEHOLDER, Begin(0)),
    "import": (_record(), TAKEN_OVER, TAKEN_OVER, Reconcile()),
    "lock table lost": (_record(), _stored(57), _stored(57), Reconcile()),
    "one placeholder": (_record(), TAKEN_OVER, PLACEHOLDER, Reconcile()),
    "one edited": (_record(5), _stored(5), _stored(0, "typed"), Reconcile()),
    "both edited to one login": (_record(5), _stored(0, "typed"), _stored(0, "typed"), Reconcile()),
    "copied by hand": (_record(5), _stored(0, "password-5"), _stored(5), Reconcile()),
    "blob edited in the first": (_record(5), _stored(5, blob=0), _stored(5), Reconcile()),
    "blob behind in the second": (_record(5), _stored(5), _stored(5, blob=4), Reconcile()),
    "both moved back": (_record(5), _stored(4), _stored(4), Reconcile()),
    "one moved back": (_record(5), _stored(5), _stored(4), Reconcile()),
    "lock table lost in a promotion": (_record(), _stored(57), _stored(58), Reconcile()),
    "two lock tables": (_record(5), _stored(5, "a"), _stored(5, "b"), Reconcile()),
    "old copy of the lock table": (_record(5), _stored(9), _stored(9), Reconcile()),
    "activation": (_record(5, activate=PLAN), _stored(5), _stored(5), Reconcile()),
    "activation of another plan": (_record(5, activate="another"), _stored(5), _stored(5), Begin(5)),
    "bootstrap, activation": (_record(activate=PLAN, take_over=BOTH), PLACEHOLDER, PLACEHOLDER, Begin(0)),
    "overlap": (_record(5, not_before=LATER), _stored(5), _stored(5), Reconcile()),
    "overlap is over": (_record(5, not_before=NOW), _stored(5), _stored(5), Begin(5)),
    "emergency in an overlap": (EMERGENCY, _stored(5), _stored(5), Begin(5)),
    # An open claim
    "open, overlap": (_record(5, SEVENTH, not_before=LATER), _stored(5), _stored(5), Adopt(SEVENTH)),
    "open": (_record(5, SEVENTH), _stored(5), _stored(5), Adopt(SEVENTH)),
    "open bootstrap": (_record(None, FIRST, take_over=BOTH), PLACEHOLDER, PLACEHOLDER, Adopt(FIRST)),
    "activation, open": (_record(5, SEVENTH, activate=PLAN), _stored(5), _stored(5), Reconcile()),
    "edited, open": (_record(5, SEVENTH), _stored(5), _stored(0, "x"), Reconcile()),
    "open on another base": (_record(5, _claim(7, 4)), _stored(5), _stored(5), Begin(5)),
    "open reconcile, all agree again": (_record(5, RECONCILED), _stored(5), _stored(5), Reconcile()),
    "open reconcile": (_record(5, RECONCILED), _stored(5), _stored(0, "x"), Reconcile()),
    "newer than order": (_record(5, SEVENTH, revoke_through=6), _stored(5), _stored(5), Adopt(SEVENTH)),
    "older than order": (_record(5, SEVENTH, revoke_through=7), _stored(5), _stored(5), Begin(5)),
    "old copy with a claim": (_record(5, SEVENTH), _stored(9), _stored(9), Reconcile()),
    "only the blob is ahead": (_record(5, SEVENTH), _stored(0, "x", blob=9), _stored(5), Reconcile()),
    # A claim in promotion
    "promoting, none served": (_record(5, SEVENTH, promoting=True), _stored(5), _stored(5), Reconcile()),
    "one promoted": (_record(5, SEVENTH, promoting=True), _stored(7), _stored(5), Reconcile()),
    "promoting bootstrap": (_record(None, FIRST, promoting=True), PLACEHOLDER, PLACEHOLDER, Reconcile()),
    # One store
    "one store, as recorded": (_record(5), _stored(5), Begin(5)),
    "one store, blob edited": (_record(5), _stored(5, blob=0), Reconcile()),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_decision_and_where_base_was_refused_in_this_run_a_reconcile(
    case: tuple[model.LockRecord, *tuple[model.StoredValue, ...], Decision],
) -> None:
    record, *served, expected = case
    assert _decision(record, *served) == expected
    assert _decision(record, *served, is_refused=True) == Reconcile()


@pytest.mark.parametrize("claim", [None, FIRST])
@pytest.mark.parametrize("take_over", [(), ("db-1",), ("db-1", "db-3")])
def test_placeholders_need_consent_for_every_database(
    take_over: tuple[str, ...], claim: model.Claim | None
) -> None:
    with pytest.raises(errors.TakeOverNeededError):
        _decision(_record(None, claim, take_over=take_over), PLACEHOLDER, PLACEHOLDER)


RANKED = {
    "newest first": (_record(5), (_stored(0, "a"), _stored(5)), [5, "oci", "aws", 5]),
    "the recorded before the newest": (_record(5), (_stored(4), _stored(6)), [5, "oci", "aws", 6, 4]),
    "promoting before the recorded, what else is valid after the stores": (
        _record(5, SEVENTH, promoting=True, valid=frozenset({4, 5, 7})),
        (_stored(5), _stored(7)),
        [7, 5, "oci", "aws", 7, 5, 4, 7, 5],
    ),
    "not an open claim": (_record(5, SEVENTH), (_stored(4), _stored(5)), [5, "oci", "aws", 5, 4]),
    "above the record": (_record(5), (_stored(5), _stored(9)), ["oci", 5, "oci", "aws", 9, 5]),
    "else the blobs": (_record(), (_stored(0, "a", blob=4), _stored(0, "b")), ["aws", "oci", 4]),
}


@pytest.mark.parametrize(("record", "served", "expected"), RANKED.values(), ids=RANKED)
def test_where_a_reconcile_looks_for_a_login_that_works(
    record: model.LockRecord, served: tuple[model.StoredValue, model.StoredValue], expected: list[int | str]
) -> None:
    assert list(decide.ranked_generations(record, _stores(*served))) == expected


def _candidate(*generations: int, stores: tuple[str, ...] = ()) -> Candidate:
    ref = CandidateRef(store="aws", version=f"generation-{generations[0]}")
    return Candidate(ref=ref, generations=generations, stores=stores)


@pytest.mark.parametrize(
    ("record", "known", "expected"),
    [
        (_record(5), [5, 4], ([3, 2, 1], [8, 7, 6])),
        (_record(5), [5, 4, 8], ([3, 2, 1], [7, 6])),
        (_record(), [9], ([8, 7, 6, 5, 4, 3, 2, 1], [])),
        (_record(claim=FIRST), [], ([], [8, 7, 6, 5, 4, 3, 2, 1])),
        (
            _record(100, highest_generation=10**12),
            [100],
            ([*range(99, 69, -1)], [10**12 - n for n in range(30)]),
        ),
    ],
)
def test_what_was_current_once_and_what_was_only_staged_are_looked_at_from_the_newest(
    record: model.LockRecord, known: list[int], expected: tuple[list[int], list[int]]
) -> None:
    assert decide.superseded_generations(record, map(_candidate, known)) == expected


FINISHED = {
    "promoting": (_record(5, SEVENTH, promoting=True), _stored(7), "run-1", SEVENTH),
    "of another claim": (_record(5, SEVENTH, promoting=True), _stored(7), "run-2", None),
    "is gone": (_record(5, SEVENTH, promoting=True), _stored(7), None, None),
    "open": (_record(5, SEVENTH), _stored(5), "run-1", None),
    "reconcile": (_record(5, RECONCILED), _stored(5), "run-1", RECONCILED),
    "reconcile, not staged yet": (_record(5, RECONCILED), _stored(5), None, RECONCILED),
    "a store is above it": (_record(5, RECONCILED), _stored(8), "run-1", None),
    "a blob is above it": (_record(5, RECONCILED), _stored(0, "a", blob=8), "run-1", None),
    "activation": (_record(5, RECONCILED, activate=PLAN), _stored(5), "run-1", None),
    "nothing in flight": (_record(5), _stored(5), "run-1", None),
}


@pytest.mark.parametrize(("record", "aws", "held", "expected"), FINISHED.values(), ids=FINISHED)
def test_a_claim_is_finished_where_it_gives_the_login_that_was_found(
    record: model.LockRecord, aws: model.StoredValue, held: str | None, expected: model.Claim | None
) -> None:
    winner, stores = _login("found"), _stores(aws, _stored(5))
    value = model.CredentialValue(7, winner, held) if held else None
    assert decide.can_finish(record, stores, plan=PLAN, held=value, winner=winner) == expected
    if value:
        other = _login("other")
        assert decide.can_finish(record, stores, plan=PLAN, held=value, winner=other) is None


def _tried(
    name: str, *works: str, generation: int = 1, served: bool = False, superseded: bool = False
) -> Tried:
    username, _, _ = name.partition("-")
    candidate = _candidate(generation, stores=("aws",) if served else ())
    return Tried(candidate, _login(name, username), frozenset(works), superseded)


TYPED = _tried("app-typed", "db-1", generation=0)


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        ([_tried("app-1", "db-1"), _tried("app-2", *BOTH)], 1),
        ([_tried("app-1"), _tried("app-2", "db-2"), _tried("app-3", "db-1")], 1),
        ([TYPED, _tried("app-2", "db-2")], 1),
        ([TYPED, _tried("app-2")], 1),
        ([_tried("app-typed", *BOTH, generation=0), _tried("app-2", "db-2")], 0),
        ([TYPED], 0),
        ([_tried("app-1"), _tried("app-2")], 0),
    ],
)
def test_what_works_everywhere_wins_and_else_the_first_of_ours(tried: list[Tried], expected: int) -> None:
    assert decide.choose(tried, BOTH) == tried[expected]


DUAL, ALTERNATING = (make_plan(strategy=strategy).credentials[0] for strategy in model.Strategy)
SERVED, VALID, OLD = (
    _tried("app-served", "db-1", served=True),
    _tried("app-valid", "db-1"),
    _tried("app-old", "db-1", superseded=True),
)
SIBLING = _tried("app2-old", "db-1", superseded=True)


@pytest.mark.parametrize(
    ("credential", "tried", "kept", "ended"),
    [
        (DUAL, [OLD, VALID, SERVED], SERVED, [OLD, VALID]),
        (DUAL, [OLD, VALID], VALID, [OLD]),
        (DUAL, [OLD], OLD, []),
        (DUAL, [_tried("app-elsewhere", "db-2")], None, []),
        # The winner's account has one password.
        (ALTERNATING, [SERVED, SIBLING], SIBLING, [SERVED]),
        (ALTERNATING, [SERVED], SERVED, [SERVED]),
    ],
)
def test_a_winner_is_staged_beside_what_a_store_serves_and_ends_the_rest(
    credential: model.Credential, tried: list[Tried], kept: Tried | None, ended: list[Tried]
) -> None:
    winner = _tried("app-winner", "db-2")
    found = decide.kept_beside([winner, *tried], "db-1", winner, credential)
    assert found == kept
    if found:
        assert decide.ended_by([winner, *tried], "db-1", winner, found, credential) == ended


@pytest.mark.parametrize(
    ("record", "served", "is_plausible"),
    [
        (_record(8), (_stored(1_008), _stored(8)), True),
        (_record(8), (_stored(8), _stored(1_009)), False),
        (_record(8), (_stored(8, blob=1_009), _stored(8)), False),
        (_record(8), (_stored(5_000), _stored(4_000)), True),  # The record is an old copy.
        (_record(8), (_stored(5_000),), True),
        (_record(highest_generation=0), (_stored(5_000), _stored(1)), True),
    ],
)
def test_a_generation_far_above_all_others_is_not_ours(
    record: model.LockRecord, served: tuple[model.StoredValue, ...], *, is_plausible: bool
) -> None:
    with nullcontext() if is_plausible else pytest.raises(errors.SecretMalformedError):
        decide.require_plausible(record, _stores(*served))


@given(
    highest=st.integers(0, 100),
    stores=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=3),
)
def test_a_new_generation_is_one_more_than_any_seen(highest: int, stores: list[tuple[int, int]]) -> None:
    record = replace(EMPTY, highest_generation=highest)
    generation = decide.next_generation(record, [_stored(g, blob=b) for g, b in stores])
    assert generation == max(highest, *(max(pair) for pair in stores)) + 1


@pytest.mark.parametrize("claim", [SEVENTH, RECONCILED])
def test_valid_is_what_may_have_been_served_and_is_not_shown_to_be_revoked(claim: model.Claim) -> None:
    """A rule about leaks: whoever read a value that a store has served can use it (protocol C11)."""
    record = _record(5, claim, valid=frozenset({3, 4, 5}))
    schedule = make_plan().credentials[0].schedule
    for revoked, valid in ((frozenset[int](), {3, 4, 5, 7}), (frozenset({3, 4}), {5, 7})):
        release = decide.release_after(
            claim, record, schedule, revoked=revoked, proven=BOTH, started=NOW, promoted=NOW
        )
        assert release.valid == valid


# Whose turn it is among a credential's usernames (protocol C4)


@pytest.mark.parametrize(
    ("usernames", "base", "expected"),
    [
        (("a",), "a", "a"),
        (("a", "b"), "a", "b"),
        (("a", "b"), "b", "a"),
        (("a", "b"), None, "a"),
        (("a", "b"), "x", None),
    ],
)
def test_the_next_username_is_the_one_that_base_does_not_have(
    usernames: Sequence[str], base: str | None, expected: str | None
) -> None:
    with nullcontext() if expected else pytest.raises(errors.UnknownUsernameError):
        login = _login("password", base) if base else None
        assert decide.next_username(usernames, base=login) == expected
