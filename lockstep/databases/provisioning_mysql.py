"""The script of `lockstep plan sql` for MySQL (protocol D21).

MySQL has no anonymous blocks, so what depends on the server's state is a prepared statement, and the script stops by
an error of a function that quotes its argument.
"""

from lockstep.databases.provisioning import Dialect, Rotator, Script
from lockstep.databases.provisioning_family import (
    APPLICATION_RIGHTS,
    Finding,
    account,
    common_stops,
    entry,
    left_as_it_is,
    made_rotators,
    named,
    named_or_rotator,
    no_live_account,
    not_copied,
    rotator_accounts,
    source,
    tls,
    tls_later,
    unchanged,
    version_number,
    with_password,
)
from lockstep.databases.sessions import MYSQL_GRANTS
from lockstep.databases.sql_text import listed, quoted
from lockstep.databases.verifiers import RandomBytes, caching_sha2_password
from lockstep.model import ANY_HOST, Credential, DatabaseServer, SecretStr, Strategy

_DEAD = "$A$005$" + 20 * "." + 43 * "."
"""A verifier that no known password has."""

_MADE = f"IDENTIFIED WITH caching_sha2_password AS '{_DEAD}'"
_NO_HISTORY = "PASSWORD HISTORY 0 PASSWORD REUSE INTERVAL 0 DAY"

_PLUGINS = ("caching_sha2_password", "mysql_native_password", "sha256_password")

_OLDEST = 80021
"""Since then an account's ATTRIBUTE tells whose its passwords are."""

_MESSAGE_LENGTH = 128
"""What an error quotes of an argument."""


def fresh(credential: Credential, server: DatabaseServer, rotator: Rotator) -> Script:
    """The script that makes accounts. One that has a password already is left as it is."""
    statements = [*_checks(credential, rotator, [], [left_as_it_is(credential, _DEAD)])]
    for username in credential.usernames:
        grant = f"GRANT {APPLICATION_RIGHTS} ON `{server.dbname}`.* TO {account(credential, username)}"
        statements += [
            f"CREATE USER IF NOT EXISTS {account(credential, username)} {_MADE} {tls(server)} {_NO_HISTORY}",
            *_when(f"EXISTS ({entry(credential, username, _DEAD, used=False)})", quoted(grant)),
        ]
    notes = []
    if "_" in server.dbname:
        # Escaped it would be wrong where partial_revokes is on, as in HeatWave.
        notes.append("GRANT takes an underscore for any character, unless partial_revokes is on.")
    return _script(server, rotator, statements, notes)


def existing(credential: Credential, server: DatabaseServer, rotator: Rotator) -> Script:
    """The script for live accounts: it makes what is missing beside one that works, and changes no other."""
    statements = [
        *_sessions(credential),
        *_checks(credential, rotator, [no_live_account(credential, _DEAD)], not_copied(credential)),
    ]
    notes = unchanged()
    if credential.strategy is Strategy.ALTERNATING_USERS:
        notes += [
            "A username that is missing is made with a password that nobody has. It gets the rights of the one that",
            "works as a role, so that later grants reach both; and TLS is required of it only if it is of that one.",
            "Name the new one also where the server does not: firewalls, proxies, poolers, monitoring.",
        ]
        statements += _second_users(credential)
    return _script(server, rotator, statements, notes, tls_later(credential, server))


def itself(credential: Credential, server: DatabaseServer, rotator: Rotator) -> Script:
    """The script for the rotator admin's own accounts, which get no rights on a database."""
    return _script(server, rotator, _checks(credential, rotator, [], []), [])


def _script(
    server: DatabaseServer,
    rotator: Rotator,
    statements: list[str],
    notes: list[str],
    last_steps: list[str] | None = None,
) -> Script:
    return Script(
        notes=[
            *notes,
            f"CREATE USER lets {rotator.shown} change every account without SYSTEM_USER: let administrators have it.",
            "By the last statements `lockstep sessions` counts open sessions; they show no statement of one. Where",
            "performance_schema is off it needs PROCESS instead, which does.",
        ],
        statements=[
            *statements,
            *made_rotators(rotator, server, _MADE),
            *(f"GRANT CREATE USER ON *.* TO {account}" for account in rotator_accounts(rotator)),
            *(
                grant.format(account=account)
                for account in rotator_accounts(rotator)
                for grant in MYSQL_GRANTS
            ),
        ],
        password_steps=[
            f"  ALTER USER {account} IDENTIFIED BY RANDOM PASSWORD;"
            for account in rotator_accounts(rotator)[:1]
        ],
        last_steps=last_steps or [],
    )


