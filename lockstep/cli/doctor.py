"""`lockstep doctor`: looks at everything that a rotation needs, and says what fixes what it finds."""

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby
from typing import Annotated

import typer
from rich.progress import MofNCompleteColumn, Progress, TextColumn
from rich.status import Status

from lockstep.cli.output import (
    err,
    plan_or_exit,
    print_json,
    say,
    wrong_use,
)
from lockstep.databases.findings import Finding, Outcome, verdict
from lockstep.operate import documents
from lockstep.operate.access import operator
from lockstep.operate.doctor import in_cloud
from lockstep.operate.doctor.catalogue import CATALOGUE
from lockstep.operate.doctor.checks import Check, Context, UnknownCheckError, chosen, examine
from lockstep.operate.doctor.network import HERE
from lockstep.operate.documents import Exit
from lockstep.operate.formatting import wants_json
from lockstep.plan.model import Plan
from lockstep.protocol.names import DEFAULT_STACK
from lockstep.protocol.workers import at_the_same_time

STYLES = {
    Outcome.PASSED: "green",
    Outcome.WARNING: "yellow",
    Outcome.FAILED: "bold red",
    Outcome.NOT_ASKED: "bold yellow",
}
_WORDS = {Outcome.NOT_ASKED: "not asked"}
_ORDER = (Outcome.FAILED, Outcome.WARNING, Outcome.NOT_ASKED, Outcome.PASSED)
_GRAVE = frozenset({Outcome.FAILED, Outcome.NOT_ASKED})

Words = Annotated[
    list[str] | None,
    typer.Option("--only", help="Only this check or group, by its id: `aws.secrets`, `aws`. Repeat it."),
]
Left = Annotated[list[str] | None, typer.Option("--skip", help="Leave out this check or group. Repeat it.")]


def doctor(
    *,
    only: Words = None,
    skip: Left = None,
    stack: Annotated[
        str, typer.Option("--stack", envvar="LOCKSTEP_STACK", help="`stack` in cdk.json.")
    ] = DEFAULT_STACK,
    name: Annotated[str, typer.Option("--oci-name", help="`name` of Terraform.")] = DEFAULT_STACK,
    inside: Annotated[
        bool,
        typer.Option(
            "--in-cloud", help="Let the deployed functions of both clouds look too, from where they run."
        ),
    ] = False,
) -> None:
    """Look at what a rotation needs and no declaration tells, and say what fixes what is wrong.

    Whether a cloud is as the stack and Terraform declare it, tell `cdk diff`,
    `cdk drift` and `terraform plan`.

    What this identity has no right to read is told as not asked. This changes nothing, in no cloud and in no database.

    With --in-cloud each deployed function is invoked once, and looks with its own rights, through its own network, at
    the plan that it was deployed with; it starts no rotation. A login is shown to a database once for each account and
    place, only where it should work, and nowhere any more once a place has seen it refused.

    Later versions only add fields to what --json prints.

    Exit code: 0 all passed, warnings too; 1 something failed; 3 nothing failed, but something could not be asked.
    """
    plan = plan_or_exit()
    context = Context(plan=plan, clouds=operator(plan), stack=stack, name=name)
    checks = _chosen(plan, only or (), skip or (), inside=inside)
    findings = _examined([c for c in checks if c.group != in_cloud.GROUP], context)
    if inside and any(c.group in in_cloud.GROUPS for c in checks):
        findings = _merged(findings, _inside(checks, context))
    if wants_json():
        print_json(document(findings))
    else:
        show(findings)
    if code := exit_code(findings):
        raise typer.Exit(code)


def _inside(checks: Sequence[Check], context: Context) -> list[Finding]:
    """What the functions find, as far as it is an answer to one of these checks, or why there is no answer."""
    ids = {check.id for check in checks}
    with Status("asking the deployed functions", console=err):
        found = in_cloud.ask_functions(context, silent(checks, context), side_by_side=at_the_same_time)
    return [f for f in found if f.check in ids or (f.check == in_cloud.FUNCTION and f.outcome in _GRAVE)]


