"""Every check, in the order in which findings are shown. The documentation lists them.

A group's first check is the one that the others need. Add a check to the tuple of its module, and a row to
`tests/contract/doctor/breaks.py` that shows it to fail.
"""

from lockstep.databases import inspect
from lockstep.databases.findings import Finding
from lockstep.operate.doctor import aws, in_cloud, oci, servers
from lockstep.operate.doctor.checks import Check, Context


def _database(check: str, looks_at: str, means: str) -> Check:
    def ask(context: Context) -> list[Finding]:
        return context.databases.found(check)

    return Check(id=check, looks_at=looks_at, means=means, ask=ask)


DATABASES = (
    _database(
        servers.ROUTE,
        "to what the host resolves, and whether its port takes a connection within 3 s; refused and unanswered are "
        "told apart; the same for each verify host",
        "no run from that place reaches it; from here, a private name or address is not asked",
    ),
    _database(
        servers.TLS,
        "a handshake as the engine's driver makes it: TLS at all, the certificate's names, its CA and its end",
        "no password is shown to it, so no run works; less than 30 days left is a warning",
    ),
    _database(
        servers.ADMIN,
        "whether the rotation user logs in, by the plan's way: `admin_secret`, `admin_iam` or `admin_credential`",
        "no password can be changed there",
    ),
    _database(
        inspect.SERVER,
        "engine and version, whether it is a replica, and asynchronous replicas that are no verify hosts",
        "the strategy does not work there; a warning: a fail-over can lose a rotation",
    ),
    _database(
        inspect.RIGHTS,
        "whether the rotation user has what `lockstep plan sql` grants, roles included, and each account exists",
        "it cannot change passwords, or not see what is asked",
    ),
    _database(
        inspect.ACCOUNTS,
        "by the rules at which `lockstep plan sql` stops: hosts, plugins, second factors, expiry, lockout limits, "
        "settings and rights that are in the way, and on PostgreSQL the owner role",
        "clients are matched to another account, one is refused from some day on, or its password cannot be changed",
    ),
    _database(
        inspect.ACCESS,
        "what `pg_hba.conf` of PostgreSQL demands of each role from that place, before any password is shown",
        "trusted: every password logs in; refused: the role's turn is a lockout",
    ),
    _database(
        servers.LOGIN,
        "one login of what each store serves, with the advisory lock held; none where it should not work",
        "the next run fails, and applications may be locked out now",
    ),
    _database(
        servers.VERIFY_HOSTS,
        "the same login on each verify host",
        "nothing is promoted until each accepts it; whether one lags, the runs say that wait for it",
    ),
)
CATALOGUE: tuple[Check, ...] = (*aws.CHECKS, *oci.CHECKS, *DATABASES, *in_cloud.CHECKS)
