"""What the demo tells while it runs: acts, runs, what is waited for, and what did not go as the story says."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

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
