"""The function with a refused key of the other cloud; it logs when it forgets its identities."""

from lockstep.compiled import CompiledPlan
from lockstep.errors import LockTableAccessDeniedError
from lockstep.identity import OCI_RUNNER
from lockstep.ports import Ports
from lockstep.published.documents import Index
from lockstep.watch import Table
from lockstep.wiring import hosted_runner
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
