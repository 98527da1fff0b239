"""What a check says."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from lockstep.protocol.strict_json import Message


class Outcome(StrEnum):
    """What became of a question."""

    PASSED = "passed"
    FAILED = "failed"
    WARNING = "warning"
    NOT_ASKED = "not_asked"


NEEDS_COMMAND = frozenset({Outcome.FAILED, Outcome.WARNING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a check says of one subject.

    Attributes:
        subject: What was looked at, such as a secret's name.
        outcome: What became of it.
        says: One sentence, without the full stop.
        command: What fixes it; required for `failed` and `warning`.
    """

    subject: str
    outcome: Outcome
    says: str
    command: str | None = None

    def __post_init__(self) -> None:
        """Refuse a complaint without a command."""
        if self.outcome in NEEDS_COMMAND and not self.command:
            raise ValueError(f"{self.subject}: what is {self.outcome} needs a command")


class Finding(Message):
    """An answer, with the check that gave it and the place from which it was asked.

    Attributes:
        check: The check's id, such as `aws.secrets`.
        where: `here`, or the function inside a cloud, such as `aws/generate`.
        subject: As of `Answer`, like the rest.
    """

    check: str
    where: str
    subject: str
    outcome: Outcome
    says: str
    command: str | None = None


def found_by(check: str, where: str, answer: Answer) -> Finding:
    """An answer as the finding of a check in a place."""
    return Finding(
        check=check,
        where=where,
        subject=answer.subject,
        outcome=answer.outcome,
        says=answer.says,
        command=answer.command,
    )


def passed(subject: str, says: str) -> Answer:
    """It is as it should be."""
    return Answer(subject=subject, outcome=Outcome.PASSED, says=says)


def failed(subject: str, says: str, command: str) -> Answer:
    """A rotation fails by it, or will."""
    return Answer(subject=subject, outcome=Outcome.FAILED, says=says, command=command)


def warning(subject: str, says: str, command: str) -> Answer:
    """Rotations go on, but something that they or people count on is missing."""
    return Answer(subject=subject, outcome=Outcome.WARNING, says=says, command=command)


def not_asked(subject: str, says: str, command: str | None = None) -> Answer:
    """It could not be found out, and so is not known."""
    return Answer(subject=subject, outcome=Outcome.NOT_ASKED, says=says, command=command)


def verdict(findings: Iterable[Finding]) -> Outcome:
    """The gravest outcome; a warning is not grave."""
    found = {finding.outcome for finding in findings}
    return next((o for o in (Outcome.FAILED, Outcome.NOT_ASKED) if o in found), Outcome.PASSED)
