"""The Lambda face of `lockstep.operate.watch`: a scan of the lock table, a line in the log.

It imports no store and no database: it starts every five minutes, often cold.
"""

import sys
from typing import Any

from functions.face import LambdaContext, is_of_doctor, look, scope_of, validated
from functions.watch.report import line
from lockstep.operate.watch import Expected, watch
from lockstep.protocol.strict_json import Message
from lockstep.runtime.identity import identity_of
from lockstep.runtime.system import SystemClock
from lockstep.runtime.wiring import hosted_runner


class Request(Message):
    """What the rule says of the deployment.

    Attributes:
        stack: The stack's name.
        schedules: Whether the rules of the credentials are enabled.
        canary: The id of the credential for which the others wait in a deployment.
    """

    stack: str
    schedules: bool
    canary: str | None = None


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | None:
    """Look once; or answer `lockstep doctor --in-cloud`.

    An error is raised: without a line there is no metric, and the alarm WatchSilent tells that.

    Raises:
        InvalidRequestError: The input is another one than the rule's, or by the alias `doctor` than the doctor's.
        PlanProblemsError: The plan file is not valid.
        PlanUnreachableError, PlanAccessDeniedError, PlanDocumentMissingError: The published plan cannot be had.
        PlanDocumentRefusedError: It is not the one that was deployed.
        LockTableUnreachableError: The table did not answer.
        LockTableAccessDeniedError: It is not there, or the role may not read it.
    """
    scope, function = scope_of(context), "aws/watch"
    if is_of_doctor(context):
        return look(event, function, scope)
    request: Request = validated(Request, event)
    with scope.open():
        runner = hosted_runner(identity_of(function))
        index, table = runner.index, runner.lock_table()
    expected = Expected(credentials=index.credentials, schedules=request.schedules, canary=request.canary)
    now = SystemClock().now()
    found = watch(table, expected, now=now)
    # Unlike a record of the logger, a line on the standard output reaches CloudWatch as it is.
    sys.stdout.write(line(found, stack=request.stack, now=now) + "\n")
    sys.stdout.flush()
    return None
