"""Waiting for the hosts at which applications reach a database besides the database itself (protocol D15, D16).

A read replica applies the change of an account some time after its database, and until then refuses what is pending. A
server may lock an account after two refusals in a row, counted on each host. So the order of the logins is such that a
refusal is followed by a login that works for the same account:

- One account with two passwords: base, then pending and base in turn. Base works before and after the change.
- Accounts with one password each: what the account had before is tried until it is refused. From then on pending works;
  to try pending earlier would be a refusal that nothing takes back for certain, since the change may arrive in between.
- Neither is known: pending is tried once, after half of the wait.

A run that dies between two logins leaves one refusal. Where the account has two passwords the next run begins with
base, so an application's account is never refused twice in a row. An account with one password is not in use before
the promotion.

Each wait is made while the database's advisory lock is held, so that the logins of two runs do not mix.
"""

from dataclasses import dataclass
from functools import partial

from lockstep.errors import ReplicaLaggingError, ReplicaRejectedError
from lockstep.model import Login
from lockstep.ports import Clock, Database, Replica
from lockstep.workers import SideBySide

PATIENCE_SECONDS = 20.0
"""How long a step waits for the hosts of its databases. A step may take 60 s, and the advisory lock's session is silent
meanwhile (`DatabaseTimeouts.idle_seconds`)."""

_POLL_SECONDS = 0.25


def wait_until_accepted(
    database: Database,
    *,
    pending: Login,
    base: Login | None,
    replaced: Login | None,
    clock: Clock,
    deadline: float,
    side_by_side: SideBySide,
) -> None:
    """Wait until each of a database's hosts accepts pending, sees base as before, and refuses what was replaced.

    To be called after the same was proven on the database itself. If no password is changed, pending and base are the
    same login.

    Args:
        database: Whose hosts.
        pending: What is to be promoted.
        base: What applications use at present; None if no login is known.
        replaced: The login that pending's account had before, and that no longer works on the database. None if it is
            not known, or if it did not work there before the change either.
        clock: To wait by.
        deadline: By the clock's `monotonic`. Each host is tried once in any case.
        side_by_side: How the hosts are worked on. The logins on one host come one after the other.

    Raises:
        ReplicaLaggingError: A host is not that far at the deadline. The next run may continue.
        ReplicaRejectedError: A host refuses base.
    """
    doomed = None if replaced in (pending, base) else replaced
    prove = partial(_prove, pending=pending, base=base, doomed=doomed, wait=_Wait(clock, deadline))
    side_by_side([partial(prove, replica) for replica in database.replicas])


def wait_until_dead(
    database: Database,
    *,
    doomed: Login,
    keep: Login,
    clock: Clock,
    deadline: float,
    side_by_side: SideBySide,
) -> None:
    """Wait until each of a database's hosts refuses a login that is dead on the database.

    Args:
        database: Whose hosts.
        doomed: What was made dead.
        keep: A login of the same account that works on the database, and on the hosts at the latest when they refuse
            `doomed`: it proves that the password was refused and not the account, and takes the refusal back.
        clock: To wait by.
        deadline: By the clock's `monotonic`. Each host is tried once in any case.
        side_by_side: How the hosts are worked on.

    Raises:
        ReplicaLaggingError: A host still accepts `doomed` at the deadline, or refuses `keep` too.
    """
    refuse = partial(_wait_until_dead, doomed=doomed, keep=keep, wait=_Wait(clock, deadline))
    side_by_side([partial(refuse, replica) for replica in database.replicas])


@dataclass(frozen=True, slots=True)
class _Wait:
    clock: Clock
    deadline: float

    def left(self) -> float:
        return max(0.0, self.deadline - self.clock.monotonic())

    def once_more(self, replica: Replica) -> None:
        """Sleep until the next try, or raise if there is none."""
        if not self.left():
            raise ReplicaLaggingError(database=replica.name)
        self.clock.sleep(min(_POLL_SECONDS, self.left()))


def _prove(
    replica: Replica, *, pending: Login, base: Login | None, doomed: Login | None, wait: _Wait
) -> None:
    if base:
        _require_base(replica, base)
    if base and base.username == pending.username:
        _poll_beside(replica, pending, base, wait)
    elif doomed is None:
        _try_once(replica, pending, wait)
    if doomed:
        _wait_until_dead(replica, doomed=doomed, keep=pending, wait=wait)


def _require_base(replica: Replica, base: Login) -> None:
    if not replica.accepts(base):
        raise ReplicaRejectedError(database=replica.name)


def _poll_beside(replica: Replica, pending: Login, base: Login, wait: _Wait) -> None:
    """Pending, then base, until pending logs in: one refusal in a row at the most."""
    while True:
        is_accepted = replica.accepts(pending)
        _require_base(replica, base)
        if is_accepted:
            return
        wait.once_more(replica)


def _try_once(replica: Replica, pending: Login, wait: _Wait) -> None:
    wait.clock.sleep(wait.left() / 2)
    if not replica.accepts(pending):
        raise ReplicaLaggingError(database=replica.name)


def _wait_until_dead(replica: Replica, *, doomed: Login, keep: Login, wait: _Wait) -> None:
    while replica.accepts(doomed):
        wait.once_more(replica)
    if not replica.accepts(keep):
        raise ReplicaLaggingError(database=replica.name)
