"""Checks of the databases, from the place where they are asked. `servers` asks; these are its questions."""

from collections.abc import Callable

from lockstep.databases import inspect
from lockstep.operate.doctor import servers
from lockstep.operate.doctor.checks import Check, always
from lockstep.plan.model import Plan


def _with_verify_hosts(plan: Plan) -> bool:
    return any(server.verify_hosts for credential in plan.credentials for server in credential.servers)


def _check(check: str, *, applies: Callable[[Plan], bool] = always, **texts: str) -> Check:
    return Check(id=check, ask=lambda context: context.databases.answers(check), applies=applies, **texts)


CHECKS = (
    _check(
        servers.ADDRESS,
        title="name of a database",
        looks_at="to what the host resolves, here or inside a cloud; the same for each verify host",
        means="no run from that place reaches it; from here, a private name is not asked",
        command="correct `host` in the plan, or let the network of the functions resolve it",
    ),
    _check(
        servers.ROUTE,
        title="route to a database",
        looks_at="whether its port takes a connection within 3 s; refused and unanswered are told apart",
        means="refused: nothing listens there; unanswered: a security group, list or firewall drops packets",
        command="aws ec2 authorize-security-group-ingress …, or start the server",
    ),
    _check(
        servers.TLS,
        title="TLS of a database",
        looks_at="a handshake as the engine's driver makes it: TLS at all, the certificate's names, its CA and its end",
        means="no password is shown to it, so no run works; less than 30 days left is a warning",
        command="put the CA into the file of `tls.ca_file`, or renew the certificate",
    ),
    _check(
        servers.ADMIN,
        title="rotation user",
        looks_at="whether it logs in, by the plan's way: `admin_secret`, `admin_iam` or `admin_credential`",
        means="no password can be changed there",
        command="put the login that works into the secret; lockstep plan sql",
    ),
    _check(
        inspect.SERVER,
        title="server",
        looks_at="engine and version, whether it is a replica, and asynchronous replicas that are no verify hosts",
        means="the strategy does not work there; a warning: a fail-over can lose a rotation",
        command="correct `engine` or `host` in the plan: lockstep check",
    ),
    _check(
        inspect.RIGHTS,
        title="rights of the rotation user",
        looks_at="what `lockstep plan sql` grants, roles included; rights beyond it are a warning",
        means="it cannot change passwords, or could do more than that",
        command="GRANT CREATE USER ON *.* TO …; ALTER ROLE … CREATEROLE",
    ),
    _check(
        servers.LOCK,
        title="advisory lock",
        looks_at="whether the lock of the credential's accounts is free within 2 s",
        means="a rotation is at work, or a session of a runner that died holds it for at most two minutes",
        command="lockstep lock show …",
    ),
    _check(
        inspect.ACCOUNTS,
        title="accounts",
        looks_at="whether each username exists, for the plan's host alone, and may log in",
        means="clients are matched to an account that is not rotated, or to none",
        command="DROP USER …; lockstep plan sql",
    ),
    _check(
        inspect.LOCKOUT,
        title="lockout limit",
        looks_at="FAILED_LOGIN_ATTEMPTS of MySQL, max_password_errors of MariaDB",
        means="with a limit of 1 no old password can be shown to be revoked, so no run begins",
        command="ALTER USER … FAILED_LOGIN_ATTEMPTS 2; SET GLOBAL max_password_errors = 2",
    ),
    _check(
        inspect.EXPIRY,
        title="expiry",
        looks_at="PASSWORD EXPIRE and default_password_lifetime, VALID UNTIL of PostgreSQL",
        means="the account is refused from some day on, or is now",
        command="ALTER USER … PASSWORD EXPIRE NEVER; ALTER ROLE … VALID UNTIL 'infinity'",
    ),
    _check(
        inspect.POLICY,
        title="password policy",
        looks_at="validate_password, strict_password_validation with its plugins, REQUIRE CURRENT, password_encryption",
        means="the server refuses new passwords",
        command="SET GLOBAL strict_password_validation = OFF",
    ),
    _check(
        inspect.PLUGIN,
        title="authentication plugin",
        looks_at="the plugins of the account that a store serves, on MySQL and MariaDB, and second factors",
        means="it cannot have two passwords, or lets in without one",
        command="ALTER USER … IDENTIFIED WITH caching_sha2_password BY …",
    ),
    _check(
        inspect.ACCESS,
        title="pg_hba.conf",
        looks_at="what PostgreSQL demands of each role from that place, before any password is shown",
        means="trusted: every password logs in; refused: the role's turn is a lockout",
        command="hostssl <db> <role> <network> scram-sha-256 in pg_hba.conf; SELECT pg_reload_conf()",
    ),
    _check(
        inspect.ROLES,
        title="owner role",
        looks_at="whether the roles of PostgreSQL are members of the owner role and act as it",
        means="objects belong to one of the two roles alone",
        command="GRANT <owner> TO <role>; ALTER ROLE <role> SET role TO <owner>",
    ),
    _check(
        servers.LOGIN,
        title="base logs in",
        looks_at="one login of what each store serves, with the advisory lock held; none where it should not work",
        means="the next run fails, and applications may be locked out now",
        command="lockstep import …, or lockstep take-over …",
    ),
    _check(
        servers.VERIFY_HOSTS,
        title="verify hosts",
        looks_at="the same login on each verify host, and whether it has applied what its database has",
        means="nothing is promoted until it has",
        command="look at the host's replication",
        applies=_with_verify_hosts,
    ),
)
