"""`lockstep audit`: verify the signed chains, show the newest entries."""

import re
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.progress import Progress

from lockstep.audit.append import record_order
from lockstep.audit.chain import Entry, newest_numbers, parse
from lockstep.audit.checkpoint import (
    ACKNOWLEDGE,
    ACKNOWLEDGED_IN,
    NOTHING,
    Base,
    Bases,
    Problem,
    bases,
    details_of,
    opened,
    sealed,
)
from lockstep.audit.entry import milliseconds
from lockstep.audit.verify import Verdict, Verification, read_object
from lockstep.audit.verify import verify as verify_chains
from lockstep.cli.orders import CredentialArgument, entry_text, order_context
from lockstep.cli.output import (
    DEFAULT_PLAN,
    AsJson,
    CredentialId,
    DryRun,
    PlanFile,
    chosen,
    no,
    one,
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

# `lockstep audit acknowledge`: put on record that a person has examined a problem of the audit log (protocol
# E11).

_PLACE = re.compile(r"(?P<stream>aws|oci):(?P<first>[0-9]{1,12})(-(?P<last>[0-9]{1,12}))?", re.ASCII)
MAX_REASON = 500
MAX_PROBLEMS = 500
"""An entry has 256 KiB, and a problem less than half a KiB."""


def acknowledge(
    credential_id: CredentialArgument,
    entries: Annotated[
        str,
        typer.Argument(
            metavar="ENTRIES",
            help="The entries, as STREAM:NUMBER or STREAM:FIRST-LAST; STREAM:0 for objects that are no entries.",
        ),
    ],
    *,
    reason: Annotated[str, typer.Option(help="What was found; a ticket, for example.")],
    dry_run: DryRun = False,
    file: PlanFile = DEFAULT_PLAN,
) -> None:
    """Put on record that a person has examined what `audit verify` reports of these entries.

    The acknowledgement is a signed entry of the AWS stream with your name, the problems and the reason. From then on
    `audit verify` shows these problems as acknowledged, and its verdict does not depend on them. It never hides them,
    and what is found later of the same entries is another problem.

    Exit code: 0 acknowledged, 1 there is no such problem, 3 a log, a key or the lock table was unreachable.
    """
    plan = plan_or_exit(file)
    credential, at = one(plan, credential_id), order_context(plan, ACKNOWLEDGED_IN)
    place = _PLACE.fullmatch(entries)
    if place is None:
        raise wrong_use("name the entries as aws:7 or aws:7-9")
    if not 0 < len(reason) <= MAX_REASON:
        raise wrong_use(f"give a reason of 1 to {MAX_REASON} characters")
    named, first = place["stream"], int(place["first"])
    last = int(place["last"] or first)
    found = verify_chains(
        credential.id, streams(plan, at.clouds, credential), at.clouds.lock(credential).read()
    )
    problems = [p for v in found if v.stream == named for p in v.problems if _within(p, first, last)]
    for problem in problems:
        say(f"{credential.id} {named}: {problem}")
    if not problems:
        told = f"`audit verify` reports nothing that is not acknowledged of {entries}"
        raise no(told, name="NothingToAcknowledge")
    if dry_run:
        say("nothing was recorded")
        return
    if len(problems) > MAX_PROBLEMS:
        raise wrong_use(f"acknowledge at most {MAX_PROBLEMS} problems at once")
    details = details_of(named, problems, reason)
    entry = record_order(ACKNOWLEDGE, details, by=at.operator(), chain=at.clouds.chain(at.stream, credential))
    say(f"{credential.id}: acknowledged ({entry_text(entry, at.stream)})", style="green")


def _within(problem: Problem, first: int, last: int) -> bool:
    return problem.first is not None and first <= problem.first and (problem.end or 0) <= last


# `lockstep audit checkpoint`: verify, and sign up to where, so that the next verification need not read it again.

CheckpointFile = Annotated[
    Path | None,
    typer.Option("--checkpoint", help="Go on from this checkpoint, which `audit checkpoint` has made."),
]


def read_checkpoint(file: Path | None, plan: Plan, clouds: Clouds) -> Bases:
    """What a checkpoint file says; exit code 2 if it is none, 1 if the plan's key has not signed it."""
    if file is None:
        return {}
    try:
        return opened(file.read_bytes(), _signer(plan, clouds))
    except OSError as error:
        raise wrong_use(f"{file}: {error.strerror}") from None
    except AuditVerificationError as error:
        if error.where["code"] == "no-checkpoint":
            raise wrong_use(f"{file} is no checkpoint; make one with `lockstep audit checkpoint`") from None
        text = f"{file} was not signed by the plan's key, or was changed since: verify without it"
        raise no(text, name="CheckpointRefused") from None


def write_checkpoint(file: Path, reached: Bases, plan: Plan, clouds: Clouds) -> None:
    """Sign a checkpoint and write it."""
    at = milliseconds(clouds.clock.now())
    file.write_text(sealed(reached, _signer(plan, clouds), at=at), encoding="utf-8")


def _signer(plan: Plan, clouds: Clouds) -> Signer:
    return clouds.stream("aws", plan.credentials[0])[1].orders


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
    checkpoint: CheckpointFile = None,
    as_json: AsJson = False,
) -> None:
    """Verify every chain, and compare the chains of both clouds.

    Checks that no entry is missing, changed or swapped, that every signature is valid, that the lock record's head is
    in the log, that each witnessed entry is still there, and that every rotation is on record. It says how many entries
    at the end no other cloud has witnessed yet. Of an archived entry the signed metadata are verified. A problem that
    was examined is acknowledged with `audit acknowledge`.

    Exit code: 0 verified, 1 not verified, 3 a log, a key or the lock table was
    unreachable.
    """
    plan = plan_or_exit(file)
    clouds = operator(plan)
    _finish(_verified_on(plan, clouds, credential_id, stream, checkpoint)[0], clouds, as_json=as_json)


