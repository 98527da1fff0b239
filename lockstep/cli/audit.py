"""`lockstep audit`: verify the signed chains, show the newest entries."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lockstep.audit.chain import Entry, parse
from lockstep.audit.verify import verify as verify_chains
from lockstep.cli.forecast import moment
from lockstep.cli.operator import operator, streams
from lockstep.cli.output import (
    DEFAULT_PLAN,
    AsJson,
    CredentialId,
    Exit,
    PlanFile,
    chosen,
    complain,
    err,
    failures_explained,
    plan_or_exit,
    print_json,
    say,
)
from lockstep.clouds import Clouds
from lockstep.errors import AuditVerificationError, LockstepError
from lockstep.model import Credential
from lockstep.plan import Plan
from lockstep.ports import AuditLog, Signer

app = typer.Typer(help="Verify and show the audit log.", no_args_is_help=True)

Stream = Annotated[
    Literal["aws", "oci"] | None,
    typer.Option("--stream", help="Only this stream.  [default: each cloud that runs rotations]"),
]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is known of one stream of one credential.

    Attributes:
        verified: None if the stream was unreachable.
        witnessed: Entries that name an entry of the other stream, checked against it.
        error: Why it was unreachable.
    """

    credential: str
    stream: str
    verified: bool | None
    entries: int = 0
    witnessed: int = 0
    problems: list[str] = field(default_factory=list)
    error: str | None = None


@app.command()
def verify(
    *,
    file: PlanFile = DEFAULT_PLAN,
    credential_id: CredentialId = None,
    stream: Stream = None,
    as_json: AsJson = False,
) -> None:
    """Verify every chain, and compare the chains of both clouds.

    Checks that no entry is missing, changed or swapped, that every signature is valid, that the log ends where the
    lock record says, and that each witnessed entry of the other stream is still there. An empty log is not a verified
    log. Entries in OCI are archived: restore them first, or verify only the other stream.

    Exit code: 0 verified, 1 not verified, 3 a log, a key or the lock table was
    unreachable.
    """
    plan = plan_or_exit(file)
    clouds = operator(plan)
    verdicts: list[Verdict] = []
    with failures_explained(), _progress() as progress:
        for credential in chosen(plan, credential_id):
            verdicts += _verdicts(plan, clouds, credential, stream, progress)
    if as_json:
        print_json(
            {
                "verified": all(v.verified for v in verdicts),
                "streams": [{name: getattr(v, name) for name in v.__dataclass_fields__} for v in verdicts],
            }
        )
    else:
        for verdict in verdicts:
            _show_verdict(verdict)
    answers = [v.verified for v in verdicts]
    if False in answers:
        raise typer.Exit(Exit.NO)
    if None in answers:
        raise typer.Exit(Exit.UNREACHABLE)


def _verdicts(
    plan: Plan, clouds: Clouds, credential: Credential, stream: str | None, progress: Progress
) -> list[Verdict]:
    logs, verdicts = [], []
    for log, signer in _streams(plan, clouds, credential, stream):
        try:
            total = log.last_seq()
            if total:
                # An archived entry is in the list, but cannot be read.
                log.read(total)
        except LockstepError as e:
            verdicts.append(
                Verdict(
                    credential=credential.id,
                    stream=log.stream,
                    verified=None,
                    error=f"{type(e).__name__}: {e}",
                )
            )
        else:
            logs.append((log, signer, progress.add_task(f"{credential.id} {log.stream}", total=total)))
    tasks = {log.stream: task for log, _, task in logs}
    found = verify_chains(
        credential.id,
        [(log, signer) for log, signer, _ in logs],
        clouds.lock(credential).read().heads,
        progress=lambda name, seq: progress.update(tasks[name], completed=seq),
    )
    return verdicts + [
        Verdict(
            credential=credential.id,
            stream=v.stream,
            verified=v.verified,
            entries=len(v.entries),
            witnessed=v.witnessed,
            problems=v.problems,
        )
        for v in found
    ]


