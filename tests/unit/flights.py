"""Rotations in flight, for the tests of the steps."""

import pytest

from functions.apply_db import step as apply_db
from functions.generate import step as generate
from lockstep.messages import (
    ApplyRequest,
    CandidateRef,
    DatabaseResult,
    GenerateRequest,
    ProbeNeeded,
    ProbeRequest,
    ProbeResult,
    RetireRequest,
    RetireResult,
    Rotation,
    Staged,
)
from lockstep.model import Claim, Strategy
from tests.support.memory import MemoryDatabase, MemoryWorld, make_plan
from tests.unit.harness import (
    INTERVAL_SECONDS,
    Killed,
    at_every_boundary,
    generated,
    held,
    known_logins,
    login_of,
    rotate,
    rotate_again,
    shown,
    undisturbed,
)

both_strategies = pytest.mark.parametrize("strategy", list(Strategy))

PHASES = [
    "after lock claim",
    "before aws stage app_user",
    "after aws stage app_user",
    "before oci stage app_user",
    "after oci stage connection_blob",
    "after db-1 stage",
    "after db-2 stage",
    "after aws promote app_user",
    "after aws promote connection_blob",
    "after oci promote connection_blob",
    "before oci log put",
    "after oci log put",
    "after lock move_head",
    "before lock release",
]
"""Boundaries of a rotation from its claim to its end; at each of them it is in another state."""


def steady(strategy: Strategy = Strategy.DUAL_PASSWORD, *, stores: int = 2) -> MemoryWorld:
    """A world after two rotations; the next one is due."""
    world = MemoryWorld.create(make_plan(strategy=strategy, stores=stores))
    rotate(world, "first")
    rotate_again(world, "second")
    world.clock.sleep(INTERVAL_SECONDS)
    return world


def dies(world: MemoryWorld, boundary: str, *, runner: str = "oci") -> None:
    """Let a run die at a boundary, and advance the clock to the next trigger."""

    def hook(at: str) -> None:
        if at == boundary:
            raise Killed

    at_every_boundary(world, hook)
    with pytest.raises(Killed):
        rotate(world, "dead", runner=runner)
    undisturbed(world)
    world.clock.sleep(INTERVAL_SECONDS)


def run_generate(world: MemoryWorld, rotation: Rotation, **more: object) -> Staged:
    """Run Generate where it stages; `more` holds probes or the claim to replace."""
    request = GenerateRequest.model_validate({"rotation": rotation, **more})
    result = generate.run(request, world.ports(rotation.runner))
    assert isinstance(result, Staged)
    return result


def asked_to_probe(world: MemoryWorld, rotation: Rotation) -> ProbeNeeded:
    """Run Generate where it asks for probes."""
    result = generate.run(GenerateRequest(rotation=rotation), world.ports(rotation.runner))
    assert isinstance(result, ProbeNeeded)
    return result


class Flight:
    """A world with generation 3 claimed and staged, base 2 and previous 1."""

    def __init__(self, strategy: Strategy = Strategy.DUAL_PASSWORD, *, revoke_previous: bool = False) -> None:
        self.world = steady(strategy)
        self.rotation: Rotation = held(self.world, "third", force=True, revoke_previous=revoke_previous)
        _, self.claim = generated(self.world, self.rotation)

    @property
    def database(self) -> MemoryDatabase:
        return self.world.databases["db-1"]

    def lets_in(self, generation: int) -> bool:
        return shown(login_of(self.world, generation)) in known_logins(self.world)["db-1"]

    def apply(self, *, claim: Claim | None = None) -> DatabaseResult:
        request = ApplyRequest(rotation=self.rotation, claim=claim or self.claim, database="db-1")
        result = apply_db.run(request, self.world.ports())
        assert isinstance(result, DatabaseResult)
        return result

    def overtaken(self) -> None:
        """Let another run take the lock."""
        self.world.clock.sleep(INTERVAL_SECONDS)
        held(self.world, "taker", runner="oci")

    def retire(self, action: str) -> RetireResult:
        request = RetireRequest.model_validate(
            {"action": action, "rotation": self.rotation, "claim": self.claim, "database": "db-1"}
        )
        result = apply_db.run(request, self.world.ports())
        assert isinstance(result, RetireResult)
        return result

    def probe(self, *candidates: CandidateRef) -> ProbeResult:
        request = ProbeRequest(action="probe", rotation=self.rotation, database="db-1", candidates=candidates)
        result = apply_db.run(request, self.world.ports())
        assert isinstance(result, ProbeResult)
        return result
