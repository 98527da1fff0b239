"""What ApplyDb shows to databases and verify hosts, and that no account comes near its lock.

The search for a login that works: what wins, and what has no room (protocol C5, I13). Waiting for verify hosts: what
is proven there, in which order, and whom it stops (protocol D15).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pytest
from msgspec import structs

from functions.apply_db import replication
from functions.apply_db.replication import Wait
from lockstep.protocol import errors
from lockstep.protocol.messages import Beside, CandidateRef, ProbeRequest
from lockstep.protocol.model import CredentialValue, Login, SecretStr, Strategy
from lockstep.protocol.workers import at_the_same_time, one_after_the_other
from tests.support import world as w
from tests.support.memory import FakeClock, MemoryDatabase, MemoryWorld
from tests.support.memory_database import MemoryReplica, MemoryStager
from tests.unit.flights import asked_to_probe, both_strategies, dies, searched


def _world(
    strategy: Strategy = Strategy.DUAL_PASSWORD, *, db_1: Iterable[int], db_2: Iterable[int]
) -> MemoryWorld:
    """All stores serve generation 4, 3 is valid, 5 only staged; databases accept what is given, and do not say so."""
    world = w.make_world(strategy=strategy, rotations=3)
    w.rotate(world, "fourth")
    world.clock.sleep(w.INTERVAL_SECONDS)
    dies(world, "after oci stage connection_blob")
    for name, generations in (("db-1", db_1), ("db-2", db_2)):
        logins = [w.login_of(world, generation) for generation in generations]
        for username, account in world.databases[name].accounts.items():
            account.passwords = tuple(one.password.reveal() for one in logins if one.username == username)
            account.recorded = frozenset()
    return world


def _needed(world: MemoryWorld, *refused: str) -> ProbeRequest:
    return structs.replace(asked_to_probe(world, w.held(world, "searching"), "db-2"), refused=refused)


def _shown(world: MemoryWorld, name: str) -> list[int]:
    """The generations whose logins a database is shown from now on."""
    database, shown = world.databases[name], list[int]()
    generations = {w.login_of(world, g).password.reveal(): g for g in range(5, 0, -1)}
    accepts = database.accepts

    def noted(login: Login) -> bool:
        shown.append(generations[login.password.reveal()])
        return accepts(login)

    database.accepts = noted  # type: ignore[method-assign]
    return shown


def _ref(generation: int) -> CandidateRef | None:
    return CandidateRef(store="aws", version=f"generation-{generation}") if generation else None


@dataclass(frozen=True, kw_only=True)
class Case:
    """What databases accept, and what follows.

    Attributes:
        recorded: The generations that the server says are on the account of db-2.
        forgives: Whether it takes refusals back.
        shown: What is shown to db-2, in this order.
        kept: The generation beside which the winner is staged on db-2; 0: none.
    """

    db_1: tuple[int, ...] = (4, 3)
    db_2: tuple[int, ...]
    recorded: tuple[int, ...] = ()
    forgives: bool = False
    refused: tuple[str, ...] = ()
    consent: tuple[str, ...] = ()
    shown: list[int]
    winner: int = 0
    kept: int | None = None


DB_2 = ("db-2",)
CASES = {
    "the first that works everywhere": Case(db_2=(4, 3), shown=[4], winner=4),
    "the next": Case(db_2=(3, 2), shown=[4, 3], winner=3),
    "refused comes last": Case(db_2=(3, 2), refused=DB_2, shown=[3], winner=3),
    "two in a row": Case(db_2=(2, 1), shown=[4, 3]),
    "two in a row, with base": Case(db_2=(2, 1), refused=DB_2, shown=[3]),
    # What was current once, base that was refused by mistake, and what was only staged (protocol C5).
    "refused by mistake": Case(db_2=(4,), refused=DB_2, forgives=True, shown=[3, 2, 1, 4], winner=4),
    "only staged": Case(db_2=(5,), refused=DB_2, forgives=True, shown=[3, 2, 1, 4, 5], winner=4, kept=5),
    # What the server says comes first, and hides nothing.
    "as recorded": Case(db_2=(2, 1), recorded=(2, 1), shown=[2, 4], winner=4, kept=2),
    "the oldest": Case(db_2=(1,), recorded=(1,), refused=DB_2, shown=[1], winner=4, kept=1),
    "recorded, and wrong": Case(db_2=(4,), recorded=(3, 2), shown=[3, 4], winner=4),
    "recorded, and superseded": Case(db_2=(4,), recorded=(2, 1), shown=[2, 4], winner=4),
    "recorded, and nothing works": Case(db_2=(), recorded=(1,), shown=[1, 4]),
    "each works somewhere": Case(db_1=(4,), db_2=(3,), shown=[4, 3], winner=4, kept=3),
    "consent": Case(db_2=(), consent=DB_2, shown=[4, 3], winner=4, kept=0),
    "idle consent": Case(db_1=(4,), db_2=(3,), consent=DB_2, shown=[4, 3], winner=4, kept=3),
    "consent for another": Case(db_2=(), consent=("db-1",), shown=[4, 3]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_a_search_shows_and_finds(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryStager, "takes_refusals_back", case.forgives)
    world = _world(db_1=case.db_1, db_2=case.db_2)
    database = world.databases["db-2"]
    database.refusals.is_excused = lambda: case.forgives
    database.accounts["app"] = replace(database.accounts["app"], recorded=frozenset(case.recorded))
    w.orders(world, take_over=frozenset(case.consent))
    needed = _needed(world, *case.refused)
    assert [c.generations for c in needed.candidates] == [(4,), (3,)]
    before, shown = w.known_logins(world), _shown(world, "db-2")
    if case.winner:
        beside = () if case.kept is None else (Beside(database="db-2", login=_ref(case.kept)),)
        found = searched(world, needed)
        assert (found.winner, found.beside) == (_ref(case.winner), beside)
        assert found.proven == (("db-1",) if beside else ("db-1", "db-2"))
        assert found.accepted == ((case.kept,) if case.kept not in (None, 0, 3) else ())  # It is valid again.
    else:
        with pytest.raises(errors.CurrentCredentialRejectedError):
            searched(world, needed)
    assert shown == case.shown
    assert w.known_logins(world) == before
    assert max(one.refusals.most for one in world.databases.values()) <= 2


def test_each_account_has_two_refusals_of_its_own() -> None:
    world = _world(Strategy.ALTERNATING_USERS, db_1=(4, 3), db_2=())
    needed, shown = _needed(world), _shown(world, "db-2")
    with pytest.raises(errors.CurrentCredentialRejectedError):
        searched(world, needed)
    assert shown == [4, 3, 2, 1]
    assert world.databases["db-2"].refusals.most == 2


@pytest.mark.parametrize("trouble", ["locked", "missing"])
def test_an_account_that_cannot_be_used_is_one_that_refuses(trouble: str) -> None:
    world = _world(Strategy.ALTERNATING_USERS, db_1=(4, 3), db_2=(4, 3))
    account = world.databases["db-2"].accounts.pop(w.login_of(world, 4).username)
    if trouble == "locked":
        account.locked = True
        world.databases["db-2"].accounts[w.login_of(world, 4).username] = account
    assert searched(world, _needed(world)).winner == _ref(3)


# Room beside what works


def _within_the_overlap(world: MemoryWorld) -> None:
    not_before = world.clock.now() + world.credential.schedule.overlap
    w.orders(world, valid=frozenset({1, 2, 3, 4}), not_before=not_before)


def test_what_a_store_serves_is_not_ended_for_the_winner() -> None:
    world = _world(db_1=(4, 1), db_2=(3, 2))
    _within_the_overlap(world)
    for name, generation in (("aws", 3), ("oci", 2)):
        for secret in world.stores[name]._secrets.values():
            secret.make_current(f"generation-{generation}")
    with pytest.raises(errors.NoRoomError) as caught:
        searched(world, _needed(world))
    assert (caught.value.where["database"], caught.value.where["store"]) == ("db-2", "oci")


def test_what_was_current_before_is_not_ended_within_the_overlap() -> None:
    world = _world(db_1=(4, 1), db_2=(3, 2))
    _within_the_overlap(world)
    not_before, needed = world.lock.record.not_before, _needed(world)
    with pytest.raises(errors.NoRoomError) as caught:
        searched(world, needed)
    assert caught.value.where["until"] == str(not_before)
    w.orders(world, not_before=world.clock.now())
    assert searched(world, needed).beside == (Beside(database="db-2", login=_ref(3)),)


# Errors that change nothing


@pytest.mark.parametrize("is_overtaken", [False, True])
def test_a_run_that_was_overtaken_or_meets_no_server_shows_no_candidate(*, is_overtaken: bool) -> None:
    """By now its candidates may be revoked, and two refusals bring an account to a limit of two (protocol D18)."""
    world = _world(db_1=(4, 3), db_2=())
    needed, shown = _needed(world), _shown(world, "db-2")
    if is_overtaken:
        world.clock.sleep(w.INTERVAL_SECONDS)
        w.held(world, "taker", runner="oci")
    world.databases["db-1"].unreachable = not is_overtaken
    with pytest.raises(errors.FenceLostError if is_overtaken else errors.DatabaseUnreachableError):
        searched(world, needed)
    assert shown == []


# Verify hosts

DUAL, ALTERNATING = Strategy.DUAL_PASSWORD, Strategy.ALTERNATING_USERS
PATIENCE = replication.PATIENCE_SECONDS


class Rotated:
    """A database just after generation 3 was staged beside 2, and its hosts, which know 1 and 2."""

    def __init__(self, strategy: Strategy, *, hosts: int = 1, lag: int | None = 0) -> None:
        usernames = ("app",) if strategy is DUAL else ("app_a", "app_b")
        self.database = MemoryDatabase("main", strategy, usernames, verify_hosts=hosts)
        self.replicas, self.clock = self.database.replicas, FakeClock()
        logins = [Login(usernames[g % len(usernames)], SecretStr(f"password-{g}")) for g in range(5)]
        self.values = [CredentialValue(g, login) for g, login in enumerate(logins)]
        self.stage(1)
        self.stage(2)
        for replica in self.replicas:
            assert replica.accepts(self.login(1))
            assert replica.accepts(self.login(2))
            replica.lag_logins = lag
            replica.refusals.limit = 2
        self.stage(3)

    def login(self, generation: int) -> Login:
        return self.values[generation].login

    def stage(self, pending: int) -> None:
        """Beside the one before it."""
        current = self.values[pending - 1] if pending > 1 else None
        with self.database.exclusive() as stager:
            stager.stage(current=current, pending=self.values[pending])

    def wait(self, base: int | None = 2, *, doomed: Sequence[int] = (1,), at_once: bool = False) -> None:
        Wait(self.clock, at_the_same_time if at_once else one_after_the_other).until_accepted(
            self.database,
            pending=self.login(3),
            base=None if base is None else self.login(base),
            doomed=[self.login(g) for g in doomed],
        )

    def wait_until_revoked(self, *doomed: int, live: Sequence[Login]) -> tuple[str, ...]:
        wait = Wait(self.clock, one_after_the_other)
        return wait.until_revoked(self.database, doomed=[self.login(g) for g in doomed], live=live)

    def proven(self) -> list[bool]:
        """For each host: pending and base log in, and what was replaced does not."""
        expected = {3: True, 2: True, 1: False}
        found = []
        for replica in self.replicas:
            replica.refusals.limit = None
            found.append({g: replica.accepts(self.login(g)) for g in expected} == expected)
        return found


@both_strategies
@pytest.mark.parametrize("lag", range(12))
def test_the_wait_ends_when_the_host_has_applied_the_change(strategy: Strategy, lag: int) -> None:
    """Whatever the logins between which the change arrives, no account is refused twice in a row (protocol D15)."""
    world = Rotated(strategy, lag=lag)
    world.wait()
    assert world.replicas[0].refusals.most <= 1
    assert world.proven() == [True]


@both_strategies
def test_a_pooler_may_refuse_in_words_of_its_own(strategy: Strategy, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ended the login after it had asked for the password is a refusal, but of base nothing is said by it."""

    def accepts(replica: MemoryReplica, login: Login) -> bool:
        if genuine(replica, login):
            return True
        raise errors.DatabaseRejectedError(database=replica.name, code="08P01", stage="password")

    world, genuine = Rotated(strategy, lag=3), MemoryReplica.accepts
    monkeypatch.setattr(MemoryReplica, "accepts", accepts)
    world.wait()
    assert world.replicas[0].refusals.most <= 1
    with pytest.raises(errors.DatabaseRejectedError):
        world.wait(base=0)


