"""What MariaDB can be asked, for `lockstep doctor` (see `lockstep.databases.looks`)."""

from collections.abc import Iterator
from typing import Any

from lockstep.databases.looks import POLICY, Answers
from lockstep.databases.looks_mysql_family import FamilyLooks, Grants, Shown
from lockstep.databases.mysql_family import MySqlFamilyDatabase, MySqlSession
from lockstep.databases.sql_text import quoted
from lockstep.doctor.findings import Answer, failed, passed, warning
from lockstep.errors import VerifierRefusedError

_PLUGIN = "mysql_native_password"
"""What Lockstep gives each account."""

_WITH_PASSWORDS = frozenset({_PLUGIN, "mysql_old_password", "ed25519", "parsec", "caching_sha2_password"})
"""Plugins that keep a password in the server."""


class MariaDbLooks(FamilyLooks):
    """See `lockstep.databases.looks.Looks`."""

    own_tables = frozenset({"mysql.user"})

    def as_admin(self, session: MySqlSession, database: MySqlFamilyDatabase) -> Answers:
        """See `Looks`."""
        yield from super().as_admin(session, database)
        yield POLICY, self._policy(session, database)

    def _grant_rows(self, session: MySqlSession) -> list[tuple[Any, ...]]:
        rows = list(session.rows("SHOW GRANTS FOR CURRENT_USER()"))
        (role,) = session.run("SELECT CURRENT_ROLE()") or (None,)
        if role and role != "NONE":
            rows += session.rows("SHOW GRANTS FOR CURRENT_ROLE()")
        return rows

    def _lesser_rights(self, held: Grants, to: str, name: str) -> Iterator[Answer]:
        sees_all = held.everywhere & {"ALL PRIVILEGES", "SELECT"}
        if not held.on("mysql.user") and not held.on("mysql.*") and not sees_all:
            yield warning(
                name,
                f"{to} does not see the accounts, so a username with several hosts is found only by logins",
                f"GRANT SELECT (User, Host) ON mysql.user TO {to}",
            )
        if not held.everywhere & {"PROCESS", "ALL PRIVILEGES"}:
            yield warning(
                name,
                f"{to} may not list sessions, so `lockstep sessions` counts nothing",
                f"GRANT PROCESS ON *.* TO {to}",
            )

    def _policy(self, session: MySqlSession, database: MySqlFamilyDatabase) -> Answer:
        (strict,) = session.run("SELECT @@GLOBAL.strict_password_validation") or (0,)
        plugins = session.rows(
            "SELECT PLUGIN_NAME FROM information_schema.PLUGINS"
            " WHERE PLUGIN_TYPE = 'PASSWORD VALIDATION' AND PLUGIN_STATUS = 'ACTIVE'"
        )
        names = ", ".join(sorted(str(name) for (name,) in plugins))
        if not names:
            return passed(database.name, "the server checks no passwords")
        if strict:
            return failed(
                database.name,
                f"with {names} and strict_password_validation it takes no verifiers, so no password can be changed",
                VerifierRefusedError.advice,
            )
        return passed(database.name, f"{names} is not asked about verifiers, which Lockstep sends")

    def _plugin(self, subject: str, account: Shown, database: MySqlFamilyDatabase) -> Answer:
        others = sorted(account.plugins - {_PLUGIN})
        username = subject.rpartition(" ")[2]
        named = f"{quoted(username)}@{quoted(database.credential.account_host)}"
        if account.plugins - _WITH_PASSWORDS:
            return failed(
                subject,
                f"its plugin {', '.join(others)} keeps no password in the server, and lets it in without one",
                f"ALTER USER {named} IDENTIFIED VIA {_PLUGIN} USING PASSWORD('...'), with the present password",
            )
        if others:
            return warning(
                subject,
                f"it has {', '.join(others)}, and gets {_PLUGIN} at the next rotation: its clients must know that one",
                f"make sure that its clients speak {_PLUGIN}; the next rotation then ends this warning",
            )
        return passed(subject, f"it has {_PLUGIN}")

    def position(self, session: MySqlSession) -> str | None:
        """See `Looks`: the newest transaction of each domain in the binary log; none where there is no such log."""
        (position,) = session.run("SELECT @@GLOBAL.gtid_binlog_pos") or ("",)
        return str(position) or None

    def behind(self, session: MySqlSession, position: str) -> bool | None:
        """See `Looks`: a position is `domain-server-number`, one for each domain."""
        (applied,) = session.run("SELECT @@GLOBAL.gtid_slave_pos") or ("",)
        if not applied:
            return None
        numbers = _numbers(str(applied))
        return any(numbers.get(domain, 0) < number for domain, number in _numbers(position).items())


def _numbers(position: str) -> dict[str, int]:
    parts = [part.split("-") for part in position.replace(" ", "").split(",")]
    return {domain: int(number) for domain, _, number in parts}


LOOKS = MariaDbLooks()
