"""The script of `lockstep plan sql` for PostgreSQL (protocol D21). It is one transaction: all of it, or nothing."""

from lockstep.databases.base import CHANGE_OWN, identifier, listed, quoted
from lockstep.databases.sessions import POSTGRESQL_GRANT
from lockstep.databases.verifiers import RandomBytes, scram_sha_256
from lockstep.operate.plan_sql.dialect import Dialect, RotationUser, Script
from lockstep.protocol.model import Credential, DatabaseServer, SecretStr

HOW_TO = "docs/how-to/postgresql-live-login.md"
"""How a DBA moves what a live login owns and may do to an owner role."""

# All of it runs on PostgreSQL since 10: what is newer is in text that a condition guards.
CHECKS = """DO $lockstep$
DECLARE
  logins CONSTANT name[] := {logins};
  stops text;
BEGIN
  SELECT string_agg(f.stop, '; ') INTO stops FROM (
    SELECT format('%s exists already, and does not act as %s: {how_to}', rolname, {owner})
    FROM pg_roles AS r WHERE rolname = ANY (logins) AND NOT EXISTS (SELECT FROM pg_db_role_setting AS s
      WHERE s.setrole = r.oid AND s.setdatabase = 0 AND 'role=' || {owner} = ANY (s.setconfig))
    UNION ALL SELECT format('%s is a superuser, which %s may not change: NOSUPERUSER', rolname,
      array_to_string({rotation_users}, ', '))
    FROM pg_roles WHERE rolsuper AND rolname = ANY (logins)
    UNION ALL SELECT format('%s has REPLICATION, so %s may not change it, and it does not pass to another role',
      rolname, array_to_string({rotation_users}, ', '))
    FROM pg_roles WHERE rolreplication AND rolname = ANY (logins)
    UNION ALL SELECT format('%s is NOLOGIN: LOGIN', rolname)
    FROM pg_roles WHERE NOT rolcanlogin AND rolname = ANY (logins || {rotation_users})
    UNION ALL SELECT format('%s is VALID UNTIL %s, and refused as by a wrong password from then on: ''infinity''',
      rolname, rolvaliduntil)
    FROM pg_roles WHERE rolvaliduntil < 'infinity' AND rolname = ANY (logins || {rotation_users})
    UNION ALL SELECT format('%s has CONNECTION LIMIT %s, too few for applications and Lockstep: -1',
      rolname, rolconnlimit)
    FROM pg_roles WHERE rolconnlimit BETWEEN 0 AND 1 AND rolname = ANY (logins || {rotation_users})
    UNION ALL SELECT format('%s logs in itself, so it cannot be an owner role: NOLOGIN', rolname)
    FROM pg_roles WHERE rolcanlogin AND rolname = {owner}
    UNION ALL SELECT format('%s cannot change roles: CREATEROLE', rolname)
    FROM pg_roles WHERE NOT rolcreaterole AND rolname = ANY ({rotation_users})
    UNION ALL SELECT 'this server is a standby: run the script on its primary' WHERE pg_is_in_recovery()
  ) AS f (stop);
  IF stops IS NOT NULL THEN
    RAISE EXCEPTION 'Lockstep stops: %', stops;
  END IF;
END $lockstep$"""

# Who is no superuser must be a member of a role to give it what it owns. The transaction takes this back.
BORROW = """DO $lockstep$ BEGIN
  PERFORM set_config('lockstep.borrowed', (NOT pg_has_role(current_user, {owner}, 'USAGE'))::text, true);
  IF current_setting('lockstep.borrowed')::bool THEN
    EXECUTE format('GRANT %I TO %I', {owner}, current_user)
      || CASE WHEN current_setting('server_version_num')::int >= 160000 THEN ' WITH INHERIT TRUE, SET TRUE' ELSE '' END;
  END IF;
END $lockstep$"""

GIVE_BACK = """DO $lockstep$ BEGIN
  IF current_setting('lockstep.borrowed')::bool THEN
    EXECUTE format('REVOKE %I FROM %I', {owner}, current_user);
  END IF;
END $lockstep$"""

# Roles that change each other by ADMIN OPTION would be members of each other. So a role that nobody logs in as has that
# option, and lends this one use of it (https://www.postgresql.org/docs/current/sql-createfunction.html).
OWN_PASSWORDS = """DO $lockstep$ BEGIN
  IF EXISTS (SELECT FROM pg_namespace WHERE nspname = {owner} AND nspowner <> (
      SELECT oid FROM pg_roles WHERE rolname = {owner})) THEN
    RAISE EXCEPTION 'Lockstep stops: the schema % belongs to another role: drop it', {owner};
  END IF;
  EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I', {owner}, {owner});
  EXECUTE format('CREATE OR REPLACE FUNCTION %I.{function}(login name, verifier text) RETURNS void
      LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
    BEGIN
      IF login <> ALL (%L::name[]) OR verifier NOT LIKE ''SCRAM-SHA-256$%%'' THEN
        RAISE insufficient_privilege;
      END IF;
      EXECUTE format(''ALTER ROLE %%I PASSWORD %%L'', login, verifier);
    END $body$', {owner}, {logins});
  EXECUTE format('ALTER FUNCTION %I.{function}(name, text) OWNER TO %I', {owner}, {owner});
  EXECUTE format('REVOKE ALL ON FUNCTION %I.{function}(name, text) FROM PUBLIC', {owner});
END $lockstep$"""

