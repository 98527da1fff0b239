"""A made-up fleet behind the real page: as many credentials as wanted, at one moment, the same each time."""

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import uvicorn
from msgspec import structs

from lockstep.agent.server import HOST, listener_of
from lockstep.operate.documents import Run
from lockstep.operate.formatting import error_text
from lockstep.operate.page.server import Site, app_of
from lockstep.operate.page.snapshot import FleetSnapshot, Poller
from lockstep.operate.state import Answer, CredentialState, state_of
from lockstep.protocol.errors import advice_of
from lockstep.protocol.model import Claim, ClaimKind, Credential, LockRecord
from lockstep.protocol.ports import Table
from lockstep.stores.credential import StoredNames
from tests.support.memory import FakeClock, make_plan

NOW = datetime(2026, 11, 27, 9, 30, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)


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
    [made] = make_plan().credentials
    credential = structs.replace(
        made, id=f"shop/service-{number:05d}", servers=made.servers[:1], usernames=(f"service_{number}",)
    )
    generation = 40 + number % 9
    since = NOW - timedelta(seconds=(number * 7919) % 1180)
    record = LockRecord(
        credential_id=credential.id,
        fence=generation,
        plan=credential.plan_digest,
        current_generation=generation,
        valid=frozenset({generation, generation - 1}),
        highest_generation=generation,
        next_due_at=since + credential.schedule.interval - credential.schedule.tolerance,
        not_before=since + credential.schedule.overlap,
        rotated_by=f"run-{generation}-0",
    )
    value = StoredNames(generation=generation, blob_generation=generation, version=f"13cf509b-{generation}")
    answers: dict[str, Answer] = {"aws": value, "oci": replace(value, version="3:17")}
    error = "DatabaseUnreachableError" if number % 61 == 29 else None
    runs = [_run(credential, generation - n, since - n * 20 * _MINUTE, error) for n in range(8)]
    match number % 61:  # One in some has something.
        case 1:
            claim = Claim(
                kind=ClaimKind.NEW,
                generation=generation + 1,
                base_generation=generation,
                rotation_id="run-now",
            )
            record = replace(record, holder="run-now", expires_at=NOW + 8 * _MINUTE, claim=claim)
        case 7:
            record = replace(
                record, next_due_at=since - 41 * _MINUTE, not_before=since - 43 * _MINUTE, valid=frozenset()
            )
        case 11:
            record = replace(record, blocked=frozenset(credential.databases))
        case 13:
            record = replace(record, paused=True)
        case 53:
            record, runs, answers = LockRecord(credential_id=credential.id), [], {}
    return state_by(record, credential, answers, runs)


def state_by(
    record: LockRecord, credential: Credential, answers: Mapping[str, Answer], runs: Sequence[Run]
) -> CredentialState:
    """What is known of a credential, by what was read of it."""
    table = Table(records={credential.id: record}, unreadable={})
    state = state_of(make_plan(), table, credential, NOW, answers=answers, runs=runs)
    return replace(state, read_at=NOW - timedelta(seconds=4) if answers else None)


def _run(credential: Credential, generation: int, ended_at: datetime, error: str | None) -> Run:
    return Run(
        credential=credential.id,
        cloud="aws" if generation % 2 == 0 else "oci",
        seq=generation,
        rotation_id=f"run-{generation}-0",
        ended_at=ended_at,
        seconds=3.4,
        outcome="failed" if error else "rotated",
        error=error,
        meaning=error_text(error) if error else None,
        advice=advice_of(error),
        kind=None if error else "new",
        generation=None if error else generation,
        base_generation=generation - 1,
        trigger="schedule",
    )


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
