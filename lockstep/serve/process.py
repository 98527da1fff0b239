"""The page as a process: it looks, and answers requests until it is told to end."""

import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass

from lockstep.agent.listening import listener_of
from lockstep.agent.server import server_of
from lockstep.cli.operator import operator
from lockstep.plan import Plan
from lockstep.serve.calls import Calls
from lockstep.serve.http import Site, app_of
from lockstep.serve.looking import Looker
from lockstep.serve.pages import Pages
from lockstep.serve.poller import Poller
from lockstep.system import SystemClock

_ENDS = (signal.SIGTERM, signal.SIGINT)
HTTP = 80


@dataclass(frozen=True, slots=True)
class Address:
    """Where the page is: a socket of loopback that listens."""

    listener: socket.socket
    host: str
    port: int

    @classmethod
    def taken(cls, host: str, port: int) -> "Address":
        """Listen from now on.

        Raises:
            ListenError: The port is taken, or this user may not.
        """
        listener = listener_of(host, port)
        return cls(listener, host, listener.getsockname()[1])

    @property
    def url(self) -> str:
        """To be opened."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    @property
    def names(self) -> frozenset[str]:
        """What a browser may call it: host and port, without the port where it is that of HTTP."""
        hosts = (f"[{self.host}]" if ":" in self.host else self.host, "localhost")
        return frozenset(
            {f"{host}:{self.port}" for host in hosts} | ({*hosts} if self.port == HTTP else set())
        )


def serve_until_signal(
    plan: Plan, address: Address, *, machine: Callable[[], str], ready: Callable[[], None]
) -> None:
    """Look and answer until SIGTERM or SIGINT.

    Args:
        plan: The plan.
        address: Where.
        machine: Returns the ARN of the state machine, or of an alias of it.
        ready: Called once it answers.

    Raises:
        LockstepError: The lock table cannot be read at the start.
    """
    clock = SystemClock()
    calls = Calls(clock.monotonic)
    poller = Poller(Looker(plan, operator(plan, before_send=calls.count), calls, machine), clock)
    site = Site(poller, Pages(f"{plan.lock.table}, {plan.lock.region}"), calls, clock)
    server, end = server_of(app_of(site, address.names), graceful_seconds=2)

    # Uvicorn has handlers of its own meanwhile; afterwards it raises what it has received again.
    before = {number: signal.signal(number, end) for number in _ENDS}
    try:
        with poller.looking():
            ready()
            server.run([address.listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
