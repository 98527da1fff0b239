"""How many calls Generate and UpdateSecrets make to the stores, and how many of them come one after the other.

One store is in memory, and each operation on one of its secrets is a call; the other is the adapter of OCI on its
emulator, with a ring of four.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from functions.apply_db import step as apply_db
from functions.generate import step as generate
from functions.update_secrets import step as update_secrets
from lockstep.protocol.messages import ApplyRequest, GenerateRequest, Staged, UpdateRequest
from lockstep.stores.credential import Ports, Stores
from tests.support.trips import LongestChain
from tests.unit.flights import steady
from tests.unit.harness import INTERVAL_SECONDS, at_every_boundary, held, undisturbed
from tests.unit.ring_world import RingWorld, ring_world


class Rounds(LongestChain):
    """Counts calls by their names, and the longest chain of them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = Counter[str]()

    def call(self, name: str) -> None:
        self.calls[name] += 1
        self.length += 1

    def at_boundary(self, boundary: str) -> None:
        when, _, name = boundary.partition(" ")
        if when == "before" and not name.startswith("db-"):
            self.call(name)

    def taken(self) -> tuple[int, int]:
        """The length and the number of calls since the last time."""
        found = self.length, self.calls.total()
        self.length, self.calls = 0, Counter()
        return found


def steps(ports: Ports, request: GenerateRequest, rounds: Rounds) -> dict[str, tuple[int, int]]:
    staged = generate.run(request, ports)
    assert isinstance(staged, Staged)
    taken = {"Generate": rounds.taken()}
    applied = apply_db.run(
        ApplyRequest(rotation=staged.rotation, claim=staged.claim, hint=staged.hint), ports
    )
    rounds.taken()
    update_secrets.run(
        UpdateRequest(
            rotation=staged.rotation,
            claim=staged.claim,
            proven=applied.proven,  # type: ignore[union-attr]  # it was applied
            seen=staged.seen,
        ),
        ports,
    )
    taken["UpdateSecrets"] = rounds.taken()
    return taken


def test_one_store() -> None:
    """`read_current` and `shows` are two calls at the same time: five calls each, three of them in turn."""
    world, rounds = steady(stores=1), Rounds()
    rotation = held(world, "third")
    world.side_by_side = rounds.side_by_side
    request = GenerateRequest(rotation=rotation, record={"record": world.lock.record})
    at_every_boundary(world, rounds.at_boundary)
    assert steps(world.ports(), request, rounds) == {"Generate": (3, 5 - 1), "UpdateSecrets": (3, 5 - 1)}
    undisturbed(world)


@contextmanager
def full_ring() -> Iterator[RingWorld]:
    """Every slot has versions to prune."""
    with ring_world() as world:
        for n in range(24):
            world.rotate_again(f"run-{n}")
        world.memory.clock.sleep(INTERVAL_SECONDS)
        yield world


def test_a_second_store_with_a_ring_of_four() -> None:
    rounds = Rounds()
    with full_ring() as world:
        memory = world.memory
        rotation = held(memory, "counted")
        request = GenerateRequest(rotation=rotation, record={"record": memory.lock.record})
        memory.side_by_side = world.ring.side_by_side = rounds.side_by_side
        ports = memory.ports()
        ring = world.ring.store_on(world.ring.vault)
        stores = Stores([memory.stores["aws"], ring], side_by_side=rounds.side_by_side)
        at_every_boundary(memory, rounds.at_boundary)
        in_oci: Counter[str] = Counter()

        def count(when: str, operation: str, _resource: str) -> None:
            if when == "before":
                rounds.call(operation)
                in_oci[operation] += 1

        world.sandbox.on_call = count
        taken = steps(replace(ports, stores=stores), request, rounds)
        undisturbed(memory)
    assert {step: length for step, (length, _) in taken.items()} == {"Generate": 4, "UpdateSecrets": 4}
    assert in_oci == {
        "get_secret_bundle": 8 + 2,
        "list_secret_versions": 2 + 2,
        "get_secret": 2,
        "update_secret": 2 + 2,
        "schedule_secret_version_deletion": 2,
    }
    assert in_oci.total() == 22


@pytest.mark.parametrize("runner", ["aws", "oci"])
def test_an_error_of_one_store_waits_for_the_others(runner: str) -> None:
    """A step returns when every call has ended, with the first error in the order of the plan."""
    world = steady()
    rotation = held(world, "third", runner=runner)
    seen: list[str] = []
    world.stores["aws"].faults.before = _fails
    world.stores["oci"].faults.before = seen.append
    with pytest.raises(TimeoutError):
        generate.run(GenerateRequest(rotation=rotation), world.ports(runner))
    assert seen == ["read_current"]


def _fails(_operation: str) -> None:
    raise TimeoutError
