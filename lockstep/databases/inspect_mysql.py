"""What MySQL and MariaDB can be asked, for `lockstep doctor` (see `lockstep.databases.inspect`)."""

import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from lockstep.databases.base import quoted
from lockstep.databases.findings import Answer, failed, not_asked, passed, warning
from lockstep.databases.inspect import (
    ACCOUNTS,
    EXPIRY,
    LOCKOUT,
    PLUGIN,
    POLICY,
    RIGHTS,
    SERVER,
    LooksAnswers,
    is_master,
    listing,
    of_account,
    of_replicas,
)
from lockstep.databases.mysql import VERIFIERS
from lockstep.databases.mysql_family import KnownAccount, MySqlFamilyDatabase, MySqlSession, error_of
from lockstep.protocol.errors import (
    AccountPluginError,
    AmbiguousAccountError,
    LockoutLimitError,
    PrivilegeMissingError,
    TlsVerificationError,
    VerifierRefusedError,
)
from lockstep.protocol.model import Strategy

# https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_ssl_request.html
_CLIENT_PROTOCOL_41, _CLIENT_SSL, _CLIENT_SECURE_CONNECTION, _CLIENT_PLUGIN_AUTH = (
    0x200,
    0x800,
    0x8000,
    0x80000,
)
_CAPABILITIES = _CLIENT_PROTOCOL_41 | _CLIENT_SSL | _CLIENT_SECURE_CONNECTION | _CLIENT_PLUGIN_AUTH
_LARGEST_PACKET, _UTF8MB4 = 1 << 24, 45
_ERROR = 0xFF
# After the version: connection id, the first part of the scramble and a filler; then the lower capabilities.
_BEFORE_CAPABILITIES = 4 + 8 + 1

_GRANT = re.compile(r"GRANT (?P<what>.+) ON (?P<on>(?:`(?:[^`]|``)*`|\*)\.(?:`(?:[^`]|``)*`|\*)|\S+) TO ")


@dataclass(frozen=True, slots=True)
class Shown:
    """An account, as `SHOW CREATE USER` has it for the account itself; without its verifiers.

    Attributes:
        plugins: Each once.
        lifetime_days: None: the server's default; 0: it never expires.
        most_refusals: So many wrong passwords in a row lock it; None: no number does.
        lock_days: For how long; None: the server does not say.
        factors: How many of them a login needs.
    """

    plugins: frozenset[str]
    lifetime_days: int | None
    most_refusals: int | None
    lock_days: str | None
    factors: int


def shown(statement: str) -> Shown:
    """Read a statement.

    MySQL: `… IDENTIFIED WITH 'caching_sha2_password' AS <secret> … PASSWORD EXPIRE INTERVAL 90 DAY …
    FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME 2 … ATTRIBUTE '…'`. MariaDB: `… IDENTIFIED VIA ed25519 USING '…' OR
    mysql_native_password USING '…'`, or `IDENTIFIED BY PASSWORD '…'` for its default plugin.
    """
    # What people write, and the verifiers, could look like a clause.
    clauses = re.sub(r" (ATTRIBUTE|COMMENT) '.*", "", statement, flags=re.DOTALL)
    plugins = set(re.findall(r"IDENTIFIED WITH '?(\w+)", clauses))
    via = re.search(r"IDENTIFIED VIA (.*?)(?: REQUIRE | PASSWORD | ACCOUNT | WITH |$)", clauses)
    if via:
        plugins |= {word.split()[0] for word in via[1].split(" OR ")}
    if "IDENTIFIED BY PASSWORD" in clauses:
        plugins.add("mysql_native_password")
    interval = re.search(r" PASSWORD EXPIRE INTERVAL (\d+) DAY", clauses)
    never = " PASSWORD EXPIRE NEVER" in clauses
    limit = re.search(r" FAILED_LOGIN_ATTEMPTS (\d+)", clauses)
    locked_for = re.search(r" PASSWORD_LOCK_TIME (\w+)", clauses)
    locks = locked_for is None or locked_for[1] != "0"
    return Shown(
        plugins=frozenset(plugins),
        lifetime_days=int(interval[1]) if interval else 0 if never else None,
        most_refusals=int(limit[1]) if limit and locks and limit[1] != "0" else None,
        lock_days=locked_for[1] if locked_for else None,
        factors=1 + len(re.findall(r" AND IDENTIFIED WITH ", clauses)),
    )


