"""The one-time SQL that a DBA reviews and runs, before the first rotation.

It makes the application's login or logins, which cannot be used until the first rotation gives them a
password, and the rotator admin with what staging needs and nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lockstep.databases.verifiers import RandomBytes, mysql_native_password, scram_sha_256
from lockstep.engines import ENGINES
from lockstep.loading import load
from lockstep.model import ROTATOR, Credential, DatabaseServer, SecretStr
from lockstep.plan import Plan

# What an application may do with its data, for the DBA to cut down: all of them can be granted on a database.
_APPLICATION_RIGHTS = (
    "SELECT, INSERT, UPDATE, DELETE, EXECUTE, CREATE, ALTER, DROP, INDEX, REFERENCES, CREATE VIEW, SHOW VIEW, "
    "TRIGGER, CREATE TEMPORARY TABLES, LOCK TABLES"
)

_Parts = tuple[list[str], list[str]]  # notes for the DBA, and statements


@dataclass(frozen=True)
class Dialect:
    """How an engine is provisioned.

    Attributes:
        parts: Notes for the DBA, and the statements, for a credential on a server.
        literal: What replaces a password's placeholder in a statement; a verifier where the engine takes one.
    """

    parts: Callable[[Credential, DatabaseServer], _Parts]
    literal: Callable[[SecretStr, RandomBytes], str]


# Verifiers that no known password has.
_DEAD_MARIADB = "mysql_native_password USING '*" + 40 * "0" + "'"
_DEAD_MYSQL = "caching_sha2_password AS '$A$005$" + 20 * "." + 43 * "." + "'"


@dataclass(frozen=True)
class Provisioning:
    """The SQL for one credential on one server.

    Attributes:
        dialect: Whose SQL it is.
        preface: What the DBA must know, as comment lines.
        statements: One after the other, by a superuser who is connected to the plan's `dbname`.
    """

    dialect: Dialect
    preface: tuple[str, ...]
    statements: tuple[str, ...]

    def text(self) -> str:
        """The script, with a placeholder for the rotator admin's password."""
        comments = [f"-- {line}".rstrip() for line in self.preface]
        return "\n".join([*comments, "", *(f"{s};\n" for s in self.statements)])

    def render_for(self, passwords: Mapping[str, SecretStr], random_bytes: RandomBytes) -> list[SecretStr]:
        """The statements with passwords in place of placeholders; verifiers where the engine takes them there.

        Args:
            passwords: By username; the rotator admin's is the only one that is asked for.
            random_bytes: For salts.
        """
        rendered = []
        for statement in self.statements:
            text = statement
            for username, password in passwords.items():
                text = text.replace(
                    _quoted(_placeholder(username)), self.dialect.literal(password, random_bytes)
                )
            rendered.append(SecretStr(text))
        return rendered


def provisioning_sql(plan: Plan, credential: Credential, server: DatabaseServer) -> str:
    """The script for one credential on one of its servers."""
    return provisioning(plan, credential, server).text()


def provisioning(plan: Plan, credential: Credential, server: DatabaseServer) -> Provisioning:
    """The SQL for one credential on one of its servers."""
    dialect: Dialect = load(ENGINES[server.engine].provisioning)
    notes, statements = dialect.parts(credential, server)
    preface = [
        f"Lockstep: credential {credential.id} on database server {server.name} ({server.engine}).",
        f"Run it once, as a superuser who is connected to {server.dbname}. Run again, it changes nothing.",
        f"Replace {_placeholder(ROTATOR)} and put that login into the secret {server.admin_secret};",
        "the application gets its passwords with the first rotation.",
    ]
    others = [c.id for c in plan.credentials if server.name in c.databases and c.id != credential.id]
    if others:
        preface.append(f"{ROTATOR} and its password are the same for {', '.join(others)}.")
    return Provisioning(dialect, (*preface, "", *notes), tuple(statements))


