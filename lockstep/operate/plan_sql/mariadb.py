"""The script of `lockstep plan sql` for MariaDB (protocol D21)."""

from lockstep.databases.base import listed, quoted
from lockstep.databases.sessions import MARIADB_GRANT
from lockstep.databases.verifiers import RandomBytes, mysql_native_password
from lockstep.operate.plan_sql.dialect import Dialect, RotationUser, Script
from lockstep.operate.plan_sql.mysql import (
    APPLICATION_RIGHTS,
    Finding,
    account,
    common_stops,
    entry,
    left_as_it_is,
    made_rotation_users,
    named,
    named_or_rotation_user,
    no_live_account,
    not_copied,
    rotation_user_accounts,
    source,
    tls,
    tls_later,
    unchanged,
    version_number,
    with_password,
)
from lockstep.protocol.model import ANY_HOST, Credential, DatabaseServer, SecretStr, Strategy

_DEAD = "*" + 40 * "0"
"""A verifier that no known password has."""

_MADE = f"IDENTIFIED VIA mysql_native_password USING '{_DEAD}'"

_PLUGINS = ("mysql_native_password", "mysql_old_password", "ed25519", "parsec", "caching_sha2_password")
"""Those that keep a password in the server."""

_TWO_PASSWORDS_SINCE = 100400

_MESSAGE_LENGTH = 500
"""What SIGNAL takes is 512."""


def fresh(credential: Credential, server: DatabaseServer, user: RotationUser) -> Script:
    """The script that makes accounts. One that has a password already is left as it is."""
    statements = _checks(credential, user, [], [left_as_it_is(credential, _DEAD)])
    # An underscore would match any character.
    database = server.dbname.replace("_", "\\_")
    for username in credential.usernames:
        grant = f"GRANT {APPLICATION_RIGHTS} ON `{database}`.* TO {account(credential, username)}"
        statements += [
            f"CREATE USER IF NOT EXISTS {account(credential, username)} {_MADE} {tls(server)}",
            _block(
                f"IF EXISTS ({entry(credential, username, _DEAD, used=False)}) THEN\n    {grant};\n  END IF"
            ),
        ]
    return _script(server, user, statements, [])


def existing(credential: Credential, server: DatabaseServer, user: RotationUser) -> Script:
    """The script for live accounts: it makes what is missing beside one that works, and changes no other."""
    statements = [
        (
            "-- The sessions that applications have open\n"
            "SELECT p.USER, p.HOST, p.DB FROM information_schema.PROCESSLIST AS p"
            f" WHERE p.USER IN ({listed(credential.usernames)})"
        ),
        *_checks(credential, user, [no_live_account(credential, _DEAD)], not_copied(credential)),
    ]
    notes = unchanged()
    if credential.strategy is Strategy.ALTERNATING_USERS:
        notes += [
            "A username that is missing is made with a password that nobody has. It gets copies of the rights and",
            "roles of the one that works, and TLS is required of it only if it is of that one. Later grants must name",
            "both. Name the new one also where the server does not: firewalls, proxies, poolers, monitoring.",
        ]
        statements += [_second_user(credential, username) for username in credential.usernames]
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
            f"CREATE USER lets {user.shown} change every account of the server: MariaDB has nothing less.",
            "With the names of the accounts it finds a username that has several hosts.",
            "With PROCESS `lockstep sessions` counts open sessions. It shows their statements too: to withhold it,",
            "leave the last statement out.",
        ],
        statements=[
            *statements,
            *made_rotation_users(user, server, _MADE),
            *(f"GRANT CREATE USER ON *.* TO {account}" for account in rotation_user_accounts(user)),
            *(
                f"GRANT SELECT (User, Host) ON mysql.user TO {account}"
                for account in rotation_user_accounts(user)
            ),
            *(MARIADB_GRANT.format(account=account) for account in rotation_user_accounts(user)),
        ],
        password_steps=[
            *(
                f"  ALTER USER {account} IDENTIFIED VIA mysql_native_password USING PASSWORD('...');"
                for account in rotation_user_accounts(user)[:1]
            ),
            "with a long random password, in a client that keeps no history.",
        ],
        last_steps=last_steps or [],
    )


def _block(body: str) -> str:
    return f"BEGIN NOT ATOMIC\n  {body};\nEND"