@dataclass(frozen=True, slots=True)
class Grants:
    """What an account may do, its roles included.

    Attributes:
        everywhere: Privileges on `*.*`.
        lines: All of it, without verifiers.
    """

    everywhere: frozenset[str]
    lines: tuple[str, ...] = field(default=())

    def on(self, thing: str) -> bool:
        """Whether anything is granted on this thing, such as `mysql.user`."""
        return any(f" ON {thing} TO " in line.replace("`", "") for line in self.lines)

    @property
    def elsewhere(self) -> list[str]:
        """What else there is rights on."""
        found = (_GRANT.match(line) for line in self.lines)
        return [m["on"].replace("`", "") for m in found if m and m["on"] != "*.*"]


def grants(lines: list[str]) -> Grants:
    """Read what `SHOW GRANTS` says."""
    plain = tuple(re.sub(r" IDENTIFIED .*", " ", line) for line in lines)
    everywhere: set[str] = set()
    for match in filter(None, map(_GRANT.match, plain)):
        if match["on"] == "*.*":
            everywhere |= set(re.split(r",\s*", match["what"]))
    if any(line.endswith("WITH GRANT OPTION") and " ON *.* " in line for line in lines):
        everywhere.add("GRANT OPTION")
    return Grants(frozenset(everywhere - {"USAGE"}), plain)


