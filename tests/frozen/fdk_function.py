"""An OCI function whose runs behave as the names of their credentials say; see `lambda_function.Ask.act`."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from lockstep.plan.published import Index
from lockstep.protocol.errors import StoresDivergedError
from lockstep.protocol.workers import at_the_same_time
from lockstep.runtime.identity import OCI_RUNNER
from lockstep.runtime.wiring import hosted_runner
from lockstep.stores.credential import Ports
from oci_fn import func
from tests.frozen.work import Signs, late_call, wait_for


class Acting:
    """A runner."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the shipped one
        return getattr(hosted_runner(OCI_RUNNER), name)

    @property
    def index(self) -> Index:
        """As the shipped one, unless looking at it is to take for ever."""
        if Signs.from_environment().endless.exists():
            _never()
        return hosted_runner(OCI_RUNNER).index

    def own_function(self) -> None:
        """No call is handed on."""

    def ports(self, credential_id: str) -> Ports:
        """Behave; then fail, so that no rotation begins, with an error that is not tried again (`oci_fn.retries`).

        As with `index`, looking at it may be to take for ever.
        """
        signs = Signs.from_environment()
        if signs.endless.exists():
            _never()
        ports = hosted_runner(OCI_RUNNER).ports(credential_id)
        match credential_id.rpartition("/")[2]:
            case "warm":
                ports.lock.read()
            case "leave":
                ThreadPoolExecutor().submit(copy_context().run, late_call(ports))
                wait_for(signs.held)
            case "join":
                at_the_same_time([_fail, late_call(ports)])
            case "hang":
                at_the_same_time([_fail, _never])
            case "look":
                ports.lock.read()
                wait_for(signs.outcome)
        raise StoresDivergedError


def _never() -> None:
    threading.Event().wait()


def _fail() -> None:
    raise StoresDivergedError


acting: Any = Acting
handler = func.Function(acting)
