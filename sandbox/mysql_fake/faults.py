"""Faults that strike the next statement of a kind."""

import re
from dataclasses import dataclass, field
from enum import Enum
from threading import Condition


class Moment(Enum):
    """When a fault strikes: is its statement carried out?"""

    BEFORE = "before"
    AFTER = "after"


@dataclass(eq=False)
class Fault:
    """Drops the connection of the next statement that matches, before or after it takes effect."""

    pattern: re.Pattern[str]
    moment: Moment
    struck: bool = False


@dataclass(eq=False)
class Hold:
    """Holds the next statement that matches: it has arrived, and takes effect once released.

    As with a real server that is busy with a statement, the client may be gone by then, and the connection's
    locks stay with it until the statement is over.
    """

    pattern: re.Pattern[str]
    condition: Condition = field(repr=False)
    reached: bool = False
    released: bool = False

    def wait_until_reached(self, timeout_seconds: float = 10.0) -> bool:
        """Waits for the statement to arrive; whether it did."""
        with self.condition:
            return self.condition.wait_for(lambda: self.reached, timeout_seconds)

    def release(self) -> None:
        """Lets the statement take effect, now or when it comes."""
        with self.condition:
            self.released = True
            self.condition.notify_all()


@dataclass
class Faults:
    """The faults that have not struck yet; used under the server's condition."""

    _armed: list[Fault | Hold] = field(default_factory=list)

    def arm(self, fault: Fault | Hold) -> None:
        """Adds a fault; the oldest that matches strikes first."""
        self._armed.append(fault)

    def take(self, sql: str) -> Fault | Hold | None:
        """The fault that this statement meets, disarmed."""
        found = next((fault for fault in self._armed if fault.pattern.search(sql)), None)
        if found is not None:
            self._armed.remove(found)
        return found