class FamilyLooks:
    """What both engines are asked in the same way.

    Attributes:
        own_tables: Those that the rotation user may read.
        replicas: The statement that lists the hosts that read the binary log.
    """

    own_tables: frozenset[str]
    replicas: str
    harmless: frozenset[str] = frozenset({"CREATE USER", "PROCESS"})

    # ---- Before a login

    def connect(self, database: MySqlFamilyDatabase, tls: ssl.SSLContext | None) -> socket.socket:
        """See `Looks`: the server's greeting, the request for TLS, the handshake."""
        server, timeouts = database.server, database.timeouts
        database.deadline_guard()
        connected = socket.create_connection((server.host, server.port), timeouts.connect_seconds)
        try:
            connected.settimeout(timeouts.io_seconds)
            offers_tls = _offers_tls(_packet(connected), database.name)
            if tls is None:
                return connected
            _require_tls(offers_tls, database.name)
            request = (
                _CAPABILITIES.to_bytes(4, "little")
                + _LARGEST_PACKET.to_bytes(4, "little")
                + bytes([_UTF8MB4])
                + bytes(23)
            )
            connected.sendall(len(request).to_bytes(3, "little") + b"\x01" + request)
            return tls.wrap_socket(connected, server_hostname=server.host)
        except BaseException:
            connected.close()
            raise

    def without_login(self, database: MySqlFamilyDatabase, username: str) -> LooksAnswers:
        """See `Looks`: these servers say nothing before a password is shown."""
        del database, username
        return iter(())

    # ---- As the rotation user

    def as_admin(self, session: MySqlSession, database: MySqlFamilyDatabase) -> LooksAnswers:
        """See `Looks`."""
        read_only = session.run("SELECT @@GLOBAL.read_only") or (0,)
        yield SERVER, self._server(session, database, is_read_only=read_only[0] not in {0, "OFF"})
        with suppress(PrivilegeMissingError):  # The answer about rights says so.
            rows = session.rows(self.replicas, "Binlog Dump%")
            yield from of_replicas(database.server, [str(host) for (host,) in rows])
        for answer in self._rights(session, database):
            yield RIGHTS, answer
        for answer in self._accounts(session, database):
            yield ACCOUNTS, answer

    def _server(self, session: MySqlSession, database: MySqlFamilyDatabase, *, is_read_only: bool) -> Answer:
        server = database.server
        if is_read_only:
            return failed(
                server.name,
                f"{server.host} is read-only, such as a replica, so no password can be changed there",
                "name the server that it replicates as `host` in the plan, and this one under `verify_hosts`; then: "
                "lockstep check",
            )
        version = session.server_version.removeprefix("5.5.5-")
        return passed(
            server.name,
            f"{version} is a {server.engine} that the strategy {database.credential.strategy} works on",
        )

    def _rights(self, session: MySqlSession, database: MySqlFamilyDatabase) -> Iterator[Answer]:
        (account,) = session.run("SELECT CURRENT_USER()") or ("",)
        username, _, host = str(account).rpartition("@")
        to, name = f"{quoted(username)}@{quoted(host)}", database.name
        held = self.held(session)
        everything = held.everywhere & {"ALL PRIVILEGES", "SUPER"}
        missing = (
            [] if "CREATE USER" in held.everywhere or everything else [f"GRANT CREATE USER ON *.* TO {to}"]
        )
        if missing:
            yield failed(name, f"{username} lacks CREATE USER, so it can change no password", missing[0])
        yield from self._lesser_rights(held, to, name)
        wide = held.everywhere - self.harmless
        elsewhere = sorted(set(held.elsewhere) - self.own_tables)
        if is_master(database.server):
            yield passed(
                name, f"{username} is the master user, as the plan says, and may do more than rotate"
            )
        elif wide or elsewhere:
            what = f"REVOKE {listing(list(wide))} ON *.* FROM {to}" if wide else f"SHOW GRANTS FOR {to}"
            named = listing([*wide, *elsewhere])
            yield warning(name, f"{username} may do more than rotate: {named}", what)
        elif not missing:
            yield passed(name, f"{username} may change accounts, and nothing else")

    def held(self, session: MySqlSession) -> Grants:
        """What the rotation user may do."""
        return grants([str(row[0]) for row in self._grant_rows(session)])

    def _grant_rows(self, session: MySqlSession) -> list[tuple[Any, ...]]:
        raise NotImplementedError

    def _lesser_rights(self, held: Grants, to: str, name: str) -> Iterator[Answer]:
        raise NotImplementedError

    def _accounts(self, session: MySqlSession, database: MySqlFamilyDatabase) -> Iterator[Answer]:
        known = self._known(session, database)
        host = database.credential.account_host
        if known is None:
            yield self._unseen_accounts(database)
            return
        for username in database.credential.usernames:
            subject = of_account(database, username)
            hosts = {k.host for k in known if k.username == username}
            others = sorted(hosts - {host})
            if others:
                drop = "; ".join(f"DROP USER {quoted(username)}@{quoted(other)}" for other in others)
                yield failed(
                    subject,
                    f"it exists for {listing(others)} beside the plan's {host}: clients from there are matched to an "
                    "account that is not rotated",
                    f"keep one of them, and give its host as `account_host` in the plan; else: {drop}",
                )
            elif not hosts:
                yield failed(subject, f"there is no account {username}@{host}", "lockstep plan sql")
            else:
                yield passed(subject, f"{username}@{host} is its only account")

    def _known(self, session: MySqlSession, database: MySqlFamilyDatabase) -> Sequence[KnownAccount] | None:
        """The credential's accounts; None where the rotation user cannot see them."""
        return database.accounts(session)

    def _unseen_accounts(self, database: MySqlFamilyDatabase) -> Answer:
        return not_asked(
            database.name,
            "the rotation user cannot see the hosts of the accounts",
            "run the statements of `lockstep plan sql` for the rotation user again",
        )

    def must_not_try(self, session: MySqlSession, database: MySqlFamilyDatabase, username: str) -> str | None:
        """See `Looks`: the server would match another account, or has none."""
        known = self._known(session, database)
        if known is None:
            return None
        hosts = {k.host for k in known if k.username == username}
        if hosts == {database.credential.account_host}:
            return None
        return "it has several hosts" if hosts else "there is no such account"

    # ---- As the account

    def as_user(self, session: MySqlSession, database: MySqlFamilyDatabase, username: str) -> LooksAnswers:
        """See `Looks`."""
        (statement,) = session.run("SHOW CREATE USER CURRENT_USER()") or ("",)
        account = shown(str(statement))
        subject = of_account(database, username)
        matched = database.matched(session)
        expected = f"{username}@{database.credential.account_host}"
        if matched.account != expected:
            yield (
                ACCOUNTS,
                failed(
                    subject,
                    f"the server matches {matched.account} to it, and the plan names {expected}",
                    AmbiguousAccountError.advice,
                ),
            )
        yield LOCKOUT, _lockout(subject, matched.most_refusals, self._locked_for(account))
        yield EXPIRY, self._expiry(session, subject, account, expected)
        yield PLUGIN, self._plugin(subject, account, database)

    def _locked_for(self, account: Shown) -> str:
        return f" for {account.lock_days} days" if account.lock_days else ""

    def _expiry(self, session: MySqlSession, subject: str, account: Shown, named: str) -> Answer:
        days = account.lifetime_days
        if days is None:
            (days,) = session.run("SELECT @@GLOBAL.default_password_lifetime") or (0,)
        if not days:
            return passed(subject, "its password does not expire")
        username, _, host = named.rpartition("@")
        return warning(
            subject,
            f"its password expires {days} days after a rotation, so rotations that pause for longer lock it out",
            f"ALTER USER {quoted(username)}@{quoted(host)} PASSWORD EXPIRE NEVER",
        )

    def _plugin(self, subject: str, account: Shown, database: MySqlFamilyDatabase) -> Answer:
        raise NotImplementedError

    # ---- Replication

    def position(self, session: MySqlSession) -> str | None:
        """See `Looks`."""
        raise NotImplementedError

    def behind(self, session: MySqlSession, position: str) -> bool | None:
        """See `Looks`."""
        raise NotImplementedError

    def keeps_connections(self, session: MySqlSession) -> bool:
        """See `Looks`: none is known that does."""
        del session
        return False


