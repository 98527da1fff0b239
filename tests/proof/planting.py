"""What a planted bug is: a rule of the protocol that patches of the product leave out, and who must see the difference.

A checker that finds nothing proves nothing until it finds what is there.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple, TypeAlias
from unittest.mock import patch

from tests.proof.model_bounds import MYSQL, Bound, Budget

Foreign: TypeAlias = Any
"""What a patch takes over from the code as it is."""
Patch = AbstractContextManager[Foreign]
Plant = Callable[[], Patch]


class Races(NamedTuple):
    """Random schedules of runners in memory find it.

    Attributes:
        caught_as: Invariants; one of them is seen to break.
        scenarios: Where the hunt looks.
        seed: Of a schedule that shows it; another one is hunted for where the code has changed since.
    """

    caught_as: tuple[str, ...]
    scenarios: tuple[str, ...] = ("steady",)
    seed: int = 0


class Model(NamedTuple):
    """The explicit-state model finds it.

    Attributes:
        invariant: What breaks first.
        budget: How much has to happen for it.
        engines: Where it shows.
        is_slow: It takes too many states for `make test`.
    """

    invariant: str
    budget: Budget = Budget(terms=2)
    engines: tuple[str, ...] = MYSQL
    is_slow: bool = False

    @property
    def bound(self) -> Bound:
        """What is explored."""
        return Bound(self.budget, self.engines)


class Bug(NamedTuple):
    """A rule that is left out.

    Attributes:
        clause: Of docs/protocol.md.
        what: The mistake.
        plant: Makes it, for the length of a block.
    """

    name: str
    clause: str
    what: str
    plant: Plant
    races: Races | None
    faults: str
    model: Model | None


PLANTED: dict[str, Bug] = {}
"""All bugs by name; `tests.proof.catalogue` makes them."""


def bug(
    clause: str,
    *,
    over: tuple[Foreign, str] | None = None,
    races: Races | None = None,
    faults: str = "",
    model: Model | None = None,
) -> Callable[[Callable[..., Foreign]], Plant]:
    """Put a bug with the name of the function into the catalogue; the function's first line says what the mistake is.

    Args:
        clause: Of docs/protocol.md.
        over: An owner and the name of what the function takes the place of: it gets the original first. By default the
            function gives the patches.
        races: How races find it, if they have to.
        faults: The kind of credential on which faults on the wire to real servers find it, if they have to.
        model: How the model finds it, if it has to.
    """

    def planted(function: Callable[..., Foreign]) -> Plant:
        @contextmanager
        def plant() -> Iterator[None]:
            patches: Iterable[Patch] = [around(*over, function)] if over else function()
            with ExitStack() as stack:
                for one in patches:
                    stack.enter_context(one)
                yield

        name, what = function.__name__.replace("_", "-"), str(function.__doc__).partition("\n")[0]
        PLANTED[name] = Bug(name, clause, what, plant, races, faults, model)
        return plant

    return planted


def put(owner: Foreign, name: str, instead: Foreign) -> Patch:
    """Something else under a name."""
    return patch.object(owner, name, instead)


@contextmanager
def around(owner: Foreign, name: str, instead: Callable[..., Foreign]) -> Iterator[None]:
    """A function, or a method, that gets what it takes the place of first."""
    original = getattr(owner, name)

    def called(*args: Foreign, **more: Foreign) -> Foreign:
        return instead(original, *args, **more)

    with put(owner, name, called):
        yield


class Behind:
    """In front of a port: what it is given it does itself, and the port does the rest."""

    def __init__(self, port: Foreign, **own: Callable[..., Foreign]) -> None:
        self._port = port
        vars(self).update(own)

    def __getattr__(self, name: str) -> Foreign:
        return getattr(self._port, name)
