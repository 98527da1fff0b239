"""A made-up fleet behind the real page: as many credentials as wanted, at one moment, the same each time."""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import uvicorn
from msgspec import structs

from lockstep.operate import state as reading
from lockstep.operate.documents import Run
from lockstep.operate.execution import Entered
from lockstep.operate.formatting import error_text
from lockstep.operate.page import snapshot as polling
from lockstep.operate.page.server import Address, Pages, Site, app_of
from lockstep.operate.page.snapshot import Calls, FleetSnapshot, Poller, Snapshot
from lockstep.operate.state import CredentialState, Forecast
from lockstep.protocol.errors import StoreUnreachableError, advice_of
from lockstep.protocol.model import Claim, ClaimKind, Credential, LockRecord
from lockstep.stores.readers import StoredNames
from tests.support.memory import make_plan

NOW = datetime(2026, 11, 27, 9, 30, tzinfo=UTC)
DATABASES = ("orders", "ledger", "crm", "billing", "search")
_MINUTE = timedelta(minutes=1)
_STEPS = (("AcquireLock", 0.1), ("Generate", 0.7), ("ApplyDb", 1.4), ("UpdateSecrets", 0.8), ("Audit", 0.3))


class StillClock:
    """A clock that stands, except for what only grows."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        """The moment."""
        return NOW

    def monotonic(self) -> float:
        """Moved by hand."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Nothing waits."""
        self.seconds += seconds


class MadeUp:
    """In the place of what looks at the clouds.

    Attributes:
        asked: For which credentials the last look was.
        fails: Raised by the next looks.
    """

    def __init__(self, credentials: int) -> None:
        self.look_ = look(credentials)
        self.is_of_few = True
        self.asked: Collection[str] = ()
        self.fails: Exception | None = None

    def look(self, asked: Collection[str], *, records_only: bool = False) -> FleetSnapshot:
        """The same again."""
        del records_only
        self.asked = asked
        if self.fails:
            raise self.fails
        return self.look_


def look(credentials: int) -> FleetSnapshot:
    """What is known of so many: most in sync, a few of each trouble."""
    seen = {one.credential.id: one for one in map(_seen, range(credentials))}
    return FleetSnapshot(at=NOW, seen=seen)


@cache
def _first() -> Credential:
    [made] = make_plan().credentials
    return made


def _credential(number: int) -> Credential:
    made = _first()
    database = DATABASES[(number * number + number) % 7 % len(DATABASES)]
    server = structs.replace(made.servers[0], name=database, host=f"{database}.internal")
    return structs.replace(
        made, id=f"shop/service-{number:05d}", servers=(server,), usernames=(f"service_{number}",)
    )


def _seen(number: int) -> Snapshot:
    credential = _credential(number)
    age = timedelta(seconds=(number * 7919) % 1180)
    generation = 40 + number % 9
    since = NOW - age
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
    seen = Snapshot(
        credential=credential,
        state=_state(credential, record, generation),
        read_at=NOW - timedelta(seconds=4),
        runs=_runs(credential, generation, since),
        steps={
            f"run-{generation}-{n}": _states(since - n * 20 * _MINUTE, whole=True) for n in range(0, 8, 2)
        },
    )
    return _troubled(seen, number, since)


def _troubled(seen: Snapshot, number: int, since: datetime) -> Snapshot:
    """One in some has something."""
    record, state = seen.record, seen.state
    match number % 61:
        case 1:
            return _running(seen)
        case 7:
            late = replace(
                record, next_due_at=since - 41 * _MINUTE, not_before=since - 43 * _MINUTE, valid=frozenset()
            )
            seen = replace(seen, state=replace(state, record=late), stale=True)
        case 13:
            seen = replace(seen, state=replace(state, record=replace(record, paused=True)))
        case 29:
            newest = seen.runs[0]
            failed = _runs(seen.credential, newest.seq, newest.ended_at, error="DatabaseUnreachableError")[0]
            seen = replace(seen, state=replace(state, last_run=failed), runs=[failed, *seen.runs[1:]])
        case 37:
            answers = {**state.look.answers, "oci": StoreUnreachableError(store="oci")}
            away = replace(state.look, answers=answers)
            seen = replace(seen, state=replace(state, look=away, is_in_sync=None, next_run=None))
        case 53:
            fresh = LockRecord(credential_id=seen.credential.id)
            seen = replace(seen, state=replace(state, record=fresh, last_run=None), runs=(), unrotated=True)
    return seen


