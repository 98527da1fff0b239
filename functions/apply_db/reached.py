"""The databases that a step comes to, under their advisory locks, and which of them have failed in it (protocol O5).

Every run asks every database. In an emergency it goes on without one that fails, once an operator has consented to take
its account over: what was not revoked there stays under take-over, so the next run is due at once.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeVar

from lockstep.protocol.errors import AdvisoryLockBusyError, LockstepError
from lockstep.protocol.messages import CandidateRef
from lockstep.protocol.model import CredentialValue, LockRecord, Login
from lockstep.protocol.ports import Stager
from lockstep.protocol.workers import gravest, outcome, run_all
from lockstep.stores.credential import Ports

Place = int | CandidateRef
"""Where the stores hold a value: by its generation, or by a version of one of them."""
Values = Mapping[Place, CredentialValue | None]
"""Values by where they were looked for; None where there is none."""
T = TypeVar("T")


class Reached:
    """The databases of a credential, as one step comes to them.

    Attributes:
        ports: The world.
        values: What was read beside.
        record: As it was read under the advisory locks.
        stagers: Of the databases that have not failed, each under its advisory lock.
    """

    record: LockRecord

    def __init__(self, ports: Ports, values: Values) -> None:
        self.ports = ports
        self.values = values
        self.stagers: dict[str, Stager] = {}
        self._failed: dict[str, LockstepError] = {}

    def attempt(self, work: Callable[[str], T], names: Iterable[str]) -> dict[str, T]:
        """Do the work on databases side by side; what it returns, by those on which it does not fail."""
        asked = list(names)
        ended = self.ports.side_by_side([partial(outcome, partial(work, name)) for name in asked])
        done: dict[str, T] = {}
        for name, found in zip(asked, ended, strict=True):
            if isinstance(found, LockstepError):
                self._failed[name] = found
                self.stagers.pop(name, None)
            else:
                done[name] = found
        return done

    def go_on(self) -> None:
        """Go on without the databases that have failed, if the record allows that.

        Raises:
            LockstepError: The gravest failure of a database.
        """
        # A busy lock is no failure: another run is at work there.
        busy = [error for error in self._failed.values() if isinstance(error, AdvisoryLockBusyError)]
        failed = [name for name, error in self._failed.items() if error not in busy]
        may = self.record.may_pass_over(failed, self.ports.databases)
        if errors := busy if may else [*self._failed.values()]:
            raise gravest(errors)

    def each(self, work: Callable[[str], T]) -> dict[str, T]:
        """Do the work on every database that has not failed, and go on without those on which it fails.

        Raises:
            LockstepError: As `go_on`.
        """
        done = self.attempt(work, self.stagers)
        self.go_on()
        return done

    def doomed(self, generations: Collection[int]) -> dict[int, CredentialValue | None]:
        """What is valid and is not kept: the values that are known, and those that are not, read now."""
        find, unknown = self.ports.stores.find_generation, [g for g in generations if g not in self.values]
        read = self.ports.side_by_side([partial(find, generation) for generation in unknown])
        found: Values = {**self.values, **dict(zip(unknown, read, strict=True))}
        return {generation: found[generation] for generation in sorted(generations)}


@contextmanager
def reached(ports: Ports, places: Iterable[Place], require: Callable[..., LockRecord]) -> Iterator[Reached]:
    """Hold the advisory locks of the databases, as their rotation users.

    Values, and the logins of the rotation users, are read before, all at the same time: a login that several databases
    have is read once (protocol D22).

    Args:
        ports: The world.
        places: Of the values.
        require: Reads the record under the locks, given the time (`now`).
    """
    asked, databases = list(dict.fromkeys(places)), ports.databases
    having = {database.admin: database for database in reversed(list(databases.values()))}
    found, read = run_all(
        ports.side_by_side,
        partial(ports.side_by_side, [partial(_value, ports, place) for place in asked]),
        partial(ports.side_by_side, [partial(outcome, database.admin_login) for database in having.values()]),
    )
    admins = dict(zip(having, read, strict=True))
    with ExitStack() as held:

        def locked(name: str) -> Stager:
            admin = admins[databases[name].admin]
            if not isinstance(admin, Login):
                raise admin
            return held.enter_context(databases[name].exclusive(admin))

        come_to = Reached(ports, dict(zip(asked, found, strict=True)))
        come_to.stagers |= come_to.attempt(locked, databases)
        come_to.record = require(now=ports.clock.now())
        come_to.go_on()
        yield come_to


def _value(ports: Ports, place: Place) -> CredentialValue | None:
    if isinstance(place, int):
        return ports.stores.find_generation(place)
    return ports.stores.read_version(store=place.store, version=place.version)
