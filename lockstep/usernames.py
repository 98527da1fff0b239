"""Which of its usernames a credential's next value gets (protocol V18).

With two usernames it is the one that base does not have. With more of them, readers may read any one slot of any store:
each slot's login must stay alive until the slot serves another one and its overlap is over. So the next username is one
that no slot serves. That is not the one after base in the plan: a generation that was abandoned has used up its
username's turn.

Of several, it is one whose newest value was never promoted: a database may accept that value, and no record names it.
Else it is the one that was staged longest ago.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

from lockstep.errors import NoFreeUsernameError, UnknownUsernameError
from lockstep.model import CredentialValue, Login

LOOK_BACK = 100
"""How many generations are looked at: Secrets Manager keeps about as many versions."""


class Generations(Protocol):
    """What holds the values of generations: a store."""

    def read_generation(self, generation: int) -> CredentialValue | None:
        """The value of a generation; None if it is not held."""


def next_username(
    usernames: Sequence[str],
    *,
    base: Login | None,
    served: Iterable[Login],
    staged: Iterable[tuple[int, str]],
    alive: Collection[int],
) -> str:
    """The username of the next value.

    Args:
        usernames: Those of the plan, in its order.
        base: The login that stays alive beside the next one.
        served: What every slot of every store serves. Not looked at with fewer than three usernames: readers then take
            the newest slot, which serves base.
        staged: Generations and usernames of the values that were staged, the newest first (`staged_usernames`). Read
            only as far as it is needed, so that it may be an iterator that reads a store.
        alive: The generations that are alive on record. The newest value of a username is among them if it was ever
            promoted, since it is shown dead only by the next one.

    Raises:
        UnknownUsernameError: The plan does not name the username of base (protocol C8).
        NoFreeUsernameError: Every username is served or base's.
    """
    if base and base.username not in usernames:
        raise UnknownUsernameError
    if len(usernames) <= 2:  # noqa: PLR2004 - alternation
        return next((name for name in usernames if not base or name != base.username), usernames[0])
    taken = {login.username for login in served} | ({base.username} if base else set())
    free = [name for name in usernames if name not in taken]
    if not free:
        raise NoFreeUsernameError
    return free[0] if len(free) == 1 else _abandoned_or_longest_ago(free, staged, alive)


def _abandoned_or_longest_ago(
    free: list[str], staged: Iterable[tuple[int, str]], alive: Collection[int]
) -> str:
    for generation, username in staged:
        if username in free:
            if generation not in alive:
                return username
            free = [name for name in free if name != username]
            if len(free) == 1:
                break
    return free[0]  # Of several that are left none was staged within memory.


def staged_usernames(store: Generations, *, highest: int) -> Iterator[tuple[int, str]]:
    """Generations and usernames of the values that a store holds, the newest first, each as it is asked for.

    Args:
        store: The first store: a value is staged there before it is anywhere else (protocol V1).
        highest: The highest generation that was ever claimed or staged.
    """
    for generation in islice(range(highest, 0, -1), LOOK_BACK):
        if value := store.read_generation(generation):
            yield generation, value.login.username