@both_strategies
def test_a_host_that_never_applies_the_change_is_named_and_not_locked(strategy: Strategy) -> None:
    world = Rotated(strategy, lag=None)
    for _ in range(5):
        started = world.clock.monotonic()
        with pytest.raises(errors.ReplicaLaggingError, match="main@replica-1:3306"):
            world.wait()
        assert PATIENCE <= world.clock.monotonic() - started < PATIENCE + 1
    assert world.replicas[0].refusals.most <= 1
    world.replicas[0].lag_logins = 0
    world.wait()
    assert world.proven() == [True]


def test_base_is_seen_after_the_change_too() -> None:
    world = Rotated(DUAL)
    world.database.accounts["app"].passwords = ("password-3",)
    world.replicas[0].lag_logins = 1
    with pytest.raises(errors.ReplicaRejectedError):
        world.wait()


def test_what_is_doomed_of_the_account_of_base_is_seen_to_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryReplica, "accepts", lambda *_: True)
    with pytest.raises(errors.ReplicaLaggingError):
        Rotated(ALTERNATING).wait(doomed=(0,))


@pytest.mark.parametrize(("strategy", "base"), [(DUAL, None), (ALTERNATING, 2)])
def test_where_nothing_undoes_a_refusal_pending_is_tried_once(strategy: Strategy, base: int | None) -> None:
    world = Rotated(strategy, lag=None)
    with pytest.raises(errors.ReplicaLaggingError):
        world.wait(base=base, doomed=())
    assert world.replicas[0].refusals.most == 1
    assert world.clock.monotonic() == PATIENCE / 2
    world.replicas[0].lag_logins = 0
    world.wait(base=base, doomed=())


