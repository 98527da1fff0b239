"""What the scripts for MySQL and MariaDB share: accounts, rights, findings."""

from lockstep.databases.provisioning import Rotator
from lockstep.databases.sql_text import listed, quoted
from lockstep.model import ANY_HOST, Credential, DatabaseServer, Strategy

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


def rotator_accounts(rotator: Rotator) -> list[str]:
    """The accounts of a rotator admin, as statements name them."""
    return [f"{quoted(username)}@{quoted(rotator.host)}" for username in rotator.usernames]


def made_rotators(rotator: Rotator, server: DatabaseServer, made: str) -> list[str]:
    """Statements that make the rotator admin's accounts, with what `made` identifies them by if not by a token.

    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.DBAccounts.html
    """
    by = f"IDENTIFIED WITH {IAM_PLUGIN} AS 'RDS'" if rotator.iam else made
    return [
        f"CREATE USER IF NOT EXISTS {account} {by} {tls(server)}" for account in rotator_accounts(rotator)
    ]


def tls(server: DatabaseServer) -> str:
    """What an account that the script makes requires."""
    return "REQUIRE NONE" if server.plaintext else "REQUIRE SSL"


def named(credential: Credential) -> str:
    """The condition that a row of `mysql.user` is the entry of a username of the credential."""
    return f"u.Host = {quoted(credential.account_host)} AND u.User IN ({listed(credential.usernames)})"


def named_or_rotator(credential: Credential, rotator: Rotator) -> str:
    """The same, or that it is the rotator admin's entry."""
    if not rotator.usernames:
        return named(credential)
    return f"({named(credential)} OR {_is_rotator(rotator)})"


def with_password(credential: Credential, rotator: Rotator) -> str:
    """The same, of those that log in with a password."""
    return named(credential) if rotator.iam else named_or_rotator(credential, rotator)


def _is_rotator(rotator: Rotator) -> str:
    return f"u.Host = {quoted(rotator.host)} AND u.User IN ({listed(rotator.usernames)})"


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


def iam_stops(rotator: Rotator) -> list[Finding]:
    """What must be changed first where the rotator admin logs in with a token."""
    if not rotator.iam:
        return []
    return [
        (
            f"QUOTE(u.User), ' has the plugin ', u.plugin, ', and takes no token: {IAM_PLUGIN}'",
            f"mysql.user AS u WHERE u.plugin <> '{IAM_PLUGIN}' AND {_is_rotator(rotator)}",
        )
    ]


def common_stops(credential: Credential, rotator: Rotator) -> list[Finding]:
    """What must be changed first, on both engines; `u` is a row of `mysql.user`."""
    who = "QUOTE(u.User), '@', QUOTE(u.Host), "
    ours = named_or_rotator(credential, rotator)
    usernames = listed((*credential.usernames, *rotator.usernames))
    own, others = quoted(credential.account_host), quoted(rotator.host)
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
        *iam_stops(rotator),
    ]
