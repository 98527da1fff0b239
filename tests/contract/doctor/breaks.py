"""How to break what each check looks at: the table of which `test_doctor` makes a test for each check."""

from tests.contract.doctor.breaking import Break
from tests.contract.doctor.breaks_of_aws import BREAKS_OF_AWS
from tests.contract.doctor.breaks_of_identity import BREAKS_OF_IDENTITY, BREAKS_OF_KEYS
from tests.contract.doctor.breaks_of_oci import BREAKS_OF_OCI
from tests.contract.doctor.breaks_of_stack import BREAKS_OF_STACK

BREAKS: tuple[Break, ...] = (*BREAKS_OF_AWS, *BREAKS_OF_STACK, *BREAKS_OF_OCI, *BREAKS_OF_KEYS)

WITH_SESSIONS: tuple[Break, ...] = BREAKS_OF_IDENTITY
"""What can be wrong where the runners have sessions in the other cloud instead of keys."""
