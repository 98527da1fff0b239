"""Honest lives: whatever runs die of, and whatever operators order, verification raises no alarm.

A life is a random schedule of both runners over one credential: deaths and failures at any call, stores and databases
that do not answer, orders, emergencies, lost lock tables, replaced keys, and bodies that are archived. After every act
the chains are verified.
"""

import random
from contextlib import suppress

from lockstep.audit.verify import NOT_RESTORED
from lockstep.protocol.errors import (
    AuditLogUnreachableError,
    DatabaseUnreachableError,
    LockstepError,
    LockTableUnreachableError,
    StoreUnreachableError,
)
from lockstep.protocol.orders import Pause, Resume
from tests.support.audit_story import AuditStory
from tests.support.memory import MemorySigner
from tests.support.world import Killed, activates, at_every_boundary, loses_the_lock_table, quiet, undisturbed

HALF_INTERVAL, STREAMS = 600, ("aws", "oci")
ERRORS = (
    StoreUnreachableError,
    DatabaseUnreachableError,
    AuditLogUnreachableError,
    LockTableUnreachableError,
)


class Life:
    """A life, by its seed.

    Attributes:
        states: States that were verified.
        alarms: What verification said, with the acts before it.
    """

    def __init__(self, seed: int) -> None:
        self.states = 0
        self.alarms: list[str] = []
        self._seed = seed
        self._acts: list[str] = []
        self._dice = random.Random(seed)  # noqa: S311 - it must be the same every time
        self._story = AuditStory()
        self._keys = 0
        self._archived = self._dice.random() < 0.5

    def live(self, acts: int) -> "Life":
        """So many acts, each followed by a verification."""
        self._story.run(trigger="cli", force=True)
        self._look("first")
        twice = (self._dies, self._fails)
        rare = (*twice, *twice, self._pauses, self._revokes, self._loses_the_table, self._new_key)
        for _ in range(acts):
            act = self._dice.choice([*[self._run] * 5, self._dice.choice(rare)])
            waits = (1, HALF_INTERVAL, HALF_INTERVAL, 5 * HALF_INTERVAL)
            self._story.world.clock.sleep(self._dice.choice(waits))
            act()
            undisturbed(self._story.world)
            self._look(act.__name__)
        return self

    def _look(self, act: str) -> None:
        self._acts.append(act)
        self.states += 1
        with quiet(self._story.world):
            if self._archived:
                self._story.world.audit_logs["oci"].faults.before = _archived
            for v in self._story.verify():
                said = [str(problem) for problem in (*v.problems, v.unreadable) if problem]
                self.alarms += [f"seed {self._seed}, after {self._acts}: {v.stream}: {one}" for one in said]

    def _run(self) -> None:
        runner = self._dice.choice(("aws", "aws", "oci"))
        with suppress(LockstepError, Killed):
            self._story.run(runner, force=self._dice.random() < 0.3)

    def _struck(self, error: BaseException, *, dead: bool) -> None:
        """One run, struck before or after one of its calls."""
        left = self._dice.randrange(120)

        def strike(_boundary: str) -> None:
            nonlocal left
            left -= 1
            if left == 0 or (left < 0 and dead):
                raise error

        at_every_boundary(self._story.world, strike)
        self._run()  # `AuditStory.run` has a hook of its own on db-1: it takes its place.

    def _dies(self) -> None:
        self._struck(Killed(), dead=True)

    def _fails(self) -> None:
        self._struck(self._dice.choice(ERRORS)(), dead=self._dice.random() < 0.3)

    def _pauses(self) -> None:
        self._story.order(Pause())
        self._run()
        self._look("paused")
        self._story.order(Resume())

    def _revokes(self) -> None:
        with suppress(LockstepError):
            self._story.revoke()

    def _loses_the_table(self) -> None:
        loses_the_lock_table(self._story.world)
        activates(self._story.world)
        # That a stream has no head is said until its runner has written the next entry.
        while len(self._story.world.lock.record.heads) < len(STREAMS):
            for runner in STREAMS:
                # Within the overlap a forced run that finds nothing to repair leaves no entry.
                self._story.world.clock.sleep(2 * HALF_INTERVAL)
                with suppress(LockstepError):
                    self._story.run(runner, force=True)

    def _new_key(self) -> None:
        self._keys += 1
        before = ["", *(f"-{n}" for n in range(1, self._keys))]
        self._story.world.signers = {
            name: MemorySigner(
                f"{name}-key-{self._keys}",
                retired=[f"{name}-{what}{n}" for n in before for what in ("key", "orders")],
                orders=f"aws-orders-{self._keys}" if name == "aws" else None,
            )
            for name in STREAMS
        }
        self._run()


def _archived(operation: str) -> None:
    if operation == "read":
        raise AuditLogUnreachableError(stream="oci", code=NOT_RESTORED)
