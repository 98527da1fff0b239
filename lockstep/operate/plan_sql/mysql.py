"""The script of `lockstep plan sql` for MySQL, and what it shares with MariaDB's (protocol D21).

What the scripts for MySQL and MariaDB share: accounts, rights, findings.
"""

from lockstep.databases.base import listed, quoted
from lockstep.databases.sessions import MYSQL_GRANTS
from lockstep.databases.verifiers import RandomBytes, caching_sha2_password
from lockstep.operate.plan_sql.dialect import Dialect, RotationUser, Script
from lockstep.protocol.model import ANY_HOST, Credential, DatabaseServer, SecretStr, Strategy

# What an application may do with its data, for the DBA to cut down: all of them can be granted on a database.
APPLICATION_RIGHTS = (
    "SELECT, INSERT, UPDATE, DELETE, EXECUTE, CREATE, ALTER, DROP, INDEX, REFERENCES, CREATE VIEW, SHOW VIEW, "
    "TRIGGER, CREATE TEMPORARY TABLES, LOCK TABLES"
)

IAM_PLUGIN = "AWSAuthenticationPlugin"
"""The plugin of RDS for accounts that log in with a token."""

Finding = tuple[str, str]
"""A message, as an SQL expression, and the FROM and WHERE of the rows that it is about."""


def version_number(version: str) -> str:
    """An SQL expression for a version, itself one, as one number: 80036 for `'8.0.36-0ubuntu0.22.04.1'`."""

    def part(number: int) -> str:
        text = f"SUBSTRING_INDEX(SUBSTRING_INDEX({version}, '.', {number}), '.', -1)"
        # Without what follows the digits, which would be a warning.
        return f"CAST(REGEXP_SUBSTR({text}, '^[0-9]+') AS UNSIGNED)"

    return f"({part(1)} * 10000 + {part(2)} * 100 + {part(3)})"


def account(credential: Credential, username: str) -> str:
    """The account of a username, as statements name it."""
    return f"{quoted(username)}@{quoted(credential.account_host)}"


def rotation_user_accounts(user: RotationUser) -> list[str]:
    """The accounts of a rotation user, as statements name them."""
    return [f"{quoted(username)}@{quoted(user.host)}" for username in user.usernames]


def made_rotation_users(user: RotationUser, server: DatabaseServer, made: str) -> list[str]:
    """Statements that make the rotation user's accounts, with what `made` identifies them by if not by a token.

    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.DBAccounts.html
    """
    by = f"IDENTIFIED WITH {IAM_PLUGIN} AS 'RDS'" if user.iam else made
    return [
        f"CREATE USER IF NOT EXISTS {account} {by} {tls(server)}" for account in rotation_user_accounts(user)
    ]


def tls(server: DatabaseServer) -> str:
    """What an account that the script makes requires."""
    return "REQUIRE NONE" if server.plaintext else "REQUIRE SSL"


def named(credential: Credential) -> str:
    """The condition that a row of `mysql.user` is the entry of a username of the credential."""
    return f"u.Host = {quoted(credential.account_host)} AND u.User IN ({listed(credential.usernames)})"


def named_or_rotation_user(credential: Credential, user: RotationUser) -> str:
    """The same, or that it is the rotation user's entry."""
    if not user.usernames:
        return named(credential)
    return f"({named(credential)} OR {_is_rotation_user(user)})"


def with_password(credential: Credential, user: RotationUser) -> str:
    """The same, of those that log in with a password."""
    return named(credential) if user.iam else named_or_rotation_user(credential, user)


def _is_rotation_user(user: RotationUser) -> str:
    return f"u.Host = {quoted(user.host)} AND u.User IN ({listed(user.usernames)})"


def entry(credential: Credential, username: str, dead: str, *, used: bool) -> str:
    """The query for a username's entry with a password, or with the verifier that no password has."""
    return (
        f"SELECT 1 FROM mysql.user AS u WHERE u.User = {quoted(username)}"
        f" AND u.Host = {quoted(credential.account_host)} AND u.authentication_string {'<>' if used else '='} '{dead}'"
    )


def source(credential: Credential, dead: str) -> str:
    """The query for the first username that has a password: the one whose rights the others get."""
    return (
        f"SELECT u.User FROM mysql.user AS u WHERE u.authentication_string <> '{dead}' AND {named(credential)}"
        f" ORDER BY FIELD(u.User, {listed(credential.usernames)}) LIMIT 1"
    )


