"""The last runs of both clouds, as their audit logs have them."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Literal

from lockstep.audit.chain import Entry, newest_numbers, parse
from lockstep.audit.entry import is_of_a_run, look, whole
from lockstep.audit.verify import NOT_RESTORED
from lockstep.operate.access import streams
from lockstep.operate.documents import Run
from lockstep.operate.formatting import at_milliseconds, clock_time, error_text, to_second
from lockstep.plan.model import Plan
from lockstep.protocol.errors import (
    AuditLogUnreachableError,
    AuditVerificationError,
    LockstepError,
    NewerFormatError,
    advice_of,
)
from lockstep.protocol.model import ChainHead, Credential
from lockstep.protocol.ports import AuditLog
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import Cloud

OTHERS = 20
"""So many entries of orders are expected among the newest."""


def last_runs(
    plan: Plan, clouds: Clouds, credential: Credential, heads: Mapping[str, ChainHead], newest: int
) -> tuple[list[Run], Mapping[str, LockstepError]]:
    """The last runs of a credential in all clouds, the newest first, and the errors of logs that cannot be read.

    Args:
        plan: The plan.
        clouds: What the operator reaches.
        credential: The credential.
        heads: The newest entry of each stream, by the lock record.
        newest: How many runs.
    """
    found: list[Run] = []
    unread: dict[str, LockstepError] = {}
    for log, _ in streams(plan, clouds, credential):
        try:
            numbers = newest_numbers(log, heads.get(log.stream), newest + OTHERS)
            found += islice(filter(None, _runs_at(log, credential, numbers, unread)), newest)
        except LockstepError as error:
            unread[log.stream] = error
    return sorted(found, key=lambda run: run.ended_at, reverse=True)[:newest], unread


def _runs_at(
    log: AuditLog, credential: Credential, numbers: Iterable[int], unread: dict[str, LockstepError]
) -> Iterator[Run | None]:
    """The run of each entry. Anybody can write that an entry is of a newer format: that ends no look at the others."""
    for seq in numbers:
        try:
            yield _run_at(log, credential, seq)
        except NewerFormatError as error:
            unread[log.stream] = error


def _run_at(log: AuditLog, credential: Credential, seq: int) -> Run | None:
    """The run of an entry; None if it is of something else. No MAC is verified: in OCI that would read the key."""
    try:
        body = log.read(seq)
    except AuditLogUnreachableError as error:
        if error.where.get("code") != NOT_RESTORED:
            raise
        return _archived(log, credential, seq)
    try:
        entry = body and parse(body, credential_id=credential.id, stream=log.stream, seq=seq)
    except AuditVerificationError:
        return None
    return _run(credential, log.stream, seq, entry) if entry else None


def _archived(log: AuditLog, credential: Credential, seq: int) -> Run | None:
    """A run by the metadata of its entry."""
    found = look(log, seq)
    seal = found.seal if found and found.is_at(credential.id, log.stream) else None
    ended_at = at_milliseconds(seal.time) if seal and is_of_a_run(seal.rotation_id) else None
    if seal is None or ended_at is None:
        return None
    return Run(
        credential=credential.id,
        cloud=_cloud(log.stream),
        seq=seq,
        rotation_id=seal.rotation_id,
        ended_at=to_second(ended_at),
        outcome="archived",
    )


def _run(credential: Credential, cloud: str, seq: int, entry: Entry) -> Run | None:
    """The run of an entry; None if it is of something else. A forged one may hold anything."""
    event, details = entry.event, entry.details
    ended_at = at_milliseconds(entry.time)
    if ended_at is None or not is_of_a_run(entry.rotation_id) or not event:
        return None
    error = str(event.get("status_code") or "?") if event.get("status") != "Success" else None
    return Run(
        credential=credential.id,
        cloud=_cloud(cloud),
        seq=seq,
        rotation_id=entry.rotation_id,
        ended_at=to_second(ended_at),
        seconds=_seconds(event.get("start_time"), entry.time),
        outcome="failed" if error else "rotated",
        error=error,
        meaning=error_text(error) if error else None,
        advice=advice_of(error),
        kind=_kind(details.get("kind")),
        generation=_number(details.get("generation")),
        base_generation=_number(details.get("base_generation")),
        trigger=str(details.get("trigger") or "?"),
    )


def _kind(value: object) -> Literal["new", "reconcile"] | None:
    return "new" if value == "new" else "reconcile" if value == "reconcile" else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _cloud(stream: str) -> Cloud:
    return "oci" if stream == "oci" else "aws"


def _seconds(began: object, ended: int) -> float | None:
    """How long a run took, by its milliseconds since the epoch; None where these are none."""
    try:
        return (ended - whole(began)) / 1000
    except TypeError:
        return None


def run_line(run: Run, now: datetime) -> str:
    """A run, in a line."""
    return f"{clock_time(run.ended_at, now)}, {run.cloud}: {run_ending(run)}"


def run_ending(run: Run) -> str:
    """The same without time and cloud."""
    if run.outcome == "archived":
        return f"a run, whose entry {run.seq} is archived and was not read"
    which = f"generation {run.generation}" if run.generation is not None else "no generation"
    took = f" in {run.seconds:.1f} s" if run.seconds is not None else ""
    outcome = f"failed{took}" if run.error else f"rotated{took}"
    why = f", with {run.error}: {error_text(run.error)}" if run.error else ""
    return f"{which}, {outcome}, trigger {run.trigger}{why}"
