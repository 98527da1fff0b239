"""Both clouds as a person at a command line reaches them."""

from lockstep.audit.digest import Evidence
from lockstep.plan.model import Plan
from lockstep.plan.published import WholePlan
from lockstep.protocol.model import Credential
from lockstep.protocol.ports import AuditLog, Signer
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import OPERATOR, Cloud, Identity


def operator(plan: Plan, *, identity: Identity = OPERATOR) -> Clouds:
    """What the plan names, opened as the operator, or as who else the person is."""
    return Clouds(WholePlan(plan.compiled), identity)


def running(plan: Plan) -> list[Cloud]:
    """The clouds that run rotations."""
    return ["aws", "oci"] if plan.runners.oci else ["aws"]


def evidence_of(plan: Plan, clouds: Clouds) -> list[Evidence]:
    """The audit log with its digests, of each cloud that runs rotations."""
    return [clouds.evidence(cloud) for cloud in running(plan)]


def streams(plan: Plan, clouds: Clouds, credential: Credential) -> list[tuple[AuditLog, Signer]]:
    """The audit streams of a credential with their keys, of each cloud that runs rotations."""
    return [(clouds.log(cloud, credential.id), clouds.signer(cloud)) for cloud in running(plan)]