VERIFY_ROTATION_USER = """DO $lockstep$
DECLARE
  rotation_user name;
  unreachable text;
BEGIN
  FOREACH rotation_user IN ARRAY {rotation_users} LOOP
    IF NOT (SELECT rolcreaterole FROM pg_roles WHERE rolname = rotation_user) THEN
      RAISE EXCEPTION 'Lockstep stops: % cannot change roles: CREATEROLE', rotation_user;
    END IF;
    SELECT string_agg(l.login, ', ') INTO unreachable FROM unnest({logins}) AS l (login)
    WHERE current_setting('server_version_num')::int >= 160000 AND NOT EXISTS (
      SELECT FROM pg_auth_members AS m JOIN pg_roles AS g ON g.oid = m.roleid JOIN pg_roles AS r ON r.oid = m.member
      WHERE g.rolname = l.login AND r.rolname = rotation_user AND m.admin_option);
    IF unreachable IS NOT NULL THEN
      RAISE EXCEPTION 'Lockstep stops: % lacks ADMIN OPTION for %', rotation_user, unreachable;
    END IF;
  END LOOP;
END $lockstep$"""


def fresh(credential: Credential, server: DatabaseServer, user: RotationUser) -> Script:
    """The script that makes accounts. It stops at one that exists and does not act as the owner role."""
    owner, users = identifier(credential.owner), [identifier(u) for u in credential.usernames]
    statements = [
        "BEGIN",
        "-- Stop if something must be changed first\n"
        + CHECKS.format(
            logins=f"ARRAY[{listed(credential.usernames)}]::name[]",
            owner=f"{quoted(credential.owner)}::name",
            rotation_users=_names(user),
            how_to=HOW_TO,
        ),
        _unless_exists(credential.owner, f"CREATE ROLE {owner} NOLOGIN"),
        *(_unless_exists(u, f"CREATE ROLE {identifier(u)} LOGIN") for u in credential.usernames),
        f"GRANT {owner} TO {', '.join(users)}",
        *(f"ALTER ROLE {user} SET role TO {owner}" for user in users),
        f"GRANT CONNECT, TEMPORARY ON DATABASE {identifier(server.dbname)} TO {owner}",
        f"GRANT USAGE, CREATE ON SCHEMA public TO {owner}",
        *_rotation_users(credential, server, user),
        "COMMIT",
    ]
    notes = [f"Objects belong to {credential.owner}, whichever login makes them."]
    return _script(server, user, statements, notes)


def itself(credential: Credential, server: DatabaseServer, user: RotationUser) -> Script:
    """The script for the rotation user's own roles, which get no rights on objects."""
    owner, users = identifier(credential.owner), ", ".join(identifier(u) for u in user.usernames)
    names = {
        "logins": f"ARRAY[{listed(user.usernames)}]::name[]",
        "owner": f"{quoted(credential.owner)}::name",
    }
    statements = [
        "BEGIN",
        _unless_exists(credential.owner, f"CREATE ROLE {owner} NOLOGIN CREATEROLE"),
        *(s for username in user.usernames for s in _made(username, server, iam=False)),
        _with_admin_option(users, owner),
        "-- Act for the owner role, unless as a superuser, until the end of this transaction\n"
        + BORROW.format(owner=names["owner"]),
        "-- Let the roles change each other's passwords, and nothing else of each other\n"
        + OWN_PASSWORDS.format(function=CHANGE_OWN, **names),
        f"GRANT USAGE ON SCHEMA {owner} TO {users}",
        f"GRANT EXECUTE ON FUNCTION {owner}.{CHANGE_OWN}(name, text) TO {users}",
        GIVE_BACK.format(owner=names["owner"]),
        VERIFY_ROTATION_USER.format(logins=names["logins"], rotation_users=f"ARRAY[{names['owner']}]"),
        "COMMIT",
    ]
    notes = [
        f"{user.shown} change each other by a function in the schema {credential.owner}, since PostgreSQL lets no",
        "roles have ADMIN OPTION on each other. Run it in each database that a plan names as `dbname` here.",
    ]
    return _script(server, user, statements, notes)


def _script(server: DatabaseServer, user: RotationUser, statements: list[str], notes: list[str]) -> Script:
    last_steps = []
    if user.usernames:
        to = ", ".join(identifier(u) for u in user.usernames)
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
        *(f"  \\password {u}" for u in user.usernames[:1]),
        "in psql, which sends a verifier.",
    ]
    return Script(notes=notes, statements=statements, password_steps=password_steps, last_steps=last_steps)


def _names(user: RotationUser) -> str:
    """The rotation user's roles, as an SQL expression."""
    return f"ARRAY[{listed(user.usernames)}]::name[]" if user.usernames else "ARRAY[current_user]::name[]"


def _rotation_users(credential: Credential, server: DatabaseServer, user: RotationUser) -> list[str]:
    logins = ", ".join(identifier(u) for u in credential.usernames)
    statements = []
    for username in user.usernames:
        statements += _made(username, server, iam=user.iam)
        statements.append(_with_admin_option(logins, identifier(username)))
    expressions = {
        "logins": f"ARRAY[{listed(credential.usernames)}]::name[]",
        "rotation_users": _names(user),
    }
    return [*statements, VERIFY_ROTATION_USER.format(**expressions)]


def _made(username: str, server: DatabaseServer, *, iam: bool) -> list[str]:
    role = identifier(username)
    return [
        "-- The rotation user. Before PostgreSQL 16 CREATEROLE reaches every role that is not a superuser\n"
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


DIALECT = Dialect(fresh, None, itself, _set_password)