@app.command(name="checkpoint")
def make_checkpoint(
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    file: PlanFile = DEFAULT_PLAN,
    credential_id: CredentialId = None,
    checkpoint: CheckpointFile = None,
    as_json: AsJson = False,
) -> None:
    """Verify as `audit verify` does, and write a signed file that says up to where.

    With it, `audit verify --checkpoint FILE` reads only what came after; it still lists every object, so that it sees
    what was deleted since. Keep the file where the log's writers cannot put another one: who can sign entries can sign
    a checkpoint.

    Exit code: 0 verified and written, 1 not verified, 3 a log, a key or the lock table was unreachable; then no file is
    written.
    """
    plan = plan_or_exit(file)
    clouds = operator(plan)
    found, reached = _verified_on(plan, clouds, credential_id, None, checkpoint)
    _finish(found, clouds, as_json=as_json)
    write_checkpoint(output, reached, plan, clouds)
    say_aside(f"{output}: written")


def _verified_on(
    plan: Plan, clouds: Clouds, credential_id: str | None, stream: str | None, checkpoint: Path | None
) -> tuple[list[tuple[Credential, Verification]], dict[str, Mapping[str, Base]]]:
    """The verdicts, from a checkpoint on, and the bases of the next one."""
    found: list[tuple[Credential, Verification]] = []
    with progress_bar() as progress:
        reached = dict(read_checkpoint(checkpoint, plan, clouds))
        for credential in chosen(plan, credential_id):
            before = reached.get(credential.id, {})
            given = verified(plan, clouds, credential, stream, progress, since=before)
            found += [(credential, v) for v in given]
            reached[credential.id] = {**before, **bases(given, before)}
    return found, reached


