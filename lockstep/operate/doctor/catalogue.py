"""Every check, in the order in which findings are shown. The documentation lists them.

A group's first check is the one that the others need. Add a check to the tuple of its module, and a row to
`tests/contract/doctor/breaks.py` that shows it to fail.
"""

from lockstep.databases import inspect
from lockstep.operate.doctor import aws, in_cloud, oci, servers
from lockstep.operate.doctor.checks import Check

DATABASES = (
    Check(
        id=servers.ROUTE,
        looks_at="to what the host resolves, and whether its port takes a connection within 3 s; refused and "
        "unanswered are told apart; the same for each verify host",
        means="no run from that place reaches it; from here, a private name or address is not asked",
    ),
    Check(
        id=servers.TLS,
        looks_at="a handshake as the engine's driver makes it: TLS at all, the certificate's names, its CA and its end",
        means="no password is shown to it, so no run works; less than 30 days left is a warning",
    ),
    Check(
        id=servers.ADMIN,
        looks_at="whether the rotation user logs in, by the plan's way: `admin_secret`, `admin_iam` or "
        "`admin_credential`",
        means="no password can be changed there",
    ),
    Check(
        id=inspect.SERVER,
        looks_at="engine and version, whether it is a replica, and asynchronous replicas that are no verify hosts",
        means="the strategy does not work there; a warning: a fail-over can lose a rotation",
    ),
    Check(
        id=inspect.RIGHTS,
        looks_at="whether the rotation user has what `lockstep plan sql` grants, roles included, and each account "
        "exists",
        means="it cannot change passwords, or not see what is asked",
    ),
    Check(
        id=inspect.ACCOUNTS,
        looks_at="by the rules at which `lockstep plan sql` stops: hosts, plugins, second factors, expiry, lockout "
        "limits, settings and rights that are in the way, and on PostgreSQL the owner role",
        means="clients are matched to another account, one is refused from some day on, or its password cannot be "
        "changed",
    ),
    Check(
        id=servers.LOGIN,
        looks_at="one login of what each store serves, with the advisory lock held; none where it should not work",
        means="the next run fails, and applications may be locked out now",
    ),
    Check(
        id=servers.VERIFY_HOSTS,
        looks_at="the same login on each verify host",
        means="nothing is promoted until each accepts it; whether one lags, the runs say that wait for it",
    ),
)
CATALOGUE: tuple[Check, ...] = (*aws.CHECKS, *oci.CHECKS, *DATABASES, *in_cloud.CHECKS)
