"""An OCI function whose runs behave as the names of their credentials say; see `tests.frozen.work.behave`."""

from typing import Any

from lockstep.runtime.identity import OCI_RUNNER
from lockstep.runtime.wiring import hosted_runner
from lockstep.stores.credential import Ports
from oci_fn import face, func
from tests.frozen.work import behave

# So that a run may begin shortly before the deadline.
vars(face).update(MARGIN_SECONDS=1.0)


class Acting:
    """A runner."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the shipped one
        return getattr(hosted_runner(OCI_RUNNER), name)

    def own_function(self) -> None:
        """No call is handed on."""

    def ports(self, credential_id: str) -> Ports:
        """Behave."""
        behave(credential_id.rpartition("/")[2], hosted_runner(OCI_RUNNER).ports(credential_id))


acting: Any = Acting
handler = func.Function(acting)