def _finish(found: list[tuple[Credential, Verification]], clouds: Clouds, *, as_json: bool) -> None:
    """Show the verdicts; exit with the gravest."""
    if as_json:
        print_json(
            documents.Verified(
                verified=all(v.verified for _, v in found), streams=[_chain(c, v) for c, v in found]
            )
        )
    else:
        for credential, verification in found:
            _show_verdict(credential, verification, clouds.clock.now())
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
    *,
    since: Mapping[str, Base] = NOTHING,
) -> list[Verification]:
    """Verify the streams of a credential, or one of them."""
    logs = _streams(plan, clouds, credential, stream)
    tasks = {log.stream: progress.add_task(f"{credential.id} {log.stream}", total=None) for log, _ in logs}
    return verify_chains(
        credential.id,
        logs,
        clouds.lock(credential).read(),
        since=since,
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
        witnessed=v.witnessed,
        unwitnessed=v.unwitnessed,
        unwitnessed_since=v.unwitnessed_since,
        problems=[str(p) for p in v.problems],
        acknowledged=[str(a) for a in v.acknowledged],
        notes=v.notes,
        error=v.unreadable or None,
    )


def _streams(
    plan: Plan, clouds: Clouds, credential: Credential, stream: str | None
) -> list[tuple[AuditLog, Signer]]:
    found = [
        (log, signer) for log, signer in streams(plan, clouds, credential) if stream in {None, log.stream}
    ]
    if not found:
        raise wrong_use(f"the plan has no runner in {stream}, so there is no stream {stream}")
    return found


def _show_verdict(credential: Credential, v: Verification, now: datetime) -> None:
    style = {
        Verdict.VERIFIED: "green",
        Verdict.NOT_WITNESSED: "green",
        Verdict.EMPTY: "yellow",
        Verdict.NOT_VERIFIED: "bold red",
        Verdict.UNREADABLE: "bold yellow",
    }[v.verdict]
    say(f"{credential.id} {v.stream}: {v.verdict} ({v.unreadable or _counts(v, now)})", style=style)
    for problem in v.problems[:SHOWN_PROBLEMS]:
        say(f"  {problem}")
    if len(v.problems) > SHOWN_PROBLEMS:
        say(f"  and {len(v.problems) - SHOWN_PROBLEMS} more; --json has them all")
    for line in (*v.acknowledged, *v.notes):
        say(f"  {line}")


def _counts(v: Verification, now: datetime) -> str:
    entries = f"{len(v.entries)} entries"
    if v.unwitnessed is None:
        return f"{entries}; the other cloud's stream was not read"
    if not v.unwitnessed or v.unwitnessed_since is None:
        return f"{entries}, all witnessed by the other cloud"
    minutes = max(0, round((now.timestamp() - v.unwitnessed_since / 1000) / 60))
    return f"{entries}; the last {v.unwitnessed} not witnessed yet, the oldest of them {minutes} minutes old"


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

    This does not verify them; `audit verify` does. Of an archived entry it shows the id of its run, order or witness.

    Exit code: 0 shown, 3 a log was unreachable.
    """
    plan = plan_or_exit(file)
    clouds = operator(plan)
    found: list[tuple[Credential, AuditLog, int, Entry | None]] = []
    for credential in chosen(plan, credential_id):
        heads = clouds.lock(credential).read().heads
        for log, signer in _streams(plan, clouds, credential, stream):
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
    if "witness" in details:
        return _witness_line(entry)
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


def _witness_line(entry: Entry) -> str:
    seen = (f"entry {w.seq} of {name}" for name, w in entry.witness.items())
    return ", ".join(
        (_when(entry.time), "witnesses", *seen, f"its store serves generation {entry.details.get('serves')}")
    )


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


app.command()(acknowledge)


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
    how long the previous one kept working, which refused logins show that old ones are revoked, every failure, gap,
    revocation and order, and what of it is witnessed. The page is one file that loads nothing and prints well. JSON
    and CSV have every entry of the period.

    Exit code: 0 written, and every chain verified; 1 written, and a chain is not verified; 3 written without a chain
    that was unreachable, or not written because the lock table was.
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
