"""The function that gets no ports: by a bug whose text and cause contain a secret, or by a refused key.

It logs when it forgets its identities.
"""

import os
from typing import Any

from lockstep.protocol.errors import LockTableAccessDeniedError
from lockstep.runtime.identity import OCI_RUNNER
from lockstep.runtime.wiring import hosted_runner
from lockstep.stores.credential import Ports
from oci_fn import func


class Failing:
    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the real one
        return getattr(hosted_runner(OCI_RUNNER), name)

    def own_function(self) -> None:
        return None

    def ports(self, credential_id: str) -> Ports:  # noqa: ARG002 - as the real one
        secret = os.environ.get("CANARY")
        if secret is None:
            raise LockTableAccessDeniedError
        raise RuntimeError(f"login failed for {secret}", {"password": secret}) from ValueError(secret)


failing: Any = Failing
handler = func.Function(failing, forget=lambda: func.logger.info("forgotten"))
