"""Every check, in the order in which findings are shown. The documentation lists them.

A group's first check is the one that the others need. Add a check to the tuple of its module, and a row to
`tests/contract/doctor/breaks.py` that shows it to fail.
"""

from lockstep.doctor import (
    aws_account,
    aws_audit,
    aws_events,
    aws_fleet,
    aws_identity,
    aws_lock,
    aws_secrets,
    aws_stack,
    databases,
    in_cloud,
    oci_events,
    oci_identity,
    oci_keys,
    oci_runner,
    oci_tenancy,
    oci_vault,
)
from lockstep.doctor.checks import Check

CATALOGUE: tuple[Check, ...] = (
    *aws_account.CHECKS,
    *aws_lock.CHECKS,
    *aws_secrets.CHECKS,
    *aws_identity.CHECKS,
    *aws_audit.CHECKS,
    *aws_stack.CHECKS,
    *aws_fleet.CHECKS,
    *aws_events.CHECKS,
    *oci_tenancy.CHECKS,
    *oci_vault.CHECKS,
    *oci_keys.CHECKS,
    *oci_identity.CHECKS,
    *oci_runner.CHECKS,
    *oci_events.CHECKS,
    *databases.CHECKS,
    *in_cloud.CHECKS,
)