def _sessions(credential: Credential) -> list[str]:
    return [
        (
            "-- The sessions that applications have open; tls is empty for one without\n"
            "SELECT t.PROCESSLIST_USER AS username, t.PROCESSLIST_HOST AS host, t.PROCESSLIST_DB AS db,"
            " s.VARIABLE_VALUE AS tls\n"
            "FROM performance_schema.threads AS t LEFT JOIN performance_schema.status_by_thread AS s\n"
            "  ON s.THREAD_ID = t.THREAD_ID AND s.VARIABLE_NAME = 'Ssl_version'\n"
            f"WHERE t.PROCESSLIST_USER IN ({listed(credential.usernames)})"
        )
    ]


def _second_users(credential: Credential) -> list[str]:
    statements = [
        f"-- The account that works\nSET @lockstep_from = ({source(credential, _DEAD)})",
        (
            "SET @lockstep_tls = (SELECT IF(u.ssl_type = '', 'NONE', 'SSL') FROM mysql.user AS u"
            f" WHERE u.User = @lockstep_from AND {named(credential)})"
        ),
    ]
    for username in credential.usernames:
        to = account(credential, username)
        create = f"CREATE USER IF NOT EXISTS {to} {_MADE} REQUIRE "
        # An account can be granted like a role.
        role = f"QUOTE(@lockstep_from), {quoted('@' + quoted(credential.account_host))}"
        statements += [
            f"SET @lockstep_new = NOT EXISTS ({entry(credential, username, _DEAD, used=True)})",
            *_when("@lockstep_new", f"CONCAT({quoted(create)}, @lockstep_tls, ' {_NO_HISTORY}')"),
            *_when("@lockstep_new", f"CONCAT('GRANT ', {role}, {quoted(f' TO {to}')})"),
            *_when("@lockstep_new", f"CONCAT({quoted(f'ALTER USER {to} DEFAULT ROLE ')}, {role})"),
        ]
    return statements


def _when(condition: str, statement: str) -> list[str]:
    """Statements that run another one, an SQL expression, if a condition holds."""
    return [
        f"SET @lockstep_statement = IF({condition},\n  {statement}, 'DO 0')",
        "PREPARE lockstep FROM @lockstep_statement",
        "EXECUTE lockstep",
        "DEALLOCATE PREPARE lockstep",
    ]


def _checks(
    credential: Credential, rotator: Rotator, stops: list[Finding], notes: list[Finding]
) -> list[str]:
    return [
        (
            "-- Stop where the server cannot do what is needed\n"
            f"SELECT VERSION() AS version, {stop(too_old('VERSION()'), unsupported())} AS checked"
        ),
        "SET SESSION group_concat_max_len = 65535",
        (
            "-- What must be changed first, and what to know\n"
            f"SELECT {_together([*stops, *common_stops(credential, rotator), *_stops(credential, rotator)])},\n"
            f"{_together([*notes, *_notes(credential)])}\nINTO @lockstep_stops, @lockstep_notes"
        ),
        "SELECT @lockstep_stops AS `must be changed first`, @lockstep_notes AS `to know`",
        "-- Stop if something must be changed first\n"
        "SELECT "
        + stop("@lockstep_stops IS NOT NULL", "CONCAT('Lockstep stops: ', @lockstep_stops)")
        + " AS checked",
    ]


def _together(found: list[Finding]) -> str:
    rows = "\n  UNION ALL ".join(
        f"SELECT CONCAT({message}) AS finding FROM {rows}" for message, rows in found
    )
    return f"(SELECT GROUP_CONCAT(finding SEPARATOR '; ') FROM (\n  {rows}) AS f)"


def too_old(version: str) -> str:
    """The condition that a version, an SQL expression, is older than Lockstep takes, or is MariaDB's."""
    return f"{version} LIKE '%MariaDB%' OR {version_number(version)} < {_OLDEST}"


def unsupported() -> str:
    """What the script says then."""
    return quoted("Lockstep stops: this is not MySQL 8.0.21 or newer, which has ATTRIBUTE")


def stop(condition: str, message: str) -> str:
    """An expression that raises error 1411 with a message, an expression too, if a condition holds."""
    return f"IF({condition}, UUID_TO_BIN(LEFT({message}, {_MESSAGE_LENGTH})), 'nothing to change')"


