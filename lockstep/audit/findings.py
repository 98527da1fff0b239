"""What a verification finds: problems, and what people have acknowledged of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lockstep.audit.chain import Entry

ACKNOWLEDGE = "acknowledge"
"""The name of the order that acknowledges problems."""
ACKNOWLEDGED_IN: Final = "aws"
"""The stream whose entries acknowledge: an entry that is archived shows no event."""
STEPPED_OVER = "; entry {} has stepped over it"
"""The end of what is said of a foreign object, once there is an entry after it."""


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

    def is_part_of(self, whole: "Problem") -> bool:
        """Whether another one, or a part of it, is this one; that an entry has stepped over it changes nothing."""
        if self.first is None or self.end is None or whole.first is None or whole.end is None:
            return False
        is_inside = whole.first <= self.first and self.end <= whole.end
        return is_inside and _kind(self) == _kind(whole)

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
        stream: Whose problems.
        problems: What was found when it was given: nothing that came later.
        by: Who gave it.
        at: When, in milliseconds since the epoch.
        reason: In the operator's words.
    """

    stream: str
    problems: tuple[Problem, ...]
    by: str
    at: int
    reason: str
    problem: Problem | None = None

    def covers(self, stream: str, problem: Problem) -> bool:
        """Whether it is about a problem of a stream."""
        return self.stream == stream and any(problem.is_part_of(known) for known in self.problems)

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


def details_of(stream: str, problems: Sequence[Problem], reason: str) -> dict[str, Any]:
    """What the entry of an acknowledgement says."""
    return {"stream": stream, "problems": [[p.what, p.first, p.end] for p in problems], "reason": reason}


def acknowledged_in(entries: Iterable[Entry], problems: Sequence[Problem]) -> Iterator[Acknowledged]:
    """The acknowledgements among the entries of a stream that have no problem themselves.

    Args:
        entries: Those whose MAC is valid.
        problems: Those of the stream, acknowledged or not.
    """
    for entry in entries:
        details = entry.details
        if details.get("order") != ACKNOWLEDGE or any(_is_about(p, entry.seq) for p in problems):
            continue
        actor = entry.event.get("actor")
        user = actor.get("user") if isinstance(actor, dict) else None
        yield Acknowledged(
            stream=str(details.get("stream")),
            problems=tuple(_problems(details)),
            by=str(user.get("name")) if isinstance(user, dict) else "nobody",
            at=entry.time,
            reason=str(details.get("reason")),
        )


def _problems(details: Mapping[str, Any]) -> Iterator[Problem]:
    found = details.get("problems")
    for given in found if isinstance(found, list) else []:
        match given:
            case [str(what), int(first), int(last)]:
                yield Problem(what, first, last)


def _is_about(problem: Problem, seq: int) -> bool:
    return problem.first is not None and problem.end is not None and problem.first <= seq <= problem.end


def _kind(problem: Problem) -> str:
    """What stays the same when the next entry steps over it. The name of an object that is no entry is foreign text."""
    return problem.what.partition(STEPPED_OVER.partition("{")[0])[0] if problem.first else problem.what
