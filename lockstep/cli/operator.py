"""Both clouds as a person at a command line reaches them."""

from functools import partial

from lockstep.clouds import Clouds, open_secret
from lockstep.compiled import Store
from lockstep.identity import OPERATOR, Identity
from lockstep.loading import later
from lockstep.model import Credential
from lockstep.named import NamedStore
from lockstep.plan import Plan
from lockstep.ports import AuditLog, Signer
from lockstep.scope import BeforeSend, always
from lockstep.system import SystemClock
from lockstep.timeouts import Timeouts
from lockstep.wiring import endpoints_from_environment


def operator(plan: Plan, *, identity: Identity = OPERATOR, before_send: BeforeSend = always) -> Clouds:
    """What the plan names, opened as the operator.

    Args:
        plan: The plan.
        identity: Who the person is.
        before_send: Called before each request.
    """
    return Clouds(
        plan,
        identity,
        endpoints=endpoints_from_environment(),
        timeouts=Timeouts(),
        clock=SystemClock(),
        before_send=before_send,
    )


def streams(plan: Plan, clouds: Clouds, credential: Credential) -> list[tuple[AuditLog, Signer]]:
    """The audit streams of a credential with their keys: one for each cloud that runs rotations."""
    found = [clouds.stream("aws", credential)]
    if plan.runners.oci:
        found.append(clouds.stream("oci", credential))
    return found


def named_stores(plan: Plan, clouds: Clouds, credential: Credential) -> list[NamedStore]:
    """A credential's stores by the names of their versions, in the plan's order, each opened at its first use."""
    return [later(partial(_named, clouds, credential, config)) for config in plan.compiled.stores]


def _named(clouds: Clouds, credential: Credential, config: Store) -> NamedStore:
    opens = partial(open_secret, config, clouds)
    return NamedStore(config.name, credential, opens, side_by_side=clouds.side_by_side)
