"""How to break what each check looks at on a database: the table of which `test_databases` makes its tests."""

from tests.contract.doctor.breakage import Breakage
from tests.contract.doctor.breaks_of_accounts import BREAKS_OF_ACCOUNTS
from tests.contract.doctor.breaks_of_servers import BREAKS_OF_SERVERS

BREAKAGES: tuple[Breakage, ...] = (*BREAKS_OF_SERVERS, *BREAKS_OF_ACCOUNTS)
