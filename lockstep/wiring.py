"""The composition root: the ports of one rotation, from a plan, an identity, endpoints, time-outs and a clock."""

import logging
import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lockstep.clouds import Clouds, Endpoints
from lockstep.compiled import AnyPlan, CompiledPlan, hosted_plan
from lockstep.errors import InvalidRequestError
from lockstep.identity import OCI_ENDPOINT_VARIABLE, Cloud, Identity
from lockstep.loading import later, load
from lockstep.ports import Clock, Ports
from lockstep.scope import BeforeSend, always, check_scope
from lockstep.system import SystemClock, SystemPasswords
from lockstep.timeouts import CloudTimeouts, Timeouts
from lockstep.workers import SideBySide, at_the_same_time

if TYPE_CHECKING:
    from lockstep.events.sending import Sink
    from lockstep.tracing.traces import Traces

PLAN_VARIABLE = "LOCKSTEP_PLAN"
"""The environment variable that holds the path of the plan file."""

EVENT_TIMEOUTS = CloudTimeouts(connect_seconds=1.0, read_seconds=2.0)
"""Of the calls that send events: somebody waits for what comes after them, and nobody for the events."""

TRACES_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""The environment variable that names the collector that gets a trace of each rotation."""
TRACES_OFF_VARIABLE = "OTEL_SDK_DISABLED"
"""`true`: nothing is traced all the same."""

logger = logging.getLogger("lockstep")

_DEFAULT_ENDPOINTS, _DEFAULT_TIMEOUTS, _DEFAULT_CLOCK = Endpoints(), Timeouts(), SystemClock()


T = TypeVar("T")


class NotTraced:
    """Stands for `lockstep.tracing.traces.Traces` where nothing is traced: all is left as it is."""

    def ports(self, _plan: CompiledPlan) -> Callable[[Ports], Ports]:
        """Leaves the ports as they are."""
        return _as_it_is

    def step(self, step: T) -> T:
        """The step itself."""
        return step

    def rotation(self, rotate: T) -> T:
        """The function itself."""
        return rotate

    def flush(self, *, seconds_left: float) -> None:
        """There is nothing to send."""


_NOT_TRACED = NotTraced()


def _as_it_is(given: T) -> T:
    return given


class Runner:
    """Builds the ports of a rotation, for one plan and one identity.

    Args:
        plan: What to rotate.
        identity: `lockstep.identity.AWS_RUNNER` or `OCI_RUNNER`.
        endpoints: Where the clouds are.
        timeouts: Bounds of every wait.
        clock: The time that every port goes by.
        side_by_side: Runs what does not depend on each other.
        before_send: Called before each request, connect and statement (protocol F11).
        seen_through: Puts something around the ports, or leaves them as they are.
    """

    def __init__(  # noqa: PLR0913 - all but two are keyword-only and have defaults
        self,
        plan: AnyPlan,
        identity: Identity,
        *,
        endpoints: Endpoints = _DEFAULT_ENDPOINTS,
        timeouts: Timeouts = _DEFAULT_TIMEOUTS,
        clock: Clock = _DEFAULT_CLOCK,
        side_by_side: SideBySide = at_the_same_time,
        before_send: BeforeSend = always,
        seen_through: Callable[[Ports], Ports] = _as_it_is,
    ) -> None:
        self.plan = plan.compiled
        self._seen_through = seen_through
        self._side_by_side = side_by_side
        self._cloud = identity.home
        self._clouds = Clouds(
            plan,
            identity,
            endpoints=endpoints,
            timeouts=timeouts,
            clock=clock,
            before_send=before_send,
            side_by_side=side_by_side,
        )

    def ports(self, credential_id: str) -> Ports:
        """The ports of a credential, each opened when a step first uses it.

        Raises:
            InvalidRequestError: The plan has no such credential.
            InvalidPlanError: The plan has no such runner.
        """
        credential = self.plan.credential(credential_id)
        if credential is None:
            raise InvalidRequestError(credential=credential_id)
        clouds, cloud = self._clouds, self._cloud
        clouds.require_stream(cloud)
        ports = Ports(
            runner=cloud,
            credential=credential,
            stores=later(partial(clouds.stores, credential)),
            databases={s.name: later(partial(clouds.database, s, credential)) for s in credential.servers},
            side_by_side=self._side_by_side,
            lock=later(partial(clouds.lock, credential)),
            home_store=later(partial(clouds.home_store, credential)),
            audit_log=later(partial(clouds.log, cloud, credential)),
            other_logs=partial(clouds.other_logs, cloud, credential),
            signer=later(partial(clouds.signer, cloud)),
            clock=clouds.clock,
            passwords=SystemPasswords(),
        )
        return self._seen_through(ports)


def event_sink(
    plan: AnyPlan,
    cloud: Cloud,
    identity: Identity,
    *,
    endpoints: Endpoints,
    clock: Clock = _DEFAULT_CLOCK,
    before_send: BeforeSend = always,
) -> "Sink | None":
    """Where events of a cloud go; None where the plan names nothing there. Then nothing is loaded.

    Args:
        plan: The plan.
        cloud: The cloud.
        identity: Who sends.
        endpoints: Where the clouds are.
        clock: Of the caller.
        before_send: Called before each request (protocol F11).
    """
    bus, topic = plan.compiled.event_bus, plan.compiled.event_topic
    clouds = partial(
        Clouds,
        plan,
        identity,
        endpoints=endpoints,
        timeouts=Timeouts(cloud=EVENT_TIMEOUTS),
        clock=clock,
        before_send=before_send,
    )
    if cloud == "aws" and bus:
        from lockstep.aws.eventbridge import EventBridgeBus  # noqa: PLC0415 - only who sends events loads it

        return EventBridgeBus(clouds().aws("events", bus.region), bus.name)
    if cloud == "oci" and topic:
        from lockstep.oci.notifications import NotificationsTopic  # noqa: PLC0415 - likewise

        return NotificationsTopic(clouds().oci(topic.region), topic.topic_id)
    return None


def endpoints_from_environment() -> Endpoints:
    """Where the clouds are, as the environment says."""
    return Endpoints(oci=os.environ.get(OCI_ENDPOINT_VARIABLE))


@cache
def hosted_runner(
    identity: Identity,
    timeouts: Timeouts = _DEFAULT_TIMEOUTS,
    clock: Clock = _DEFAULT_CLOCK,
    side_by_side: SideBySide = at_the_same_time,
) -> Runner:
    """The runner of a function: its plan and its endpoints are those that the environment names. Made once.

    Its calls must belong to an open scope (protocol F11).

    Raises:
        PlanProblemsError: The plan file is not valid.
    """
    plan = hosted_plan(Path(os.environ.get(PLAN_VARIABLE, "lockstep.yaml")))
    return Runner(
        plan,
        identity,
        endpoints=endpoints_from_environment(),
        timeouts=timeouts,
        clock=clock,
        side_by_side=side_by_side,
        before_send=check_scope,
        seen_through=hosted_traces().ports(plan.compiled),
    )


def hosted_traces() -> "Traces | NotTraced":
    """What records the rotations of this process, if the environment names a collector. If not, nothing is loaded."""
    if not os.environ.get(TRACES_VARIABLE) or os.environ.get(TRACES_OFF_VARIABLE, "").lower() == "true":
        return _NOT_TRACED
    try:
        return _traces()
    except ModuleNotFoundError:
        logger.warning("traces were not sent: this bundle was built without tracing")
        return _NOT_TRACED


@cache
def _traces() -> "Traces":
    make, send = load("lockstep.tracing.traces:Traces"), load("lockstep.tracing.sending:send")
    traces: Traces = make(clock=_DEFAULT_CLOCK, send=send)
    return traces


def forget() -> None:
    """Forget the hosted runners. The next one is made from the environment and the keys as they are then."""
    hosted_runner.cache_clear()
