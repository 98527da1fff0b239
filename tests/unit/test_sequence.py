"""The standby's sequence of steps is the state machine's."""

from collections.abc import Callable
from typing import Any

import pytest

from lockstep.errors import LockstepError, StoreUnreachableError
from oci_fn import sequence
from oci_fn.retries import Retries
from oci_fn.sequence import RunRequest
from tests.statemachine.definition import MACHINE, STATES, TASKS, ways_out
from tests.support.memory import CountingPasswords, MemoryWorld
from tests.unit.harness import another_login, edit, rotate


class _Followed(Retries):
    """Keeps the states that a run of the sequence went through."""

    def __init__(self, world: MemoryWorld) -> None:
        super().__init__(MACHINE, world.clock, deadline=world.clock.monotonic() + 600, jitter=lambda: 0.5)
        self.states: list[str] = []

    def call(self, path: tuple[str, ...], *rest: Any, **more: Any) -> Any:  # noqa: ANN401 - as Retries
        assert path[-1] in TASKS
        if not self.states or self.states[-1] != path[0]:
            self.states.append(path[0])
        return super().call(path, *rest, **more)


def _next_work(name: str) -> set[str]:
    """The states that do something and may come right after this one."""
    found, ahead = set(), ways_out(STATES[name])
    while ahead:
        goal = ahead.pop()
        if STATES[goal]["Type"] == "Choice":
            ahead += ways_out(STATES[goal])
        else:
            found.add(goal)
    return found


def _nothing(_world: MemoryWorld) -> None:
    pass


def _edited(world: MemoryWorld) -> None:
    edit(world.stores["oci"], another_login(world))


def _refusing(world: MemoryWorld) -> None:
    foretold = CountingPasswords()
    foretold.count = world.passwords.count
    refused = foretold.new_password(world.credential.password_policy).reveal()
    world.databases["db-2"].refuses = lambda password: password == refused


def _always_refusing(world: MemoryWorld) -> None:
    world.databases["db-2"].refuses = lambda _password: True


def _down(world: MemoryWorld) -> None:
    def down(_operation: str) -> None:
        raise StoreUnreachableError(store="oci")

    world.stores["oci"].faults.before = down


@pytest.mark.parametrize(
    ("story", "revoke", "expected"),
    [
        (_nothing, False, "AcquireLock Generate ApplyDb UpdateSecrets Audit ReleaseLock"),
        (_nothing, True, "AcquireLock Generate ApplyDb UpdateSecrets RevokeDb Audit ReleaseLock"),
        (_edited, False, "AcquireLock Generate ProbeDb Generate ApplyDb UpdateSecrets Audit ReleaseLock"),
        (
            _refusing,
            False,
            "AcquireLock Generate ApplyDb WithdrawDb Generate ApplyDb UpdateSecrets Audit ReleaseLock",
        ),
        (
            _always_refusing,
            False,
            "AcquireLock Generate ApplyDb WithdrawDb Generate ApplyDb AuditFailure ReleaseLockAfterFailure",
        ),
        (_down, False, "AcquireLock Generate AuditFailure ReleaseLockAfterFailure"),
    ],
)
def test_the_standby_goes_the_ways_of_this_machine(
    story: Callable[[MemoryWorld], None],
    revoke: bool,  # noqa: FBT001 - a row of the table
    expected: str,
) -> None:
    world = MemoryWorld.create()
    rotate(world, "first")
    world.clock.sleep(1200)
    story(world)
    followed = _Followed(world)
    request = RunRequest(
        rotation_id="second", runner="oci", trigger="test", force=revoke, revoke_previous=revoke
    )
    try:
        sequence.rotate(request, world.ports("oci"), followed, parallel=1)
    except LockstepError:
        assert "AuditFailure" in expected
    assert followed.states == expected.split()
    for here, there in zip(followed.states, followed.states[1:], strict=False):
        assert there in _next_work(here), f"no way from {here} to {there}"