def _streams(
    plan: Plan, clouds: Clouds, credential: Credential, stream: str | None
) -> list[tuple[AuditLog, Signer]]:
    found = [
        (log, signer) for log, signer in streams(plan, clouds, credential) if stream in {None, log.stream}
    ]
    if not found:
        complain(f"the plan has no runner in {stream}, so there is no stream {stream}")
        raise typer.Exit(Exit.USAGE)
    return found


@contextmanager
def _progress() -> Iterator[Progress]:
    with Progress(
        TextColumn("{task.description}", markup=False),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as progress:
        yield progress


def _show_verdict(verdict: Verdict) -> None:
    what, style = {
        True: ("verified", "green"),
        False: ("NOT VERIFIED", "bold red"),
        None: ("UNREACHABLE", "bold yellow"),
    }[verdict.verified]
    counts = f"{verdict.entries} entries, {verdict.witnessed} witnesses checked"
    say(f"{verdict.credential} {verdict.stream}: {what} ({verdict.error or counts})", style=style)
    for problem in verdict.problems:
        say(f"  {problem}")


@app.command()
def show(
    *,
    file: PlanFile = DEFAULT_PLAN,
    credential_id: CredentialId = None,
    stream: Stream = None,
    newest: Annotated[int, typer.Option("--newest", "-n", min=1, max=10_000, help="How many entries.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show the newest entries.

    This does not verify them; `audit verify` does.

    Exit code: 0 shown, 3 a log was unreachable.
    """
    plan = plan_or_exit(file)
    clouds = operator(plan)
    found: list[tuple[Credential, AuditLog, int, Entry | None]] = []
    with failures_explained():
        for credential in chosen(plan, credential_id):
            for log, _ in _streams(plan, clouds, credential, stream):
                last = log.last_seq()
                found += [
                    (credential, log, seq, _read(log, credential, seq))
                    for seq in range(last, max(last - newest, 0), -1)
                ]
    if as_json:
        print_json(
            {
                "entries": [
                    {
                        "credential": credential.id,
                        "stream": log.stream,
                        "seq": seq,
                        "event": entry.event if entry else None,
                    }
                    for credential, log, seq, entry in found
                ]
            }
        )
        return
    for credential, log, seq, entry in found:
        say(
            f"{credential.id} {log.stream} {seq}: {_line(entry) if entry else 'NOT AN ENTRY, see `audit verify`'}"
        )
    if not found:
        say("no entries")


def _read(log: AuditLog, credential: Credential, seq: int) -> Entry | None:
    body = log.read(seq)
    try:
        return (
            parse(body, credential_id=credential.id, stream=log.stream, seq=seq) if body is not None else None
        )
    except AuditVerificationError:
        return None


def _line(entry: Entry) -> str:
    details = _part(_part(entry.event, "unmapped"), "lockstep")
    if "order" in details:
        return _order_line(entry, details)
    databases, stores = _part(details, "databases"), _part(details, "stores")
    words = [
        _when(entry.event.get("time")),
        str(entry.event.get("status_code", entry.event.get("status", "?"))),
        f"generation {details.get('generation')} on {details.get('base_generation')}",
        *(f"{name}: {_part(databases, name).get('outcome', '?')}" for name in databases),
        *(f"{name}: promoted" for name in stores),
        f"trigger {details.get('trigger')}",
        f"rotation {_part(entry.event, 'metadata').get('uid')}",
    ]
    return ", ".join(words)


def _order_line(entry: Entry, details: Mapping[str, Any]) -> str:
    fields = (f"{name.replace('_', ' ')} {_words(details[name])}" for name in details if name != "order")
    who = _part(_part(entry.event, "actor"), "user").get("name")
    return ", ".join((_when(entry.event.get("time")), f"order {details['order']}", *fields, f"by {who}"))


def _words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _when(milliseconds: object) -> str:
    try:
        return moment(datetime.fromtimestamp(int(str(milliseconds)) / 1000, UTC))
    except (ValueError, OverflowError, OSError):
        return "?"  # A forged entry may hold anything here.


def _part(whole: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = whole.get(name)
    return part if isinstance(part, dict) else {}
