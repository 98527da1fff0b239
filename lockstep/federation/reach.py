"""What a session is made with: the clouds, as the process reaches them without it."""

from typing import TYPE_CHECKING, Any, Protocol

from lockstep.ports import Clock
from lockstep.scope import BeforeSend
from lockstep.timeouts import Timeouts
from lockstep.workers import SideBySide

if TYPE_CHECKING:
    from lockstep.clouds import Endpoints
    from lockstep.compiled import CompiledPlan
    from lockstep.oci.clients import OciClients


class Reach(Protocol):
    """The part of `lockstep.clouds.Clouds` that makes sessions.

    Attributes:
        kept: What lives as long as the clients: one session serves all regions.
    """

    clock: Clock
    side_by_side: SideBySide
    endpoints: "Endpoints"
    timeouts: Timeouts
    before_send: BeforeSend
    plan: "CompiledPlan"
    kept: dict[str, Any]

    def aws(self, service: str, region: str) -> Any:  # noqa: ANN401 - botocore makes its clients' types at run time
        """A client of an AWS service."""

    def oci(self, region: str) -> "OciClients":
        """The OCI clients of a region."""

    def secret(self, name: str) -> str:
        """The text of a secret in the identity's home."""
