"""The port of a bucket that holds published plans."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from lockstep.published.source import Documents


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An object in the folder of a plan.

    Attributes:
        name: In that folder.
        size: In bytes.
        tag: What the service says of its content; the content has it if it is the same.
    """

    name: str
    size: int
    tag: str


class PlanBucket(Documents, Protocol):
    """The folder of a plan in a bucket. Its methods raise PlanUnreachableError and PlanAccessDeniedError."""

    def create(self, name: str, file: bytes) -> bool:
        """Write a document; False where the name is taken."""

    def replace(self, name: str, file: bytes, *, seen: str) -> bool:
        """Write a document in the place of the one whose tag was seen; False where it is another one by now."""

    def listed(self) -> Iterator[Listed]:
        """What is in the folder."""

    def tag(self, file: bytes) -> str:
        """The tag that the list gives for this content."""
