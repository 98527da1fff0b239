"""A made-up fleet behind the real page: as many credentials as wanted, at one moment, the same each time."""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import uvicorn
from msgspec import structs

from lockstep.agent.server import HOST, listener_of
from lockstep.operate.page.server import Site, app_of
from lockstep.operate.page.snapshot import FleetSnapshot, Poller
from lockstep.operate.state import CredentialState
from tests.support.memory import FakeClock
from tests.unit.test_verdict import INCIDENTS, NOW, PROVEN, state

TROUBLES = {
    1: "a run is under way",
    7: "overdue",
    11: "an account is locked",
    13: "paused",
    29: "the last run failed",
    53: "never rotated, by the names",
}
"""One in some has something."""


class MadeUp:
    """In the place of what looks at the clouds.

    Attributes:
        fails: Raised by the next looks.
    """

    def __init__(self, credentials: int) -> None:
        self.look_ = look(credentials)
        self.is_of_few = True
        self.fails: Exception | None = None

    def look(self, _asked: Collection[str], *, records_only: bool = False) -> FleetSnapshot:
        """The same again."""
        del records_only
        if self.fails:
            raise self.fails
        return self.look_


def look(credentials: int) -> FleetSnapshot:
    """What is known of so many: most in sync, a few of each trouble."""
    seen = {one.credential.id: one for one in map(_seen, range(credentials))}
    return FleetSnapshot(at=NOW, seen=seen)


def _seen(number: int) -> CredentialState:
    found = state(INCIDENTS[TROUBLES.get(number % 61, "nothing")])
    credential = structs.replace(found.credential, id=f"shop/service-{number:05d}")
    before = [
        structs.replace(
            PROVEN,
            ended_at=NOW - timedelta(minutes=20 * (8 - generation)),
            seconds=3.4,
            generation=generation,
            base_generation=generation - 1,
        )
        for generation in range(7, 0, -1)
    ]
    return replace(found, credential=credential, runs=[*found.runs, *before], read_at=NOW)


@contextmanager
def shown(made_up: MadeUp, clock: FakeClock | None = None) -> Iterator[str]:
    """The page of a fleet, served; its address."""
    clock = clock or FakeClock(NOW)
    poller = Poller(made_up, clock)  # type: ignore[arg-type]  # it has what the poller uses
    listener = listener_of(0)
    port = listener.getsockname()[1]
    app = app_of(Site(poller, "lockstep, eu-central-1", clock), port)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", access_log=False))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    with listener:
        thread.start()
        try:
            yield f"http://{HOST}:{port}/"
        finally:
            server.should_exit = True
            thread.join(10)
