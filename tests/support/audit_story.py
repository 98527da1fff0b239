"""Simulated days of one credential by the shipped steps, with what an audit report must show.

AWS rotates every 20 minutes; OCI stands by half an interval later, by the shipped rule. The story has an outage of AWS,
a store that fails, an operator who pauses and resumes, a leaked password that is revoked, and a gap.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from lockstep.audit.append import Chain, Operator, record_order
from lockstep.audit.verify import Verification, verify
from lockstep.protocol.errors import DatabaseUnreachableError, StoreUnreachableError
from lockstep.protocol.orders import Order, Pause, Resume, Revoke
from lockstep.stores.credential import Ports
from tests.support.memory import MemoryWorld
from tests.support.world import make_world, orders, revokes_everything, rotate, undisturbed

HALF = 600
ANNA = "arn:aws:sts::111122223333:assumed-role/dba/anna"


def chain_of(ports: Ports) -> Chain:
    """The chain of a runner's own stream."""
    return Chain(credential_id=ports.credential.id, lock=ports.lock, log=ports.audit_log, signer=ports.signer)


def give(world: MemoryWorld, order: Order, order_id: str) -> None:
    """Give an order as an operator does: first its entry, then the record."""
    by = Operator(who=ANNA, now=world.clock.now, new_id=lambda: order_id)
    details = order.details(world.lock.record)
    record_order(order.name, details, by=by, chain=chain_of(world.ports("aws")))
    if isinstance(order, Revoke):
        revokes_everything(world)
    else:
        orders(world, paused=isinstance(order, Pause))


class AuditStory:
    """A world and its clock; every call goes on where the last one ended."""

    def __init__(self, world: MemoryWorld | None = None) -> None:
        self.world = world or make_world()
        self.world.by_wall_clock()
        self.count = 0

    @property
    def now(self) -> datetime:
        return self.world.clock.now()

    def run(self, runner: str = "aws", *, trigger: str = "schedule", force: bool = False) -> str:
        """One run that takes some seconds; its outcome."""
        self.count += 1
        self.world.databases["db-1"].faults.before = lambda operation: (
            self.world.clock.sleep(6) if operation == "stage" else None
        )
        name = f"{runner}-{self.count:06d}"
        return rotate(self.world, name, runner=runner, trigger=trigger, force=force).outcome

    def days(
        self,
        days: float,
        *,
        aws: Callable[[int], bool] = lambda _: True,
        oci: Callable[[int], bool] = lambda _: True,
        fails: tuple[type[Exception], ...] = (),
    ) -> None:
        """Let the triggers of both clouds come; a runner whose function says False does not run; a run may fail."""
        began, half = self.now, timedelta(seconds=HALF)
        for number in range(int(days * 72)):
            for runner, is_up, at in (("aws", aws, 2 * number), ("oci", oci, 2 * number + 1)):
                self._wait_until(began + at * half)
                with suppress(*fails):
                    if is_up(number):
                        self.run(runner)
        self._wait_until(began + int(days * 72) * 2 * half)

    def failing(self, error: type[Exception], days: float, *, of: str = "oci") -> None:
        """Some hours in which a store, or a database, does not answer."""
        double = self.world.stores[of] if of in self.world.stores else self.world.databases[of]

        def fail(_operation: str) -> None:
            raise error

        double.faults.before = fail
        self.days(days, fails=(error,))
        undisturbed(self.world)

    def order(self, order: Order) -> None:
        """Give an order as an operator does."""
        self.count += 1
        give(self.world, order, f"{self.count:06d}")

    def revoke(self) -> None:
        """An emergency, and the run that fulfils it."""
        self.order(Revoke(lift_pause=False))
        self.world.clock.sleep(7)
        self.run(trigger="cli", force=True)

    def verify(self) -> list[Verification]:
        """What verification says of both chains."""
        logs = [(self.world.audit_logs[s], self.world.signers[s]) for s in ("aws", "oci")]
        return verify(self.world.credential.id, logs)

    def _wait_until(self, moment: datetime) -> None:
        left = (moment - self.now).total_seconds()
        if left > 0:
            self.world.clock.sleep(left)


def whole_story(days: float = 8) -> AuditStory:
    """All that can happen, in `days` quiet days and about two more."""
    story = AuditStory()
    story.run(trigger="cli", force=True)
    story.days(days / 2)
    story.days(0.25, aws=lambda _: False)
    story.days(days / 4)
    story.failing(StoreUnreachableError, 0.125)
    story.days(days / 8)
    story.revoke()
    story.days(0.3)
    story.order(Pause())
    story.days(0.2)
    story.order(Resume())
    story.days(days / 8)
    story.failing(DatabaseUnreachableError, 0.06, of="db-2")
    story.days(0.35)
    story.days(0.1, aws=lambda _: False, oci=lambda _: False)
    story.days(0.4, aws=lambda n: n != 5)
    return story
