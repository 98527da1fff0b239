"""What the name of an error means: the fixed sentence of its class (protocol E5, F2)."""

from collections.abc import Mapping
from functools import cache

from lockstep.errors import LockstepError, family

_OF_THE_PLATFORM: Mapping[str, str] = {
    "States.Timeout": "The execution ran out of time.",
    "States.TaskFailed": "A step failed in a way that has no name of its own.",
    "Lambda.Unknown": "The function ended without an answer.",
}


@cache
def _names() -> Mapping[str, str]:
    ours = {error.__name__: (error.__doc__ or "").strip() for error in family(LockstepError)}
    return {**_OF_THE_PLATFORM, **ours}


def meaning_of(name: str) -> str:
    """The sentence; empty for a name that this build does not know."""
    return _names().get(name, "")
