"""Both clouds as an operator reaches them: as whoever the environment says, in each."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.identity import CONFIG_FILE_VARIABLE, RESOURCE_PRINCIPAL_VARIABLE, own_oci_identity
from lockstep.model import Credential
from lockstep.plan import Plan
from lockstep.ports import AuditLog, Lock, Signer, Store
from lockstep.wiring import AwsRunner, OciRunner

if TYPE_CHECKING:
    from lockstep.oci.clients import OciIdentity


class Operator(AwsRunner):
    """A person at a command line.

    In AWS what the environment gives. In OCI what the environment names; else the AWS runner's key, where the
    operator may read that.
    """

    def lock(self, credential: Credential) -> Lock:
        """The credential's lock record."""
        table = self.plan.lock
        return DynamoDbLock(self.aws("dynamodb", table.region), table.table, credential.id)

    def stores(self, credential: Credential) -> Sequence[Store]:
        """The credential's stores, in the plan's order."""
        return [self._store(config, credential) for config in self.plan.stores]

    def streams(self, credential: Credential) -> list[tuple[AuditLog, Signer]]:
        """The credential's audit streams with their keys: that of each cloud that runs rotations."""
        found = [(self.audit_log(credential), self.signer())]
        if self.plan.runners.oci:
            oci = _OciOperator(self.plan, self.oci_identity)
            found.append((oci.audit_log(credential), oci.signer()))
        return found

    def oci_identity(self) -> "OciIdentity":
        """Who the operator is in OCI."""
        if os.environ.keys() & {CONFIG_FILE_VARIABLE, RESOURCE_PRINCIPAL_VARIABLE}:
            return own_oci_identity()
        return super().oci_identity()


class _OciOperator(OciRunner):
    """The OCI stream, read as the operator."""

    def __init__(self, plan: Plan, identity: "Callable[[], OciIdentity]") -> None:
        super().__init__(plan)
        self._identity = identity

    def oci_identity(self) -> "OciIdentity":
        return self._identity()
