"""How to break what each check looks at: the table of which `test_doctor` makes a test for each check."""

from tests.contract.doctor.breaking import Break
from tests.contract.doctor.breaks_of_aws import BREAKS_OF_AWS
from tests.contract.doctor.breaks_of_oci import BREAKS_OF_OCI

BREAKS: tuple[Break, ...] = (*BREAKS_OF_AWS, *BREAKS_OF_OCI)
