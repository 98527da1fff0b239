"""Waiting for verify hosts: what is proven there, in which order, and that no account comes near its lock."""

from collections.abc import Sequence

import pytest

from functions.apply_db import replication
from functions.apply_db.replication import Wait
from lockstep.protocol.errors import DatabaseRejectedError, ReplicaLaggingError, ReplicaRejectedError
from lockstep.protocol.model import CredentialValue, Login, SecretStr, Strategy
from lockstep.protocol.workers import SideBySide, at_the_same_time, one_after_the_other
from tests.support.memory import FakeClock, MemoryDatabase
from tests.support.memory_database import MemoryReplica

DUAL, ALTERNATING = Strategy.DUAL_PASSWORD, Strategy.ALTERNATING_USERS
STRATEGIES = pytest.mark.parametrize("strategy", [DUAL, ALTERNATING])
PATIENCE = replication.PATIENCE_SECONDS


class Rotated:
    """A database just after generation 3 was staged beside 2, and its hosts, which know 1 and 2."""

    def __init__(self, strategy: Strategy, *, hosts: int = 1, lag: int | None = 0) -> None:
        usernames = ("app",) if strategy is DUAL else ("app_a", "app_b")
        self.database = MemoryDatabase("main", strategy, usernames, verify_hosts=hosts)
        self.clock = FakeClock()
        self.values = [
            CredentialValue(g, Login(usernames[g % len(usernames)], SecretStr(f"password-{g}")))
            for g in range(5)
        ]
        self.stage(None, 1)
        self.stage(1, 2)
        for replica in self.replicas:
            assert replica.accepts(self.login(1))
            assert replica.accepts(self.login(2))
            replica.lag_logins = lag
            replica.refusals.limit = 2
        self.stage(2, 3)

    @property
    def replicas(self) -> tuple[MemoryReplica, ...]:
        return self.database.replicas

    def login(self, generation: int) -> Login:
        return self.values[generation].login

    def stage(self, current: int | None, pending: int) -> None:
        with self.database.exclusive() as stager:
            stager.stage(
                current=None if current is None else self.values[current], pending=self.values[pending]
            )

    def waiting(self, side_by_side: SideBySide = one_after_the_other) -> Wait:
        return Wait(self.clock, side_by_side)

    def wait(
        self,
        *,
        base: int | None = 2,
        doomed: Sequence[int] = (1,),
        side_by_side: SideBySide = one_after_the_other,
    ) -> None:
        self.waiting(side_by_side).until_accepted(
            self.database,
            pending=self.login(3),
            base=None if base is None else self.login(base),
            doomed=[self.login(g) for g in doomed],
        )

    def wait_until_revoked(self, *doomed: int, live: Sequence[Login]) -> None:
        self.waiting().until_revoked(self.database, doomed=[self.login(g) for g in doomed], live=live)

    def proven(self) -> list[bool]:
        """For each host: pending and base log in, and what was replaced does not."""
        expected = {3: True, 2: True, 1: False}
        found = []
        for replica in self.replicas:
            replica.refusals.limit = None
            found.append({g: replica.accepts(self.login(g)) for g in expected} == expected)
        return found


@STRATEGIES
@pytest.mark.parametrize("lag", range(12))
def test_the_wait_ends_when_the_host_has_applied_the_change(strategy: Strategy, lag: int) -> None:
    """Whatever the logins between which the change arrives, no account is refused twice in a row (protocol D15)."""
    world = Rotated(strategy, lag=lag)
    world.wait()
    assert world.replicas[0].refusals.most <= 1
    assert world.proven() == [True]


@STRATEGIES
def test_a_pooler_may_refuse_in_words_of_its_own(strategy: Strategy, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ended the login after it had asked for the password is a refusal, but of base nothing is said by it."""

    def accepts(replica: MemoryReplica, login: Login) -> bool:
        if genuine(replica, login):
            return True
        raise DatabaseRejectedError(database=replica.name, code="08P01", stage="password")

    world, genuine = Rotated(strategy, lag=3), MemoryReplica.accepts
    monkeypatch.setattr(MemoryReplica, "accepts", accepts)
    world.wait()
    assert world.replicas[0].refusals.most <= 1
    with pytest.raises(DatabaseRejectedError):
        world.wait(base=0)


@STRATEGIES
def test_a_host_that_never_applies_the_change_is_named_and_not_locked(strategy: Strategy) -> None:
    world = Rotated(strategy, lag=None)
    for _ in range(5):
        started = world.clock.monotonic()
        with pytest.raises(ReplicaLaggingError, match="main@replica-1:3306"):
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
    with pytest.raises(ReplicaRejectedError):
        world.wait()


@pytest.mark.parametrize(("strategy", "base"), [(DUAL, None), (ALTERNATING, 2)])
def test_where_nothing_undoes_a_refusal_pending_is_tried_once(strategy: Strategy, base: int | None) -> None:
    world = Rotated(strategy, lag=None)
    with pytest.raises(ReplicaLaggingError):
        world.wait(base=base, doomed=())
    assert world.replicas[0].refusals.most == 1
    assert world.clock.monotonic() == PATIENCE / 2
    world.replicas[0].lag_logins = 0
    world.wait(base=base, doomed=())


@STRATEGIES
def test_every_host_is_asked_and_the_logins_on_one_come_one_after_the_other(strategy: Strategy) -> None:
    world = Rotated(strategy, hosts=4, lag=2)
    world.wait(side_by_side=at_the_same_time)
    assert [replica.at_once for replica in world.replicas] == [1] * 4
    assert world.proven() == [True] * 4


# Revoked on every host (protocol D15)


def retire(world: Rotated, doomed: int, keep: int) -> list[Login]:
    """Retire a generation, as an emergency does; logins that work then, one for each account."""
    with world.database.exclusive() as stager:
        works = stager.retire(drop=world.values[doomed], keep=world.values[keep])
    return [world.login(keep), works]


@STRATEGIES
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


@STRATEGIES
def test_a_host_where_a_retired_generation_lives_on_is_named(strategy: Strategy) -> None:
    world = Rotated(strategy)
    world.wait()
    world.replicas[0].lag_logins = None
    with pytest.raises(ReplicaLaggingError, match="main@replica-1:3306"):
        world.wait_until_revoked(2, live=retire(world, 2, keep=3))
    assert world.clock.monotonic() >= PATIENCE


def test_a_refusal_alone_is_no_proof_of_revocation() -> None:
    """An account that is blocked refuses every password, so the next login has to succeed."""
    world = Rotated(DUAL)
    with pytest.raises(ReplicaLaggingError):
        world.wait_until_revoked(1, live=[Login("app", SecretStr("not this one either"))])


def test_what_is_live_or_of_an_account_without_a_live_login_is_not_tried() -> None:
    world = Rotated(ALTERNATING)
    world.wait_until_revoked(2, 3, live=[world.login(3)])
    assert world.replicas[0].refusals.most == 0
