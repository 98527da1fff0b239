"""What a verification finds: problems, and what people have acknowledged of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lockstep.audit.chain import Entry

ACKNOWLEDGE = "acknowledge"
"""The name of the order that acknowledges a problem."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a stream.

    Attributes:
        what: What is wrong: of entries without a subject, else a sentence.
        first: The number of the entry, or the first of them; 0 for objects that are no entries; None if it is about
            no object.
        last: The last of several.
    """

    what: str
    first: int | None = None
    last: int | None = None

    @property
    def end(self) -> int | None:
        """The number of the last entry."""
        return self.first if self.last is None else self.last

    def __str__(self) -> str:
        """As a sentence."""
        if not self.first:
            return self.what
        if self.first == self.end:
            return f"entry {self.first}: {self.what}"
        return f"entries {self.first} to {self.end}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """An acknowledgement, and the problem that it is about.

    Attributes:
        by: Who gave it.
        at: When, in milliseconds since the epoch.
        reason: In the operator's words.
    """

    stream: str
    first: int
    last: int
    by: str
    at: int
    reason: str
    problem: Problem | None = None

    def covers(self, stream: str, problem: Problem) -> bool:
        """Whether it is about a problem of a stream."""
        if problem.first is None or problem.end is None:
            return False
        return self.stream == stream and self.first <= problem.first and problem.end <= self.last

    def __str__(self) -> str:
        """As a sentence."""
        return f"{self.problem} (acknowledged by {self.by}: {self.reason})"


def collapsed(problems: Iterable[Problem]) -> list[Problem]:
    """The problems by number, with the same problem of neighbours as one."""
    found: list[Problem] = []
    for problem in sorted(set(problems), key=lambda p: (p.first or 0, p.what)):
        before = found[-1] if found else None
        if (
            before
            and before.what == problem.what
            and before.end is not None
            and problem.first == before.end + 1
        ):
            found[-1] = Problem(problem.what, before.first, problem.end)
        else:
            found.append(problem)
    return found


def acknowledged_in(entries: Sequence[Entry]) -> Iterator[Acknowledged]:
    """The acknowledgements among valid entries."""
    for entry in entries:
        details = entry.details
        if details.get("order") != ACKNOWLEDGE:
            continue
        first, last = details.get("first"), details.get("last")
        if not (isinstance(first, int) and isinstance(last, int)):
            continue
        actor = entry.event.get("actor")
        user = actor.get("user") if isinstance(actor, dict) else None
        yield Acknowledged(
            stream=str(details.get("stream")),
            first=first,
            last=last,
            by=str(user.get("name")) if isinstance(user, dict) else "nobody",
            at=entry.time,
            reason=str(details.get("reason")),
        )
