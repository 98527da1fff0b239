"""`lockstep audit`: verify the signed chains, show the newest entries."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.progress import Progress

from lockstep.audit.chain import Entry, parse
from lockstep.audit.checkpoint import NOTHING, Base, bases
from lockstep.audit.end import newest_numbers
from lockstep.audit.reading import read_object
from lockstep.audit.verify import Verdict, Verification
from lockstep.audit.verify import verify as verify_chains
from lockstep.cli import documents
from lockstep.cli.acknowledge import acknowledge
from lockstep.cli.checkpoint import CheckpointFile, read_checkpoint, write_checkpoint
from lockstep.cli.operator import operator, streams
from lockstep.cli.output import (
    DEFAULT_PLAN,
    AsJson,
    CredentialId,
    Exit,
    PlanFile,
    chosen,
    err,
    plan_or_exit,
    print_json,
    say,
    wrong_use,
)
from lockstep.cli.progress import progress_bar
from lockstep.cli.times import absolute
from lockstep.clouds import Clouds
from lockstep.errors import AuditLogUnreachableError, AuditVerificationError, NewerFormatError
from lockstep.model import Credential
from lockstep.plan import Plan
from lockstep.ports import AuditLog, Signer
from lockstep.system import SystemClock

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
    found: list[tuple[Credential, Verification]] = []
    with progress_bar() as progress:
        since = read_checkpoint(checkpoint, plan, clouds)
        for credential in chosen(plan, credential_id):
            given = verified(plan, clouds, credential, stream, progress, since=since.get(credential.id, {}))
            found += [(credential, v) for v in given]
    _finish(found, clouds, as_json=as_json)


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
    found: list[tuple[Credential, Verification]] = []
    reached: dict[str, Mapping[str, Base]] = {}
    with progress_bar() as progress:
        since = read_checkpoint(checkpoint, plan, clouds)
        for credential in chosen(plan, credential_id):
            before = since.get(credential.id, {})
            given = verified(plan, clouds, credential, None, progress, since=before)
            found += [(credential, v) for v in given]
            reached[credential.id] = {**before, **bases(given, before)}
    _finish(found, clouds, as_json=as_json)
    write_checkpoint(output, {**since, **reached}, plan, clouds)
    err.print(f"{output}: written", highlight=False, markup=False, soft_wrap=True)


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
    verdicts = {v.verdict for _, v in found}
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
    try:
        time = datetime.fromtimestamp(int(str(milliseconds)) / 1000, UTC)
        return absolute(time, SystemClock().now())
    except (ValueError, OverflowError, OSError):
        return "?"  # A forged entry may hold anything here.


def _part(whole: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = whole.get(name)
    return part if isinstance(part, dict) else {}


app.command()(acknowledge)
