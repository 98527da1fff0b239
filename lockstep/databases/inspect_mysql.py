"""What MySQL and MariaDB can be asked beside the rules, for `lockstep doctor` (see `lockstep.databases.inspect`)."""

import json
import re
import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from pymysql.constants import CLIENT

from lockstep.databases.base import quoted
from lockstep.databases.findings import Finding, Outcome, failed
from lockstep.databases.inspect import ACCOUNTS, AGAIN, RIGHTS, Inspector, of_replicas, of_rule
from lockstep.databases.mysql_family import MySqlFamilyDatabase, MySqlSession, error_of
from lockstep.databases.rules import rules
from lockstep.protocol.errors import AccountSetupError, TlsVerificationError

# https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_ssl_request.html
_CAPABILITIES = CLIENT.PROTOCOL_41 | CLIENT.SSL | CLIENT.SECURE_CONNECTION | CLIENT.PLUGIN_AUTH
_LARGEST_PACKET, _UTF8MB4 = 1 << 24, 45
_ERROR = 0xFF
# After the version: connection id, the first part of the scramble and a filler; then the lower capabilities.
_BEFORE_CAPABILITIES = 4 + 8 + 1

_CREATE_USER = r"CREATE USER|ALL PRIVILEGES|SUPER"
_NO_CREATE_USER = "it lacks CREATE USER, so it can change no password"


class FamilyInspector(Inspector[MySqlFamilyDatabase]):
    """What both engines are asked in the same way.

    Attributes:
        replicas: The statement that lists the hosts that read the binary log.
        rights: What `lockstep plan sql` grants: of which privileges one is enough, on what, and what its lack means.
    """

    replicas: ClassVar[str]
    rights: ClassVar[tuple[tuple[str, str, Outcome, str], ...]]

    # ---- Before a login

    def connect(self, tls: ssl.SSLContext) -> socket.socket:
        """See `Inspector`: the server's greeting, the request for TLS, the handshake."""
        server, timeouts = self.database.server, self.database.timeouts
        self.database.deadline_guard()
        connected = socket.create_connection((server.host, server.port), timeouts.connect_seconds)
        try:
            connected.settimeout(timeouts.io_seconds)
            _require_tls(_greeting(connected), self.database.name)
            request = struct.pack("<IIB23x", _CAPABILITIES, _LARGEST_PACKET, _UTF8MB4)
            connected.sendall(len(request).to_bytes(3, "little") + b"\x01" + request)
            return tls.wrap_socket(connected, server_hostname=server.host)
        except BaseException:
            connected.close()
            raise

    # ---- As the rotation user

    def ask(self, session: MySqlSession, sql: str) -> Sequence[Sequence[Any]]:
        """See `Inspector`."""
        return session.rows(sql.replace("%", "%%"))

    def beside_rules(self, session: MySqlSession) -> Iterator[Finding]:
        """See `Inspector`: rights, its roles' included, and replicas."""
        database = self.database
        held = "\n".join(str(row[0]).replace("`", "") for row in session.rows("SHOW GRANTS"))
        lacking = [
            right
            for right in self.rights
            if not re.search(f"^GRANT .*({right[0]}).* ON {right[1]} TO ", held, re.MULTILINE)
        ]
        for _, _, outcome, says in lacking:
            yield Finding(check=RIGHTS, subject=database.name, outcome=outcome, says=says, command=AGAIN)
        if not lacking:
            rows = session.rows(self.replicas, "Binlog Dump%")
            yield from of_replicas(database.server, [str(host) for (host,) in rows])

    # ---- As the account

    def of_account(self, session: MySqlSession, username: str) -> Iterator[Finding]:
        """See `Inspector`: which account has let it in, and its row, which every account may see of itself."""
        database = self.database
        account = database.matched(session).account
        expected = f"{username}@{database.credential.account_host}"
        if account != expected:
            says = f"the server matches {account} to it, and the plan names {expected}"
            fix = AccountSetupError.advices["several-hosts"]
            yield failed(ACCOUNTS, f"{database.name} {username}", says, fix)
        (statement,) = session.run("SHOW CREATE USER CURRENT_USER()") or ("",)
        # What people write, and the verifiers, could look like a clause.
        clauses = re.sub(r" (ATTRIBUTE|COMMENT) '.*", "", str(statement), flags=re.DOTALL)
        name, _, host = account.rpartition("@")
        row = f"{quoted(name)} AS User, {quoted(host)} AS Host, 'N' AS password_expired, '' AS ssl_type"
        seen_as = self._row(clauses, row)
        for rule in rules(database.server.engine, database.credential, accounts=seen_as):
            for found in self.ask(session, rule.sql) if rule.is_of_account else ():
                yield of_rule(rule, database.name, found)

    def _row(self, clauses: str, row: str) -> str:
        """The account as the rules know it. It has logged in, so it is neither locked nor expired."""
        raise NotImplementedError