def _lockout(subject: str, most: int | None, how_long: str) -> Answer:
    if most is None:
        return passed(subject, "no number of wrong passwords locks it")
    if most == 1:
        return failed(
            subject,
            "one wrong password locks it, so no old password can be shown to be revoked",
            LockoutLimitError.advice,
        )
    return passed(
        subject, f"{most} wrong passwords in a row lock it{how_long}; Lockstep never shows two in a row"
    )


def _packet(connected: socket.socket) -> bytes:
    header = _exactly(connected, 4)
    return _exactly(connected, int.from_bytes(header[:3], "little"))


def _exactly(connected: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connected.recv(count - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


def _offers_tls(greeting: bytes, database: str) -> bool:
    if greeting[:1] == bytes([_ERROR]):
        raise error_of(database, int.from_bytes(greeting[1:3], "little"))
    after_version = greeting[1:].partition(b"\0")[2]
    capabilities = after_version[_BEFORE_CAPABILITIES : _BEFORE_CAPABILITIES + 2]
    return bool(int.from_bytes(capabilities, "little") & _CLIENT_SSL)


def _require_tls(offered: bool, database: str) -> None:  # noqa: FBT001 - the only question
    if not offered:
        raise TlsVerificationError(database=database)


# What MySQL can be asked, for `lockstep doctor` (see `lockstep.databases.inspect`).

_DEFAULT_PLUGIN = next(iter(VERIFIERS))


class MySqlLooks(FamilyLooks):
    """See `lockstep.databases.inspect.AccountChecks`."""

    own_tables = frozenset({"performance_schema.threads", "performance_schema.session_connect_attrs"})
    replicas = "SELECT PROCESSLIST_HOST FROM performance_schema.threads WHERE PROCESSLIST_COMMAND LIKE %s"

    def as_admin(self, session: MySqlSession, database: MySqlFamilyDatabase) -> LooksAnswers:
        """See `Looks`."""
        yield from super().as_admin(session, database)
        yield POLICY, self._policy(session, database)

    def _grant_rows(self, session: MySqlSession) -> list[tuple[Any, ...]]:
        (roles,) = session.run("SELECT CURRENT_ROLE()") or ("NONE",)
        # As the server itself quotes them.
        using = "" if roles == "NONE" else f" USING {roles}".replace("%", "%%")
        return list(session.rows(f"SHOW GRANTS FOR CURRENT_USER(){using}"))

    def _lesser_rights(self, held: Grants, to: str, name: str) -> Iterator[Answer]:
        if not held.everywhere & {"PROCESS", "ALL PRIVILEGES", "SELECT"} and not held.on(
            "performance_schema.threads"
        ):
            yield warning(
                name,
                f"{to} may not read performance_schema.threads: `lockstep sessions` counts nothing, no replica is seen",
                "run the statements of `lockstep plan sql` for the rotation user again",
            )

    def _known(self, session: MySqlSession, database: MySqlFamilyDatabase) -> Sequence[KnownAccount] | None:
        """See `FamilyLooks`: without this right an account sees itself alone, and no error."""
        sees_all = self.held(session).everywhere & {"CREATE USER", "ALL PRIVILEGES", "SUPER"}
        return super()._known(session, database) if sees_all else None

    def _policy(self, session: MySqlSession, database: MySqlFamilyDatabase) -> Answer:
        checked = session.rows("SHOW GLOBAL VARIABLES LIKE %s", "validate_password%policy")
        if not checked:
            return passed(database.name, "the server checks no passwords")
        return passed(database.name, "validate_password is not asked about verifiers, which Lockstep sends")

    def as_user(self, session: MySqlSession, database: MySqlFamilyDatabase, username: str) -> LooksAnswers:
        """See `Looks`."""
        yield from super().as_user(session, database, username)
        (statement,) = session.run("SHOW CREATE USER CURRENT_USER()") or ("",)
        (by_default,) = session.run("SELECT @@GLOBAL.password_require_current") or (0,)
        demanded = re.search(r" PASSWORD REQUIRE CURRENT(?: (DEFAULT|OPTIONAL))?", str(statement))
        if demanded and (demanded[1] is None or (demanded[1] == "DEFAULT" and by_default)):
            subject = of_account(database, username)
            yield (
                POLICY,
                passed(
                    subject, "PASSWORD REQUIRE CURRENT does not bind the rotation user, who has CREATE USER"
                ),
            )

    def _plugin(self, subject: str, account: Shown, database: MySqlFamilyDatabase) -> Answer:
        plugin = next(iter(sorted(account.plugins)), "")
        if plugin not in VERIFIERS:
            return failed(
                subject,
                f"Lockstep makes no verifiers for its plugin {plugin}",
                AccountPluginError.advice,
            )
        if account.factors > 1:
            return failed(
                subject,
                "it needs a second factor, which applications of Lockstep do not have",
                f"ALTER USER '{subject.rpartition(' ')[2]}'@'{database.credential.account_host}' DROP 2 FACTOR",
            )
        if database.credential.strategy is Strategy.ALTERNATING_USERS and plugin != _DEFAULT_PLUGIN:
            return warning(
                subject,
                f"it has {plugin}, and gets {_DEFAULT_PLUGIN} at its next turn: its clients must know that one",
                f"make sure that its clients speak {_DEFAULT_PLUGIN}; the next rotation then ends this warning",
            )
        return passed(subject, f"it has {plugin}")

    def position(self, session: MySqlSession) -> str | None:
        """See `Looks`: the server's own newest transaction; None where it numbers none.

        Older ones tell nothing: a replica that was made of a copy may never have had them.
        """
        (uuid, executed) = session.run("SELECT @@server_uuid, @@GLOBAL.gtid_executed") or ("", "")
        return newest(str(uuid), str(executed))

    def behind(self, session: MySqlSession, position: str) -> bool | None:
        """See `Looks`."""
        row = session.run(
            "SELECT @@GLOBAL.gtid_executed = '', GTID_SUBSET(%s, @@GLOBAL.gtid_executed)", position
        )
        return None if row is None or row[0] else not row[1]


def newest(uuid: str, executed: str) -> str | None:
    """The newest of a server's own transactions in a set, `uuid:1-5:8,uuid2:1-3`; those with a tag left out."""
    for transactions in executed.replace("\n", "").replace(" ", "").split(","):
        source, *intervals = transactions.split(":")
        untagged = list(takewhile(lambda interval: interval[:1].isdigit(), intervals))
        if source.lower() == uuid.lower() and untagged:
            return f"{uuid}:{untagged[-1].rpartition('-')[2]}"
    return None


MYSQL_LOOKS = MySqlLooks()


# What MariaDB can be asked, for `lockstep doctor` (see `lockstep.databases.inspect`).

_PLUGIN = "mysql_native_password"
"""What Lockstep gives each account."""

_WITH_PASSWORDS = frozenset({_PLUGIN, "mysql_old_password", "ed25519", "parsec", "caching_sha2_password"})
"""Plugins that keep a password in the server."""


class MariaDbLooks(FamilyLooks):
    """See `lockstep.databases.inspect.AccountChecks`."""

    own_tables = frozenset({"mysql.user"})
    replicas = "SELECT REGEXP_REPLACE(host, ':[0-9]+$', '') FROM information_schema.processlist WHERE command LIKE %s"

    def as_admin(self, session: MySqlSession, database: MySqlFamilyDatabase) -> LooksAnswers:
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
                f"{to} may not list sessions, so `lockstep sessions` counts nothing, and replicas are not seen",
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


MARIADB_LOOKS = MariaDbLooks()
