"""The script of `lockstep plan sql` for PostgreSQL (protocol D21). It is one transaction: all of it, or nothing."""

from lockstep.databases.postgresql_estate import (
    BORROW,
    CHANGE_OWN,
    CHECKS,
    COPY_RIGHTS,
    GIVE_BACK,
    LOOK,
    MAKE_LOGINS,
    OWN_PASSWORDS,
    SWITCH,
    VERIFY_RIGHTS,
    VERIFY_ROTATOR,
)
from lockstep.databases.provisioning import Dialect, Rotator, Script
from lockstep.databases.sessions import POSTGRESQL_GRANT
from lockstep.databases.sql_text import identifier, listed, quoted
from lockstep.databases.verifiers import RandomBytes, scram_sha_256
from lockstep.model import Credential, DatabaseServer, SecretStr


def fresh(credential: Credential, server: DatabaseServer, rotator: Rotator) -> Script:
    """The script that makes accounts. It stops if one exists that it did not make."""
    owner, users = identifier(credential.owner), [identifier(u) for u in credential.usernames]
    statements = [
        "BEGIN",
        _foreign(credential),
        _unless_exists(credential.owner, f"CREATE ROLE {owner} NOLOGIN"),
        *(_unless_exists(u, f"CREATE ROLE {identifier(u)} LOGIN") for u in credential.usernames),
        f"GRANT {owner} TO {', '.join(users)}",
        *(f"ALTER ROLE {user} SET role TO {owner}" for user in users),
        f"GRANT CONNECT, TEMPORARY ON DATABASE {identifier(server.dbname)} TO {owner}",
        f"GRANT USAGE, CREATE ON SCHEMA public TO {owner}",
        *_rotators(credential, server, rotator),
        "COMMIT",
    ]
    notes = [f"Objects belong to {credential.owner}, whichever login makes them."]
    return _script(server, rotator, statements, notes)


def existing(credential: Credential, server: DatabaseServer, rotator: Rotator) -> Script:
    """The script for live accounts: the owner role gets what they may do and own, then they act as it."""
    names = {
        "logins": f"ARRAY[{listed(credential.usernames)}]::name[]",
        "owner": f"{quoted(credential.owner)}::name",
        "rotators": _names(rotator),
    }
    owner = credential.owner
    statements = [
        "-- What is there, and what becomes of it\n" + LOOK.format(**names),
        "BEGIN",
        "SET LOCAL lock_timeout = '10s'",
        "SET LOCAL search_path = pg_catalog",
        "-- Stop if something must be changed first\n" + CHECKS.format(**names),
        _unless_exists(owner, f"CREATE ROLE {identifier(owner)} NOLOGIN"),
        "-- Make the logins that are missing, with the settings of one that exists\n"
        + MAKE_LOGINS.format(**names),
        "-- Act for the roles, unless as a superuser, until the end of this transaction\n"
        + BORROW.format(**names),
        "-- Give the owner role what the logins may do and what they own\n" + COPY_RIGHTS.format(**names),
        "-- Stop if something was left\n" + VERIFY_RIGHTS.format(**names),
        "-- From the next connection on the logins act as the owner role\n" + SWITCH.format(**names),
        GIVE_BACK,
        *_rotators(credential, server, rotator),
        "COMMIT",
    ]
    notes = [
        "What changes for running applications, in this database alone:",
        f"- Tables, functions and other objects of the logins belong to {owner}. Sessions that are open keep using",
        "  them, since each login is a member of it. The change waits at most 10 s for a lock on an object; if it",
        "  does not get it, nothing is changed: run the script again.",
        f"- New connections act as {owner}: current_user is {owner}, and session_user is the login.",
        "- What open sessions make until they reconnect belongs to the login: run the script again after that.",
        f"- Grant to {owner} from now on, not to a login.",
        "Run it in each database in which the application works. Instead of COMMIT, ROLLBACK tries it out.",
        "Who is no superuser must be a member of the owners of what was granted to the logins.",
        "Name the new login also where the server does not: pg_hba.conf, poolers, monitoring.",
        "Passwords become SCRAM-SHA-256: clients older than libpq 10 cannot use them.",
    ]
    return _script(server, rotator, statements, notes)