def _second_user(credential: Credential, username: str) -> str:
    """Make an account beside the one that works, with its rights."""
    to = account(credential, username)
    return f"-- {username}, if it is missing\n" + _block(
        # Variables have a prefix, since a column of the same name would hide them.
        f"""DECLARE l_source VARCHAR(128) DEFAULT
    ({source(credential, _DEAD)});
  DECLARE l_host VARCHAR(255) DEFAULT {quoted(credential.account_host)};
  DECLARE l_grantee VARCHAR(400) DEFAULT CONCAT(QUOTE(l_source), '@', QUOTE(l_host));
  DECLARE l_tls VARCHAR(4) DEFAULT
    (SELECT IF(u.ssl_type = '', 'NONE', 'SSL') FROM mysql.user AS u WHERE u.Host = l_host AND u.User = l_source);
  IF NOT EXISTS ({entry(credential, username, _DEAD, used=True)}) THEN
    EXECUTE IMMEDIATE CONCAT({quoted(f"CREATE USER IF NOT EXISTS {to} {_MADE} REQUIRE ")}, l_tls);
    FOR copied IN (
      {_rights()}
    ) DO
      EXECUTE IMMEDIATE CONCAT('GRANT ', copied.granted, {quoted(f" TO {to}")}, copied.passed_on);
    END FOR;
    FOR role IN (SELECT u.default_role AS name FROM mysql.user AS u
        WHERE u.Host = l_host AND u.User = l_source AND u.default_role <> '') DO
      EXECUTE IMMEDIATE CONCAT('SET DEFAULT ROLE `', role.name, {quoted(f"` FOR {to}")});
    END FOR;
  END IF"""
    )


def _rights() -> str:
    """Everything that is granted to `l_source`, a row for each statement."""
    option = "IF(g.IS_GRANTABLE = 'YES', ' WITH GRANT OPTION', '') AS passed_on"
    schema = "information_schema"
    return "\n      UNION ALL ".join(
        (
            (
                f"SELECT CONCAT(g.PRIVILEGE_TYPE, ' ON *.*') AS granted, {option}"
                f" FROM {schema}.USER_PRIVILEGES AS g WHERE g.GRANTEE = l_grantee"
            ),
            (
                f"SELECT CONCAT(g.PRIVILEGE_TYPE, ' ON `', g.TABLE_SCHEMA, '`.*'), {option}"
                f" FROM {schema}.SCHEMA_PRIVILEGES AS g WHERE g.GRANTEE = l_grantee"
            ),
            (
                f"SELECT CONCAT(g.PRIVILEGE_TYPE, ' ON `', g.TABLE_SCHEMA, '`.`', g.TABLE_NAME, '`'), {option}"
                f" FROM {schema}.TABLE_PRIVILEGES AS g WHERE g.GRANTEE = l_grantee"
            ),
            (
                "SELECT CONCAT(g.PRIVILEGE_TYPE, ' (`', g.COLUMN_NAME, '`) ON `', g.TABLE_SCHEMA, '`.`', g.TABLE_NAME,"
                f" '`'), {option} FROM {schema}.COLUMN_PRIVILEGES AS g WHERE g.GRANTEE = l_grantee"
            ),
            (
                "SELECT CONCAT(COALESCE(NULLIF("
                "TRIM(BOTH ',' FROM REPLACE(CONCAT(',', p.Proc_priv, ','), ',Grant,', ',')),"
                " ''), 'USAGE'), ' ON ', p.Routine_type, ' `', p.Db, '`.`', p.Routine_name, '`'),"
                " IF(FIND_IN_SET('Grant', p.Proc_priv), ' WITH GRANT OPTION', '')"
                " FROM mysql.procs_priv AS p WHERE p.Host = l_host AND p.User = l_source"
            ),
            (
                "SELECT CONCAT('`', m.Role, '`'), IF(m.Admin_option = 'Y', ' WITH ADMIN OPTION', '')"
                " FROM mysql.roles_mapping AS m WHERE m.Host = l_host AND m.User = l_source"
            ),
        )
    )


def _checks(
    credential: Credential, user: RotationUser, stops: list[Finding], notes: list[Finding]
) -> list[str]:
    return [
        "SET @lockstep_stops = NULL, @lockstep_notes = NULL",
        *_gathered(
            "stops",
            "must be changed first",
            [*stops, *common_stops(credential, user), *_stops(credential, user)],
        ),
        *_gathered("notes", "to know", [*notes, *_notes(credential)]),
        "-- Stop if something must be changed first\n"
        + _block(
            "DECLARE message TEXT DEFAULT CONCAT('Lockstep stops: ', @lockstep_stops);\n"
            "  IF message IS NOT NULL THEN\n"
            f"    SET message = LEFT(message, {_MESSAGE_LENGTH});\n"
            "    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = message;\n  END IF"
        ),
    ]


