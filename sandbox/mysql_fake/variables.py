"""System variables of a session.

Source: MySQL 8.4 Reference Manual, "Server System Variables", "Server SQL Modes".
"""

from collections.abc import Mapping
from typing import Final

from sandbox.mysql_fake.errors import (
    READ_ONLY_VARIABLE,
    UNKNOWN_CHARACTER_SET,
    UNKNOWN_VARIABLE,
    WRONG_TYPE,
    WRONG_VALUE,
    MySqlError,
)
from sandbox.mysql_fake.settings import Settings

Value = int | str

_DEFAULTS: Final[Mapping[str, Value]] = {
    "autocommit": 1,
    "character_set_client": "utf8mb4",
    "innodb_lock_wait_timeout": 50,
    "interactive_timeout": 28_800,
    "lock_wait_timeout": 31_536_000,
    "max_execution_time": 0,
    "net_read_timeout": 30,
    "net_write_timeout": 60,
    "sql_mode": "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,"
    "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION",
    "time_zone": "SYSTEM",
    "transaction_isolation": "REPEATABLE-READ",
    "wait_timeout": 28_800,
}
_AT_LEAST_ONE = frozenset({"interactive_timeout", "lock_wait_timeout", "net_read_timeout", "wait_timeout"})
_SQL_MODES = frozenset(
    {
        *str(_DEFAULTS["sql_mode"]).split(","),
        "ANSI_QUOTES",
        "NO_AUTO_VALUE_ON_ZERO",
        "NO_BACKSLASH_ESCAPES",
        "STRICT_ALL_TABLES",
    }
)
# The only ones whose statements the fake can read as they were meant.
_CHARACTER_SETS = frozenset({"utf8mb4", "utf8mb3"})
_WORDS = {"ON": 1, "TRUE": 1, "OFF": 0, "FALSE": 0}


class Variables:
    """What `@@name` tells, and what SET changes.

    Args:
        settings: The server's, which a session sees but cannot set.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._values = dict(_DEFAULTS)

    def get(self, name: str) -> Value:
        """A variable's value; error 1193 for one that is not modelled."""
        try:
            return {**self._read_only(), **self._values}[name]
        except KeyError:
            raise MySqlError(UNKNOWN_VARIABLE, name) from None

    def set(self, name: str, value: Value | None) -> None:
        """Sets a session variable.

        Raises:
            MySqlError: There is none of this name, it cannot be set, or not to this value.
        """
        if name in self._read_only():
            raise MySqlError(READ_ONLY_VARIABLE, name)
        default = _DEFAULTS.get(name)
        if default is None:
            raise MySqlError(UNKNOWN_VARIABLE, name)
        if isinstance(value, str) and value.upper() == "DEFAULT":
            self._values[name] = default
        elif isinstance(default, int):
            self._values[name] = _number(name, value)
        elif isinstance(value, str):
            self._values[name] = _text(name, value)
        else:
            raise MySqlError(WRONG_TYPE, name)

    @property
    def sql_mode(self) -> frozenset[str]:
        """The flags of the SQL mode."""
        return frozenset(str(self._values["sql_mode"]).split(",")) - {""}

    @property
    def autocommit(self) -> bool:
        """Whether each statement is a transaction."""
        return bool(self._values["autocommit"])

    @property
    def wait_timeout_seconds(self) -> int:
        """How long the client may be silent."""
        return int(self._values["wait_timeout"])

    def _read_only(self) -> dict[str, Value]:
        return {
            "max_connections": self._settings.max_connections,
            "read_only": 0,
            "require_secure_transport": int(self._settings.require_secure_transport),
            "super_read_only": 0,
            "version": self._settings.version,
        }


def _number(name: str, value: Value | None) -> int:
    number = _WORDS.get(value.upper()) if isinstance(value, str) else value
    if number is None:
        raise MySqlError(WRONG_TYPE, name)
    return max(number, 1) if name in _AT_LEAST_ONE else number


def _text(name: str, value: str) -> str:
    if name == "character_set_client" and value.lower() not in _CHARACTER_SETS:
        raise MySqlError(UNKNOWN_CHARACTER_SET, value)
    if name == "sql_mode":
        modes = [mode.strip().upper() for mode in value.split(",") if mode.strip()]
        unknown = next((mode for mode in modes if mode not in _SQL_MODES), None)
        if unknown is not None:
            raise MySqlError(WRONG_VALUE, name, unknown)
        return ",".join(modes)
    return value