def _greeting(connected: socket.socket) -> bytes:
    with connected.makefile("rb") as stream:
        length = int.from_bytes(stream.read(4)[:3], "little")
        greeting = stream.read(length)
    if len(greeting) < max(length, 1):
        raise ConnectionResetError
    return greeting


def _require_tls(greeting: bytes, database: str) -> None:
    if greeting[:1] == bytes([_ERROR]):
        raise error_of(database, int.from_bytes(greeting[1:3], "little"))
    after_version = greeting[1:].partition(b"\0")[2]
    capabilities = after_version[_BEFORE_CAPABILITIES : _BEFORE_CAPABILITIES + 2]
    if not int.from_bytes(capabilities, "little") & CLIENT.SSL:
        raise TlsVerificationError(database=database)


def _number(clauses: str, clause: str) -> str:
    """The number of a clause, or NULL, as SQL has it."""
    found = re.search(rf" {clause} (\d+)", clauses)
    return found[1] if found else "NULL"


def _days(clauses: str) -> str:
    """The lifetime of a password; NULL: the server's default; 0: it never expires."""
    return "0" if " PASSWORD EXPIRE NEVER" in clauses else _number(clauses, "PASSWORD EXPIRE INTERVAL")


class MySqlInspector(FamilyInspector):
    """See `lockstep.databases.inspect.Inspector`."""

    replicas = "SELECT PROCESSLIST_HOST FROM performance_schema.threads WHERE PROCESSLIST_COMMAND LIKE %s"
    rights = (
        (_CREATE_USER, r"\*\.\*", Outcome.FAILED, _NO_CREATE_USER),
        (
            "SELECT|PROCESS|ALL PRIVILEGES",
            r"(\*\.\*|performance_schema\.(\*|threads))",
            Outcome.WARNING,
            "it may not read performance_schema.threads: `lockstep sessions` counts nothing, no replica is seen",
        ),
    )
    # Without CREATE USER an account sees itself alone, and no error.
    hosts = "(SELECT USER AS User, HOST AS Host FROM information_schema.user_attributes) AS u"

    def _row(self, clauses: str, row: str) -> str:
        plugin = re.search(r"IDENTIFIED WITH '?(\w+)", clauses)
        attributes: dict[str, object] = {}
        if (limit := _number(clauses, "FAILED_LOGIN_ATTEMPTS")) != "NULL":
            never_locks = " PASSWORD_LOCK_TIME 0" in clauses
            locking = {
                "failed_login_attempts": int(limit),
                "password_lock_time_days": 0 if never_locks else 1,
            }
            attributes["Password_locking"] = locking
        if " AND IDENTIFIED WITH " in clauses:
            attributes["multi_factor_authentication"] = True
        more = {
            "plugin": quoted(plugin[1] if plugin else ""),
            "account_locked": "'N'",
            "authentication_string": "''",
            "password_last_changed": "NOW()",
            "password_lifetime": _days(clauses),
            "Password_reuse_history": _number(clauses, "PASSWORD HISTORY"),
            "Password_reuse_time": _number(clauses, "PASSWORD REUSE INTERVAL"),
            "User_attributes": f"CAST({quoted(json.dumps(attributes))} AS JSON)",
        }
        return f"(SELECT {row}, {', '.join(f'{value} AS {name}' for name, value in more.items())}) AS u"


class MariaDbInspector(FamilyInspector):
    """See `lockstep.databases.inspect.Inspector`."""

    replicas = "SELECT REGEXP_REPLACE(host, ':[0-9]+$', '') FROM information_schema.processlist WHERE command LIKE %s"
    rights = (
        (_CREATE_USER, r"\*\.\*", Outcome.FAILED, _NO_CREATE_USER),
        (
            "PROCESS|ALL PRIVILEGES",
            r"\*\.\*",
            Outcome.WARNING,
            "it may not list sessions, so `lockstep sessions` counts nothing, and replicas are not seen",
        ),
    )

    def _row(self, clauses: str, row: str) -> str:
        via = re.search(r"IDENTIFIED VIA (.*?)(?: REQUIRE | PASSWORD | ACCOUNT | WITH |$)", clauses)
        # `IDENTIFIED BY PASSWORD '…'`: its default plugin.
        plugins = [word.split()[0] for word in via[1].split(" OR ")] if via else ["mysql_native_password"]
        days = _days(clauses)
        priv = {
            "plugin": plugins[0],
            "auth_or": [{"plugin": plugin} for plugin in plugins[1:]],
            "password_lifetime": -1 if days == "NULL" else int(days),
        }
        return f"(SELECT {row}) AS u JOIN (SELECT {quoted(json.dumps(priv))} AS Priv) AS g"
