"""The calls in OCI of the functions of the AWS runner, each by itself.

They are those of `functions/*/step.py` on a ring, in the usual run and where a value is missing or a slot is full, and
those of the function that makes digests.
"""

from collections.abc import Callable, Mapping

from lockstep.oci.clients import OciClients
from tests.contract.oci_fixtures import sandbox_clients
from tests.infrastructure.terraform.world import FIRST_DIGEST, World, digest_bucket, ring_of, value_of
from tests.support.fence import fence_held

MISSING = 999
"""A generation that no slot holds."""


def generate(world: World, clients: OciClients) -> None:
    """Read what is served and what the claim names, and stage; of the first credential in a slot that is full."""
    for credential in world.plan.credentials:
        store = ring_of(world, clients, credential)
        base = store.read_current()
        assert store.read_version(base.version)
        assert store.read_generation(base.generation)
        assert store.read_generation(MISSING) is None
        value = value_of(credential, base.generation + 1)
        assert store.stage(value).value == value


def update_secrets(world: World, clients: OciClients) -> None:
    """Promote what Generate has staged, and prune."""
    for credential in world.plan.credentials:
        staged = ring_of(world, sandbox_clients(world.sandbox), credential)
        value = value_of(credential, staged.read_current().generation + 1)
        seen = staged.stage(value).seen
        store = ring_of(world, clients, credential)
        promoted = store.prepare_promotion(value.generation, seen=seen)(fence_held)
        assert store.shows(promoted)
        assert store.prune() >= 2


def apply_db(world: World, clients: OciClients) -> None:
    """Read values by their generation and version."""
    for credential in world.plan.credentials:
        store = ring_of(world, clients, credential)
        base = store.read_current()
        assert store.read_generation(base.generation)
        assert store.read_generation(MISSING) is None
        assert store.read_version(base.version)


def digest(world: World, clients: OciClients) -> None:
    """Find and read the newest digest of OCI."""
    bucket = digest_bucket(world, clients)
    assert [listed.name for listed in bucket.listed()] == [FIRST_DIGEST]
    assert bucket.read(FIRST_DIGEST, 100) == b"{}"


STEPS: Mapping[str, Callable[[World, OciClients], None]] = {
    "generate": generate,
    "apply_db": apply_db,
    "update_secrets": update_secrets,
    "digest": digest,
}
"""By their names in the machine."""
