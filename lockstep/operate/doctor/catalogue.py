"""Every check, in the order in which findings are shown. The documentation lists them.

A group's first check is the one that the others need. Add a check to the tuple of its module, and a row to
`tests/contract/doctor/breaks.py` that shows it to fail.
"""

from lockstep.operate.doctor import aws, databases, in_cloud, oci
from lockstep.operate.doctor.checks import Check

CATALOGUE: tuple[Check, ...] = (*aws.CHECKS, *oci.CHECKS, *databases.CHECKS, *in_cloud.CHECKS)
