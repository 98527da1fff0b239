"""Both clouds as a person at a command line reaches them."""

from functools import partial

from lockstep.audit.digest import Evidence
from lockstep.plan.compiled import Store
from lockstep.plan.model import Plan
from lockstep.protocol.model import Credential
from lockstep.protocol.ports import AuditLog, Signer
from lockstep.runtime.clouds import Clouds, lazy, open_secret
from lockstep.runtime.identity import OPERATOR, Cloud, Identity
from lockstep.stores.readers import NamedStore


def operator(plan: Plan, *, identity: Identity = OPERATOR) -> Clouds:
    """What the plan names, opened as the operator, or as who else the person is."""
    return Clouds(plan, identity)


def running(plan: Plan) -> list[Cloud]:
    """The clouds that run rotations."""
    return ["aws", "oci"] if plan.runners.oci else ["aws"]


def evidence_of(plan: Plan, clouds: Clouds) -> list[Evidence]:
    """The audit log with its digests, of each cloud that runs rotations."""
    return [clouds.evidence(cloud) for cloud in running(plan)]


def streams(plan: Plan, clouds: Clouds, credential: Credential) -> list[tuple[AuditLog, Signer]]:
    """The audit streams of a credential with their keys, of each cloud that runs rotations."""
    return [(clouds.log(cloud, credential.id), clouds.signer(cloud)) for cloud in running(plan)]


def named_stores(plan: Plan, clouds: Clouds, credential: Credential) -> list[NamedStore]:
    """A credential's stores by the names of their versions, in the plan's order, each opened at its first use."""
    return [lazy(partial(_named, clouds, credential, config)) for config in plan.compiled.stores]


def _named(clouds: Clouds, credential: Credential, config: Store) -> NamedStore:
    opens = partial(open_secret, config, clouds)
    return NamedStore(config.name, credential, opens, side_by_side=clouds.side_by_side)