def left_as_it_is(credential: Credential, dead: str) -> Finding:
    """What to know where an account exists that the script would make."""
    return (
        "QUOTE(u.User), ' has a password already, and is left as it is; for a live account use --existing'",
        f"mysql.user AS u WHERE u.authentication_string <> '{dead}' AND {named(credential)}",
    )


def no_live_account(credential: Credential, dead: str) -> Finding:
    """What must be changed where there is nothing to take over."""
    return (
        f"'none of {', '.join(credential.usernames)} has a password here: leave out --existing'",
        f"(SELECT 1) AS one WHERE NOT EXISTS ({source(credential, dead)})",
    )


def not_copied(credential: Credential) -> list[Finding]:
    """What the second username does not get."""
    if credential.strategy is Strategy.DUAL_PASSWORD:
        return []
    return [
        (
            "QUOTE(p.User), ' may act for other accounts (PROXY), which the other username may not'",
            f"mysql.proxies_priv AS p WHERE p.User IN ({listed(credential.usernames)})",
        )
    ]


def unchanged() -> list[str]:
    """What the DBA must know of live accounts."""
    return [
        "What changes for running applications: nothing until the first rotation. An account that has a password is",
        "not changed: neither its password nor its rights, nor what it requires of a connection.",
    ]


def tls_later(credential: Credential, server: DatabaseServer) -> list[str]:
    """The last step, which is never a side effect."""
    if server.plaintext:
        return []
    return [
        "Later, when every application connects with TLS, you can make the server insist on it:",
        *(f"  ALTER USER {account(credential, u)} REQUIRE SSL;" for u in credential.usernames),
    ]


def iam_stops(user: RotationUser) -> list[Finding]:
    """What must be changed first where the rotation user logs in with a token."""
    if not user.iam:
        return []
    return [
        (
            f"QUOTE(u.User), ' has the plugin ', u.plugin, ', and takes no token: {IAM_PLUGIN}'",
            f"mysql.user AS u WHERE u.plugin <> '{IAM_PLUGIN}' AND {_is_rotation_user(user)}",
        )
    ]


def common_stops(credential: Credential, user: RotationUser) -> list[Finding]:
    """What must be changed first, on both engines; `u` is a row of `mysql.user`."""
    who = "QUOTE(u.User), '@', QUOTE(u.Host), "
    ours = named_or_rotation_user(credential, user)
    usernames = listed((*credential.usernames, *user.usernames))
    own, others = quoted(credential.account_host), quoted(user.host)
    host = f"QUOTE(IF(u.User IN ({listed(credential.usernames)}), {own}, {others}))"
    return [
        (
            (
                f"{who}' takes clients from that host; Lockstep changes only the entry for ', {host}, ': drop it, or '"
                "'rename the one that is used'"
            ),
            f"mysql.user AS u WHERE u.User IN ({usernames}) AND NOT {ours}",
        ),
        (
            f"{who}' is an anonymous account, which takes clients from that host: drop it'",
            f"mysql.user AS u WHERE u.User = '' AND u.Host <> '{ANY_HOST}'",
        ),
        (
            f"{who}' has an expired password: the application must set a new one first'",
            f"mysql.user AS u WHERE u.password_expired = 'Y' AND {ours}",
        ),
        (
            f"{who}' requires a certificate of the client, and Lockstep has none: REQUIRE SSL is enough'",
            f"mysql.user AS u WHERE u.ssl_type IN ('X509', 'SPECIFIED') AND {ours}",
        ),
        (
            "'this server is read-only: run the script on the one that it replicates'",
            "(SELECT 1) AS one WHERE @@GLOBAL.read_only <> 0",
        ),
        *iam_stops(user),
    ]


# The script of `lockstep plan sql` for MySQL (protocol D21).
#
# MySQL has no anonymous blocks, so what depends on the server's state is a prepared statement, and the script
# stops by an error of a function that quotes its argument.

_DEAD = "$A$005$" + 20 * "." + 43 * "."
"""A verifier that no known password has."""

