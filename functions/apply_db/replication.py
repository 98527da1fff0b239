"""Waiting for the hosts at which applications reach a database besides the database itself (protocol D15).

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

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from lockstep.protocol.errors import LockstepError, ReplicaLaggingError, ReplicaRejectedError
from lockstep.protocol.model import Login
from lockstep.protocol.ports import Clock, Database, Replica
from lockstep.protocol.workers import SideBySide, gravest, outcome

PATIENCE_SECONDS = 20.0
"""How long a step waits for the hosts of its databases. A step may take 60 s, and the advisory lock's session is silent
meanwhile (`DatabaseTimeouts.idle_seconds`)."""

_POLL_SECONDS = 0.25


class Wait:
    """How long, and how, the hosts of a database are waited for. Each is tried once in any case.

    Args:
        clock: To wait by.
        side_by_side: How the hosts are worked on. The logins on one host come one after the other.
        seconds: How long, from now on.
    """

    def __init__(self, clock: Clock, side_by_side: SideBySide, seconds: float = PATIENCE_SECONDS) -> None:
        self._clock = clock
        self._side_by_side = side_by_side
        self._deadline = clock.monotonic() + seconds

    def until_accepted(
        self,
        database: Database,
        *,
        pending: Login,
        base: Login | None,
        doomed: Sequence[Login] = (),
        is_urgent: bool = False,
    ) -> tuple[str, ...]:
        """Wait until each of a database's hosts accepts pending and base, and refuses what is doomed.

        To be called after the same was proven on the database itself. Where no password is changed, pending and base
        are the same login.

        Args:
            database: Whose hosts.
            pending: What is to be promoted.
            base: What applications use at present; None if there is none, or it is not known to work on the hosts.
            doomed: As for `until_revoked`. The newest one of pending's account is what that account had before.
            is_urgent: Whether to go on without the hosts that fail.

        Returns:
            The names of the hosts that have failed.

        Raises:
            ReplicaLaggingError: A host is not that far at the deadline. The next run may continue.
            ReplicaRejectedError: A host refuses base.
            LockstepError: A host does not answer.
        """
        failed = self._failures(database, partial(self._prove, pending, base, doomed))
        if failed and not is_urgent:
            raise gravest(list(failed.values()))
        return tuple(failed)

    def until_revoked(
        self, database: Database, *, doomed: Sequence[Login], live: Sequence[Login]
    ) -> tuple[str, ...]:
        """Wait until each of a database's hosts refuses logins that are revoked on the database.

        Args:
            database: Whose hosts.
            doomed: What was revoked, the oldest first. What is of an account without a live login is not tried, nor
                what is live.
            live: One login for each account that works on the database, and on a host at the latest when it refuses
                what is doomed. It proves that the password was refused and not the account, and takes the refusal back.

        Returns:
            The names of the hosts of which nothing is known.

        Raises:
            ReplicaLaggingError: At the deadline a host still accepts one that is doomed.
        """
        failed = self._failures(database, partial(self._see_revoked, doomed, live))
        if behind := [error for error in failed.values() if isinstance(error, ReplicaLaggingError)]:
            raise behind[0]
        return tuple(failed)

    def _failures(self, database: Database, work: Callable[[Replica], None]) -> Mapping[str, LockstepError]:
        """What fails on the hosts of a database, by their names."""
        hosts = database.replicas
        ended = self._side_by_side([partial(outcome, partial(work, host)) for host in hosts])
        return {h.name: error for h, error in zip(hosts, ended, strict=True) if error}

    def _prove(self, pending: Login, base: Login | None, doomed: Sequence[Login], replica: Replica) -> None:
        live = [pending, base] if base else [pending]
        if base:
            _require(replica, base)
        if base and base.username == pending.username:
            self._poll_beside(replica, pending, base)
        elif not (base and any(d.username == pending.username for d in doomed if d not in live)):
            self._try_once(replica, pending)
        self._see_revoked(doomed, live, replica)

    def _poll_beside(self, replica: Replica, pending: Login, base: Login) -> None:
        """Pending, then base, until pending logs in: no two refusals in a row."""
        while True:
            is_accepted = _lets_in(replica, pending)
            _require(replica, base)
            if is_accepted:
                return
            self._before_the_next_try(replica)

    def _try_once(self, replica: Replica, pending: Login) -> None:
        self._clock.sleep(self._seconds_left / 2)
        if not _lets_in(replica, pending):
            raise ReplicaLaggingError(database=replica.name)

    def _see_revoked(self, doomed: Sequence[Login], live: Sequence[Login], replica: Replica) -> None:
        # The newest first: while the host lags, the account has that one, so it is refused only when the host is in
        # sync.
        for login in (d for d in reversed(doomed) if d not in live):
            keep = next((k for k in live if k.username == login.username), None)
            if keep is None:
                continue
            while _lets_in(replica, login):
                self._before_the_next_try(replica)
            if not _lets_in(replica, keep):
                raise ReplicaRejectedError(database=replica.name)

    def _before_the_next_try(self, replica: Replica) -> None:
        """Sleep, or raise ReplicaLaggingError after the deadline."""
        if not self._seconds_left:
            raise ReplicaLaggingError(database=replica.name)
        self._clock.sleep(min(_POLL_SECONDS, self._seconds_left))

    @property
    def _seconds_left(self) -> float:
        """Until the deadline, or 0."""
        return max(0.0, self._deadline - self._clock.monotonic())


def _require(replica: Replica, base: Login) -> None:
    if not replica.accepts(base):
        raise ReplicaRejectedError(database=replica.name)


def _lets_in(replica: Replica, login: Login) -> bool:
    """Whether it accepts a login; a pooler that refuses one has words of its own, so the stage tells (protocol D14)."""
    try:
        return replica.accepts(login)
    except LockstepError as error:
        if "stage" not in error.where:
            raise
        return False
