"""Rules of more than two usernames, each left out by a patch for the length of a block; see `catalogue`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from unittest.mock import patch

from functions.generate import step as generate
from lockstep.protocol import decide
from lockstep.protocol.model import Login
from lockstep.stores.credential import Stores
from tests.proof.patching import Foreign, patched

Choice = Callable[..., str]
_as_shipped = decide.next_username


def _chosen_by(choice: Choice) -> AbstractContextManager[None]:
    return patched(patch.object(generate, "next_username", choice))


def users_take_turns() -> AbstractContextManager[None]:
    """The next username is the one after that of the value that was staged last."""

    def choice(names: Sequence[str], *, staged: Iterable[tuple[int, str]], **_more: Foreign) -> str:
        _, last = next(iter(staged), (0, names[-1]))
        return names[(names.index(last) + 1) % len(names)]

    return _chosen_by(choice)


def served_user_reset() -> AbstractContextManager[None]:
    """The next username is the one that was staged longest ago, whether or not a slot serves it."""

    def choice(names: Sequence[str], *, served: Iterable[Login], **more: Foreign) -> str:
        del served
        return _as_shipped(names, served=(), **more)

    return _chosen_by(choice)


def slots_of_the_first_store_alone() -> AbstractContextManager[None]:
    """What the slots of the other stores serve is not looked at."""

    def served_logins(self: Stores) -> Iterator[Login]:
        yield from self.first.served_logins()

    return patched(patch.object(Stores, "served_logins", served_logins))


def base_forgotten() -> AbstractContextManager[None]:
    """The next username is any that no slot serves, also base's."""

    def choice(names: Sequence[str], *, base: Login | None, **more: Foreign) -> str:
        del base
        return _as_shipped(names, base=None, **more)

    return _chosen_by(choice)


def abandoned_user_skipped() -> AbstractContextManager[None]:
    """The next username is the one that was staged longest ago, whether or not another one's value was abandoned."""

    def choice(names: Sequence[str], *, valid: Foreign, **more: Foreign) -> str:
        del valid
        return _as_shipped(names, valid=range(10**6), **more)

    return _chosen_by(choice)


def promoted_into_one_slot() -> AbstractContextManager[None]:
    """An emergency gives its value to the slot whose turn it is, and to no other."""

    def spread(_self: Stores, *_arguments: Foreign, **_more: Foreign) -> None:
        pass

    return patched(patch.object(Stores, "spread", spread))


def reconciled_in_one_slot() -> AbstractContextManager[None]:
    """A reconcile gives its value to one slot, and the others keep what may log in nowhere."""
    original = Stores.spread

    def spread(self: Stores, *arguments: Foreign, gently: bool = False) -> None:
        if not gently:
            original(self, *arguments)

    return patched(patch.object(Stores, "spread", spread))
