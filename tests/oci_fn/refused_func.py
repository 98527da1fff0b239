"""The function with a refused key of the other cloud; it logs when it forgets its identities."""

from lockstep.plan.compiled import CompiledPlan
from lockstep.plan.published import Index
from lockstep.protocol.errors import LockTableAccessDeniedError
from lockstep.protocol.ports import Table
from lockstep.runtime.identity import OCI_RUNNER
from lockstep.runtime.wiring import hosted_runner
from lockstep.stores.credential import Ports
from oci_fn import func


class Refused:
    @property
    def plan(self) -> CompiledPlan:
        return hosted_runner(OCI_RUNNER).plan

    @property
    def index(self) -> Index:
        return hosted_runner(OCI_RUNNER).index

    def lock_table(self) -> Table:
        return hosted_runner(OCI_RUNNER).lock_table()

    def own_function(self) -> None:
        return None

    def ports(self, credential_id: str) -> Ports:  # noqa: ARG002 - as the real one
        raise LockTableAccessDeniedError


handler = func.Function(Refused, forget=lambda: func.logger.info("forgotten"))
