"""Both clouds as a person at a command line reaches them."""

from lockstep.clouds import Clouds
from lockstep.identity import OPERATOR
from lockstep.model import Credential
from lockstep.plan import Plan
from lockstep.ports import AuditLog, Signer
from lockstep.system import SystemClock
from lockstep.timeouts import Timeouts
from lockstep.wiring import endpoints_from_environment


def operator(plan: Plan) -> Clouds:
    """What the plan names, opened as the operator."""
    return Clouds(
        plan,
        OPERATOR,
        endpoints=endpoints_from_environment(),
        timeouts=Timeouts(),
        clock=SystemClock(),
    )


def streams(plan: Plan, clouds: Clouds, credential: Credential) -> list[tuple[AuditLog, Signer]]:
    """The audit streams of a credential with their keys: one for each cloud that runs rotations."""
    found = [clouds.stream("aws", credential)]
    if plan.runners.oci:
        found.append(clouds.stream("oci", credential))
    return found
