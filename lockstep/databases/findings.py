"""What a check says."""

from collections.abc import Iterable
from enum import StrEnum

from lockstep.protocol.strict_json import Message


class Outcome(StrEnum):
    """What became of a question."""

    PASSED = "passed"
    FAILED = "failed"
    WARNING = "warning"
    NOT_ASKED = "not_asked"
    BY_HAND = "by_hand"


HERE = "here"
"""This machine, as the place of a finding."""


class Finding(Message, kw_only=True):
    """What a check says of one subject, and the place from which it was asked.

    Attributes:
        check: The check's id, such as `aws.secrets`.
        where: `here`, or the function inside a cloud, such as `aws/generate`.
        subject: What was looked at, such as a secret's name.
        outcome: What became of it.
        says: One sentence, without the full stop.
        command: What fixes it, of all that is `failed` or a `warning`; what asks it, of what is `by_hand`.
    """

    check: str
    where: str = HERE
    subject: str
    outcome: Outcome
    says: str
    command: str | None = None


def passed(check: str, subject: str, says: str) -> Finding:
    """It is as it should be."""
    return Finding(check=check, subject=subject, outcome=Outcome.PASSED, says=says)


def failed(check: str, subject: str, says: str, command: str) -> Finding:
    """A rotation fails by it, or will."""
    return Finding(check=check, subject=subject, outcome=Outcome.FAILED, says=says, command=command)


def warning(check: str, subject: str, says: str, command: str) -> Finding:
    """Rotations go on, but something that they or people count on is missing."""
    return Finding(check=check, subject=subject, outcome=Outcome.WARNING, says=says, command=command)


def not_asked(check: str, subject: str, says: str, command: str | None = None) -> Finding:
    """It could not be found out, and so is not known."""
    return Finding(check=check, subject=subject, outcome=Outcome.NOT_ASKED, says=says, command=command)


def verdict(findings: Iterable[Finding]) -> Outcome:
    """The gravest outcome; a warning is not grave."""
    found = {finding.outcome for finding in findings}
    return next((o for o in (Outcome.FAILED, Outcome.NOT_ASKED) if o in found), Outcome.PASSED)
