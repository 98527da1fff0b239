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
from lockstep.operate.page import snapshot as polling
from lockstep.operate.page.server import Site, app_of
from lockstep.operate.page.snapshot import FleetSnapshot, Poller
from lockstep.operate.state import Answer, CredentialState, state_of
from lockstep.protocol.errors import StoreUnreachableError, advice_of
from lockstep.protocol.model import Claim, ClaimKind, Credential, LockRecord
from lockstep.protocol.ports import Table
from lockstep.stores.credential import StoredNames
from tests.support.memory import make_plan

NOW = datetime(2026, 11, 27, 9, 30, tzinfo=UTC)
DATABASES = ("orders", "ledger", "crm", "billing", "search")
_MINUTE = timedelta(minutes=1)


class StillClock:
    """A clock that stands, except for what only grows: by hand, or by a step whenever somebody asks."""

    def __init__(self, step: float = 0.0) -> None:
        self.seconds = 0.0
        self._step = step

    def now(self) -> datetime:
        """The moment."""
        return NOW

    def monotonic(self) -> float:
        """The seconds so far."""
        self.seconds += self._step
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


def _credential(number: int) -> Credential:
    [made] = make_plan().credentials
    database = DATABASES[(number * number + number) % 7 % len(DATABASES)]
    server = structs.replace(made.servers[0], name=database, host=f"{database}.internal")
    return structs.replace(
        made, id=f"shop/service-{number:05d}", servers=(server,), usernames=(f"service_{number}",)
    )


def _seen(number: int) -> CredentialState:
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
    value = StoredNames(
        generation=generation,
        blob_generation=generation,
        version=f"13cf509b-b00d-89f1-89bb-{generation:012d}",
    )
    answers: dict[str, Answer] = {"aws": value, "oci": replace(value, version="3:17")}
    runs = _runs(credential, generation, since)
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
        case 29:
            runs[0] = _runs(credential, runs[0].seq, runs[0].ended_at, error="DatabaseUnreachableError")[0]
        case 37:
            answers["oci"] = StoreUnreachableError(store="oci")
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
            kind=None if error else "new",
            generation=None if error else generation - n,
            base_generation=generation - n - 1,
            trigger="schedule",
        )
        for n in range(8)
    ]


@contextmanager
def shown(made_up: MadeUp, *, is_live: bool = False) -> Iterator[str]:
    """The page of a fleet, served; its address.

    Args:
        made_up: The fleet.
        is_live: Look again at each request.
    """
    # Looks follow each other at once: so much has passed since the last one that the next is due.
    clock = StillClock(polling.WATCHED_SECONDS + 1 if is_live else 0.0)
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
