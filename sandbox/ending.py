"""How the demo ends: its figures, and three sentences that say what they mean."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lockstep.audit.confirmed import Verdict
from lockstep.audit.verify import Verification, Verifier
from sandbox.applications import Applications
from sandbox.story import Line, Story

Figures = dict[str, Any]


def figures(
    story: Story,
    applications: Applications,
    verifier: Verifier,
    verifications: Sequence[Verification],
    *,
    seconds: float,
    runner_keys: int,
) -> Figures:
    """The last line of the demo, for other programs.

    Args:
        story: What was done.
        applications: What logged in meanwhile.
        verifier: What verified the audit log.
        verifications: Of every chain.
        seconds: How long it took.
        runner_keys: With how many long-lived keys the runners proved themselves in the other cloud.
    """
    rotated = [run for run in story.runs if run.outcome == "rotated"]
    return {
        "rotations": len(rotated),
        "by_aws": sum(run.runner == "aws" for run in rotated),
        "by_oci": sum(run.runner == "oci" for run in rotated),
        "adopted": sum(run.adopted for run in story.runs),
        "logins": applications.logins,
        "refused": len(applications.refusals),
        "troubles": len(applications.troubles),
        "audit_entries": sum(len(v.entries) for v in verifications),
        "audit_verdict": verifier.verdict(verifications).value,
        "long_lived_runner_keys": runner_keys,
        "slowest_login_ms": round(max(a.slowest_seconds for a in applications.all) * 1000),
        "seconds": round(seconds, 1),
    }


def failures(story: Story, applications: Applications, found: Figures) -> list[str]:
    """Why the demo has not shown what it is there to show; empty if it has."""
    idle = [a.name for a in applications.all if not a.logins]
    return [
        *story.problems,
        *([f"{found['refused']} logins were refused"] if found["refused"] else []),
        *(
            [f"{found['troubles']} logins had other errors: {', '.join(sorted(set(applications.troubles)))}"]
            if found["troubles"]
            else []
        ),
        *([f"never logged in: {', '.join(idle)}"] if idle else []),
        *(
            []
            if found["audit_verdict"] == Verdict.VERIFIED
            else [f"the audit log is {found['audit_verdict']}"]
        ),
    ]


def sentences(found: Figures, failed: list[str], *, applications: int, report: Path) -> list[Line]:
    """What happened, what was proven, and where to look next.

    Args:
        found: As `figures` gives them.
        failed: As `failures` gives them.
        applications: How many logged in.
        report: The audit report's page.
    """
    happened = (
        f"What happened: in {found['seconds']:.0f} seconds AWS rotated {found['by_aws']} times and OCI "
        f"{found['by_oci']} times (secrets stored for the other cloud: {found['long_lived_runner_keys']}), "
        f"while {applications} applications logged in {found['logins']:,} times and "
        "functions, a store and a database failed on purpose."
    )
    proven = (
        f"What was proven: no login was refused, {found['adopted']} rotations that had failed half-way were finished, "
        f"the leaked passwords are revoked, and all {found['audit_entries']} audit entries have valid signatures in "
        "unbroken chains, which digests of both clouds confirm."
    )
    if failed:
        proven = f"What was NOT proven: {'; '.join(failed)}."
    look = (
        f"Where to look next: open the audit report {report} in a browser, read README.md for what is promised, the "
        "protocol and docs/proof.md for the harder tests, or write your own plan with `.venv/bin/lockstep init`."
    )
    return [Line(happened), Line(proven, style="bold red" if failed else "bold green"), Line(look)]
