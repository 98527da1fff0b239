"""A credential's life on one database: rotations in ApplyDb's order of logins, which die anywhere and begin again."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from lockstep.protocol.errors import DatabaseUnreachableError, LockstepError
from lockstep.protocol.model import CredentialValue, Login
from lockstep.protocol.ports import Database
from tests.contract.database_harness import DatabaseHarness, value_of

_CRASHES_PER_POINT = 0.06
_CUTS_PER_RUN = 0.1
_REPLACED_CLAIMS = 0.3
_ROTATIONS_PER_EMERGENCY = 7


class CrashError(Exception):
    """The process of the step is gone; its connections are closed."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What one run does on the database, under its advisory lock.

    Attributes:
        base: What the stores serve; None at bootstrap.
        pending: What is to be promoted.
        doomed: What must be revoked before the promotion.
        promoting: Whether a store may serve pending already.
        revoke: Whether base is to be revoked too, at once.
    """

    base: CredentialValue | None
    pending: CredentialValue
    doomed: Mapping[int, CredentialValue]
    promoting: bool = False
    revoke: bool = False


def apply_in_order(database: Database, change: Change, point: Callable[[], None]) -> None:
    """The order of logins of ApplyDb (protocol D18)."""
    pending, base = change.pending, change.base
    with database.exclusive() as stager:
        live = pending if change.promoting or base is None else base
        if base or change.promoting:
            require(database, live.login, point)
        if not change.promoting:
            point()
            stager.stage(current=base, pending=pending)
            require(database, pending.login, point)
        if base and not change.revoke:
            require(database, base.login, point)
        for value in change.doomed.values():
            refuse(database, value.login, then=pending.login, point=point)
        if change.revoke and base:
            point()
            left = stager.retire(drop=base, keep=pending)
            # Also before the refusal: a run that died after its own has left one behind.
            require(database, left, point)
            refuse(database, base.login, then=left, point=point)


def require(database: Database, login: Login, point: Callable[[], None]) -> None:
    point()
    assert database.accepts(login), "a login that must succeed is refused"
    point()


def refuse(database: Database, doomed: Login, *, then: Login, point: Callable[[], None]) -> None:
    point()
    assert not database.accepts(doomed), "what must be revoked logs in"
    require(database, then, point)


@dataclass
class Refusals:
    """What the server was shown: refusals, and the longest run of them on one account."""

    refused: int = 0
    most: int = 0
    _in_a_row: Counter[str] = field(default_factory=Counter)

    def watch(self, database: Database) -> None:
        """Count the logins of an adapter from now on, its own while staging included."""
        genuine = database.accepts

        def accepts(login: Login) -> bool:
            try:
                accepted = genuine(login)
            except LockstepError as error:
                if "stage" in error.where:  # A pooler's refusal.
                    self._count(login, accepted=False)
                raise
            self._count(login, accepted=accepted)
            return accepted

        database.accepts = accepts  # type: ignore[method-assign]

    def _count(self, login: Login, *, accepted: bool) -> None:
        self.refused += not accepted
        self._in_a_row[login.username] = 0 if accepted else self._in_a_row[login.username] + 1
        self.most = max(self.most, self._in_a_row[login.username])

    def forget(self, username: str) -> None:
        """The server has set an account's own count back."""
        self._in_a_row[username] = 0


class Life:
    """Rotations of one credential.

    Args:
        world: The accounts.
        random: Decides when a run dies.
        strike: Called before each run: what else may cut it off.
    """

    def __init__(
        self,
        world: DatabaseHarness,
        random: Random,
        *,
        strike: Callable[[Random], None] = lambda _: None,
    ) -> None:
        self.refusals = Refusals()
        self.crashes = 0
        self.replaced = 0
        self.revoked = 0
        self._world = world
        self._random = random
        self._strike = strike
        self._rotations = 0
        self._highest = 0
        self._current: CredentialValue | None = None
        self._valid: dict[int, CredentialValue] = {}
        self.refusals.watch(world.database)

    def rotate(self) -> None:
        """One rotation to its end, however many runs that takes."""
        pending = self._claim()
        while not self._survives(pending, promoting=False):
            if self._random.random() < _REPLACED_CLAIMS:
                pending = self._claim()
                self.replaced += 1
        base, self._current = self._current, pending
        self._valid = {base.generation: base} if base else {}
        self._rotations += 1
        if base and self._rotations % _ROTATIONS_PER_EMERGENCY == 0:
            self.revoked += 1
            while not self._survives(pending, promoting=True, base=base):
                pass
            self._valid = {}

    @property
    def current(self) -> CredentialValue:
        """What the stores serve."""
        assert self._current
        return self._current

    def require_current(self) -> None:
        """What the stores serve logs in, and what may be in use beside it."""
        for value in (self._current, *self._valid.values()):
            assert value
            assert self._world.database.accepts(value.login)

    def _claim(self) -> CredentialValue:
        """A new value; with alternating users that of the account which base does not have."""
        self._highest += 1
        usernames = self._world.credential.usernames
        idle = next(
            (u for u in usernames if not self._current or u != self._current.login.username), usernames[0]
        )
        return value_of(self._world, self._highest, username=idle)

    def _survives(
        self, pending: CredentialValue, *, promoting: bool, base: CredentialValue | None = None
    ) -> bool:
        base = base or self._current
        doomed = {g: v for g, v in self._valid.items() if base is None or g != base.generation}
        change = Change(base=base, pending=pending, doomed=doomed, promoting=promoting, revoke=promoting)
        cut = self._random.random() < _CUTS_PER_RUN
        self._strike(self._random)
        try:
            apply_in_order(self._world.database, change, lambda: self._point(cut=cut))
        except (CrashError, DatabaseUnreachableError):
            self.crashes += 1
            return False
        return True

    def _point(self, *, cut: bool) -> None:
        if self._random.random() < _CRASHES_PER_POINT:
            if cut:
                self._world.end_admin_sessions()
            else:
                raise CrashError


class NeverRandom(Random):
    """Nothing that depends on chance happens."""

    def random(self) -> float:
        return 1.0
