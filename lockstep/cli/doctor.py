"""`lockstep doctor`: looks at everything that a rotation needs, and says what fixes what it finds."""

import os
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from lockstep.cli.output import gave_json, plan_or_exit, progress, say, write_whole, wrong_use
from lockstep.cli.rotate import Stack
from lockstep.databases.findings import HERE, Finding, Outcome, verdict
from lockstep.operate import documents
from lockstep.operate.access import operator
from lockstep.operate.doctor import in_cloud
from lockstep.operate.doctor.catalogue import catalogue
from lockstep.operate.doctor.checks import Check, Context, chosen, examine, unknown_word
from lockstep.operate.doctor.unknowns import Confirmation, confirmations, confirmed, questions
from lockstep.operate.documents import Exit
from lockstep.protocol.names import DEFAULT_STACK
from lockstep.protocol.strict_json import MessageError

STYLES = {
    Outcome.FAILED: "bold red",
    Outcome.WARNING: "yellow",
    Outcome.NOT_ASKED: "bold yellow",
    Outcome.BY_HAND: "cyan",
    Outcome.PASSED: "green",
}
"""In the order in which they are shown."""
_EXITS = {Outcome.FAILED: Exit.NO, Outcome.NOT_ASKED: Exit.UNREACHABLE}


def doctor(
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only this check or group, such as `aws.secrets` or `aws`. Repeat it."),
    ] = None,
    stack: Stack = DEFAULT_STACK,
    name: Annotated[str, typer.Option("--oci-name", help="`name` of Terraform.")] = DEFAULT_STACK,
    inside: Annotated[
        bool, typer.Option("--in-cloud", help="Let the functions of both clouds look too.")
    ] = False,
    confirm: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also ask what only a real account can tell; --in-cloud."),
    ] = None,
) -> None:
    """Check what a rotation depends on, and suggest a fix for each problem.

    Whether a cloud is as the stack and Terraform declare it, tell `cdk diff`,
    `cdk drift` and `terraform plan`.

    What this identity may not read is shown as not asked. It changes nothing. Checks that passed are counted; --json
    lists them.

    With --in-cloud each deployed function is invoked once, and looks with its own rights, through its own network, at
    the plan that it was deployed with; it starts no rotation. A login is shown to a database once for each account and
    place, only where it should work, and nowhere any more once a place has seen it refused.

    With --confirm each question that only a real account can answer is confirmed, refuted, measured or not asked; or it
    has a command, for it would change something or takes a day. FILE keeps answers and dates, and names nothing in the
    account; what was answered earlier and is not now stays there.

    Exit code: 0 all passed, warnings too; 1 something failed, or is refuted; 3 nothing failed, but something could not
    be asked. What is by hand counts as neither.
    """
    plan = plan_or_exit()
    context = Context(plan=plan, clouds=operator(plan), stack=stack, name=name)
    inside = inside or confirm is not None
    if unknown := unknown_word(catalogue(), only or ()):
        raise wrong_use(unknown)
    checks = chosen(catalogue(), plan, only=only or ())
    here = [check for check in checks if check.group != in_cloud.GROUP]
    if not (checks if inside else here):
        raise wrong_use(
            "no check is left: the plan has nothing of that, or it is looked at with --in-cloud alone"
        )
    earlier = _earlier(confirm) if confirm else {}
    with progress("looking"):
        findings = examine(here, context)
        if inside and any(check.group in in_cloud.GROUPS for check in checks):
            findings = merged(findings, _inside(checks, context))
        asked = questions(plan, findings) if confirm else []
        answers = examine(asked, context)
    if confirm:
        write_whole(confirmed(earlier, answers, context), confirm, option="--confirm")
    findings = [*findings, *answers]
    counted = Counter(finding.outcome for finding in findings)
    counts = {outcome.value: counted[outcome] for outcome in Outcome}
    if not gave_json(documents.Doctor(verdict=verdict(findings), counts=counts, findings=findings)):
        for answer in answers:
            if answer.outcome is Outcome.PASSED:
                say(f"{answer.check}  {answer.subject}: {answer.says}", style=STYLES[Outcome.PASSED])
        show(findings)
    raise typer.Exit(_EXITS.get(verdict(findings), 0))


def _earlier(file: Path) -> dict[str, Confirmation]:
    if not os.access(file.parent, os.W_OK):
        raise wrong_use(f"--confirm: {file.parent} is not a folder in which this may write")
    try:
        return confirmations(file)
    except (OSError, MessageError):
        raise wrong_use(f"--confirm: {file} is not a file of earlier answers") from None


def _inside(checks: Sequence[Check], context: Context) -> list[Finding]:
    """What the functions find, as far as it is an answer to one of these checks, or why there is no answer."""
    ids = {check.id for check in checks}
    found = in_cloud.ask_functions(context, silent(checks, context))
    return [f for f in found if f.check in ids or (f.check == in_cloud.FUNCTION and f.outcome in _EXITS)]


def silent(checks: Sequence[Check], context: Context) -> frozenset[str]:
    """The databases to which functions show no login: that have refused one here, or all if none is asked about."""
    if any(check.group == "database" for check in checks):
        return context.databases.refused
    return in_cloud.every_database(context.plan)


def merged(here: Sequence[Finding], inside: Sequence[Finding]) -> list[Finding]:
    """All of it; what could not be asked of a database from here is told by who has asked it from inside."""
    answered = {
        f.check for f in inside if f.check.startswith("database.") and f.outcome is not Outcome.NOT_ASKED
    }
    return [*(f for f in here if f.outcome is not Outcome.NOT_ASKED or f.check not in answered), *inside]


def show(findings: Sequence[Finding]) -> None:
    """The findings for people: what is wrong, the gravest first, with what fixes it; the rest as a count."""
    *grave, _ = STYLES
    wrong = [f for outcome in grave for f in findings if f.outcome is outcome]
    for _, alike in groupby(wrong, key=_alike):
        first, *more = alike
        where = "" if first.where == HERE else f" in {first.where}"
        subject = f"{first.subject}: " if first.subject else ""
        told = f"{first.check}{where}  {subject}{first.says}"
        if more and first.outcome is Outcome.NOT_ASKED:
            told = f"{len(more) + 1} checks  {first.says}"
        say(f"{_word(first.outcome)}  {told}", style=STYLES[first.outcome])
        if first.command:
            say(f"    {first.command}", style="bold")
    say(_summary(findings), style=STYLES[verdict(findings)])


def _alike(finding: Finding) -> tuple[str, ...]:
    """Findings that are one line where they follow each other: what was not asked for one reason."""
    if finding.outcome is Outcome.NOT_ASKED:
        return finding.says, finding.command or ""
    return finding.check, finding.where, finding.subject, finding.says


def _word(outcome: Outcome) -> str:
    return outcome.value.replace("_", " ")


def _summary(findings: Sequence[Finding]) -> str:
    counted = Counter(finding.outcome for finding in findings)
    told = ", ".join(f"{counted[o]} {_word(o)}" for o in STYLES if counted[o])
    return {
        Outcome.PASSED: f"nothing failed ({told})",
        Outcome.FAILED: f"something is wrong ({told}); each line above has the command that fixes it",
        Outcome.NOT_ASKED: f"nothing failed, but not everything could be asked ({told})",
    }[verdict(findings)]
