"""A server that speaks MySQL 8.4's wire protocol, for holding the MySQL driver to its contract."""

from sandbox.mysql_fake.accounts import Account
from sandbox.mysql_fake.faults import Fault, Hold
from sandbox.mysql_fake.server import MySqlFake
from sandbox.mysql_fake.settings import PasswordPolicy, Settings

__all__ = ["Account", "Fault", "Hold", "MySqlFake", "PasswordPolicy", "Settings"]
