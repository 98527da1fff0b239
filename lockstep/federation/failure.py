"""What it means that no session can be had (protocol R21)."""

from enum import Enum, auto

from lockstep.environment import EnvironmentalError


class FailureKind(Enum):
    """What can be done about it. The names are those of `Trouble` in the clients of both clouds."""

    UNREACHABLE = auto()
    THROTTLED = auto()
    DENIED = auto()

    @classmethod
    def of(cls, trouble: Enum) -> "FailureKind":
        """The kind of a `Trouble`; of any other one that trying again does not help."""
        return cls.__members__.get(trouble.name, cls.DENIED)


class SessionFailure(Exception):  # noqa: N818 - no error of ours: a port makes its own of it
    """There is no session in the other cloud. The clients of that cloud turn it into the error of the port.

    Attributes:
        kind: What can be done.
        code: The code of who refused.
        problem: What a person is told, which names the side; None where nothing is known.
    """

    def __init__(self, kind: FailureKind, code: str, problem: EnvironmentalError | None) -> None:
        super().__init__(f"{kind.name} {code}")
        self.kind = kind
        self.code = code
        self.problem = problem