def _stops(credential: Credential, rotator: Rotator) -> list[Finding]:
    who = "QUOTE(u.User), '@', QUOTE(u.Host), "
    ours = named_or_rotator(credential, rotator)
    application = named(credential)
    return [
        (f"{who}' is locked: ACCOUNT UNLOCK'", f"mysql.user AS u WHERE u.account_locked = 'Y' AND {ours}"),
        (
            (
                f"{who}' has outlived its password lifetime, so the server refuses it: the application must set a new '"
                "'password first'"
            ),
            (
                f"mysql.user AS u WHERE COALESCE(u.password_lifetime, @@GLOBAL.default_password_lifetime) > 0"
                " AND u.password_last_changed < NOW()"
                " - INTERVAL COALESCE(u.password_lifetime, @@GLOBAL.default_password_lifetime) DAY"
                f" AND u.authentication_string <> '{_DEAD}' AND {ours}"
            ),
        ),
        (
            (
                f"{who}' is locked by one wrong password, and Lockstep shows that a password is dead by trying it: '"
                "'FAILED_LOGIN_ATTEMPTS 2 or more'"
            ),
            (
                "mysql.user AS u WHERE u.User_attributes->'$.Password_locking.failed_login_attempts' = 1"
                f" AND u.User_attributes->'$.Password_locking.password_lock_time_days' <> 0 AND {ours}"
            ),
        ),
        (
            f"{who}' has the plugin ', u.plugin, ', of which Lockstep makes no passwords: {', '.join(_PLUGINS)}'",
            f"mysql.user AS u WHERE u.plugin NOT IN ({listed(_PLUGINS)}) AND {with_password(credential, rotator)}",
        ),
        (
            f"{who}' needs a second factor, which applications of Lockstep do not have'",
            (
                "mysql.user AS u WHERE u.User_attributes->'$.multi_factor_authentication' IS NOT NULL"
                f" AND {ours}"
            ),
        ),
        (
            (
                f"{who}' has a second password that is not Lockstep''s, and the first rotation would replace it: '"
                "'DISCARD OLD PASSWORD, after its clients'"
            ),
            (
                "mysql.user AS u WHERE u.User_attributes->'$.additional_password' IS NOT NULL"
                f" AND u.User_attributes->'$.metadata.lockstep' IS NULL"
                f" AND {application}"
            ),
        ),
        (
            f"QUOTE(g.USER), ' has SYSTEM_USER, so {rotator.shown} may not change it: revoke it'",
            (
                "mysql.global_grants AS g WHERE g.PRIV = 'SYSTEM_USER'"
                f" AND g.USER IN ({listed(credential.usernames)})"
            ),
        ),
    ]


_HISTORY = (
    "(COALESCE(u.Password_reuse_history, @@GLOBAL.password_history) > 0"
    " OR COALESCE(u.Password_reuse_time, @@GLOBAL.password_reuse_interval) > 0)"
)


def _notes(credential: Credential) -> list[Finding]:
    application = named(credential)
    notes = [
        (
            "QUOTE(u.User), ' has a password lifetime: it expires if rotation pauses for that long'",
            (
                "mysql.user AS u WHERE COALESCE(u.password_lifetime, @@GLOBAL.default_password_lifetime) > 0"
                f" AND {application}"
            ),
        ),
        (
            (
                "QUOTE(u.User), ' has a password history (HISTORY, REUSE INTERVAL), not asked about verifiers; '"
                "'the server keeps each of them for that long'"
            ),
            f"mysql.user AS u WHERE {_HISTORY} AND {application}",
        ),
    ]
    if credential.strategy is Strategy.ALTERNATING_USERS:
        notes.append(
            (
                (
                    "QUOTE(u.User), ' has the plugin ', u.plugin, ', and gets caching_sha2_password at its next turn: '"
                    "'its clients must know that one'"
                ),
                f"mysql.user AS u WHERE u.plugin <> 'caching_sha2_password' AND {application}",
            )
        )
    return notes


def _set_password(username: str, password: SecretStr, random_bytes: RandomBytes) -> str:
    verifier = caching_sha2_password(password, random_bytes).reveal()
    return f"ALTER USER {quoted(username)}@'{ANY_HOST}' IDENTIFIED WITH caching_sha2_password AS '{verifier}'"


DIALECT = Dialect(fresh, existing, itself, _set_password)
