"""The Lambda face of `lockstep.watch`: a scan of the lock table, the ages of keys, a line in the log.

It imports no store and no database: it starts every five minutes, often cold.
"""

import sys
from datetime import datetime
from functools import cache, partial
from typing import Any

from functions.face import LambdaContext
from functions.watch.report import line
from lockstep.aws.clients import aws_client
from lockstep.aws.dynamodb_table import read_table
from lockstep.aws.key_age import oldest_access_key, stored_at
from lockstep.compiled import CompiledPlan
from lockstep.errors import InvalidRequestError, LockstepError
from lockstep.scope import Scope, check_scope
from lockstep.shapes import Message, ShapeError
from lockstep.system import SystemClock
from lockstep.watch import Expected, watch
from lockstep.wiring import hosted_source


class Request(Message):
    """What the rule says of the deployment.

    Attributes:
        stack: The stack's name.
        schedules: Whether the rules of the credentials are enabled.
        canary: The id of the credential for which the others wait in a deployment.
        oci_runner_user: The user in AWS whose access key the OCI runner has, where that is known.
    """

    stack: str
    schedules: bool
    canary: str | None = None
    oci_runner_user: str | None = None


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | None:
    """Look once; or answer `lockstep doctor --in-cloud`.

    An error is raised: without a line there is no metric, and the alarm WatchSilent tells that.

    Raises:
        InvalidRequestError: The input is another one than the rule's, or the doctor's.
        PlanProblemsError: The plan file is not valid.
        PlanUnreachableError, PlanAccessDeniedError, PlanDocumentMissingError: The published plan cannot be had.
        PlanDocumentRefusedError: It is not the one that was deployed.
        LockTableUnreachableError: The table did not answer.
        LockTableAccessDeniedError: It is not there, or the role may not read it.
    """
    clock = SystemClock()
    ends_at = clock.monotonic() + context.get_remaining_time_in_millis() / 1000
    if isinstance(event, dict) and "doctor" in event:
        from lockstep.doctor.probes.inside import answer  # noqa: PLC0415 - the watch itself needs none of it

        with Scope(clock, ends_at=ends_at).open():
            return answer(event, function="aws/watch")
    try:
        request = Request.model_validate(event)
    except ShapeError:
        raise InvalidRequestError from None
    with Scope(clock, ends_at=ends_at).open():
        index = hosted_source().index
        table = read_table(_client("dynamodb", index.plan.lock.region), index.plan.lock.table)
        keys = _keys(index.plan, request.oci_runner_user)
    expected = Expected(
        credentials=index.credentials,
        schedules=request.schedules,
        standby=index.plan.has_standby,
        canary=request.canary,
    )
    now = clock.now()
    # Unlike a record of the logger, a line on the standard output reaches CloudWatch as it is.
    found = watch(table, expected, now=now, keys=keys)
    sys.stdout.write(line(found, stack=request.stack, now=now) + "\n")
    sys.stdout.flush()
    return None


def _keys(plan: CompiledPlan, user: str | None) -> dict[str, datetime | str]:
    """When each key of a runner was made that AWS can date. One that cannot be had must not silence the watch."""
    asked: dict[str, partial[datetime | None]] = {}
    for secret in plan.secrets_for_oci:
        client = _client("secretsmanager", plan.region_of(secret))
        asked[secret] = partial(stored_at, client, secret)
    if user:
        asked[f"access key of {user}"] = partial(oldest_access_key, _client("iam", plan.lock.region), user)
    found: dict[str, datetime | str] = {}
    for name, ask in asked.items():
        try:
            made_at = ask()
        except LockstepError as error:
            found[name] = type(error).__name__
        else:
            found |= {name: made_at} if made_at else {}
    return found


@cache
def _client(service: str, region: str) -> Any:  # noqa: ANN401 - botocore makes its clients' types at run time
    return aws_client(service, region, before_send=check_scope)
