"""`lockstep audit`: verify the signed chains, show the newest entries."""

import re
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.progress import Progress

from lockstep.audit.chain import Entry, newest_numbers, parse
from lockstep.audit.verify import Verdict, Verification, read_object
from lockstep.audit.verify import verify as verify_chains
from lockstep.cli.output import (
    DEFAULT_PLAN,
    AsJson,
    CredentialId,
    PlanFile,
    chosen,
    plan_or_exit,
    print_json,
    progress_bar,
    say,
    say_aside,
    wrong_use,
)
from lockstep.operate import documents
from lockstep.operate.access import operator, streams
from lockstep.operate.documents import Exit
from lockstep.operate.formatting import absolute, at_milliseconds
from lockstep.operate.report.build import build, evidence
from lockstep.operate.report.data import Report
from lockstep.operate.report.page import page
from lockstep.operate.report.tables import as_csv, as_json
from lockstep.plan.fields import parse_duration
from lockstep.plan.model import Plan
from lockstep.protocol.errors import AuditLogUnreachableError, AuditVerificationError, NewerFormatError
from lockstep.protocol.model import Credential
from lockstep.protocol.ports import AuditLog, Signer
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.system import SystemClock

app = typer.Typer(help="Verify and show the audit log.", no_args_is_help=True)

Stream = Annotated[
    Literal["aws", "oci"] | None,
    typer.Option("--stream", help="Only this stream.  [default: each cloud that runs rotations]"),
]


SHOWN_PROBLEMS = 100


@app.command()
def verify(
    *,
    file: PlanFile = DEFAULT_PLAN,
    credential_id: CredentialId = None,
    stream: Stream = None,
    as_json: AsJson = False,
) -> None:
    """Verify every chain.

    Checks that no entry is missing, changed or swapped, that every signature is valid, and that every rotation is on
    record. Of an archived entry the signed metadata are verified.

    Exit code: 0 verified, 1 not verified, 3 a log or a key was unreachable.
    """
    plan = plan_or_exit(file)
    clouds = operator(plan)
    with progress_bar() as progress:
        found = [
            (credential, verification)
            for credential in chosen(plan, credential_id)
            for verification in verified(plan, clouds, credential, stream, progress)
        ]
    _finish(found, as_json=as_json)


def _finish(found: list[tuple[Credential, Verification]], *, as_json: bool) -> None:
    """Show the verdicts; exit with the gravest."""
    if as_json:
        print_json(
            documents.Verified(
                verified=all(v.verified for _, v in found), streams=[_chain(c, v) for c, v in found]
            )
        )
    else:
        for credential, verification in found:
            _show_verdict(credential, verification)
    _exit_with({v.verdict for _, v in found})


def _exit_with(verdicts: set[Verdict]) -> None:
    """End with the exit code of the gravest."""
    if Verdict.NOT_VERIFIED in verdicts:
        raise typer.Exit(Exit.NO)
    if Verdict.UNREADABLE in verdicts:
        raise typer.Exit(Exit.UNREACHABLE)


def verified(
    plan: Plan,
    clouds: Clouds,
    credential: Credential,
    stream: str | None,
    progress: Progress,
) -> list[Verification]:
    """Verify the streams of a credential, or one of them."""
    every = streams(plan, clouds, credential)
    logs = _of_stream(every, stream)
    tasks = {log.stream: progress.add_task(f"{credential.id} {log.stream}", total=None) for log, _ in logs}
    return verify_chains(
        credential.id,
        logs,
        unread={log.stream for log, _ in every} - set(tasks),
        total=lambda name, total: progress.update(tasks[name], total=total),
        progress=lambda name, done: progress.update(tasks[name], completed=done),
    )


def _chain(credential: Credential, v: Verification) -> documents.Chain:
    return documents.Chain(
        credential=credential.id,
        stream=v.stream,
        verdict=v.verdict.value,
        verified=None if v.verdict is Verdict.UNREADABLE else v.verified,
        entries=len(v.entries),
        problems=[str(p) for p in v.problems],
        notes=v.notes,
        error=v.unreadable or None,
    )


def _of_stream(every: list[tuple[AuditLog, Signer]], stream: str | None) -> list[tuple[AuditLog, Signer]]:
    found = [(log, signer) for log, signer in every if stream in {None, log.stream}]
    if not found:
        raise wrong_use(f"the plan has no runner in {stream}, so there is no stream {stream}")
    return found


