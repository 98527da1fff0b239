"""Rotations in flight, for the tests of the steps."""

from collections.abc import Callable

import pytest

from functions.apply_db import step as apply_db
from functions.generate import step as generate
from lockstep.protocol import messages
from lockstep.protocol.model import Claim, Strategy
from lockstep.protocol.strict_json import read
from tests.support import world as w
from tests.support.memory import MemoryDatabase, MemoryWorld

both_strategies = pytest.mark.parametrize("strategy", list(Strategy))

OPEN = [
    *("after lock claim", "before aws stage app_user", "after aws stage app_user"),
    *("before oci stage app_user", "after oci stage connection_blob", "after db-1 stage"),
    *("after db-2 stage", "before lock begin_promotion"),
]
"""Boundaries at which the claim is open: no store can serve its value yet."""

PROMOTING = [
    *("after lock begin_promotion", "after aws promote app_user", "after aws promote connection_blob"),
    *("after oci promote connection_blob", "before oci log put"),
    *("after oci log put", "before lock release"),
]
"""Boundaries at which a store may serve it; in each of the two lists every boundary is another state."""


def steady(strategy: Strategy = Strategy.DUAL_PASSWORD, *, stores: int = 2) -> MemoryWorld:
    """A world after two rotations; the next one is due."""
    return w.make_world(stores=stores, strategy=strategy, rotations=2)


def dies(world: MemoryWorld, boundary: str, *, runner: str = "oci") -> None:
    """Let a run die at a boundary, and advance the clock to the next trigger."""
    with w.struck(world, {boundary: w.Killed}), pytest.raises(w.Killed):
        w.rotate(world, "dead", runner=runner)
    world.clock.sleep(w.INTERVAL_SECONDS)


def calls(world: MemoryWorld, act: Callable[[], object]) -> list[str]:
    """What is asked of the doubles meanwhile."""
    seen = list[str]()
    w.at_every_boundary(world, seen.append)
    act()
    w.undisturbed(world)
    return [boundary.removeprefix("before ") for boundary in seen if boundary.startswith("before")]


def run_generate(world: MemoryWorld, rotation: messages.Rotation, **more: object) -> messages.Staged:
    """Run Generate where it stages; `more` holds what a search has found, or what has refused base."""
    request = read(messages.GenerateRequest, {"rotation": rotation, **more})
    result = generate.run(request, world.ports(rotation.runner))
    assert isinstance(result, messages.Staged)
    return result


def asked_to_probe(world: MemoryWorld, rotation: messages.Rotation, *refused: str) -> messages.ProbeRequest:
    """Run Generate where it asks for a probe."""
    request = messages.GenerateRequest(rotation=rotation, refused=refused)
    result = generate.run(request, world.ports(rotation.runner))
    assert isinstance(result, messages.ProbeRequest)
    return result


def searched(world: MemoryWorld, needed: messages.ProbeRequest) -> messages.ProbeResult:
    """Run the search that Generate asks for."""
    result = apply_db.run(needed, world.ports(needed.rotation.runner))
    assert isinstance(result, messages.ProbeResult)
    return result


class Flight:
    """A world with generation 3 claimed and staged, base 2, and 1 still valid."""

    def __init__(self, strategy: Strategy = Strategy.DUAL_PASSWORD, *, is_staged: bool = True) -> None:
        self.world = steady(strategy)
        self.rotation = w.held(self.world, "third")
        if is_staged:
            self.staged = w.generated(self.world, self.rotation)

    @property
    def claim(self) -> Claim:
        return self.staged.claim

    @property
    def database(self) -> MemoryDatabase:
        return self.world.databases["db-1"]

    def lets_in(self, *generations: int) -> list[bool]:
        """Which generations db-1 lets in."""
        logins = w.known_logins(self.world)["db-1"]
        return [w.shown(w.login_of(self.world, generation)) in logins for generation in generations]

    def apply(self) -> messages.DatabaseResult:
        """Run ApplyDb; the result of db-1."""
        return w.applied(self.world, self.staged).databases[0]

    def promote(self) -> messages.UpdateResult:
        return w.updated(self.world, self.staged)

    def overtaken(self) -> None:
        """Let another run take the lock."""
        self.world.clock.sleep(w.INTERVAL_SECONDS)
        w.held(self.world, "taker", runner="oci")

    def revoke(self) -> messages.Revoked:
        """Run RevokeDb; the result of db-1."""
        request = messages.RevokeRequest(rotation=self.staged.rotation, claim=self.claim)
        result = apply_db.run(request, self.world.ports())
        assert isinstance(result, messages.RevokeResult)
        return result.databases[0]
