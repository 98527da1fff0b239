"""The bill of a plan."""

from lockstep.cost import aws, oci
from lockstep.cost.bill import Bill, Deployed
from lockstep.cost.calls import Counted
from lockstep.plan import Plan


def bill(plan: Plan, deployed: Deployed, counted: Counted) -> Bill:
    """What the plan costs.

    Args:
        plan: What is rotated.
        deployed: How.
        counted: The calls of a rotation.
    """
    return Bill(
        credentials={
            c.id: [
                *aws.of_credential(plan, c, deployed, counted),
                *oci.of_credential(plan, c, deployed, counted),
            ]
            for c in plan.credential_sections
        },
        deployment=[*aws.of_deployment(plan, deployed, counted), *oci.of_deployment(plan, deployed, counted)],
    )