def _gathered(variable: str, title: str, found: list[Finding]) -> list[str]:
    """Statements that show findings, and append them to a variable.

    GROUP_CONCAT would need one statement. But MariaDB 11.8 crashes now and then where it makes that function's table.
    """
    return [
        f"-- {title.capitalize()}\n"
        f"SELECT @lockstep_{variable} := CONCAT_WS('; ', @lockstep_{variable}, CONCAT({message})) AS `{title}`\n"
        f"FROM {rows}"
        for message, rows in found
    ]


def too_old(version: str) -> str:
    """The condition that a version, an SQL expression, takes no two passwords, or is MySQL's."""
    return f"{version} NOT LIKE '%MariaDB%' OR {version_number(version)} < {_TWO_PASSWORDS_SINCE}"


def _stops(credential: Credential, user: RotationUser) -> list[Finding]:
    who = "QUOTE(u.User), '@', QUOTE(u.Host), "
    ours = named_or_rotation_user(credential, user)
    privileges = "mysql.global_priv AS g JOIN mysql.user AS u ON u.User = g.User AND u.Host = g.Host"
    return [
        (
            "'this is not MariaDB 10.4 or newer, which lets an account have two passwords'",
            f"(SELECT 1) AS one WHERE {too_old('VERSION()')}",
        ),
        (
            f"{who}' is locked: ACCOUNT UNLOCK'",
            f"{privileges} WHERE JSON_VALUE(g.Priv, '$.account_locked') IN ('1', 'true') AND {ours}",
        ),
        (
            f"{who}' has the plugin ', u.plugin, ', which keeps no password in the server: mysql_native_password'",
            f"mysql.user AS u WHERE u.plugin NOT IN ('', {listed(_PLUGINS)}) AND {with_password(credential, user)}",
        ),
        (
            (
                "'max_password_errors is 1: one wrong password locks an account, and Lockstep tries '"
                "'revoked passwords to show that they are revoked; 2 or more'"
            ),
            "(SELECT 1) AS one WHERE @@GLOBAL.max_password_errors = 1",
        ),
        (
            "'strict_password_validation lets the server take no verifiers: switch it off'",
            (
                "(SELECT 1) AS one WHERE @@GLOBAL.strict_password_validation AND EXISTS (SELECT 1"
                " FROM information_schema.PLUGINS AS p"
                " WHERE p.PLUGIN_TYPE = 'PASSWORD VALIDATION' AND p.PLUGIN_STATUS = 'ACTIVE')"
            ),
        ),
        (
            "QUOTE(g.User), ' is the name of a role'",
            (
                "mysql.global_priv AS g WHERE JSON_VALUE(g.Priv, '$.is_role') IN ('1', 'true')"
                f" AND g.User IN ({listed((*credential.usernames, *user.usernames))})"
            ),
        ),
    ]


def _notes(credential: Credential) -> list[Finding]:
    application = named(credential)
    privileges = "mysql.global_priv AS g JOIN mysql.user AS u ON u.User = g.User AND u.Host = g.Host"
    lifetime = (
        "COALESCE(NULLIF(JSON_VALUE(g.Priv, '$.password_lifetime'), -1), @@GLOBAL.default_password_lifetime)"
    )
    return [
        (
            "QUOTE(u.User), ' has a password lifetime: it expires if rotation pauses for that long'",
            f"{privileges} WHERE {lifetime} > 0 AND {application}",
        ),
        (
            "QUOTE(u.User), ' has several passwords or plugins: rotation leaves it only those of Lockstep'",
            f"{privileges} WHERE JSON_EXISTS(g.Priv, '$.auth_or') AND {application}",
        ),
        (
            (
                "QUOTE(u.User), ' has the plugin ', u.plugin, ', and gets mysql_native_password, which '"
                "'its clients must know'"
            ),
            f"mysql.user AS u WHERE u.plugin NOT IN ('', 'mysql_native_password') AND {application}",
        ),
    ]


def _set_password(username: str, password: SecretStr, _random_bytes: RandomBytes) -> str:
    verifier = mysql_native_password(password).reveal()
    return (
        f"ALTER USER {quoted(username)}@'{ANY_HOST}' IDENTIFIED VIA mysql_native_password USING '{verifier}'"
    )


def _in_client(statement: str) -> str:
    return f"DELIMITER $$\n{statement}$$\nDELIMITER ;\n" if ";" in statement else f"{statement};\n"


DIALECT = Dialect(fresh, existing, itself, _set_password, _in_client)
