"""Every lock has one holder and one claim at a time; when it is given, is in tests/contract/test_lock_rule.py.

It refuses a run that lost it (protocol L4, L6, L10), lets a claim go through its phases once (protocol I4, L14, O7),
leaves what a newer build wrote alone (protocol R10), and names who rotated (protocol O14).
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from lockstep.aws.dynamodb_lock import read_table, record_of
from lockstep.protocol import errors
from lockstep.protocol.deadlines import LEASE
from lockstep.protocol.messages import Recorded
from lockstep.protocol.model import FORMAT, ChainHead, Claim, ClaimKind, Lease, LockRecord, Release
from lockstep.protocol.orders import accounts_of
from lockstep.protocol.ports import Lock
from sandbox.emulators.aws.server import AwsSandbox
from tests.contract.clouds import CREDENTIAL, TABLE, DynamoDbHarness, MemoryLockHarness
from tests.support.builds import NEWER, build

LockHarness = MemoryLockHarness | DynamoDbHarness
ADAPTERS: Mapping[str, Callable[[ExitStack], LockHarness]] = {
    "memory": lambda _: MemoryLockHarness(),
    "aws": lambda clouds: DynamoDbHarness(clouds.enter_context(AwsSandbox())),
}
NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
INTERVAL, OVERLAP = (timedelta(minutes=minutes) for minutes in (20, 18))
SECOND = timedelta(seconds=1)
PLAN, OTHER_PLAN, THIRD_PLAN = "of-the-active-plan", "of-another-plan", "of-a-third-plan"
ENTRY = Recorded(stream="aws", seq=1, hash="a" * 64)
ORDERS: Mapping[str, Any] = {
    "paused": True,
    "activate": OTHER_PLAN,
    "revoke_through": 1,
    "take_over": frozenset({"db-2", "db-5"}),
}


def acquire(lock: Lock, holder: str = "aws-1", *, at: datetime = NOW, force: bool = False) -> Lease | None:
    return lock.acquire(holder=holder, now=at, expires_at=at + LEASE, force=force)


class Run:
    """A run that has got the lock, and what it writes."""

    def __init__(self, lock: Lock, holder: str = "aws-1", *, at: datetime = NOW) -> None:
        lease = acquire(lock, holder, at=at)
        assert lease is not None
        self.lock, self.lease, self.at = lock, lease, at

    def named(self, **changed: Any) -> Claim:  # noqa: ANN401 - fields of a claim
        fields = {"kind": ClaimKind.NEW, "generation": self.lease.fence, "base_generation": 0}
        return Claim(**{**fields, "rotation_id": self.lease.holder, **changed})

    def claim(
        self,
        *,
        over: LockRecord | None = None,
        plan: str = PLAN,
        served: Collection[int] = (),
        **changed: Any,  # noqa: ANN401 - fields of the claim
    ) -> Claim:
        """Claim over what the record says now, or over what was seen earlier."""
        made = self.named(**changed)
        self.lock.claim(self.lease, made, over=over or self.lock.read(), plan=plan, served=served)
        return made

    def promote(self, made: Claim | None = None) -> Claim:
        made = made or self.claim()
        self.lock.begin_promotion(self.lease, made, now=self.at)
        return made

    def done(self, *proven: str) -> Release:
        return Release(
            current_generation=self.lease.fence,
            valid=frozenset({self.lease.fence}),
            proven=proven,
            next_due_at=self.at + INTERVAL,
            not_before=self.at + OVERLAP,
            rotated_at=self.at,
        )

    def finish(self, *proven: str) -> None:
        self.lock.release(self.lease, self.done(*proven), entry=ENTRY)


def rotated(lock: Lock, holder: str = "aws-1", *, at: datetime = NOW) -> None:
    run = Run(lock, holder, at=at)
    run.claim()
    run.finish()


@contextmanager
def refused(lock: Lock) -> Iterator[None]:
    """What is written here is refused, and leaves the record as it was."""
    before = lock.read()
    with pytest.raises(errors.FenceLostError):
        yield
    assert lock.read() == before


@pytest.fixture(scope="module", params=ADAPTERS)
def shared(request: pytest.FixtureRequest) -> Iterator[LockHarness]:
    with ExitStack() as clouds:
        yield ADAPTERS[request.param](clouds)


@pytest.fixture
def world(shared: LockHarness) -> LockHarness:
    shared.forget()
    return shared


@pytest.fixture
def lock(world: LockHarness) -> Lock:
    """The lock, after the order that makes the plan active."""
    world.order(activate=PLAN)
    return world.lock


def test_a_record_is_empty_before_its_first_order_and_each_order_is_read_back(world: LockHarness) -> None:
    empty = LockRecord(credential_id=world.lock.read().credential_id)
    assert world.lock.read() == empty
    world.order(**ORDERS)
    assert world.lock.read() == replace(empty, **ORDERS)


# Acquiring


def test_a_held_lock_is_its_holders_until_the_lease_has_ended(lock: Lock) -> None:
    assert Run(lock).lease.fence == 1
    before = lock.read()
    assert acquire(lock, "oci-1", at=NOW + LEASE) is None
    assert acquire(lock, "oci-1", force=True) is None
    assert lock.read() == before
    assert Run(lock, at=NOW + SECOND).lease.fence == 2
    assert lock.read().expires_at == NOW + SECOND + LEASE
    assert Run(lock, "oci-1", at=NOW + LEASE + 2 * SECOND).lease.fence == 3
    assert lock.read().holder == "oci-1"


def test_an_emergency_counts_what_became_valid_since_the_rotation(world: LockHarness, lock: Lock) -> None:
    """A store that was moved back serves an older generation than the record remembered."""
    rotated(lock)
    rotated(lock, at=NOW + INTERVAL)
    later = NOW + 2 * INTERVAL
    world.order(revoke_through=1)
    assert not lock.read().is_revoking
    run = Run(lock, at=later)
    run.claim(served=(1, 2))
    assert (lock.read().is_revoking, lock.read().revoke_through) == (True, 1)
    run.claim(kind=ClaimKind.RECONCILE, generation=9)
    assert lock.read().revoke_through == 9, "what a reconcile gives a login again may have leaked too"
    world.order(not_before=later + OVERLAP)
    lock.release(run.lease, None)
    assert acquire(lock, at=later)


# Requiring


def test_a_claim_is_required_in_its_phase_and_the_lease_to_its_last_second(lock: Lock) -> None:
    run, last = Run(lock), NOW + LEASE - SECOND
    lock.require_lease(run.lease, now=last)
    with refused(lock):
        lock.require(run.lease, run.named(), promoting=False, now=NOW)
    made = run.claim()
    for is_promoting in (False, True):
        if is_promoting:
            run.promote(made)
        assert lock.require(run.lease, made, promoting=is_promoting, now=last) == lock.read()
        lock.require_lease(run.lease, now=last)
        for claim, phase, now in (
            (made, not is_promoting, last),
            (made, is_promoting, NOW + LEASE),
            (structs.replace(made, rotation_id="other"), is_promoting, last),
        ):
            with refused(lock):
                lock.require(run.lease, claim, promoting=phase, now=now)
    for lease, now in ((replace(run.lease, fence=2), NOW), (run.lease, NOW + LEASE)):
        with refused(lock):
            lock.require_lease(lease, now=now)
    lock.release(run.lease, None)
    with refused(lock):
        lock.require_lease(run.lease, now=NOW)


ZOMBIES: Mapping[str, Callable[[Run, Claim], object]] = {
    "requires its claim": lambda run, made: run.lock.require(run.lease, made, promoting=False, now=NOW),
    "claims": lambda run, _: run.claim(generation=9),
    "promotes": lambda run, made: run.promote(made),
    "finishes": lambda run, _: run.finish(),
    "gives up": lambda run, _: run.lock.release(run.lease, None),
    "gives up with an entry": lambda run, _: run.lock.release(run.lease, None, entry=ENTRY),
}


@pytest.mark.parametrize("holder", ["oci-1", "aws-1"])
def test_a_zombie_can_write_nothing_once_the_fence_is_higher(lock: Lock, holder: str) -> None:
    zombie = Run(lock)
    made = zombie.claim()
    Run(lock, holder, at=NOW + LEASE + SECOND)
    for write in ZOMBIES.values():
        with refused(lock):
            write(zombie, made)


# Releasing


def test_a_finished_rotation_clears_the_claim_and_moves_schedule_head_and_names(lock: Lock) -> None:
    run = Run(lock)
    run.promote()
    run.finish()
    finished = LockRecord(
        credential_id=run.lease.credential_id,
        fence=1,
        plan=PLAN,
        current_generation=1,
        valid=frozenset({1}),
        highest_generation=1,
        next_due_at=NOW + INTERVAL,
        not_before=NOW + OVERLAP,
        rotated_by="aws-1",
        rotated_at=NOW,
        heads={"aws": ChainHead(seq=1, hash="a" * 64)},
    )
    assert lock.read() == finished
    assert acquire(lock, "oci-1", at=NOW + INTERVAL - SECOND) is None
    lock.release(Run(lock, "oci-1", at=NOW + INTERVAL).lease, None)
    assert lock.read() == replace(finished, fence=2), "only a rotation names its run"
    rotated(lock, "oci-1", at=NOW + INTERVAL)
    assert (lock.read().rotated_by, lock.read().rotated_at) == ("oci-1", NOW + INTERVAL)


def test_a_failed_rotation_keeps_claim_and_schedule_and_another_run_adopts_it(lock: Lock) -> None:
    rotated(lock)
    failed = Run(lock, at=NOW + INTERVAL)
    made = failed.claim(base_generation=1)
    before = lock.read()
    lock.release(failed.lease, None)
    assert lock.read() == replace(before, holder=None, expires_at=None)
    run = Run(lock, "oci-1")  # What is in flight is always due.
    assert lock.require(run.lease, made, promoting=False, now=NOW).claim == made


def test_consent_ends_for_what_was_proven_whether_there_was_anything_to_do_or_not(
    world: LockHarness, lock: Lock
) -> None:
    world.order(take_over=frozenset({"db-1", "db-2", "db-3"}))
    Run(lock).finish("db-1", "db-4")
    assert lock.read().take_over == {"db-2", "db-3"}
    for proven, left in ((("db-2",), {"db-3"}), ((), {"db-3"}), (("db-3", "db-4"), set())):
        run = Run(lock, at=NOW + INTERVAL)
        lock.release(run.lease, None, proven=proven)
        assert lock.read().take_over == left


@pytest.mark.parametrize("is_done", [False, True], ids=["in flight", "finished"])
def test_a_late_release_clears_nothing_of_a_run_that_has_the_same_fence(lock: Lock, *, is_done: bool) -> None:
    """As after the table was restored to a time before the late run had the lock."""
    run = Run(lock, "aws-2")
    run.promote()
    lock.release(run.lease, run.done("db-1") if is_done else None, entry=ENTRY)
    with refused(lock):
        late = structs.replace(run.done("db-1"), current_generation=0)
        lock.release(replace(run.lease, holder="aws-1"), late, entry=ENTRY)


@pytest.mark.parametrize("is_done", [False, True], ids=["failed", "rotated"])
def test_orders_written_during_a_run_are_not_lost_and_its_stream_alone_has_another_head(
    world: LockHarness, lock: Lock, *, is_done: bool
) -> None:
    """The head is a hint, and may go back (protocol L10)."""
    for number, moved in enumerate((("oci", 3), ("aws", 7), ("aws", 5))):
        run = Run(lock, at=NOW + number * INTERVAL)
        made = run.claim()
        if moved == ("aws", 5):
            world.order(**ORDERS)
        run.promote(made)
        entry = structs.replace(ENTRY, stream=moved[0], seq=moved[1])
        lock.release(run.lease, run.done("db-1") if is_done else None, entry=entry)
    record = lock.read()
    assert {name: getattr(record, name) for name in ORDERS} == ORDERS
    assert {stream: head.seq for stream, head in record.heads.items()} == {"aws": 5, "oci": 3}


def test_every_write_can_be_repeated_after_a_lost_reply(world: LockHarness, lock: Lock) -> None:
    def twice(write: Callable[[], object]) -> None:
        with pytest.raises(errors.LockTableUnreachableError), world.lose_reply(1):
            write()
        write()

    with suppress(errors.LockTableUnreachableError), world.lose_reply(1):
        acquire(lock)
    run = Run(lock)
    seen = lock.read()
    twice(lambda: run.claim(over=seen))
    seen_again = lock.read()
    twice(lambda: run.claim(over=seen_again, generation=9))
    twice(lambda: run.promote(run.named(generation=9)))
    twice(run.finish)
    record = lock.read()
    assert (record.holder, record.claim, record.current_generation) == (None, None, run.lease.fence)


# Claiming


@pytest.mark.parametrize("kind", list(ClaimKind))
def test_a_claim_is_made_over_what_was_seen_which_is_compared_whole(lock: Lock, kind: ClaimKind) -> None:
    """A decision is never made over what was not seen, nor a reconcile passed off as a new value (protocol L6).

    What stores serve is valid from it on.
    """
    run, seen = Run(lock), lock.read()
    with refused(lock):
        run.promote(run.named())
    made = run.claim(over=seen, kind=kind, base_generation=4, served=(3, 4))
    record, other = lock.read(), next(k for k in ClaimKind if k is not kind)
    assert (record.claim, record.promoting, record.highest_generation) == (made, False, 1)
    assert record.valid == {3, 4}
    for changed in ({"kind": other}, {"base_generation": 9}, {"generation": 2}, {"rotation_id": "another"}):
        with refused(lock):
            run.claim(over=seen, **changed)
        with refused(lock):
            run.claim(over=replace(record, claim=structs.replace(made, **changed)), generation=3)
    Run(lock).claim(served=(4, 5))
    assert lock.read().valid == {3, 4, 5}


def test_a_generation_is_never_claimed_twice_and_a_claim_needs_the_lock(lock: Lock) -> None:
    rotated(lock)
    run = Run(lock, at=NOW + INTERVAL)
    with refused(lock):
        run.claim(generation=1)
    lock.release(run.lease, None)
    with refused(lock):
        run.claim()


def test_what_was_decided_over_a_claim_holds_in_its_phase_alone(lock: Lock) -> None:
    """A store may serve by now what went into promotion since it was seen (protocol L6)."""
    run = Run(lock)
    made = run.claim()
    was_open = lock.read()
    run.promote(made)
    with refused(lock):
        run.claim(over=was_open, generation=2)
    was_promoting = lock.read()
    for _ in range(2):
        second = run.claim(over=was_promoting, generation=2)
    record = lock.read()
    assert (record.claim, record.promoting, record.highest_generation) == (second, False, 2)
    with refused(lock):
        run.claim(over=was_promoting, generation=3)
    third = Run(lock).claim(generation=3)
    assert (lock.read().claim, lock.read().promoting) == (third, False)


# The active plan (protocol I10, O7)


def test_a_plan_becomes_active_by_the_first_claim_under_its_order_as_that_was_seen(
    world: LockHarness, lock: Lock
) -> None:
    run, seen = Run(lock), lock.read()
    assert (seen.plan, seen.activate) == (None, PLAN)
    with refused(lock):
        run.claim(plan=OTHER_PLAN)
    for changed in (None, THIRD_PLAN):
        world.order(activate=changed)
        with refused(lock):
            run.claim(over=seen)
    world.order(activate=PLAN)
    for _ in range(2):
        run.claim(over=seen)
    assert (lock.read().plan, lock.read().activate) == (PLAN, None)
    world.order(activate=THIRD_PLAN)
    with refused(lock):
        run.claim(generation=8, plan=OTHER_PLAN)
    world.order(activate=OTHER_PLAN)
    run.claim(generation=8)
    assert (lock.read().plan, lock.read().activate) == (PLAN, OTHER_PLAN)
    run.claim(generation=9, plan=OTHER_PLAN)
    assert (lock.read().plan, lock.read().activate) == (OTHER_PLAN, None)
    with refused(lock):  # The plan that was active until now.
        run.claim(generation=10)


# Promoting (protocol L14)


def test_a_promotion_begins_once_in_time_and_its_generation_is_alive(lock: Lock) -> None:
    run = Run(lock)
    made = run.claim(served=(4,))
    for changed in ({"generation": 2}, {"rotation_id": "another"}):
        with refused(lock):
            run.promote(structs.replace(made, **changed))
    for late in (timedelta(), SECOND):
        with refused(lock):
            lock.begin_promotion(run.lease, made, now=NOW + LEASE + late)
    for _ in range(2):
        assert lock.begin_promotion(run.lease, made, now=NOW) == lock.read()
    record = lock.read()
    assert (record.claim, record.promoting, record.valid) == (made, True, frozenset({1, 4}))


# Of another build


def test_an_older_build_gets_the_lease_of_a_newer_record_and_gives_it_back(lock: Lock) -> None:
    with build(NEWER):
        made = Run(lock).claim()
        before = lock.read()
    run = Run(lock, "oci-1", at=NOW + LEASE + SECOND)
    for act in (
        lock.read,
        lambda: lock.require(run.lease, made, promoting=False, now=NOW + LEASE),
        lambda: lock.begin_promotion(run.lease, made, now=NOW + LEASE),
    ):
        with pytest.raises(errors.NewerFormatError):
            act()
    lock.release(run.lease, None)
    with build(NEWER):
        assert lock.read() == replace(before, holder=None, expires_at=None, fence=2)


# The items themselves, and the whole table, as the watch reads it (protocol O14)

on_aws = pytest.mark.parametrize("shared", ["aws"], indirect=True)
PAGE_BYTES = 1024 * 1024


@on_aws
def test_a_table_is_read_whole_and_what_cannot_be_read_is_named(world: DynamoDbHarness) -> None:
    pages: list[int] = []
    world.client.meta.events.register("after-call.dynamodb.Scan", lambda **_: pages.append(1))
    readable = {f"credential-{n}" for n in range(10)}
    for key in readable:
        world.put(key, plan={"S": "digest"}, paused={"BOOL": True}, foreign={"S": "x" * (PAGE_BYTES // 4)})
    for account in accounts_of(CREDENTIAL):
        world.put(account.key, owner={"S": "a"})
    world.put("malformed", fence={"S": "three"})
    world.put("newer", format={"N": str(FORMAT + 1)})
    table = read_table(world.client, TABLE)
    assert set(table.records) == readable
    assert {(record.plan, record.paused) for record in table.records.values()} == {("digest", True)}
    assert table.unreadable == {"malformed": "LockTableAccessDeniedError", "newer": "NewerFormatError"}
    assert len(pages) > 2


@on_aws
def test_a_malformed_item_is_an_error_and_no_old_one(world: DynamoDbHarness) -> None:
    asked: list[object] = []
    note = "before-parameter-build.dynamodb.GetItem"
    world.client.meta.events.register(note, lambda params, **_: asked.append(params.get("ConsistentRead")))
    for name, value in (("holder", {"N": "1"}), ("format", {"S": "2"}), ("head_aws", {"S": "aa"})):
        world.put(CREDENTIAL.id, **{name: value})
        with pytest.raises(errors.LockTableAccessDeniedError) as error:
            world.lock.read()
        assert error.value.where["code"] == "MalformedItem"
    assert asked == [True] * 3
    for item in ({"fence": {"N": "x"}}, {"valid": {"NS": [None]}}):
        with pytest.raises(errors.LockTableAccessDeniedError):
            record_of(CREDENTIAL.id, item)
    assert record_of(CREDENTIAL.id, {"expires_at": {"N": "9" * 17}}).expires_at is None  # (protocol L17)
