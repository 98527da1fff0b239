"""`lockstep history`: the last runs of both clouds."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer

from lockstep.audit.append import is_of_a_run
from lockstep.audit.chain import Entry, parse
from lockstep.audit.end import newest_numbers
from lockstep.audit.reading import NOT_RESTORED
from lockstep.audit.seal import look, whole
from lockstep.cli.documents import History, Run
from lockstep.cli.failures import advice_of
from lockstep.cli.operator import operator, streams
from lockstep.cli.output import (
    DEFAULT_PLAN,
    FEW,
    AsJson,
    CredentialId,
    Exit,
    PlanFile,
    chosen,
    complain,
    plan_or_exit,
    print_json,
    say,
)
from lockstep.cli.records import records_of
from lockstep.cli.times import clock_time, to_second
from lockstep.clouds import Clouds
from lockstep.environment import line_of
from lockstep.errors import AuditLogUnreachableError, AuditVerificationError, LockstepError, NewerFormatError
from lockstep.html.formatting import error_text
from lockstep.identity import Cloud
from lockstep.model import ChainHead, Credential
from lockstep.plan import Plan
from lockstep.ports import AuditLog

OTHERS = 20
"""So many entries beside runs are expected among the newest: orders, and a witness an hour."""


def history(
    *,
    file: PlanFile = DEFAULT_PLAN,
    credential_id: CredentialId = None,
    newest: Annotated[int, typer.Option("--newest", "-n", min=1, max=1000, help="How many runs.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show the last runs of both clouds, the newest first.

    Each is an entry of the audit log: when it ended, in which cloud, how long it took, what it made, and why it failed,
    with the command that mends it. Of an entry that is archived only the time is known. Runs that changed nothing leave
    no entry. This does not verify the entries; `audit verify` does.

    Later versions only add fields to what --json prints.

    Exit code: 0 shown, 3 a log or the lock table was unreachable; the runs of the other log are shown.
    """
    plan = plan_or_exit(file)
    clouds = operator(plan)
    found: list[Run] = []
    problems: list[str] = []
    wanted = chosen(plan, credential_id)
    records = records_of(plan, clouds, wanted)
    reads = [partial(last_runs, plan, clouds, c, records[c.id].heads, newest) for c in wanted]
    read = clouds.side_by_side(reads) if len(reads) > FEW else [one() for one in reads]
    for credential, (runs, unread) in zip(wanted, read, strict=True):
        found += runs
        problems += [f"{credential.id} {cloud}: {line_of(error)}" for cloud, error in unread.items()]
    if as_json:
        print_json(History(runs=found, problems=problems))
    else:
        now = clouds.clock.now()
        for run in found:
            say(f"{run.credential} {told(run, now)}", style="red" if run.error else "")
            if run.next:
                say(f"  next: {run.next}")
        if not found and not problems:
            say("no runs")
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(Exit.UNREACHABLE)


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
            found += _first(newest, _runs_at(log, credential, numbers, unread))
        except LockstepError as error:
            unread[log.stream] = error
    return sorted(found, key=lambda run: run.ended_at, reverse=True)[:newest], unread


def _first(count: int, runs: Iterator[Run | None]) -> Iterator[Run]:
    for run in runs:
        if run and count:
            yield run
            count -= 1
        if not count:
            return


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
    ended_at = _moment(seal.time) if seal and is_of_a_run(seal.rotation_id) else None
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
    ended_at = _moment(entry.time)
    if ended_at is None or not is_of_a_run(entry.rotation_id) or not event:
        return None
    generation = details.get("generation")
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
        next=advice_of(error),
        generation=generation if isinstance(generation, int) else None,
        trigger=str(details.get("trigger") or "?"),
    )


def _cloud(stream: str) -> Cloud:
    return "oci" if stream == "oci" else "aws"


def _seconds(began: object, ended: int) -> float | None:
    """How long a run took, by its milliseconds since the epoch; None where these are none."""
    try:
        return (ended - whole(began)) / 1000
    except TypeError:
        return None


def _moment(milliseconds: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def told(run: Run, now: datetime) -> str:
    """A run, in a line."""
    return f"{clock_time(run.ended_at, now)}, {run.cloud}: {ending(run)}"


def ending(run: Run) -> str:
    """The same without time and cloud."""
    if run.outcome == "archived":
        return f"a run, whose entry {run.seq} is archived and was not read"
    which = f"generation {run.generation}" if run.generation is not None else "no generation"
    took = f" in {run.seconds:.1f} s" if run.seconds is not None else ""
    outcome = f"failed{took}" if run.error else f"rotated{took}"
    why = f", with {run.error}: {error_text(run.error)}" if run.error else ""
    return f"{which}, {outcome}, trigger {run.trigger}{why}"
