"""The last runs of both clouds, as their audit logs have them."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice

from lockstep.audit.chain import Entry, newest_numbers
from lockstep.audit.verify import read_unverified
from lockstep.operate.access import streams
from lockstep.operate.documents import Run
from lockstep.operate.formatting import clock_time, error_text, to_second
from lockstep.operate.report import entries
from lockstep.operate.report.entries import read_entry
from lockstep.plan.compiled import message
from lockstep.plan.model import Plan
from lockstep.protocol.errors import LockstepError, NewerFormatError, advice_of
from lockstep.protocol.model import ChainHead, Credential
from lockstep.protocol.ports import AuditLog
from lockstep.runtime.clouds import Clouds

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
            found += islice(_runs_at(log, credential, numbers, unread), newest)
        except LockstepError as error:
            unread[log.stream] = error
    return sorted(found, key=lambda run: run.ended_at, reverse=True)[:newest], unread


def _runs_at(
    log: AuditLog, credential: Credential, numbers: Iterable[int], unread: dict[str, LockstepError]
) -> Iterator[Run]:
    """The runs among entries. Anybody can write that an entry is of a newer format: that ends no look at the others."""
    for seq in numbers:
        try:
            # Without keys: in OCI a MAC would take a look at the key.
            entry = read_unverified(credential.id, log, None, seq)
        except NewerFormatError as error:
            unread[log.stream] = error
            continue
        if entry and (run := _run(credential, entry)):
            yield run


def _run(credential: Credential, entry: Entry) -> Run | None:
    match read_entry(entry):
        case entries.Run() as run:
            return message(
                Run,
                run,
                credential=credential.id,
                cloud=run.stream,
                ended_at=to_second(run.at),
                seconds=(run.at - run.started).total_seconds(),
                meaning=error_text(run.error) if run.error else None,
                advice=advice_of(run.error),
            )
        case entries.Other(outcome=entries.ARCHIVED_RUN, at=datetime() as at):
            return Run(
                credential=credential.id,
                cloud="oci" if entry.stream == "oci" else "aws",
                seq=entry.seq,
                rotation_id=entry.rotation_id,
                ended_at=to_second(at),
                outcome="archived",
            )
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
    why = f", with {run.error}: {error_text(run.error)}" if run.error else ""
    return f"{which}, {run.outcome}{took}, trigger {run.trigger}{why}"
