"""The Lambda face of `lockstep.watch`: one scan of the lock table, one line in the log.

It imports no store and no database: it starts every five minutes, often cold.
"""

import sys
from functools import cache
from typing import Any

from functions.face import LambdaContext
from functions.watch.report import line
from lockstep.aws.clients import aws_client
from lockstep.aws.dynamodb_table import read_table
from lockstep.errors import InvalidRequestError
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
        table = read_table(_client(index.plan.lock.region), index.plan.lock.table)
    expected = Expected(
        credentials=index.credentials,
        schedules=request.schedules,
        standby=index.plan.has_standby,
        canary=request.canary,
    )
    now = clock.now()
    # Unlike a record of the logger, a line on the standard output reaches CloudWatch as it is.
    sys.stdout.write(line(watch(table, expected, now=now), stack=request.stack, now=now) + "\n")
    sys.stdout.flush()
    return None


@cache
def _client(region: str) -> Any:  # noqa: ANN401 - botocore makes its clients' types at run time
    return aws_client("dynamodb", region, before_send=check_scope)
