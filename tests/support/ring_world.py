"""A `MemoryWorld` whose OCI store is the real adapter on the OCI sandbox, checked at every call."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lockstep.protocol.errors import LockstepError
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from lockstep.protocol.ring import SLOTS
from sandbox.emulators.oci import OciSandbox, SandboxClock
from tests.contract.clouds import VaultRingHarness
from tests.support.fence import fence_held
from tests.support.memory import EPOCH, FakeClock
from tests.support.world import Ran, make_world, rotate_again

TAKEN_OVER = Login("app", SecretStr("before-lockstep"))


@contextmanager
def emulated_ring(*, slots: int = SLOTS) -> Iterator[VaultRingHarness]:
    """Two rings with placeholders, on a fake clock."""
    clock = FakeClock(EPOCH)
    with OciSandbox(SandboxClock(clock.now)) as sandbox:
        yield VaultRingHarness(sandbox, slots=slots, clock=clock)


def value(generation: int) -> CredentialValue:
    """The value of a generation."""
    return CredentialValue(generation, Login("app", SecretStr(f"password-{generation}")))


def advance(world: VaultRingHarness, *generations: int) -> None:
    """Stage, promote and prune, as rotations do."""
    for generation in generations:
        world.store.stage(value(generation))
        world.store.promote(generation, fence_held)
        world.store.prune()


class RingWorld:
    """A world in memory whose store `oci` is the shipped adapter on the OCI sandbox.

    Attributes:
        memory: Everything except the vault; its own store `oci` is not used.
        ring: The vault's two rings, and the console.
        lockouts: The calls after which an application that reads the ring could not log in.
    """

    def __init__(self, ring: VaultRingHarness, *, alone: bool) -> None:
        assert isinstance(ring.clock, FakeClock)
        self.memory = make_world(clock=ring.clock)
        self.ring = ring
        self.edit(0, TAKEN_OVER)
        self.lockouts: list[str] = []
        self._others = {} if alone else {"aws": self.memory.stores["aws"]}
        self._looking = False
        ring.sandbox.on_call = self._look
        for database in self.memory.databases.values():
            database.faults.after = self._changed

    def rotate_again(self, rotation_id: str) -> Ran:
        """A run at the next trigger, with a new store object."""
        stores: Any = {**self._others, "oci": self.ring.store_on(self.ring.vault)}
        self.memory.stores = stores
        return rotate_again(self.memory, rotation_id, runner="oci")

    def edit(self, slot: int, login: Login, **more: object) -> None:
        """Put a login into a slot of `app_user`, as an operator does in the console."""
        text = {"username": login.username, "password": login.password.reveal(), **more}
        self.ring.console.edit(self.ring.ids["app_user"][slot], json.dumps(text))

    def slot(self) -> int:
        """The slot that applications read."""
        return self.ring.ids["app_user"].index(self.ring.serving("app_user")[0])

    def read(self) -> Login:
        """The login that an application reads from the ring."""
        document = json.loads(self.ring.current_text("app_user"))
        return Login(document["username"], SecretStr(document["password"]))

    def in_sync(self) -> bool:
        """Whether both rings serve the recorded generation, no claim is open and the lock is free."""
        record = self.memory.lock.record
        generations = {self.ring.serving(kind)[1] for kind in self.ring.ids}
        return (
            generations == {record.current_generation}
            and record.claim is None
            and record.holder is None
            and not self._locked_out()
        )

    def _changed(self, operation: str) -> None:
        if operation in {"stage", "retire"}:
            self._look("after", operation, "of a database")

    def _look(self, when: str, operation: str, resource: str) -> None:
        """Look again after what may change a slot or an account."""
        if when == "after" and not operation.startswith(("get_", "list_")) and not self._looking:
            self._looking = True
            self.lockouts += [f"after {operation} {resource}"] if self._locked_out() else []
            self._looking = False

    def _locked_out(self) -> bool:
        login = self.read()
        return not all(d.accepts(login) for d in self.memory.databases.values())


@contextmanager
def ring_world(*, slots: int = SLOTS, alone: bool = False) -> Iterator[RingWorld]:
    """A world with an existing login to take over; the vault is alone if it is the only store."""
    with emulated_ring(slots=slots) as ring:
        yield RingWorld(ring, alone=alone)


def attempt(world: RingWorld, rotation_id: str) -> str:
    """Run at the next trigger; return the outcome or the name of the error."""
    try:
        return world.rotate_again(rotation_id).outcome
    except LockstepError as error:
        return type(error).__name__
