"""A row of the table of what is broken."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lockstep.protocol.findings import Outcome
from tests.contract.doctor.world import World

Act = Callable[[World], object]
"""Breaks something."""


@dataclass(frozen=True, kw_only=True)
class Break:
    """A way to break something.

    Attributes:
        check: The check that must tell it.
        act: Breaks it.
        says: A part of what must be told.
        command: A part of the command that must be named.
    """

    check: str
    act: Act
    says: str
    command: str
    outcome: Outcome = Outcome.FAILED


def call(service: str, operation: str, **arguments: Any) -> Act:  # noqa: ANN401 - of boto3
    """Makes a call."""
    return lambda world: getattr(world.aws.client(service), operation)(**arguments)