def silent(checks: Sequence[Check], context: Context) -> frozenset[str]:
    """The databases to which functions show no login: that have refused one here, or all if none is asked about."""
    if any(check.group == "database" for check in checks):
        return context.refused
    return in_cloud.every_database(context.plan)


def _merged(here: Sequence[Finding], inside: Sequence[Finding]) -> list[Finding]:
    """All of it, without what could not be asked of a database from here and was answered from inside."""
    known = {(f.check, f.subject) for f in inside if f.outcome is not Outcome.NOT_ASKED}
    databases = {check for check, _ in known if check.startswith("database.")}
    return [
        *(
            f
            for f in here
            if f.outcome is not Outcome.NOT_ASKED
            or f.check not in databases
            or ((f.check, f.subject) not in known and not _is_summary(f, known))
        ),
        *inside,
    ]


def _is_summary(finding: Finding, known: AbstractSet[tuple[str, str]]) -> bool:
    """Whether it is about a whole server, of whose accounts something is known."""
    return any(c == finding.check and s.startswith(f"{finding.subject} ") for c, s in known)


def _chosen(plan: Plan, only: Sequence[str], skip: Sequence[str], *, inside: bool) -> list[Check]:
    try:
        checks = chosen(CATALOGUE, plan, only=only, skip=skip)
    except UnknownCheckError as error:
        raise wrong_use(str(error)) from None
    if not inside:
        if only and all(check.group == in_cloud.GROUP for check in checks):
            raise wrong_use("that is looked at in the deployed functions: add --in-cloud")
        checks = [check for check in checks if check.group != in_cloud.GROUP]
    if not checks:
        raise wrong_use("no check is left: the plan has nothing that they look at, or all are skipped")
    return checks


def _examined(checks: Sequence[Check], context: Context) -> list[Finding]:
    with Progress(
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as progress:
        task = progress.add_task("", total=len(checks))
        return examine(
            checks,
            context,
            side_by_side=at_the_same_time,
            see=lambda check: progress.update(task, advance=1, description=check),
        )


def exit_code(findings: Iterable[Finding]) -> Exit | None:
    """The exit code; None where all passed."""
    codes = {Outcome.FAILED: Exit.NO, Outcome.NOT_ASKED: Exit.UNREACHABLE}
    return codes.get(verdict(findings))


def document(findings: Sequence[Finding]) -> documents.Doctor:
    """The findings for other programs."""
    counted = Counter(finding.outcome for finding in findings)
    return documents.Doctor(
        verdict=verdict(findings),
        counts={outcome.value: counted[outcome] for outcome in Outcome},
        findings=findings,
    )


def show(findings: Sequence[Finding]) -> None:
    """The findings for people: what is wrong, the gravest first, with what fixes it; the rest as a count."""
    wrong = [f for outcome in _ORDER[:-1] for f in findings if f.outcome is outcome]
    for _, alike in groupby(wrong, key=_alike):
        found = list(alike)
        first, number = found[0], len(found)
        suffix = "" if first.where == HERE else f" in {first.where}"
        told = (
            f"{number} checks{suffix}  {first.says}"
            if number > 1
            else f"{first.check}{suffix}  {first.subject}: {first.says}"
        )
        say(f"{_WORDS.get(first.outcome, first.outcome.value)}  {told}", style=STYLES[first.outcome])
        if first.command:
            say(f"    {first.command}", style="bold")
    say(_summary(findings), style=STYLES[verdict(findings)])


def _alike(finding: Finding) -> tuple[str, ...]:
    """Findings that are one line where they follow each other: what was not asked for one reason."""
    if finding.outcome is Outcome.NOT_ASKED:
        return finding.where, finding.says
    return finding.check, finding.where, finding.subject, finding.says


def _summary(findings: Sequence[Finding]) -> str:
    counted = Counter(finding.outcome for finding in findings)
    told = ", ".join(f"{counted[o]} {_WORDS.get(o, o.value)}" for o in _ORDER if counted[o])
    return {
        Outcome.PASSED: f"nothing failed ({told})",
        Outcome.FAILED: f"something is wrong ({told}); each line above has the command that fixes it",
        Outcome.NOT_ASKED: f"nothing failed, but not everything could be asked ({told})",
    }[verdict(findings)]
