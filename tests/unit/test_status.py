"""What `lockstep status` and `lockstep sessions` say: the next run, generations and logins, and open sessions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from lockstep.databases.sessions import NotCountable, OpenSession, SessionList
from lockstep.operate import sessions, state
from lockstep.operate.documents import Login as LoginState
from lockstep.operate.documents import Run, SessionsOfCredential
from lockstep.operate.sessions import MOST_CLIENTS, counted, is_unreachable, login_states
from lockstep.operate.state import forecast, in_sync, possible, promoted_at, state_of
from lockstep.protocol.errors import (
    AdminCredentialRejectedError,
    DatabaseUnreachableError,
)
from lockstep.protocol.model import (
    Claim,
    ClaimKind,
    Credential,
    LockRecord,
    Login,
    SecretStr,
    StoredValue,
    Strategy,
)
from lockstep.protocol.ports import Table
from lockstep.stores.credential import StoredNames
from tests.support.memory import make_plan

# The forecast of the next run

CREDENTIAL = "multi-cloud/app_user"
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOON, BEFORE = NOW + timedelta(minutes=5), NOW - timedelta(minutes=5)
LOGIN = Login("app", SecretStr("a"))
CLAIM = Claim(kind=ClaimKind.NEW, generation=8, base_generation=7, rotation_id="run-8")
PLANNED = make_plan().credentials[0]
BOTH = frozenset(PLANNED.databases)


def stored(generation: int = 7, login: Login | None = LOGIN, blob: int | None = None) -> StoredValue:
    return StoredValue(
        login=login,
        generation=generation,
        blob_generation=generation if blob is None else blob,
        version=f"v{generation}",
    )


def record(**more: object) -> LockRecord:
    known = {"current_generation": 7, "valid": frozenset({6, 7}), "plan": PLANNED.plan_digest}
    return LockRecord(credential_id=CREDENTIAL, **{**known, **more})  # type: ignore[arg-type]


NEVER, LEAKED = {"current_generation": None}, {"revoke_through": 7}
Forecast = tuple[LockRecord, list[StoredValue], bool, str, str | None]
FORECASTS: dict[str, Forecast] = {
    "due": (record(), [stored(), stored()], True, "rotate", None),
    "import": (record(**NEVER), [stored(0)], True, "reconcile", None),
    "not due": (record(next_due_at=SOON, not_before=BEFORE), [stored()], True, "rotate", "not due"),
    "overlap": (record(next_due_at=BEFORE, not_before=SOON), [stored()], True, "reconcile", None),
    "held": (record(holder="run-8", expires_at=SOON), [stored()], True, "rotate", "run-8 holds"),
    "no end": (record(holder="run-8"), [stored()], True, "rotate", "until somebody gives it back"),
    "holder is dead": (record(holder="run-8", expires_at=BEFORE), [stored()], True, "rotate", None),
    "half done": (record(claim=CLAIM, next_due_at=SOON), [stored(), stored()], True, "finish", None),
    "promoted": (record(claim=CLAIM, promoting=True), [stored(8), stored(8)], True, "reconcile", None),
    "half promoted": (record(claim=CLAIM, promoting=True), [stored(8), stored(7)], False, "reconcile", None),
    "edited": (record(), [stored(0), stored()], False, "reconcile", None),
    "edited everywhere": (record(), [stored(0), stored(0)], False, "reconcile", None),
    "blob behind": (record(), [stored(7, blob=6)], False, "reconcile", None),
    "placeholder": (record(**NEVER), [stored(0, login=None)], False, "stop", None),
    "bootstrap": (record(take_over=BOTH, **NEVER), [stored(0, login=None)], False, "rotate", None),
    "another plan": (record(plan="of-another-plan"), [stored()], True, "stop", None),
    "activation": (record(plan=None, activate=PLANNED.plan_digest), [stored()], True, "reconcile", None),
    "blocked": (record(blocked=BOTH), [stored()], True, "stop", None),
    "paused": (record(paused=True), [stored()], True, "rotate", "paused"),
    "emergency": (record(next_due_at=SOON, not_before=SOON, **LEAKED), [stored()], True, "rotate", None),
    "emergency, paused": (record(paused=True, **LEAKED), [stored()], True, "rotate", "paused"),
}


def names_of(value: StoredValue) -> StoredNames:
    return StoredNames(
        generation=value.generation, blob_generation=value.blob_generation, version=value.version
    )


DECIDED_BY_VALUES = {"import", "placeholder", "bootstrap"}
"""Nothing was rotated yet, so the stores hold what Lockstep did not write: names do not say what."""


@pytest.mark.parametrize("name", FORECASTS)
def test_the_forecast_follows_the_rules_and_names_tell_the_same_or_nothing(name: str) -> None:
    """By values it follows Acquire and Generate; what names tell is that, never something else (ADR 59)."""
    lock_record, values, expected_in_sync, action, waits_for = FORECASTS[name]
    by_values = possible({f"store-{n}": v for n, v in enumerate(values)})
    by_names = possible({f"store-{n}": names_of(v) for n, v in enumerate(values)})
    found, named = (forecast(lock_record, cases, PLANNED, now=NOW) for cases in (by_values, by_names))
    assert (in_sync(lock_record, by_values), found.action) == (expected_in_sync, action)
    assert (waits_for or "") in (found.waits_for.meaning if found.waits_for else "")
    assert (waits_for is None) == (found.waits_for is None) == (named.waits_for is None)
    if name in DECIDED_BY_VALUES:
        assert (in_sync(lock_record, by_names), named.action) == (None, None)
        assert "if the stores hold placeholders only" in named.meaning
    else:
        assert (in_sync(lock_record, by_names), named.action) == (expected_in_sync, action)


# What a person is told of it


def table(lock_record: LockRecord) -> Table:
    return Table(records={PLANNED.id: lock_record}, unreadable={})


def told(lock_record: LockRecord, last_run: Run | None = None, *, has_standby: bool = True) -> list[str]:
    runs = [last_run] if last_run else []
    plan = make_plan(stores=2 if has_standby else 1)
    found = state_of(plan, table(lock_record), PLANNED, NOW, runs=runs)
    return list(state.lines(found, NOW))


PROVEN = Run(
    credential=PLANNED.id,
    cloud="aws",
    seq=7,
    rotation_id="run-7",
    ended_at=datetime(2026, 1, 1, tzinfo=UTC),
    outcome="rotated",
    kind="new",
    generation=7,
    base_generation=6,
)
TWO = record(valid=frozenset({6, 7}), not_before=SOON)
OLDER = replace(TWO, valid=frozenset({5, 6, 7}))
MAY_BE = "may be valid; no run ends it before "
VALIDITY: dict[str, tuple[LockRecord, Run | None, list[str]]] = {
    "proven": (OLDER, PROVEN, ["6: proven by the last run, valid until ", f"5: {MAY_BE}"]),
    "a reconcile proves nothing of the one before": (
        *(OLDER, structs.replace(PROVEN, kind="reconcile")),
        [f"6: {MAY_BE}", f"5: {MAY_BE}"],
    ),
    "the last run is of another generation": (TWO, structs.replace(PROVEN, generation=6), [f"6: {MAY_BE}"]),
    "no run is on record": (TWO, None, [f"6: {MAY_BE}"]),
    "the overlap is over": (
        *(replace(TWO, not_before=BEFORE), PROVEN),
        ["6: may be valid; the next rotation may end it"],
    ),
    "an emergency": (
        *(replace(TWO, revoke_through=6), PROVEN),
        ["6: must be revoked, by the emergency order"],
    ),
    # The record counts it as valid, and it follows the current one (protocol C11).
    "in promotion": (
        *(replace(TWO, claim=CLAIM, promoting=True, valid=frozenset({6, 7, 8})), PROVEN),
        ["6: proven by the last run"],
    ),
}


@pytest.mark.parametrize("case", VALIDITY.values(), ids=VALIDITY)
def test_only_what_the_last_run_has_proven_is_valid(
    case: tuple[LockRecord, Run | None, list[str]],
) -> None:
    lock_record, last_run, expected = case
    found = [line for line in told(lock_record, last_run) if line.startswith("previous generation ")]
    assert len(found) == len(expected)
    for line, begins in zip(found, expected, strict=True):
        assert line.startswith(f"previous generation {begins}")


LATER = NOW + timedelta(minutes=18)


@pytest.mark.parametrize(
    ("found", "has_standby", "said"),
    [
        (record(next_due_at=SOON), True, "; the turn of oci, the standby"),
        (record(next_due_at=SOON), False, "; the turn of aws"),
        (record(next_due_at=LATER), True, "; the turn of aws"),
        (record(next_due_at=SOON, not_before=LATER), True, "; the turn of aws"),
        (record(next_due_at=BEFORE, paused=True), True, "; paused, so no scheduled run begins"),
        (record(next_due_at=BEFORE), True, ", overdue; the turn of aws"),
    ],
)
def test_whose_turn_it_is(found: LockRecord, said: str, *, has_standby: bool) -> None:
    [due] = [line for line in told(found, has_standby=has_standby) if line.startswith("next due")]
    assert due.endswith(f"){said}")


# Sessions

DUE = NOW + timedelta(minutes=7)
PROMOTED = NOW - timedelta(minutes=5)


def with_usernames(usernames: str) -> Credential:
    planned = make_plan(strategy=Strategy.ALTERNATING_USERS).credentials[0]
    return structs.replace(planned, usernames=tuple(usernames))


def at(*valid: int, current: int | None = 41, **more: object) -> LockRecord:
    return record(current_generation=current, valid=frozenset(valid), next_due_at=DUE, **more)


TURNS = {40: "a", 41: "b", 42: "a", 43: "b"}
"""The username of each generation."""
LOGINS: dict[str, tuple[LockRecord, str, str]] = {
    "two usernames": (at(40, 41), "ab", "a previous 40; b current 41"),
    "never rotated": (at(current=None), "ab", "a not rotated yet; b not rotated yet"),
    "after a reconcile": (at(40, 41, 43, current=43), "ab", "a previous 40; b current 43"),
    "after an emergency": (at(41), "ab", "a revoked; b current 41"),
    "in flight": (
        at(40, 41, claim=structs.replace(CLAIM, generation=42, base_generation=41)),
        "ab",
        "a in rotation 42; b current 41",
    ),
    # Which of both a server does not say, and no value is read for it.
    "one username": (at(40, 41), "x", "x current or previous 41 40"),
    "one username and one generation": (at(41), "x", "x current 41"),
}


@pytest.mark.parametrize(("found", "usernames", "expected"), LOGINS.values(), ids=LOGINS)
def test_each_login_has_a_state(found: LockRecord, usernames: str, expected: str) -> None:
    def read(generation: int) -> str | None:
        assert len(usernames) > 1
        return TURNS[generation]

    logins = login_states(found, with_usernames(usernames), read)
    assert "; ".join(" ".join(map(str, (o.username, o.state, *o.generations))) for o in logins) == expected


def test_the_promotion_is_an_overlap_before_the_next_may_begin() -> None:
    of = with_usernames("a")
    active = of.plan_digest
    assert promoted_at(at(not_before=DUE, plan=active), of) == DUE - of.schedule.overlap
    assert promoted_at(at(not_before=DUE, plan="another"), of) is None, "its overlap may be another"
    assert promoted_at(at(), of) is None


# Open sessions


def session(username: str, age: float | None = 10, host: str = "10.0.0.1") -> OpenSession:
    return OpenSession(username=username, host=host, application="web", age_seconds=age)


def server(*sessions: OpenSession) -> SessionList:
    return SessionList(server="one", sessions=sessions, ages_are_exact=True)


def counts(**answers: sessions.Answer) -> tuple[SessionsOfCredential, str]:
    """What was counted, as a document and as text."""
    of = make_plan().credentials[0]
    logins = (
        LoginState(username="a", state="current", generations=(41,)),
        LoginState(username="b", state="previous", generations=(40,)),
    )
    known = at(plan=of.plan_digest, not_before=PROMOTED + of.schedule.overlap)
    named = {name.replace("_at_", "@"): answer for name, answer in answers.items()}
    document = counted(known, of, logins, named, NOW)
    return document, "\n".join(sessions.lines(document, NOW))


def test_sessions_are_told_by_login_and_by_the_time_of_the_promotion() -> None:
    document, text = counts(ledger=server(*(session("a", age) for age in (10, 299, 302)), session("b", 400)))
    [ledger] = document.servers
    a, b = ledger.sessions
    assert ledger.database == "ledger"
    assert (a.sessions, a.connected_before_current, a.oldest_seconds) == (3, 1, 302)
    assert (b.sessions, b.connected_before_current) == (1, 1)
    assert ("5m2s" in text, "at least" in text) == (True, False)


def test_a_server_with_two_names_is_counted_once_and_a_list_of_clients_begins_with_the_busiest() -> None:
    document, text = counts(ledger=server(session("a")), ledger_at_proxy=server(session("a")))
    assert [(s.same_server_as, len(s.sessions)) for s in document.servers] == [(None, 2), ("ledger", 0)]
    assert "ledger@proxy: the same server as ledger" in text
    many = [session("a", host=f"10.0.0.{n}") for n in range(9)] + [session("a", host="10.0.0.7")]
    document, text = counts(ledger=server(*many))
    assert "10.0.0.7 web (2), " in text
    assert (text.count(" web ("), "and 4 more" in text) == (MOST_CLIENTS, True)
    [ledger] = document.servers
    assert (len(ledger.sessions[0].clients), ledger.sessions[0].clients_in_all) == (9, 9)


def test_what_is_a_failure() -> None:
    rejected = AdminCredentialRejectedError(database="x")
    cases: list[tuple[dict[str, sessions.Answer], bool]] = [
        ({"ledger": NotCountable(grants=("GRANT PROCESS",))}, False),
        ({"ledger": rejected}, True),
        ({"ledger": server(), "ledger_at_proxy": rejected}, False),
        ({"ledger": server(), "ledger_at_replica": DatabaseUnreachableError(database="x")}, True),
    ]
    for answers, unreachable in cases:
        document, text = counts(**answers)
        assert is_unreachable(document) is unreachable
        for name, answer in answers.items():
            told = f"{name.replace('_at_', '@')}: cannot be counted" in text
            assert told is not isinstance(answer, SessionList)
