"""`lockstep audit acknowledge`: put on record that a person has examined a problem of the audit log (protocol E11)."""

import re
from typing import Annotated

import typer

from lockstep.audit.findings import ACKNOWLEDGE, ACKNOWLEDGED_IN, Problem, details_of
from lockstep.audit.verify import verify
from lockstep.cli.giving import CredentialArgument, desk, entry_text
from lockstep.cli.operator import streams
from lockstep.cli.output import (
    DEFAULT_PLAN,
    DryRun,
    Exit,
    PlanFile,
    complain,
    one,
    plan_or_exit,
    say,
    wrong_use,
)
from lockstep.orders import record

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
    reason: Annotated[str, typer.Option("--reason", help="What was found; a ticket, for example.")],
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
    credential, at = one(plan, credential_id), desk(plan, ACKNOWLEDGED_IN)
    place = _PLACE.fullmatch(entries)
    if place is None:
        raise wrong_use("name the entries as aws:7 or aws:7-9")
    if not 0 < len(reason) <= MAX_REASON:
        raise wrong_use(f"give a reason of 1 to {MAX_REASON} characters")
    named, first = place["stream"], int(place["first"])
    last = int(place["last"] or first)
    found = verify(credential.id, streams(plan, at.clouds, credential), at.clouds.lock(credential).read())
    problems = [p for v in found if v.stream == named for p in v.problems if _within(p, first, last)]
    for problem in problems:
        say(f"{credential.id} {named}: {problem}")
    if not problems:
        complain(f"`audit verify` reports nothing that is not acknowledged of {entries}")
        raise typer.Exit(Exit.NO)
    if dry_run:
        say("nothing was recorded")
        return
    if len(problems) > MAX_PROBLEMS:
        raise wrong_use(f"acknowledge at most {MAX_PROBLEMS} problems at once")
    details = details_of(named, problems, reason)
    entry = record(ACKNOWLEDGE, details, by=at.operator(), chain=at.clouds.chain(at.stream, credential))
    say(f"{credential.id}: acknowledged ({entry_text(entry, at.stream)})", style="green")


def _within(problem: Problem, first: int, last: int) -> bool:
    return problem.first is not None and first <= problem.first and (problem.end or 0) <= last