@both_strategies
def test_every_host_is_asked_and_the_logins_on_one_come_one_after_the_other(strategy: Strategy) -> None:
    world = Rotated(strategy, hosts=4, lag=2)
    world.wait(at_once=True)
    assert [replica.at_once for replica in world.replicas] == [1] * 4
    assert world.proven() == [True] * 4


# Revoked on every host (protocol D15)


def retire(world: Rotated, doomed: int, keep: int) -> list[Login]:
    """Retire a generation, as an emergency does; logins that work then, one for each account."""
    with world.database.exclusive() as stager:
        works = stager.retire(drop=world.values[doomed], keep=world.values[keep])
    return [world.login(keep), works]


@both_strategies
@pytest.mark.parametrize("lag", range(6))
@pytest.mark.parametrize("doomed", [(2,), (1, 2), (0, 1, 2)])
def test_a_retired_generation_is_waited_for_until_each_host_refuses_it(
    strategy: Strategy, lag: int, doomed: tuple[int, ...]
) -> None:
    world = Rotated(strategy)
    world.wait()
    replica = world.replicas[0]
    replica.lag_logins = lag
    world.wait_until_revoked(*doomed, live=retire(world, 2, keep=3))
    assert replica.refusals.most <= 1
    replica.refusals.limit = None
    assert [replica.accepts(world.login(g)) for g in (0, 1, 2, 3)] == [False, False, False, True]


@both_strategies
def test_a_host_where_a_retired_generation_lives_on_is_named(strategy: Strategy) -> None:
    world = Rotated(strategy)
    world.wait()
    world.replicas[0].lag_logins = None
    with pytest.raises(errors.ReplicaLaggingError, match="main@replica-1:3306"):
        world.wait_until_revoked(2, live=retire(world, 2, keep=3))
    assert world.clock.monotonic() >= PATIENCE


def test_a_refusal_alone_is_no_proof_of_revocation_and_keeps_nothing_open() -> None:
    """An account that is locked refuses every password, so the next login has to succeed; the host is named."""
    world = Rotated(DUAL)
    wrong = [Login("app", SecretStr("not this one either"))]
    assert world.wait_until_revoked(1, live=wrong) == ("main@replica-1:3306",)


def test_what_is_live_or_of_an_account_without_a_live_login_is_not_tried() -> None:
    world = Rotated(ALTERNATING)
    world.wait_until_revoked(2, 3, live=[world.login(3)])
    assert world.replicas[0].refusals.most == 0
