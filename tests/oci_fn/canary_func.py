"""The function with a bug: what builds its ports raises an error whose text and cause hold a secret."""

import os

from lockstep.ports import Ports
from oci_fn import func


def _ports(_credential_id: str) -> Ports:
    secret = os.environ["CANARY"]
    raise RuntimeError(f"login failed for {secret}", {"password": secret}) from ValueError(secret)


func._ports = _ports  # type: ignore[assignment]  # its parameter has another name
handler = func.handler
