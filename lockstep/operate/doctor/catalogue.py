"""Every check, in the order in which findings are shown. The documentation lists them.

A group's first check is the one that the others need. Add a check to the tuple of its module, and a row to
`tests/contract/doctor/breaks.py` that shows it to fail.
"""

from lockstep.operate.doctor import aws, aws_secrets, databases, identity, in_cloud, oci
from lockstep.operate.doctor import aws_secrets as aws_audit
from lockstep.operate.doctor.checks import Check

CATALOGUE: tuple[Check, ...] = (
    *aws.ACCOUNT_CHECKS,
    *aws.LOCK_CHECKS,
    *aws_secrets.SECRET_CHECKS,
    *identity.AWS_IDENTITY_CHECKS,
    *aws_audit.AUDIT_CHECKS,
    *aws.STACK_CHECKS,
    *aws.FLEET_CHECKS,
    *aws.EVENT_CHECKS,
    *oci.TENANCY_CHECKS,
    *oci.VAULT_CHECKS,
    *identity.OCI_KEY_CHECKS,
    *identity.OCI_IDENTITY_CHECKS,
    *oci.RUNNER_CHECKS,
    *oci.OCI_EVENT_CHECKS,
    *databases.CHECKS,
    *in_cloud.CHECKS,
)