def itself(credential: Credential, server: DatabaseServer, rotator: Rotator) -> Script:
    """The script for the rotator admin's own roles, which get no rights on objects."""
    owner, users = identifier(credential.owner), ", ".join(identifier(u) for u in rotator.usernames)
    names = {
        "logins": f"ARRAY[{listed(rotator.usernames)}]::name[]",
        "owner": f"{quoted(credential.owner)}::name",
    }
    statements = [
        "BEGIN",
        _unless_exists(credential.owner, f"CREATE ROLE {owner} NOLOGIN CREATEROLE"),
        *(s for username in rotator.usernames for s in _made(username, server, iam=False)),
        _with_admin_option(users, owner),
        "-- Act for the owner role, unless as a superuser, until the end of this transaction\n"
        + BORROW.format(logins="ARRAY[]::name[]", owner=names["owner"]),
        "-- Let the roles change each other's passwords, and nothing else of each other\n"
        + OWN_PASSWORDS.format(function=CHANGE_OWN, **names),
        f"GRANT USAGE ON SCHEMA {owner} TO {users}",
        f"GRANT EXECUTE ON FUNCTION {owner}.{CHANGE_OWN}(name, text) TO {users}",
        GIVE_BACK,
        VERIFY_ROTATOR.format(logins=names["logins"], rotators=f"ARRAY[{names['owner']}]"),
        "COMMIT",
    ]
    notes = [
        f"{rotator.shown} change each other by a function in the schema {credential.owner}, since PostgreSQL lets no",
        "roles have ADMIN OPTION on each other. Run it in each database that a plan names as `dbname` here.",
    ]
    return _script(server, rotator, statements, notes)


def _script(server: DatabaseServer, rotator: Rotator, statements: list[str], notes: list[str]) -> Script:
    last_steps = []
    if rotator.usernames:
        to = ", ".join(identifier(u) for u in rotator.usernames)
        last_steps += [
            "`lockstep sessions` counts open sessions without a further right. To let it show hosts and ages too:",
            f"  {POSTGRESQL_GRANT.format(account=to)};",
            "which shows the statements of all sessions as well.",
        ]
    if not server.plaintext:
        last_steps += [
            "Later, if no session without TLS is left (pg_stat_ssl), let pg_hba.conf have `hostssl` lines only",
            "(RDS: rds.force_ssl = 1).",
        ]
    password_steps = [
        *(f"  \\password {u}" for u in rotator.usernames[:1]),
        "in psql, which sends a verifier.",
    ]
    return Script(notes=notes, statements=statements, password_steps=password_steps, last_steps=last_steps)


def _foreign(credential: Credential) -> str:
    """Stop at a login that exists and does not act as the owner role."""
    return f"""DO $lockstep$ BEGIN
  IF EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname IN ({listed(credential.usernames)}) AND NOT EXISTS (
      SELECT FROM pg_db_role_setting AS s
      WHERE s.setrole = r.oid AND s.setdatabase = 0 AND {quoted(f"role={credential.owner}")} = ANY (s.setconfig))) THEN
    RAISE EXCEPTION 'Lockstep stops: % exists already, and is changed only with --existing',
      {quoted(" or ".join(credential.usernames))};
  END IF;
END $lockstep$"""


def _names(rotator: Rotator) -> str:
    """The rotator admin's roles, as an SQL expression."""
    return (
        f"ARRAY[{listed(rotator.usernames)}]::name[]" if rotator.usernames else "ARRAY[current_user]::name[]"
    )


def _rotators(credential: Credential, server: DatabaseServer, rotator: Rotator) -> list[str]:
    logins = ", ".join(identifier(u) for u in credential.usernames)
    statements = []
    for username in rotator.usernames:
        statements += _made(username, server, iam=rotator.iam)
        statements.append(_with_admin_option(logins, identifier(username)))
    expressions = {"logins": f"ARRAY[{listed(credential.usernames)}]::name[]", "rotators": _names(rotator)}
    return [*statements, VERIFY_ROTATOR.format(**expressions)]


def _made(username: str, server: DatabaseServer, *, iam: bool) -> list[str]:
    role = identifier(username)
    return [
        "-- The rotator. Before PostgreSQL 16 CREATEROLE reaches every role that is not a superuser\n"
        + _unless_exists(username, f"CREATE ROLE {role} LOGIN NOINHERIT CREATEROLE"),
        # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.DBAccounts.html
        *([f"GRANT rds_iam TO {role}"] if iam else []),
        f"GRANT CONNECT ON DATABASE {identifier(server.dbname)} TO {role}",
    ]


def _with_admin_option(roles: str, to: str) -> str:
    return _when(
        "current_setting('server_version_num')::int >= 160000",
        # As text, since older servers cannot parse it.
        f"EXECUTE 'GRANT {roles} TO {to} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE'",
    )


def _unless_exists(role: str, statement: str) -> str:
    return _when(f"NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {quoted(role)})", statement)


def _when(condition: str, statement: str) -> str:
    return f"DO $lockstep$ BEGIN\n  IF {condition} THEN\n    {statement};\n  END IF;\nEND $lockstep$"


def _set_password(username: str, password: SecretStr, random_bytes: RandomBytes) -> str:
    verifier = scram_sha_256(password, random_bytes).reveal()
    return f"ALTER ROLE {identifier(username)} PASSWORD {quoted(verifier)}"


DIALECT = Dialect(fresh, existing, itself, _set_password)
