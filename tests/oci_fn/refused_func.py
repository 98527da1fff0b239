"""The function with a key of the other cloud that is refused; says so when it forgets what it has read."""

from lockstep import wiring
from lockstep.errors import LockTableAccessDeniedError
from lockstep.ports import Ports
from oci_fn import func


def _ports(_credential_id: str) -> Ports:
    raise LockTableAccessDeniedError


def _forget() -> None:
    func.logger.info("forgotten")


func._ports = _ports  # type: ignore[assignment]  # its parameter has another name
wiring.forget = _forget
handler = func.handler
