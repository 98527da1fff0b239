"""What a run needs to be allowed to act: its plan is the active one, and no database is muted (protocol I10, O13)."""

from lockstep.errors import DatabaseMutedError, PlanNotActiveError
from lockstep.messages import Rotation
from lockstep.model import Credential, LockRecord


def require_active(record: LockRecord, credential: Credential) -> str:
    """This runner's plan digest of the credential, if it is the active one or is ordered to become it.

    Raises:
        PlanNotActiveError: Another digest is active, or none, as where the lock table was lost.
    """
    if credential.plan_digest not in (record.plan, record.activate):
        raise PlanNotActiveError(credential=credential.id)
    return credential.plan_digest


def require_audible(record: LockRecord, credential: Credential) -> None:
    """Refuse a run while one of its databases is muted, unless it is under enrolment (protocol D20).

    Raises:
        DatabaseMutedError: A database has refused a login that should work.
    """
    for database in sorted(record.muted.intersection(credential.databases) - record.enrol):
        raise DatabaseMutedError(credential=credential.id, database=database)


def require_same_plan(rotation: Rotation, credential: Credential) -> None:
    """Refuse a step whose plan is not the one under which its run began: a deployment came in between.

    Raises:
        PlanNotActiveError: The digests differ.
    """
    if rotation.plan != credential.plan_digest:
        raise PlanNotActiveError(credential=credential.id)