def _running(seen: Snapshot) -> Snapshot:
    record = seen.record
    claim = Claim(
        kind=ClaimKind.NEW,
        generation=record.highest_generation + 1,
        base_generation=record.highest_generation,
        rotation_id="run-now",
    )
    held = replace(record, holder="run-now", expires_at=NOW + 8 * _MINUTE, claim=claim)
    steps = {**seen.steps, "run-now": _states(NOW - timedelta(seconds=2.4), whole=False)}
    return replace(seen, state=replace(seen.state, record=held), steps=steps)


def _state(credential: Credential, record: LockRecord, generation: int) -> CredentialState:
    value = StoredNames(
        generation=generation,
        blob_generation=generation,
        version=f"13cf509b-b00d-89f1-89bb-{generation:012d}",
    )
    run = _runs(credential, generation, NOW - timedelta(minutes=3))[0]
    return CredentialState(
        record=record,
        credential=credential,
        has_standby=True,
        look=reading.StoreSnapshot(
            depth="names", answers={"aws": value, "oci": replace(value, version="3:17")}, pending_since=None
        ),
        is_in_sync=True,
        next_run=Forecast(
            action="rotate", meaning=f"make a new generation on top of {generation}", waits_for=None
        ),
        last_run=run,
        unread={},
        reasons=(),
        is_running=False,
    )


def _runs(credential: Credential, generation: int, since: datetime, *, error: str | None = None) -> list[Run]:
    return [
        Run(
            credential=credential.id,
            cloud="aws" if n % 2 == 0 else "oci",
            seq=generation - n,
            rotation_id=f"run-{generation}-{n}",
            ended_at=since - n * 20 * _MINUTE,
            seconds=3.4 - n / 5,
            outcome="failed" if error else "rotated",
            error=error,
            meaning=error_text(error) if error else None,
            advice=advice_of(error),
            generation=None if error else generation - n,
            trigger="schedule",
        )
        for n in range(8)
    ]


def _states(begun: datetime, *, whole: bool) -> list[Entered]:
    found, at = [], begun
    for name, seconds in _STEPS:
        left = at + timedelta(seconds=seconds)
        found.append(Entered(name=name, at=at, left_at=left if whole or left < NOW else None))
        if found[-1].left_at is None:
            break
        at = left
    return found


class _RunningClock(StillClock):
    """Looks follow each other at once."""

    def monotonic(self) -> float:
        """So much has passed since it was asked last that the next look is due."""
        self.seconds += polling.WATCHED_SECONDS + 1
        return self.seconds


@contextmanager
def shown(made_up: MadeUp, *, is_live: bool = False) -> Iterator[str]:
    """The page of a fleet, served; its address.

    Args:
        made_up: The fleet.
        is_live: Look again at each request.
    """
    clock = _RunningClock() if is_live else StillClock()
    calls = Calls(clock.monotonic)
    poller = Poller(made_up, clock)  # type: ignore[arg-type]  # it has what the poller uses
    address = Address.taken("127.0.0.1", 0)
    site = Site(poller, Pages("lockstep, eu-central-1"), calls, clock)
    config = uvicorn.Config(app_of(site, address.names), log_config=None, lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([address.listener],), daemon=True)
    with address.listener, poller.looking():
        thread.start()
        try:
            yield address.url
        finally:
            server.should_exit = True
            thread.join(10)
