"""A tenancy in which nothing is wrong: what Terraform and people make, with the names of the plan."""

import json
from typing import Any

from lockstep.operate.doctor.oci import FUNCTION, own_secrets_of
from lockstep.plan.model import Plan
from lockstep.protocol.names import DEFAULT_STACK
from sandbox.oci import OciSandbox
from sandbox.oci.resources import create_audit_bucket, create_ring, create_secret
from sandbox.plans import AUDIT_BUCKET, AWS_KEY_SECRET

PLACEHOLDER = '{"placeholder": true}'
FUNCTION_ID = "ocid1.fnfunc.oc1..rotate"
APPLICATION_ID = "ocid1.fnapp.oc1..lockstep"
MINUTES = (10, 30, 50)
RUNNER = "lockstep-aws"


def fill(sandbox: OciSandbox, plan: Plan) -> None:
    """Make everything.

    Args:
        sandbox: The tenancy.
        plan: The plan.
    """
    own, deployment = sandbox.own_compartment_id, sandbox.deployment
    for credential in plan.credentials:
        for name in (credential.secret_names.app_user, credential.secret_names.connection_blob):
            create_ring(sandbox, name, PLACEHOLDER)
    access_key = json.dumps({"access_key_id": "AKIALOCKSTEP", "secret_access_key": "a-secret"})
    for name in own_secrets_of(plan):
        text = access_key if name == AWS_KEY_SECRET.replace("/", ".") else "bGFyZ2U="
        create_secret(sandbox, name, text.encode(), compartment=own)
    create_audit_bucket(sandbox, AUDIT_BUCKET)
    here: dict[str, Any] = {"compartmentId": own, "lifecycleState": "ACTIVE"}
    deployment.applications = [{**here, "id": APPLICATION_ID, "displayName": DEFAULT_STACK}]
    deployment.functions = [
        {**here, "id": FUNCTION_ID, "applicationId": APPLICATION_ID, "displayName": FUNCTION}
    ]
    deployment.schedules = [schedule(own, minute) for minute in MINUTES]


def schedule(compartment: str, minute: int, state: str = "ACTIVE") -> dict[str, Any]:
    """A schedule of the standby, as Resource Scheduler shows it."""
    return {
        "id": f"ocid1.resourceschedule.oc1..{minute}",
        "compartmentId": compartment,
        "displayName": f"{DEFAULT_STACK}-standby-{minute}",
        "action": "START_RESOURCE",
        "recurrenceType": "CRON",
        "recurrenceDetails": f"{minute} * * * *",
        "resources": [{"id": FUNCTION_ID}],
        "lifecycleState": state,
    }