_MADE = f"IDENTIFIED WITH caching_sha2_password AS '{_DEAD}'"
_NO_HISTORY = "PASSWORD HISTORY 0 PASSWORD REUSE INTERVAL 0 DAY"

_PLUGINS = ("caching_sha2_password", "mysql_native_password", "sha256_password")

_OLDEST = 80021
"""Since then an account's ATTRIBUTE tells whose its passwords are."""

_MESSAGE_LENGTH = 128
"""What an error quotes of an argument."""


def fresh(credential: Credential, server: DatabaseServer, user: RotationUser) -> Script:
    """The script that makes accounts. One that has a password already is left as it is."""
    statements = [*_checks(credential, user, [], [left_as_it_is(credential, _DEAD)])]
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
    return _script(server, user, statements, notes)


def existing(credential: Credential, server: DatabaseServer, user: RotationUser) -> Script:
    """The script for live accounts: it makes what is missing beside one that works, and changes no other."""
    statements = [
        *_sessions(credential),
        *_checks(credential, user, [no_live_account(credential, _DEAD)], not_copied(credential)),
    ]
    notes = unchanged()
    if credential.strategy is Strategy.ALTERNATING_USERS:
        notes += [
            "A username that is missing is made with a password that nobody has. It gets the rights of the one that",
            "works as a role, so that later grants reach both; and TLS is required of it only if it is of that one.",
            "Name the new one also where the server does not: firewalls, proxies, poolers, monitoring.",
        ]
        statements += _second_users(credential)
    return _script(server, user, statements, notes, tls_later(credential, server))


def itself(credential: Credential, server: DatabaseServer, user: RotationUser) -> Script:
    """The script for the rotation user's own accounts, which get no rights on a database."""
    return _script(server, user, _checks(credential, user, [], []), [])


def _script(
    server: DatabaseServer,
    user: RotationUser,
    statements: list[str],
    notes: list[str],
    last_steps: list[str] | None = None,
) -> Script:
    return Script(
        notes=[
            *notes,
            f"CREATE USER lets {user.shown} change every account without SYSTEM_USER: let administrators have it.",
            "By the last statements `lockstep sessions` counts open sessions; they show no statement of one. Where",
            "performance_schema is off it needs PROCESS instead, which does.",
        ],
        statements=[
            *statements,
            *made_rotation_users(user, server, _MADE),
            *(f"GRANT CREATE USER ON *.* TO {account}" for account in rotation_user_accounts(user)),
            *(
                grant.format(account=account)
                for account in rotation_user_accounts(user)
                for grant in MYSQL_GRANTS
            ),
        ],
        password_steps=[
            f"  ALTER USER {account} IDENTIFIED BY RANDOM PASSWORD;"
            for account in rotation_user_accounts(user)[:1]
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
    credential: Credential, user: RotationUser, stops: list[Finding], notes: list[Finding]
) -> list[str]:
    return [
        (
            "-- Stop where the server cannot do what is needed\n"
            f"SELECT VERSION() AS version, {stop(too_old('VERSION()'), unsupported())} AS checked"
        ),
        "SET SESSION group_concat_max_len = 65535",
        (
            "-- What must be changed first, and what to know\n"
            f"SELECT {_together([*stops, *common_stops(credential, user), *_stops(credential, user)])},\n"
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


def _stops(credential: Credential, user: RotationUser) -> list[Finding]:
    who = "QUOTE(u.User), '@', QUOTE(u.Host), "
    ours = named_or_rotation_user(credential, user)
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
                f"{who}' is locked by one wrong password, and Lockstep shows that a password is revoked by trying it: '"
                "'FAILED_LOGIN_ATTEMPTS 2 or more'"
            ),
            (
                "mysql.user AS u WHERE u.User_attributes->'$.Password_locking.failed_login_attempts' = 1"
                f" AND u.User_attributes->'$.Password_locking.password_lock_time_days' <> 0 AND {ours}"
            ),
        ),
        (
            f"{who}' has the plugin ', u.plugin, ', of which Lockstep makes no passwords: {', '.join(_PLUGINS)}'",
            f"mysql.user AS u WHERE u.plugin NOT IN ({listed(_PLUGINS)}) AND {with_password(credential, user)}",
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
            f"QUOTE(g.USER), ' has SYSTEM_USER, so {user.shown} may not change it: revoke it'",
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
