"""The bill of a plan."""

from collections.abc import Sequence

from lockstep.cost import aws, fleet, oci
from lockstep.cost.bill import Bill, Deployed, Line
from lockstep.cost.calls import Counted
from lockstep.plan import Plan
from lockstep.plan_credentials import CredentialSection


def bill(plan: Plan, deployed: Deployed, counted: Counted) -> Bill:
    """What the plan costs.

    Args:
        plan: What is rotated.
        deployed: How.
        counted: The calls of a rotation.
    """
    alike: dict[object, Sequence[Line]] = {}

    def of(credential: CredentialSection) -> Sequence[Line]:
        # All that a bill depends on: ten thousand credentials have few kinds.
        kind = (aws.shape_of(plan, credential), credential.interval)
        if kind not in alike:
            alike[kind] = [
                *aws.of_credential(plan, credential, deployed, counted),
                *fleet.of_credential(credential, deployed),
                *oci.of_credential(plan, credential, deployed, counted),
            ]
        return alike[kind]

    return Bill(
        credentials={c.id: of(c) for c in plan.credential_sections},
        deployment=[
            *aws.of_deployment(plan, deployed, counted),
            *fleet.of_deployment(plan, deployed),
            *oci.of_deployment(plan, deployed, counted),
        ],
    )
