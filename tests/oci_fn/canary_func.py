"""The function with a bug: building the ports raises an error whose text and cause contain a secret."""

import os

from lockstep.plan.compiled import CompiledPlan
from lockstep.plan.published import Index
from lockstep.protocol.ports import Table
from lockstep.runtime.identity import OCI_RUNNER
from lockstep.runtime.wiring import hosted_runner
from lockstep.stores.credential import Ports
from oci_fn import func


class Buggy:
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
        secret = os.environ["CANARY"]
        raise RuntimeError(f"login failed for {secret}", {"password": secret}) from ValueError(secret)


handler = func.Function(Buggy)