def _show_verdict(credential: Credential, v: Verification) -> None:
    style = {
        Verdict.VERIFIED: "green",
        Verdict.EMPTY: "yellow",
        Verdict.NOT_VERIFIED: "bold red",
        Verdict.UNREADABLE: "bold yellow",
    }[v.verdict]
    say(
        f"{credential.id} {v.stream}: {v.verdict} ({v.unreadable or f'{len(v.entries)} entries'})",
        style=style,
    )
    for problem in v.problems[:SHOWN_PROBLEMS]:
        say(f"  {problem}")
    if len(v.problems) > SHOWN_PROBLEMS:
        say(f"  and {len(v.problems) - SHOWN_PROBLEMS} more; --json has them all")
    for line in v.notes:
        say(f"  {line}")


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

    This does not verify them; `audit verify` does. Of an archived entry it shows the id of its run or order.

    Exit code: 0 shown, 3 a log was unreachable.
    """
    plan = plan_or_exit(file)
    clouds = operator(plan)
    found: list[tuple[Credential, AuditLog, int, Entry | None]] = []
    for credential in chosen(plan, credential_id):
        heads = clouds.lock(credential).read().heads
        for log, signer in _of_stream(streams(plan, clouds, credential), stream):
            numbers = newest_numbers(log, heads.get(log.stream), newest)
            found += [
                (credential, log, seq, read_unverified(log, signer, credential, seq)) for seq in numbers
            ]
    if as_json:
        print_json(
            documents.Entries(
                entries=[
                    documents.EntryShown(
                        credential=credential.id,
                        stream=log.stream,
                        seq=seq,
                        event=(entry.event or None) if entry else None,
                    )
                    for credential, log, seq, entry in found
                ]
            )
        )
        return
    for credential, log, seq, entry in found:
        say(
            f"{credential.id} {log.stream} {seq}: {_line(entry) if entry else 'NOT AN ENTRY, see `audit verify`'}"
        )
    if not found:
        say("no entries")


def read_unverified(log: AuditLog, signer: Signer, credential: Credential, seq: int) -> Entry | None:
    """An entry, to be shown; None if it is none, or not this one."""
    try:
        body = log.read(seq)
        return (
            parse(body, credential_id=credential.id, stream=log.stream, seq=seq) if body is not None else None
        )
    except AuditVerificationError:
        return None
    except (AuditLogUnreachableError, NewerFormatError):
        # Archived, or of a newer format if its MAC is valid: anybody can write that it is.
        return read_object(credential.id, log, signer, seq).entry


def _line(entry: Entry) -> str:
    details = entry.details
    if not entry.event:
        return f"{_when(entry.time)}, archived, {entry.rotation_id}"
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
    if isinstance(value, list) and any(isinstance(item, list) for item in value):
        return str(len(value))
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _when(milliseconds: object) -> str:
    text = str(milliseconds)  # A forged entry may hold anything here.
    time = at_milliseconds(int(text)) if re.fullmatch(r"-?[0-9]{1,20}", text, re.ASCII) else None
    return absolute(time, SystemClock().now()) if time else "?"


def _part(whole: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = whole.get(name)
    return part if isinstance(part, dict) else {}


# `lockstep audit report`: evidence for people and auditors, as one page, JSON or CSV.

LONGEST = timedelta(days=3650)
"""The longest period."""
STDOUT = Path("-")


class Format(StrEnum):
    """Forms of the report."""

    HTML = "html"
    JSON = "json"
    CSV = "csv"


WRITERS: dict[Format, Callable[[Report], str]] = {
    Format.HTML: page,
    Format.JSON: as_json,
    Format.CSV: as_csv,
}


def report(
    *,
    file: PlanFile = DEFAULT_PLAN,
    credential_id: CredentialId = None,
    since: Annotated[str, typer.Option(help="How far back: 24h, 30d, 90d.")] = "90d",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write; - for standard output.")
    ] = Path("report.html"),
    form: Annotated[
        Format | None,
        typer.Option("--format", help="[default: by the name of the file: .html, .json or .csv]"),
    ] = None,
) -> None:
    """Write a report on the audit log, for people and auditors.

    Verifies every chain first, then tells for each credential when each cloud rotated, how old the password became,
    how long the previous one kept working, which refused logins show that old ones are revoked, and every failure, gap,
    revocation and order. The page is one file that loads nothing and prints well. JSON
    and CSV have every entry of the period.

    Exit code: 0 written, and every chain verified; 1 written, and a chain is not verified; 3 written without a chain
    that was unreachable.
    """
    period, form = _period(since), form or _by_name(output)
    if not output.absolute().parent.is_dir():
        raise wrong_use(f"--output: {output.parent} is not a folder")
    plan = plan_or_exit(file)
    clouds = operator(plan)
    now = clouds.clock.now()
    with progress_bar() as progress:
        found = [
            evidence(credential, verified(plan, clouds, credential, None, progress))
            for credential in chosen(plan, credential_id)
        ]
    made = build(found, since=now - period, now=now, lock=f"{plan.lock.table}, {plan.lock.region}")
    _write(WRITERS[form](made), output)
    if output != STDOUT:
        say_aside(f"{output}: {made.verdict.value}")
    _exit_with({made.verdict})


def _period(text: str) -> timedelta:
    try:
        period = parse_duration(text)
    except ValueError as error:
        raise wrong_use(f"--since: {error}") from None
    if not timedelta() < period <= LONGEST:
        raise wrong_use(f"--since: must be longer than zero, and at most {LONGEST.days}d")
    return period


def _by_name(output: Path) -> Format:
    if output == STDOUT:
        return Format.HTML
    try:
        return Format(output.suffix.removeprefix(".").lower())
    except ValueError:
        raise wrong_use(
            f"--output: {output.name} does not end with .html, .json or .csv; say --format"
        ) from None


def _write(text: str, output: Path) -> None:
    """Write the whole file or nothing: half a page of evidence looks like a page."""
    if output == STDOUT:
        sys.stdout.write(text)
        return
    unfinished = output.with_name(f".{output.name}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8", newline="")
        unfinished.replace(output)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise wrong_use(f"--output: {output} cannot be written: {error.strerror}") from None
