"""What can be wrong in OCI."""

from lockstep.doctor.findings import Outcome
from tests.contract.doctor.breaking import Break
from tests.contract.doctor.world import World


def _forget_the_key(world: World) -> None:
    world.oci.identity.delete_api_key(world.oci.config())


BREAKS_OF_OCI: tuple[Break, ...] = (
    Break(
        check="oci.identity",
        act=_forget_the_key,
        says="OciIdentityRefusedError",
        command="oci iam user api-key list",
        outcome=Outcome.NOT_ASKED,
    ),
)
