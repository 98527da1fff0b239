"""The composition root: the ports of one rotation, from a plan, an identity, time-outs and a clock."""

import logging
import os
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from lockstep.plan.compiled import AnyPlan, CompiledPlan, hosted_plan
from lockstep.plan.published import (
    CA_FOLDER,
    Documents,
    FolderOfPlan,
    Index,
    PlanInBucket,
    PlanSource,
    PublishedPlan,
    WholePlan,
    folder_of,
    place_of,
)
from lockstep.protocol.deadlines import CloudTimeouts, DeadlineGuard, Timeouts, always, check_scope
from lockstep.protocol.errors import InvalidPlanError
from lockstep.protocol.ports import Clock
from lockstep.protocol.workers import READS, SideBySide, at_the_same_time
from lockstep.runtime.clouds import Clouds, lazy
from lockstep.runtime.identity import Cloud, Identity, oci_endpoint, own_oci_identity
from lockstep.runtime.system import SystemClock, SystemPasswords
from lockstep.stores.credential import Ports

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockstep.audit.digest import DigestKey, Maker
    from lockstep.oci.clients import OciClients
    from lockstep.oci.functions import OwnFunction
    from lockstep.plan.published import PlanBucket
    from lockstep.protocol.events import Sink
    from lockstep.protocol.ports import Table

PLAN_VARIABLE = "LOCKSTEP_PLAN"
"""The environment variable that says where the plan is: a file, or an address (`lockstep.plan.published`)."""
PLAN_NAME = "lockstep.yaml"
"""The plan file where nothing says another."""

DIGEST_VARIABLE = "LOCKSTEP_DIGEST_KEY"
"""The key of a function that makes digests: its ARN in AWS; in OCI its OCID, then @ and the endpoint of its vault."""
DOCTOR_VARIABLE = "LOCKSTEP_DOCTOR"
"""Set where the function in OCI answers `lockstep doctor --in-cloud` and nothing else."""
FUNCTION_VARIABLE, REGION_VARIABLE = "FN_FN_ID", "OCI_RESOURCE_PRINCIPAL_REGION"
"""A function's own OCID, and its region, as OCI says them in its environment
(https://docs.oracle.com/iaas/Content/Functions/Tasks/functionsenvironmentvariables.htm)."""

EVENT_TIMEOUTS = CloudTimeouts(connect_seconds=1.0, read_seconds=2.0)
"""Of the calls that send events: somebody waits for what comes after them, and nobody for the events."""

logger = logging.getLogger("lockstep")


