"""A tenancy in which nothing is wrong: what Terraform and people make, with the names of the plan."""

import json

from lockstep.operate.doctor.oci import own_secrets_of
from lockstep.plan.model import Plan
from sandbox.emulators.oci import OciSandbox
from sandbox.oci_resources import create_audit_bucket, create_ring, create_secret
from sandbox.plans import AUDIT_BUCKET, AWS_KEY_SECRET

PLACEHOLDER = '{"placeholder": true}'
RUNNER = "lockstep-aws"


def fill(sandbox: OciSandbox, plan: Plan) -> None:
    """Make everything.

    Args:
        sandbox: The tenancy.
        plan: The plan.
    """
    own = sandbox.own_compartment_id
    for credential in plan.credentials:
        for name in (credential.secret_names.app_user, credential.secret_names.connection_blob):
            create_ring(sandbox, name, PLACEHOLDER)
    access_key = json.dumps({"access_key_id": "AKIALOCKSTEP", "secret_access_key": "a-secret"})
    for name in own_secrets_of(plan):
        text = access_key if name == AWS_KEY_SECRET.replace("/", ".") else "bGFyZ2U="
        create_secret(sandbox, name, text.encode(), compartment=own)
    create_audit_bucket(sandbox, AUDIT_BUCKET)
