"""The composition root: the ports of one rotation, from a plan, an identity, time-outs and a clock."""

import os
from functools import cache, partial
from typing import TYPE_CHECKING

from lockstep.plan.compiled import hosted_plan
from lockstep.plan.published import (
    PLAN_NAME,
    Index,
    PlanInBucket,
    PlanSource,
    PublishedPlan,
    WholePlan,
    place_of,
)
from lockstep.protocol.deadlines import check_scope
from lockstep.protocol.errors import InvalidPlanError
from lockstep.runtime.clouds import Clouds, lazy
from lockstep.runtime.identity import DEPLOYER, Identity
from lockstep.runtime.system import SystemPasswords
from lockstep.stores.credential import Ports

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockstep.audit.digest import DigestKey, Maker
    from lockstep.oci.functions import OwnFunction

PLAN_VARIABLE = "LOCKSTEP_PLAN"
"""The environment variable that says where the plan is: a file, or an address (`lockstep.plan.published`)."""

DIGEST_VARIABLE = "LOCKSTEP_DIGEST_KEY"
"""The key of a function that makes digests: its ARN in AWS; in OCI its OCID, then @ and the endpoint of its vault."""
DOCTOR_VARIABLE = "LOCKSTEP_DOCTOR"
"""Set where the function in OCI answers `lockstep doctor --in-cloud` and nothing else."""
FUNCTION_VARIABLE, REGION_VARIABLE = "FN_FN_ID", "OCI_RESOURCE_PRINCIPAL_REGION"
"""A function's own OCID, and its region, as OCI says them in its environment
(https://docs.oracle.com/iaas/Content/Functions/Tasks/functionsenvironmentvariables.htm)."""


class Runner(Clouds):
    """What rotates the credentials of a plan, as one identity."""

    @property
    def index(self) -> Index:
        """What is known of all credentials.

        Raises:
            LockstepError: As `PlanSource.index`.
        """
        return self.source.index

    def ports(self, credential_id: str) -> Ports:
        """The ports of a credential, each opened when a step first uses it.

        Raises:
            InvalidRequestError: The plan has no such credential.
            InvalidPlanError: The plan has no such runner.
            LockstepError: As `PlanSource.of`.
        """
        credential = self.source.of(credential_id).found(credential_id)
        if self.home == "oci" and not (self.plan.oci_stream and self.plan.vault):
            raise InvalidPlanError
        return Ports(
            runner=self.home,
            credential=credential,
            stores=lazy(partial(self.stores, credential)),
            databases={s.name: lazy(partial(self.database, s, credential)) for s in credential.servers},
            side_by_side=self.side_by_side,
            lock=lazy(partial(self.lock, credential)),
            audit_log=lazy(partial(self.log, self.home, credential.id)),
            signer=lazy(partial(self.signer, self.home)),
            clock=self.clock,
            passwords=SystemPasswords(),
        )

    def maker(self, open_key: "Callable[[Clouds], DigestKey]") -> "Maker":
        """What makes the digests of this identity's cloud.

        Args:
            open_key: Gives the key that signs them.

        Raises:
            InvalidPlanError: The plan has no audit stream there.
        """
        from lockstep.audit.digest import Maker

        own, other = self.evidence(self.home), None
        if self.plan.to_aws:
            other = self.evidence("oci" if self.home == "aws" else "aws")
        return Maker(
            own=own, other=other, key=open_key(self), clock=self.clock, side_by_side=self.side_by_side
        )

    def own_function(self) -> "OwnFunction | None":
        """The function in OCI that this process is an instance of; None where it is none."""
        function_id, region = (os.environ.get(name) for name in (FUNCTION_VARIABLE, REGION_VARIABLE))
        if not (function_id and region):
            return None
        from lockstep.oci.functions import OwnFunction

        return OwnFunction(self.oci(region), function_id)


@cache
def hosted_runner(identity: Identity) -> Runner:
    """The runner of a function: its plan is the one that the environment names. Made once.

    Its calls must belong to an open scope (protocol F11).

    Raises:
        PlanProblemsError: The plan file is not valid.
    """
    return Runner(hosted_source(), identity, deadline_guard=check_scope)


@cache
def hosted_source() -> PlanSource:
    """Where the environment says that the plan is. Made once; its calls must belong to an open scope (protocol F11).

    Raises:
        InvalidPlanError: The plan file is not valid, or the address is none.
    """
    place = place_of(os.environ.get(PLAN_VARIABLE, PLAN_NAME))
    return _in_bucket(place) if isinstance(place, PlanInBucket) else WholePlan(hosted_plan(place))


def _in_bucket(place: PlanInBucket) -> PublishedPlan:
    """The plan in a bucket, which is read as what the environment gives."""
    documents = lazy(lambda: Clouds(found, DEPLOYER, deadline_guard=check_scope).published(place))
    found = PublishedPlan(place.digest, documents)
    return found


def forget() -> None:
    """Forget the hosted runners. The next one is made from the environment and the keys as they are then."""
    hosted_runner.cache_clear()
    hosted_source.cache_clear()
