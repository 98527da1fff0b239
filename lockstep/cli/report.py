"""`lockstep audit report`: evidence for people and auditors, as one page, JSON or CSV."""

import sys
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lockstep.audit.report.build import build, evidence
from lockstep.audit.report.data import Report
from lockstep.audit.report.page import page
from lockstep.audit.report.tables import as_csv, as_json
from lockstep.audit.verify import Verdict
from lockstep.cli.audit import verified
from lockstep.cli.operator import operator
from lockstep.cli.output import (
    DEFAULT_PLAN,
    CredentialId,
    Exit,
    PlanFile,
    chosen,
    err,
    plan_or_exit,
    wrong_use,
)
from lockstep.cli.progress import progress_bar
from lockstep.durations import parse_duration

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
    since: Annotated[str, typer.Option("--since", help="How far back: 24h, 30d, 90d.")] = "90d",
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
    how long the previous one kept working, which refused logins show that old ones are dead, every failure, gap,
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
        err.print(f"{output}: {made.verdict.value}", highlight=False, markup=False, soft_wrap=True)
    if made.verdict is Verdict.NOT_VERIFIED:
        raise typer.Exit(Exit.NO)
    if made.verdict is Verdict.UNREADABLE:
        raise typer.Exit(Exit.UNREACHABLE)


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
