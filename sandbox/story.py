"""What the demo tells: acts, runs, what is waited for, what did not go as the story says, and the end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lockstep.audit.confirmed import Verdict
from lockstep.audit.verify import Verification, Verifier
from sandbox.applications import Applications

CLOUDS = {"aws": "AWS", "oci": "OCI"}


class Line(NamedTuple):
    """A line of the story.

    Attributes:
        indent: In columns.
        style: One of rich; empty for none.
    """

    text: str
    indent: int = 0
    style: str = ""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a runner, as the demo shows it.

    Attributes:
        outcome: `rotated`, or the error's name.
    """

    credential_id: str
    runner: str
    outcome: str
    generation: int | None = None
    adopted: bool = False
    milliseconds: int = 0


@dataclass(frozen=True, kw_only=True)
class End:
    """How a run ends in the story.

    Attributes:
        outcome: As of `Run`.
        adopted: Whether it finishes what an earlier run began.
        cause: Of a failure that is part of the story, in a few words.
    """

    outcome: str = "rotated"
    adopted: bool = False
    cause: str = ""


@dataclass
class Story:
    """What has happened so far, and what went wrong.

    Attributes:
        tell: Told each line.
        acts: How many there are.
        now: What is going on.
    """

    tell: Callable[[Line], None]
    acts: int
    now: str = ""
    runs: list[Run] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _begun: int = 0
    _title: str = ""

    def begin(self, title: str, about: str) -> None:
        """Begin an act.

        Args:
            title: Of a few words.
            about: One sentence: what is about to happen, and why it matters.
        """
        self._begun += 1
        self._title = title
        self.tell(Line(""))
        self.tell(Line(f"Act {self._begun} of {self.acts}: {title}", style="bold"))
        self.tell(Line(about, 2))

    def note(self, text: str) -> None:
        """Tell what is done beside the runs, or what is waited for."""
        self.now = text
        self.tell(Line(text, 2, "dim"))

    def add(self, run: Run, end: End) -> None:
        """Tell of a run, and note a problem if it did not end as the story says."""
        self.runs.append(run)
        seconds = f"{run.milliseconds / 1000:.1f} s"
        who = f"{short(run.credential_id)} by {CLOUDS[run.runner]}"
        if (run.outcome, run.adopted) != (end.outcome, end.adopted):
            self._unexpected(
                f"{run.credential_id} by {CLOUDS[run.runner]}: {_kind(run)} instead of {_kind(end)}"
            )
        elif end.cause:
            self.tell(
                Line(f"{who}: failed after {seconds}, on purpose: {end.cause} ({run.outcome})", 2, "yellow")
            )
        elif run.adopted:
            self.tell(
                Line(
                    f"{who}: finished generation {run.generation}, which an earlier run had begun, after {seconds}",
                    2,
                    "green",
                )
            )
        else:
            self.tell(Line(f"{who}: generation {run.generation} is current after {seconds}", 2, "green"))

    def expect_none(self, credential_id: str, what: str, found: list[str]) -> None:
        """Note a problem if there is something that must not be."""
        if found:
            self._unexpected(f"{credential_id}: {what}: {', '.join(found)}")

    def _unexpected(self, problem: str) -> None:
        self.problems.append(f"{self._title}: {problem}")
        self.tell(Line(f"NOT EXPECTED: {problem}", 2, "bold red"))


def short(credential_id: str) -> str:
    """A credential's id without what is before its last slash."""
    return credential_id.rpartition("/")[2]


def _kind(end: Run | End) -> str:
    return f"{end.outcome}{', of an earlier run' if end.adopted else ''}"


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
