"""`lockstep audit`: verify the signed chains, show the newest entries."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lockstep.audit.chain import Entry, newest_numbers
from lockstep.audit.confirmed import Digests, Since, Verdict
from lockstep.audit.digest import Evidence
from lockstep.audit.verify import Problem, Verification, Verifier, read_object, read_unverified
from lockstep.cli.output import (
    CredentialArguments,
    chosen,
    gave_json,
    plan_or_exit,
    print_text,
    progress,
    say,
    say_aside,
    write_whole,
    wrong_use,
)
from lockstep.operate import documents
from lockstep.operate.access import evidence_of, operator, streams
from lockstep.operate.documents import Exit
from lockstep.operate.formatting import absolute, at_milliseconds, wants_json
from lockstep.operate.report.build import CredentialReport, as_json, build, page, report_on
from lockstep.operate.report.entries import clean, line, part
from lockstep.plan.compiled import message
from lockstep.plan.fields import parse_duration
from lockstep.plan.model import Plan
from lockstep.protocol.errors import NewerFormatError
from lockstep.protocol.model import Credential
from lockstep.protocol.ports import AuditLog, Signer, chain_folder
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.system import SystemClock

SHOWN_PROBLEMS = 100
_SINCE = re.compile(r"(?P<stream>aws|oci):(?P<hour>[0-9-]{10}T[0-9]{2}):(?P<hash>[0-9a-f]{16,64})", re.ASCII)
_STYLES = {
    Verdict.VERIFIED: "green",
    Verdict.NOT_CONFIRMED: "bold yellow",
    Verdict.EMPTY: "yellow",
    Verdict.NOT_VERIFIED: "bold red",
    Verdict.UNREADABLE: "bold yellow",
}
_EXITS = {
    Verdict.NOT_VERIFIED: Exit.NO,
    Verdict.UNREADABLE: Exit.UNREACHABLE,
    Verdict.NOT_CONFIRMED: Exit.NOT_CONFIRMED,
}


def verify(
    credentials: CredentialArguments = None,
    *,
    since: Annotated[
        str | None, typer.Option(metavar="DIGEST", help="Begin at this digest, which one before has named.")
    ] = None,
    stores: Annotated[
        bool, typer.Option("--stores", help="Also compare what the stores serve with the newest entries.")
    ] = False,
) -> None:
    """Verify every chain of the audit log by its digests, also of credentials that left the plan.

    Needs to read the buckets, and no secret: the public keys of the digests are in the plan. Checks that no entry is
    missing, changed, swapped or dated otherwise, that each digest is as the other cloud has confirmed it, and that
    every rotation is on record. Who may also verify MACs does so. Of an archived entry the signed metadata are
    verified.

    Exit code: 0 verified, 1 not verified, 3 a log or a key was unreachable, 4 verified, and for three hours no digest
    of a cloud was confirmed by the other one.
    """
    plan, at = plan_or_exit(), _digest(since)
    clouds = operator(plan)
    chains, verdicts = list[documents.Chain](), list[Verification]()
    with progress("verifying") as tell:
        verifier = Verifier(evidence_of(plan, clouds), now=clouds.clock.now(), since=at)
        for name, credential, found in _verified(verifier, plan, credentials, tell):
            if stores and credential:
                served_without_entry(clouds, credential, found)
            chains += [_chain(name, v) for v in found]
            verdicts += [replace(v, entries=[]) for v in found]
    verdict = verifier.verdict(verdicts)
    digests = [_digests(verifier.digests[e.stream], e) for e in verifier.evidence]
    if not gave_json({"verdict": verdict, "digests": digests, "streams": chains}):
        _show(verdict, digests, chains)
    raise typer.Exit(_EXITS.get(verdict, 0))


def _digest(text: str | None) -> Since | None:
    if text is None:
        return None
    if (named := _SINCE.fullmatch(text)) is None:
        raise wrong_use("--since: name the digest as a verification has: aws:2026-01-31T09:0123456789abcdef")
    return Since(named["stream"], named["hour"], named["hash"])


def _verified(
    verifier: Verifier, plan: Plan, credentials: Sequence[str] | None, tell: Callable[[str], None]
) -> Iterator[tuple[str, Credential | None, list[Verification]]]:
    """Verify chains in every cloud, each with its name; where none is named, also those that the plan does not have."""
    wanted = {chain_folder(c.id): c for c in chosen(plan, credentials)}
    others = () if credentials else (f for f in verifier.folders() if f not in wanted)
    for folder in (*wanted, *others):
        credential = wanted.get(folder)
        name = credential.id if credential else f"{ascii(folder)[1:-1]}, not in the plan,"
        yield name, credential, verifier.chain(folder, progress=partial(_tell_progress, tell, name))


def _tell_progress(tell: Callable[[str], None], name: str, stream: str, done: int, total: int) -> None:
    tell(f"{name} {stream}: {done:,} of {total:,}")


def served_without_entry(clouds: Clouds, credential: Credential, found: Sequence[Verification]) -> None:
    """Add the problem of each store that serves what no entry records. A run under way may be between the two."""
    recorded = [g for v in found for e in v.entries if (g := e.promoted) is not None]
    if not recorded:
        found[0].notes.append("what its stores serve was not compared: no run was read that tells")
        return
    for store in clouds.each_store(credential):
        if (generation := store.read_names().generation) > max(recorded):
            told = f"{store.name} serves generation {generation}, which no entry records"
            found[0].problems.append(Problem(f"{told}: verify again in ten minutes"))


def _chain(name: str, v: Verification) -> documents.Chain:
    problems, error = [str(p) for p in v.problems], v.unreadable or None
    told = {"credential": name, "entries": len(v.entries), "problems": problems, "error": error}
    return message(documents.Chain, v, **told)


def _digests(found: Digests, evidence: Evidence) -> documents.DigestsShown:
    confirmed = found.confirmed
    return message(
        documents.DigestsShown,
        found,
        digests=len(found.genuine),
        keys=evidence.fingerprints,
        confirmed=f"{found.stream}:{confirmed.named}" if confirmed else None,
        confirmed_until=confirmed.moment if confirmed else None,
        error=found.unreadable or None,
    )


def _show(
    verdict: Verdict, digests: Sequence[documents.DigestsShown], chains: Sequence[documents.Chain]
) -> None:
    for d in digests:
        found, until = Verdict.EMPTY, "none is confirmed"
        if d.confirmed:
            found = Verdict.VERIFIED
            until = f"confirmed until {d.confirmed_until:%Y-%m-%d %H:%M} UTC, {d.confirmed}"
        if d.problems:
            found = Verdict.NOT_VERIFIED
        say(f"digests of {d.stream}: {d.error or f'{d.digests}; {until}'}", style=_STYLES[found])
        _tell([*d.problems], [*d.notes, *(f"signed by {key}" for key in d.keys)])
    for c in chains:
        told = f"{c.entries} entries" + (
            f", {c.uncovered} not covered by a digest yet" if c.uncovered else ""
        )
        say(f"{c.credential} {c.stream}: {c.verdict} ({c.error or told})", style=_STYLES[c.verdict])
        _tell(c.problems, c.notes)
    say(verdict.value, style=_STYLES[verdict])


def _tell(problems: Sequence[str], notes: Sequence[str]) -> None:
    left_out = len(problems) - SHOWN_PROBLEMS
    more = [f"and {left_out} more; --json has them all"] if left_out > 0 else []
    for text in (*problems[:SHOWN_PROBLEMS], *more, *notes):
        say(f"  {text}")


def show(
    credentials: CredentialArguments = None,
    *,
    newest: Annotated[int, typer.Option("--newest", "-n", min=1, max=10_000, help="How many entries.")] = 10,
) -> None:
    """Show the newest entries.

    This does not verify them; `audit verify` does. Of an archived entry it shows the id of its run or order.

    Exit code: 0 shown, 3 a log was unreachable.
    """
    plan = plan_or_exit()
    clouds = operator(plan)
    found, texts = list[Mapping[str, object]](), list[str]()
    for credential in chosen(plan, credentials):
        heads = clouds.lock(credential).read().heads
        for log, signer in streams(plan, clouds, credential):
            for seq in newest_numbers(log, heads.get(log.stream), newest):
                entry = _entry(log, signer, credential, seq)
                event = (entry.event or None) if entry else None
                place = {"credential": credential.id, "stream": log.stream, "seq": seq}
                found.append({**place, "event": event})
                text = _line(entry) if entry else "NOT AN ENTRY, see `audit verify`"
                texts.append(f"{credential.id} {log.stream} {seq}: {text}")
    if gave_json({"entries": found}):
        return
    for text in texts or ["no entries"]:
        say(text)


def _entry(log: AuditLog, signer: Signer, credential: Credential, seq: int) -> Entry | None:
    """An entry, to be shown; None if it is none, or not this one."""
    try:
        return read_unverified(credential.id, log, signer, seq)
    except NewerFormatError:
        # If its MAC is valid: anybody can write that it is.
        return read_object(credential.id, log, signer, seq).entry


def _line(entry: Entry) -> str:
    """What an entry says, whatever a forged one holds."""
    at, event = at_milliseconds(entry.time), clean(entry.event)
    when = absolute(at, SystemClock().now()) if at else "?"
    if not event:
        return f"{when}, archived, {entry.rotation_id}"
    told = {name: value for name, value in clean(entry.details).items() if value not in (None, False, "", [])}
    status = event.get("status_code", event.get("status"))
    who = part(part(event, "actor"), "user").get("name") or part(event, "metadata").get("uid")
    return f"{when}, {line(status)}, {line(told)}, by {line(who)}"


# `lockstep audit report`: evidence for people and auditors, as one page or JSON.

PAGE = Path("report.html")
"""What is written where no other file is named."""
LONGEST = timedelta(days=3650)
"""The longest period."""


def report(
    credentials: CredentialArguments = None,
    *,
    since: Annotated[str, typer.Option(help="How far back: 24h, 30d, 90d.")] = "90d",
    output: Annotated[Path, typer.Option("--output", "-o", help="The .html to write.")] = PAGE,
) -> None:
    """Write a report on the audit log, for people and auditors.

    Verifies every chain first, then tells for each credential when each cloud rotated, how old the password became,
    how long the previous one kept working, which refused logins show that old ones are revoked, and every failure, gap,
    revocation and order. The page is one file that loads nothing and prints well. With
    --json every entry of the period is printed instead.

    Exit code: 0 written, and every chain verified; 1 written, and a chain is not verified; 3 written without a chain
    that was unreachable; 4 written, and for three hours no digest of a cloud was confirmed.
    """
    period = _period(since)
    if output.suffix.lower() != ".html":
        raise wrong_use(
            f"--output: {output.name} does not end with .html; for programs: --json > report.json"
        )
    if not output.absolute().parent.is_dir():
        raise wrong_use(f"--output: {output.parent} is not a folder")
    plan = plan_or_exit()
    clouds = operator(plan)
    now, found = clouds.clock.now(), list[CredentialReport]()
    begin = now - period
    with progress("verifying") as tell:
        verifier = Verifier(evidence_of(plan, clouds), now=now)
        for name, credential, chains in _verified(verifier, plan, credentials, tell):
            if credential:
                found.append(report_on(credential, chains, since=begin, now=now))
                continue
            for v in chains:
                verifier.digests[v.stream].problems += [f"chain {name} {p}" for p in v.problems]
    lock = f"{plan.lock.table}, {plan.lock.region}"
    made = build(found, verifier.digests.values(), since=begin, now=now, lock=lock)
    if wants_json():
        print_text(as_json(made))
    else:
        write_whole(page(made), output, option="--output")
        lost = next((check.error for c in made.credentials for check in c.checks if check.error), None)
        say_aside(f"{output}: {made.verdict.value}{f' ({lost})' if lost else ''}")
    raise typer.Exit(_EXITS.get(made.verdict, 0))


def _period(text: str) -> timedelta:
    try:
        period = parse_duration(text)
    except ValueError as error:
        raise wrong_use(f"--since: {error}") from None
    if not timedelta() < period <= LONGEST:
        raise wrong_use(f"--since: must be longer than zero, and at most {LONGEST.days}d")
    return period
