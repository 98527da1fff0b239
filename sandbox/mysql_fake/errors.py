"""The errors that MySQL 8.4 sends, by number, SQLSTATE and text.

Source: share/messages_to_clients.txt of the MySQL server, and the MySQL 8.4 error message reference.
"""

from typing import NamedTuple


class ErrorKind(NamedTuple):
    """One entry of MySQL's error table."""

    number: int
    sqlstate: str
    text: str


class MySqlError(Exception):
    """A statement or a login failed, as the client is told."""

    def __init__(self, kind: ErrorKind, *fields: object) -> None:
        self.number = kind.number
        self.sqlstate = kind.sqlstate
        self.message = kind.text.format(*fields)
        super().__init__(self.number, self.message)


TOO_MANY_CONNECTIONS = ErrorKind(1040, "08004", "Too many connections")
BAD_HANDSHAKE = ErrorKind(1043, "08S01", "Bad handshake")
DATABASE_ACCESS_DENIED = ErrorKind(1044, "42000", "Access denied for user '{}'@'{}' to database '{}'")
ACCESS_DENIED = ErrorKind(1045, "28000", "Access denied for user '{}'@'{}' (using password: {})")
UNKNOWN_COMMAND = ErrorKind(1047, "08S01", "Unknown command")
DATABASE_EXISTS = ErrorKind(1007, "HY000", "Can't create database '{}'; database exists")
UNKNOWN_DATABASE = ErrorKind(1049, "42000", "Unknown database '{}'")
UNKNOWN_COLUMN = ErrorKind(1054, "42S22", "Unknown column '{}' in 'field list'")
SYNTAX = ErrorKind(
    1064,
    "42000",
    "You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version"
    " for the right syntax to use near '{}' at line {}",
)
EMPTY_QUERY = ErrorKind(1065, "42000", "Query was empty")
UNKNOWN_CHARACTER_SET = ErrorKind(1115, "42000", "Unknown character set: '{}'")
NO_SUCH_GRANT = ErrorKind(1141, "42000", "There is no such grant defined for user '{}' on host '{}'")
TABLE_ACCESS_DENIED = ErrorKind(1142, "42000", "{} command denied to user '{}'@'{}' for table '{}'")
PACKET_TOO_LARGE = ErrorKind(1153, "08S01", "Got a packet bigger than 'max_allowed_packet' bytes")
UNKNOWN_VARIABLE = ErrorKind(1193, "HY000", "Unknown system variable '{}'")
WRONG_GRANT_LEVEL = ErrorKind(1221, "HY000", "Incorrect usage of DB GRANT and GLOBAL PRIVILEGES")
PRIVILEGE_MISSING = ErrorKind(
    1227, "42000", "Access denied; you need (at least one of) the {} privilege(s) for this operation"
)
WRONG_VALUE = ErrorKind(1231, "42000", "Variable '{}' can't be set to the value of '{}'")
WRONG_TYPE = ErrorKind(1232, "42000", "Incorrect argument type to variable '{}'")
READ_ONLY_VARIABLE = ErrorKind(1238, "HY000", "Variable '{}' is a read only variable")
CLIENT_TOO_OLD = ErrorKind(
    1251,
    "08004",
    "Client does not support authentication protocol requested by server; consider upgrading MySQL client",
)
USER_OPERATION_FAILED = ErrorKind(1396, "HY000", "Operation {} failed for '{}'@'{}'")
GRANT_CREATES_NO_USER = ErrorKind(1410, "42000", "You are not allowed to create a user with GRANT")
NAME_TOO_LONG = ErrorKind(1470, "HY000", "String '{}' is too long for {} (should be no longer than {})")
PLUGIN_NOT_LOADED = ErrorKind(1524, "HY000", "Plugin '{}' is not loaded")
WRONG_ARGUMENT_COUNT = ErrorKind(
    1582, "42000", "Incorrect parameter count in the call to native function '{}'"
)
PASSWORD_REFUSED_BY_POLICY = ErrorKind(
    1819, "HY000", "Your password does not satisfy the current policy requirements"
)
PASSWORD_EXPIRED = ErrorKind(
    1820, "HY000", "You must reset your password using ALTER USER statement before executing this statement."
)
WRONG_HASH_FORMAT = ErrorKind(1827, "HY000", "The password hash doesn't have the expected format.")
PASSWORD_EXPIRED_AT_LOGIN = ErrorKind(
    1862,
    "HY000",
    "Your password has expired. To log in you must change it using a client that supports expired passwords.",
)
WRONG_LOCK_NAME = ErrorKind(
    3057,
    "42000",
    "Incorrect user-level lock name '{}'. The name is empty, NULL, or can not be expressed in the current"
    " character-set.",
)
LOCK_DEADLOCK = ErrorKind(
    3058,
    "HY000",
    "Deadlock found when trying to get user-level lock; try rolling back transaction/releasing locks and"
    " restarting lock acquisition.",
)
ACCOUNT_LOCKED = ErrorKind(3118, "HY000", "Access denied for user '{}'@'{}'. Account is locked.")
TLS_REQUIRED = ErrorKind(
    3159,
    "HY000",
    "Connections using insecure transport are prohibited while --require_secure_transport=ON.",
)
USER_MISSING = ErrorKind(3162, "HY000", "Authorization ID '{}'@'{}' does not exist.")
USER_EXISTS = ErrorKind(3163, "HY000", "Authorization ID '{}'@'{}' already exists.")
WRONG_DYNAMIC_LEVEL = ErrorKind(3619, "HY000", "Illegal privilege level specified for {}")
EMPTY_PASSWORD_RETAINED = ErrorKind(
    3878, "HY000", "Empty password can not be retained as second password for user '{}'@'{}'."
)
RETAINED_ON_PLUGIN_CHANGE = ErrorKind(
    3894,
    "HY000",
    "Current password can not be retained for user '{}'@'{}' because authentication plugin is being changed.",
)
RETAINED_FOR_EMPTY_PASSWORD = ErrorKind(
    3895, "HY000", "Current password can not be retained for user '{}'@'{}' because new password is empty."
)
UNKNOWN_DYNAMIC_PRIVILEGE = ErrorKind(
    3929, "HY000", "Dynamic privilege '{}' is not registered with the server."
)
IDLE_TOO_LONG = ErrorKind(
    4031,
    "HY000",
    "The client was disconnected by the server because of inactivity. See wait_timeout and"
    " interactive_timeout for configuring this behavior.",
)
LOCK_NAME_TOO_LONG = ErrorKind(4163, "42000", "User-level lock name '{}' should not exceed {} characters.")
