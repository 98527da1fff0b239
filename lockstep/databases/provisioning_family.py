"""What the scripts for MySQL and MariaDB share: accounts, rights, findings."""

from lockstep.databases.provisioning import listed, quoted
from lockstep.model import ANY_HOST, ROTATOR, Credential, DatabaseServer, Strategy

# What an application may do with its data, for the DBA to cut down: all of them can be granted on a database.
APPLICATION_RIGHTS = (
    "SELECT, INSERT, UPDATE, DELETE, EXECUTE, CREATE, ALTER, DROP, INDEX, REFERENCES, CREATE VIEW, SHOW VIEW, "
    "TRIGGER, CREATE TEMPORARY TABLES, LOCK TABLES"
)

Finding = tuple[str, str]
"""A message, as an SQL expression, and the FROM and WHERE of the rows that it is about."""


def version_number(version: str) -> str:
    """An SQL expression for a version, itself one, as one number: 80036 for `'8.0.36-0ubuntu0.22.04.1'`."""

    def part(number: int) -> str:
        text = f"SUBSTRING_INDEX(SUBSTRING_INDEX({version}, '.', {number}), '.', -1)"
        # Without what follows the digits, which would be a warning.
        return f"CAST(REGEXP_SUBSTR({text}, '^[0-9]+') AS UNSIGNED)"

    return f"({part(1)} * 10000 + {part(2)} * 100 + {part(3)})"


ROTATOR_ACCOUNT = f"{quoted(ROTATOR)}@{quoted(ANY_HOST)}"
"""The rotator admin's account, as statements name it."""


def account(credential: Credential, username: str) -> str:
    """The account of a username, as statements name it."""
    return f"{quoted(username)}@{quoted(credential.account_host)}"


def tls(server: DatabaseServer) -> str:
    """What an account that the script makes requires."""
    return "REQUIRE NONE" if server.plaintext else "REQUIRE SSL"


def named(credential: Credential) -> str:
    """The condition that a row of `mysql.user` is the entry of a username of the credential."""
    return f"u.Host = {quoted(credential.account_host)} AND u.User IN ({listed(credential.usernames)})"


def named_or_rotator(credential: Credential) -> str:
    """The same, or that it is the rotator admin's entry."""
    return f"({named(credential)} OR u.Host = '{ANY_HOST}' AND u.User = '{ROTATOR}')"


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


def common_stops(credential: Credential) -> list[Finding]:
    """What must be changed first, on both engines; `u` is a row of `mysql.user`."""
    who = "QUOTE(u.User), '@', QUOTE(u.Host), "
    ours = named_or_rotator(credential)
    host = f"QUOTE(IF(u.User = '{ROTATOR}', '{ANY_HOST}', {quoted(credential.account_host)}))"
    return [
        (
            (
                f"{who}' takes clients from that host; Lockstep changes only the entry for ', {host}, ': drop it, or '"
                "'rename the one that is used'"
            ),
            f"mysql.user AS u WHERE u.User IN ({listed((*credential.usernames, ROTATOR))}) AND NOT {ours}",
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
    ]