def _postgresql(credential: Credential, server: DatabaseServer) -> _Parts:
    owner, users = _identifier(credential.owner), [_identifier(u) for u in credential.usernames]
    both, rotator, dbname = ", ".join(users), _identifier(ROTATOR), _identifier(server.dbname)
    notes = [
        f"Objects belong to {credential.owner}, whichever login makes them. For those that exist already:",
        f"REASSIGN OWNED BY <their owner> TO {owner};",
        "Before PostgreSQL 16 CREATEROLE reaches every role that is not a superuser; since then only those",
        "that are granted with ADMIN OPTION.",
    ]
    if not server.plaintext:
        notes.append("Let pg_hba.conf have `hostssl` lines only (RDS: rds.force_ssl = 1).")
    new_rotator = (
        f"CREATE ROLE {rotator} LOGIN NOINHERIT CREATEROLE PASSWORD {_quoted(_placeholder(ROTATOR))}"
    )
    statements = [
        _unless_exists(credential.owner, f"CREATE ROLE {owner} NOLOGIN"),
        *(_unless_exists(u, f"CREATE ROLE {_identifier(u)} LOGIN") for u in credential.usernames),
        f"GRANT {owner} TO {both}",
        *(f"ALTER ROLE {user} SET role TO {owner}" for user in users),
        f"GRANT CONNECT, TEMPORARY ON DATABASE {dbname} TO {owner}",
        f"GRANT USAGE, CREATE ON SCHEMA public TO {owner}",
        _unless_exists(ROTATOR, new_rotator),
        f"GRANT CONNECT ON DATABASE {dbname} TO {rotator}",
        _when(
            "current_setting('server_version_num')::int >= 160000",
            # As text, since older servers cannot parse it.
            f"EXECUTE 'GRANT {both} TO {rotator} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE'",
        ),
    ]
    return notes, statements


def _unless_exists(role: str, statement: str) -> str:
    return _when(f"NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {_quoted(role)})", statement)


def _when(condition: str, statement: str) -> str:
    return f"DO $lockstep$ BEGIN\n  IF {condition} THEN\n    {statement};\n  END IF;\nEND $lockstep$"


def _mariadb(credential: Credential, server: DatabaseServer) -> _Parts:
    notes = [
        f"CREATE USER lets {ROTATOR} change every account of the server: MariaDB has nothing less.",
        "With the names of the accounts it finds a username that has several hosts.",
    ]
    # An underscore would match any character.
    database = server.dbname.replace("_", "\\_")
    accounts = _accounts(credential, server, database, f"IDENTIFIED VIA {_DEAD_MARIADB}", "")
    return notes, [*accounts, f"GRANT SELECT (User, Host) ON mysql.user TO {_quoted(ROTATOR)}@'%'"]


def _mysql(credential: Credential, server: DatabaseServer) -> _Parts:
    notes = [
        f"CREATE USER lets {ROTATOR} change every account that lacks SYSTEM_USER: let administrators have it.",
        "Staging repeats a password that is in use, so the account must allow that: HISTORY 0, REUSE INTERVAL 0.",
    ]
    if "_" in server.dbname:
        # Escaped it would be wrong where partial_revokes is on, as in HeatWave.
        notes.append("GRANT takes an underscore for any character, unless partial_revokes is on.")
    options = " PASSWORD HISTORY 0 PASSWORD REUSE INTERVAL 0 DAY"
    return notes, _accounts(credential, server, server.dbname, f"IDENTIFIED WITH {_DEAD_MYSQL}", options)


def _accounts(
    credential: Credential, server: DatabaseServer, database: str, made: str, options: str
) -> list[str]:
    tls = "REQUIRE NONE" if server.plaintext else "REQUIRE SSL"
    statements = []
    for username in credential.usernames:
        account = f"{_quoted(username)}@{_quoted(credential.account_host)}"
        statements += [
            f"CREATE USER IF NOT EXISTS {account} {made}",
            f"ALTER USER {account} {tls}{options}",
            f"GRANT {_APPLICATION_RIGHTS} ON `{database}`.* TO {account}",
        ]
    rotator = f"{_quoted(ROTATOR)}@'%'"
    return [
        *statements,
        f"CREATE USER IF NOT EXISTS {rotator} IDENTIFIED BY {_quoted(_placeholder(ROTATOR))}",
        f"ALTER USER {rotator} {tls}",
        f"GRANT CREATE USER ON *.* TO {rotator}",
    ]


def _placeholder(username: str) -> str:
    return f"<password of {username}>"


def _identifier(name: str) -> str:
    # Names of a plan hold no quotes.
    return f'"{name}"'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _postgresql_literal(password: SecretStr, random_bytes: RandomBytes) -> str:
    return _quoted(scram_sha_256(password, random_bytes).reveal())


def _mariadb_literal(password: SecretStr, _random_bytes: RandomBytes) -> str:
    return f"PASSWORD {_quoted(mysql_native_password(password).reveal())}"


def _mysql_literal(password: SecretStr, _random_bytes: RandomBytes) -> str:
    # MySQL takes no verifier after BY, and writes <secret> into its logs.
    return _quoted(password.reveal().replace("\\", "\\\\"))


POSTGRESQL = Dialect(_postgresql, _postgresql_literal)
MARIADB = Dialect(_mariadb, _mariadb_literal)
MYSQL = Dialect(_mysql, _mysql_literal)
