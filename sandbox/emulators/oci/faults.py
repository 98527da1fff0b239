"""What goes wrong on purpose: refusals, silence, lost requests, and replies that are lost, cut, slow or another's.

Every fault is armed on calls that match it, by operation, service and resource, for a number of times or until it is
lifted. It can be used as a context manager, which lifts it at the end.
"""

import threading
from dataclasses import dataclass, field
from enum import Enum
from typing import Self, TypedDict, Unpack

from sandbox.emulators.oci.calls import Service, Target
from sandbox.emulators.oci.errors import ApiError
from sandbox.emulators.oci.wire import Reply


class Effect(Enum):
    """What a fault does to a call."""

    REFUSE = "answer with an error, without effect"
    DROP_REQUEST = "close the connection; the service does not see the request"
    DROP_REPLY = "let the request take effect, then close the connection"
    HANG = "hold the request until the fault is lifted, then close the connection; it has no effect"
    REPLACE = "answer with another reply, without effect"
    CUT = "let the request take effect, then close the connection in the middle of the reply"
    TRICKLE = "let the request take effect, then send one byte of the reply after the other"


@dataclass(eq=False)
class Fault:
    """A fault that is armed.

    Attributes:
        reply: What it answers.
        trickle_seconds: Between two bytes of the reply.
        hits: How many calls it has struck.
        struck: Set from its first hit on, so that a test can wait until a call hangs.
    """

    effect: Effect
    service: Service | None
    operation: str | None
    resource: str | None
    remaining: int | None
    error: ApiError | None = None
    reply: Reply | None = None
    trickle_seconds: float = 0.0
    hits: int = 0
    struck: threading.Event = field(default_factory=threading.Event, repr=False)
    _released: threading.Event = field(default_factory=threading.Event, repr=False)

    def matches(self, target: Target) -> bool:
        """Whether a call of this kind would be struck."""
        return (
            self.remaining != 0
            and not self._released.is_set()
            and self.service in {None, target.route.service}
            and self.operation in {None, target.route.operation}
            and self.resource in {None, target.resource}
        )

    @property
    def is_spent(self) -> bool:
        """Whether it strikes no more calls and holds none."""
        return self._released.is_set() or (self.remaining == 0 and self.effect is not Effect.HANG)

    def strike(self) -> None:
        """Count one hit."""
        self.hits += 1
        if self.remaining is not None:
            self.remaining -= 1
        self.struck.set()

    def lift(self) -> None:
        """Strike no more, and let go of what is held."""
        self._released.set()

    def wait_until_lifted(self) -> None:
        """Hold the calling thread."""
        self._released.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lift()


class Where(TypedDict, total=False):
    """Which calls a fault strikes beside its operation, and how often (once; with None, every time)."""

    service: Service | None
    resource: str | None
    times: int | None


class Faults:
    """The armed faults; of those that match a call the first armed strikes."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._armed: list[Fault] = []

    def refuse(
        self, operation: str | None = None, *, status: int, code: str, **where: Unpack[Where]
    ) -> Fault:
        """Answer with an error, without effect."""
        return self._arm(Effect.REFUSE, operation, where, ApiError(status, code, "refused by an armed fault"))

    def drop_request(self, operation: str | None = None, **where: Unpack[Where]) -> Fault:
        """Close the connection before the call has an effect."""
        return self._arm(Effect.DROP_REQUEST, operation, where)

    def drop_reply(self, operation: str | None = None, **where: Unpack[Where]) -> Fault:
        """Close the connection after the call has had its effect."""
        return self._arm(Effect.DROP_REPLY, operation, where)

    def hang(self, operation: str | None = None, **where: Unpack[Where]) -> Fault:
        """Answer nothing until lifted; the call has no effect."""
        return self._arm(Effect.HANG, operation, where)

    def replace(self, operation: str | None = None, *, reply: Reply, **where: Unpack[Where]) -> Fault:
        """Answer with something else, such as the page of a proxy, without effect."""
        return self._arm(Effect.REPLACE, operation, where, reply=reply)

    def cut(self, operation: str | None = None, **where: Unpack[Where]) -> Fault:
        """Close the connection in the middle of the reply, after the call has had its effect."""
        return self._arm(Effect.CUT, operation, where)

    def trickle(
        self, operation: str | None = None, *, seconds: float = 0.05, **where: Unpack[Where]
    ) -> Fault:
        """Send a byte of the reply every `seconds`, so that no wait for a part of it is long."""
        return self._arm(Effect.TRICKLE, operation, where, trickle_seconds=seconds)

    def outage(self, service: Service) -> Fault:
        """Every call to a service loses its connection until the fault is lifted."""
        return self.drop_request(service=service, times=None)

    def clear(self) -> None:
        """Lift all."""
        with self._lock:
            armed, self._armed = self._armed, []
        for fault in armed:
            fault.lift()

    def strike(self, target: Target) -> Fault | None:
        """The fault that strikes this call, counted; None for an undisturbed one."""
        with self._lock:
            for fault in self._armed:
                if fault.matches(target):
                    fault.strike()
                    return fault
        return None

    def _arm(
        self,
        effect: Effect,
        operation: str | None,
        where: Where,
        error: ApiError | None = None,
        *,
        reply: Reply | None = None,
        trickle_seconds: float = 0.0,
    ) -> Fault:
        fault = Fault(
            effect,
            where.get("service"),
            operation,
            where.get("resource"),
            where.get("times", 1),
            error,
            reply,
            trickle_seconds,
        )
        with self._lock:
            self._armed = [other for other in self._armed if not other.is_spent]
            self._armed.append(fault)
        return fault