class Runner:
    """Builds the ports of a rotation, for one plan and one identity.

    Args:
        plan: What to rotate, or where each credential is found.
        identity: `lockstep.runtime.identity.AWS_RUNNER` or `OCI_RUNNER`.
        timeouts: Bounds of every wait.
        clock: The time that every port goes by.
        side_by_side: Runs what does not depend on each other.
        deadline_guard: Called before each request, connect and statement (protocol F11).
    """

    def __init__(
        self,
        plan: AnyPlan | PlanSource,
        identity: Identity,
        *,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - it cannot change
        clock: Clock = SystemClock(),  # noqa: B008 - it cannot change
        side_by_side: SideBySide = at_the_same_time,
        deadline_guard: DeadlineGuard = always,
    ) -> None:
        self._source = plan if isinstance(plan, PlanSource) else WholePlan(plan.compiled)
        self._cloud = identity.home
        self._open = partial(
            Clouds,
            identity=identity,
            timeouts=timeouts,
            clock=clock,
            deadline_guard=deadline_guard,
            side_by_side=side_by_side,
            find=self._source.of,
        )
        self._opening = Lock()
        self._opened: Clouds | None = None

    @property
    def plan(self) -> CompiledPlan:
        """What does not belong to a credential; with the credentials where the runner was given a whole plan.

        Raises:
            LockstepError: As `PlanSource.index`.
        """
        return self._source.plan

    @property
    def index(self) -> Index:
        """What is known of all credentials.

        Raises:
            LockstepError: As `PlanSource.index`.
        """
        return self._source.index

    def ports(self, credential_id: str) -> Ports:
        """The ports of a credential, each opened when a step first uses it.

        Raises:
            InvalidRequestError: The plan has no such credential.
            InvalidPlanError: The plan has no such runner.
            LockstepError: As `PlanSource.of`.
        """
        plan = self._source.of(credential_id)
        credential = plan.found(credential_id)
        clouds, cloud = self._clouds(plan), self._cloud
        if cloud == "oci" and not (plan.oci_stream and plan.vault):
            raise InvalidPlanError
        return Ports(
            runner=cloud,
            credential=credential,
            stores=lazy(partial(clouds.stores, credential)),
            databases={s.name: lazy(partial(clouds.database, s, credential)) for s in credential.servers},
            side_by_side=clouds.side_by_side,
            lock=lazy(partial(clouds.lock, credential)),
            audit_log=lazy(partial(clouds.log, cloud, credential.id)),
            signer=lazy(partial(clouds.signer, cloud)),
            clock=clouds.clock,
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

        plan = self._source.plan
        clouds = self._clouds(plan)
        own, other = clouds.evidence(self._cloud), None
        if plan.to_aws:
            other = clouds.evidence("oci" if self._cloud == "aws" else "aws")
        return Maker(own=own, other=other, key=open_key(clouds), clock=clouds.clock, side_by_side=READS)

    def lock_table(self) -> "Table":
        """Every lock record.

        Raises:
            LockTableUnreachableError: The table did not answer.
            LockTableAccessDeniedError: It is not there, or this identity may not read all of it.
        """
        return self._clouds(self._source.plan).lock_table()

    def own_function(self) -> "OwnFunction | None":
        """The function in OCI that this process is an instance of; None where it is none."""
        function_id, region = (os.environ.get(name) for name in (FUNCTION_VARIABLE, REGION_VARIABLE))
        if not (function_id and region):
            return None
        from lockstep.oci.functions import OwnFunction

        return OwnFunction(self._clouds(self._source.plan).oci(region), function_id)

    def _clouds(self, plan: CompiledPlan) -> Clouds:
        """The clients of all credentials: what a client needs of the plan does not belong to a credential."""
        with self._opening:
            self._opened = self._opened or self._open(plan)
            return self._opened


def event_sink(
    plan: AnyPlan,
    cloud: Cloud,
    identity: Identity,
    *,
    clock: Clock = SystemClock(),  # noqa: B008 - it cannot change
    deadline_guard: DeadlineGuard = always,
) -> "Sink | None":
    """Where events of a cloud go; None where the plan names nothing there. Then nothing is loaded.

    Args:
        plan: The plan.
        cloud: The cloud.
        identity: Who sends.
        clock: Of the caller.
        deadline_guard: Called before each request (protocol F11).
    """
    bus, topic = plan.compiled.event_bus, plan.compiled.event_topic
    clouds = partial(
        Clouds,
        plan,
        identity,
        timeouts=Timeouts(cloud=EVENT_TIMEOUTS),
        clock=clock,
        deadline_guard=deadline_guard,
    )
    if cloud == "aws" and bus:
        from lockstep.aws.eventbridge import EventBridgeBus

        return EventBridgeBus(clouds().aws("events", bus.region), bus.name)
    if cloud == "oci" and topic:
        from lockstep.oci.notifications import NotificationsTopic

        return NotificationsTopic(clouds().oci(topic.region), topic.topic_id)
    return None


@cache
def hosted_runner(
    identity: Identity,
    timeouts: Timeouts = Timeouts(),  # noqa: B008 - it cannot change
    clock: Clock = SystemClock(),  # noqa: B008 - it cannot change
    side_by_side: SideBySide = at_the_same_time,
) -> Runner:
    """The runner of a function: its plan is the one that the environment names. Made once.

    Its calls must belong to an open scope (protocol F11).

    Raises:
        PlanProblemsError: The plan file is not valid.
    """
    return Runner(
        hosted_source(),
        identity,
        timeouts=timeouts,
        clock=clock,
        side_by_side=side_by_side,
        deadline_guard=check_scope,
    )


@cache
def hosted_source() -> PlanSource:
    """Where the environment says that the plan is. Made once; its calls must belong to an open scope (protocol F11).

    Raises:
        InvalidPlanError: The plan file is not valid, or the address is none.
    """
    match place_of(os.environ.get(PLAN_VARIABLE, PLAN_NAME)):
        case Path() as folder if folder.is_dir():
            return PublishedPlan(folder.name, FolderOfPlan(folder), ca_folder=folder)
        case Path() as file:
            return WholePlan(hosted_plan(file))
        case PlanInBucket() as place:
            return PublishedPlan(place.digest, lazy(partial(_bucket, place)), ca_folder=CA_FOLDER)


def folder_at(
    place: PlanInBucket, *, aws: "Callable[[str, str], Any]", oci: "Callable[[str], OciClients]"
) -> "PlanBucket":
    """The folder of a published plan.

    Args:
        place: Where it is.
        aws: Gives a client of a service in a region.
        oci: Gives the clients of a region.
    """
    folder = folder_of(place.digest)
    if not place.namespace:
        from lockstep.aws.s3 import S3Folder

        return S3Folder(aws("s3", place.region), place.bucket, folder)
    from lockstep.oci.object_storage import ObjectStorageFolder

    clients = oci(place.region)
    return ObjectStorageFolder(clients, namespace=place.namespace, bucket=place.bucket, folder=folder)


def _bucket(place: PlanInBucket) -> Documents:
    from lockstep.aws.clients import aws_client

    def oci(region: str) -> "OciClients":
        from lockstep.oci.clients import OciClients

        return OciClients(own_oci_identity, region, endpoint=oci_endpoint(), deadline_guard=check_scope)

    return folder_at(place, aws=partial(aws_client, deadline_guard=check_scope), oci=oci)


def forget() -> None:
    """Forget the hosted runners. The next one is made from the environment and the keys as they are then."""
    hosted_runner.cache_clear()
    hosted_source.cache_clear()
