"""A MySQL server with a front that strikes chosen statements on their way to it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from threading import Event

from sandbox.emulators.databases import Certificate, MySqlServer
from sandbox.emulators.databases.front import DatabaseFront
from sandbox.emulators.databases.process import free_port
from sandbox.wire import CutError, Process


def mysql_error(number: int, *, sequence: int = 1) -> bytes:
    """The packet with which a MySQL server answers a statement that it refuses."""
    payload = b"\xff" + number.to_bytes(2, "little") + b"#HY000made up"
    return len(payload).to_bytes(3, "little") + bytes([sequence]) + payload


@dataclass(eq=False)
class StatementFaults:
    """See `sandbox.emulators.databases.front.Exchange`; carries everything out except what a test has chosen.

    Attributes:
        refused: Beginnings of statements, and the number of the error that answers them.
        cut: Which change of an account is cut off, from 1, and whether before or after its effect.
        held: Each change of an account waits for this event.
        look: Called after each change of an account.
        changes: The changes so far.
    """

    process: Process = field(default_factory=lambda: Process("tests", "none"))
    refused: dict[str, int] = field(default_factory=dict)
    cut: tuple[int, str] | None = None
    held: Event | None = None
    look: Callable[[], None] = lambda: None
    changes: list[str] = field(default_factory=list)

    def exchange(
        self,
        _target: str,
        operation: str,
        effect: Callable[[], bytes],
        *,
        changes: bool,
        process: Process | None = None,
        wait_for_hangup: Callable[[], None] = lambda: None,
    ) -> bytes:
        del changes, process, wait_for_hangup
        number = next((n for start, n in self.refused.items() if operation.startswith(start)), None)
        if number is not None:
            return mysql_error(number)
        if not operation.startswith("ALTER"):
            return effect()
        self.changes.append(operation)
        if self.cut == (len(self.changes), "before"):
            raise CutError
        if self.held:
            self.held.wait()
        reply = effect()
        self.look()
        if self.cut == (len(self.changes), "after"):
            raise CutError
        return reply

    def clear(self) -> None:
        """Strike nothing any more, and forget what was seen."""
        self.refused, self.cut, self.held, self.look = {}, None, None, lambda: None
        self.changes.clear()


@dataclass(kw_only=True, eq=False)
class FrontedMySqlServer(MySqlServer):
    """A MySQL server whose clients, except the superuser, come through a front.

    Attributes:
        faults: What happens to the clients' statements.
    """

    certificate: Certificate
    faults: StatementFaults = field(default_factory=StatementFaults)

    @cached_property
    def listening_port(self) -> int:
        """See `MySqlServer`."""
        return free_port()

    @cached_property
    def _front(self) -> DatabaseFront:
        return DatabaseFront(self.faults, "mysql", self, port=self.port)

    def start(self) -> None:
        """See `DatabaseServer`."""
        super().start()
        self._front.start()

    def stop(self) -> None:
        """See `DatabaseServer`."""
        super().stop()
        self._front.stop()
        del self._front
