"""User-level locks: `GET_LOCK` and its kin.

Source: MySQL 8.4 Reference Manual, "Locking Functions"; sql/item_func.cc of the server.
"""

import math
import time
from collections.abc import Callable
from threading import Condition

from sandbox.mysql_fake.errors import LOCK_DEADLOCK, LOCK_NAME_TOO_LONG, WRONG_LOCK_NAME, MySqlError

MAX_NAME_LENGTH = 64

_LAST_OF_THE_BASIC_PLANE = "\uffff"


class UserLocks:
    """Which connection owns which lock, and how often it took it. Each method needs the condition held.

    Args:
        condition: Is notified when a lock comes free.
    """

    def __init__(self, condition: Condition) -> None:
        self._condition = condition
        self._held: dict[str, tuple[int, int]] = {}
        self._awaited: dict[int, str] = {}

    def acquire(
        self, name: str | None, timeout_seconds: float, *, owner: int, wait: Callable[[float], bool]
    ) -> int | None:
        """GET_LOCK: 1 when the owner has it, 0 when time ran out, None when the wait was broken off.

        Args:
            name: The lock's name.
            timeout_seconds: How long to wait for it; negative: for ever.
            owner: The connection.
            wait: Lets others go on for at most so many seconds; False breaks the wait off.
        """
        key = _key(name)
        deadline = time.monotonic() + (timeout_seconds if timeout_seconds >= 0 else math.inf)
        while (held := self._held.get(key, (owner, 0)))[0] != owner:
            self._check_for_deadlock(key, owner)
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return 0
            self._awaited[owner] = key
            try:
                if not wait(remaining):
                    return None
            finally:
                del self._awaited[owner]
        self._held[key] = (owner, held[1] + 1)
        return 1

    def release(self, name: str | None, *, owner: int) -> int | None:
        """RELEASE_LOCK: 1 when given back, 0 when another owns it, None when nobody does."""
        key = _key(name)
        if key not in self._held:
            return None
        holder, count = self._held[key]
        if holder != owner:
            return 0
        if count > 1:
            self._held[key] = (owner, count - 1)
        else:
            del self._held[key]
            self._condition.notify_all()
        return 1

    def release_all(self, *, owner: int) -> int:
        """RELEASE_ALL_LOCKS: how many were given back, each as often as it was taken."""
        counts = [count for holder, count in self._held.values() if holder == owner]
        self._held = {key: held for key, held in self._held.items() if held[0] != owner}
        self._condition.notify_all()
        return sum(counts)

    def owner_of(self, name: str | None) -> int | None:
        """IS_USED_LOCK: the owner's connection id; None when the lock is free."""
        held = self._held.get(_key(name))
        return held[0] if held else None

    def _check_for_deadlock(self, key: str, waiter: int) -> None:
        wanted: str | None = key
        while wanted in self._held:
            holder = self._held[wanted][0]
            if holder == waiter:
                raise MySqlError(LOCK_DEADLOCK)
            wanted = self._awaited.get(holder)


def _key(name: str | None) -> str:
    """Names are compared without regard to case, and are utf8mb3: nothing beyond the basic plane."""
    if not name or max(name) > _LAST_OF_THE_BASIC_PLANE:
        raise MySqlError(WRONG_LOCK_NAME, name or ("NULL" if name is None else ""))
    if len(name) > MAX_NAME_LENGTH:
        raise MySqlError(LOCK_NAME_TOO_LONG, name, MAX_NAME_LENGTH)
    return name.lower()
