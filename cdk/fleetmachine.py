# ruff: noqa: E501 - a comment of the state machine is one line in its file, and here
"""The source of `cdk/fleet.asl.json`: a rule starts it, and it starts the rotations of a shard (protocol R15, R17).

Each rotation is an execution of the state machine in `statemachine.asl.json`, unchanged, under a name that the same
trigger gives again. `make asl` writes the file.

The file names by placeholders: `PlanBucket`, with what is published; `ReportBucket`, for the results; `LiveAlias` and
`CanaryAlias`, by which rotations start; `Canary`, the id of the credential that goes by the latter, or no text.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, get_args, get_origin

from msgspec import Meta, structs

from cdk.asl import State, formatted, is_id, is_number, is_text, jsonata, no_other_key, retry, seconds
from cdk.resource_policies import REPORT_PREFIX
from lockstep.plan.published import PLANS, shard_name
from lockstep.protocol import deadlines
from lockstep.protocol.errors import FleetFailedError, InvalidRequestError, StartedLateError
from lockstep.protocol.messages import MOST_SECONDS, Id
from lockstep.protocol.names import LIVE
from lockstep.protocol.schedule import DAY, MOST_APART_MS, period
from lockstep.protocol.strict_json import Message, matching

_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)

AT_ONCE = 10
"""So many rotations of a shard run at the same time where its input does not say it; its rule does."""
MOST_AT_ONCE = 1_000
"""No more of them: so many executions of functions an account may have at the same time, unless it asks for more
(https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html)."""
APART_MS = 100
"""Milliseconds from the begin of a rotation of a shard to that of the next one, where its input does not say it; its
rule does. At ten a second, Secrets Manager is asked for 40 of the 50 writes a second that it takes."""
TOLERATED_ONE_IN = 10
"""A shard has failed where more than one of so many rotations has. Of fewer credentials than that, each counts."""

ShardName = Annotated[str, matching(r"[0-9a-z]{1,20}-[0-9]{2}")]
"""See `lockstep.protocol.schedule.Shard.name`."""
PlanDigest = Annotated[str, matching(r"[0-9a-f]{64}")]
"""Names the folder of a published plan."""
Moment = Annotated[
    str,
    matching(
        r"20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z"
    ),
]
"""A time as EventBridge writes it."""


class FleetInput(Message):
    """What starts the rotations of one shard. It is checked before anything is read (protocol R15).

    Attributes:
        plan: The published plan that lists the shard.
        time: When its rule was to fire; without it, the start of the execution.
        concurrency: So many rotations run at the same time, from 1 to `MOST_AT_ONCE`.
        every_ms: The next rotation begins so many milliseconds after the one before, from 1 to `MOST_APART_MS`.
        trigger: What the runs name as theirs.
        interval: Of the shard's schedule, in seconds; as in `RunInput`.
    """

    shard: ShardName
    plan: PlanDigest
    time: Moment | None = None
    concurrency: int = AT_ONCE
    every_ms: int = APART_MS
    trigger: Id = "manual"
    interval: int = MOST_SECONDS


def cron(interval: timedelta, phase: timedelta) -> tuple[str, str]:
    """The fields for minute and hour in EventBridge's cron expression of an interval that fits.

    Args:
        interval: It fits.
        phase: In whole minutes, and shorter than the period.
    """
    every = period(interval)
    hour, minute = divmod(phase // _MINUTE, 60)
    if every < _HOUR:
        return f"{minute}/{every // _MINUTE}", "*"
    hours = {_HOUR: "*", DAY: str(hour)}
    return str(minute), hours.get(every, f"{hour}/{every // _HOUR}")


PATH = Path(__file__).resolve().parent / "fleet.asl.json"
LABEL = "Rotations"
"""Names the Map state in the ARNs of its runs and their executions."""

_START_ERRORS = (
    "StepFunctions.AWSStepFunctionsException",
    "StepFunctions.ExecutionLimitExceeded",
    "StepFunctions.ExecutionLimitExceededException",
    "StepFunctions.SdkClientException",
    "StepFunctions.ThrottlingException",
)
"""Failures of StartExecution that may pass. The guide does not list how they are named; what it calls an exception that
is not of the service's model is named after its client."""
_STARTED_BEFORE = (
    "StepFunctions.ExecutionAlreadyExists",
    "StepFunctions.ExecutionAlreadyExistsException",
)
_NOT_STARTED = "Sfn.ExecutionDoesNotExistException"
_CALL = deadlines.RetryPolicy(errors=(), attempts=4, interval_seconds=1, max_delay_seconds=8)
_NEVER = deadlines.RetryPolicy(errors=(), attempts=0, interval_seconds=1, max_delay_seconds=1)

_MOST = {"concurrency": MOST_AT_ONCE, "every_ms": MOST_APART_MS, "interval": MOST_SECONDS}

_ITEM = "$states.input.item"
_NAME = f"'f-' & $string($states.input.tick) & '-' & {_ITEM}.key"
_EXECUTIONS = f"$replace($substring('${{LiveAlias}}', 0, $length('${{LiveAlias}}') - {len(LIVE)}), ':stateMachine:', ':execution:')"
"""How the ARNs of the executions of rotations begin, whichever alias has started them."""
_NOW = "$toMillis($states.context.State.EnteredTime)"
_RUN = "$parse($states.errorOutput.Cause)"


def machine() -> State:
    """The state machine."""
    return {
        "Comment": "Lockstep: the rotations of one shard, each an execution of the state machine of rotations. Input, output and history hold ids only.",
        "QueryLanguage": "JSONata",
        "StartAt": "CheckInput",
        "TimeoutSeconds": seconds(deadlines.SHARD),
        "States": {**_begin(), **_rotate(), **_report()},
    }


def _begin() -> dict[str, State]:
    fields = {field.name: field for field in structs.fields(FleetInput)}
    time = "($exists($states.input.time) ? $states.input.time : $states.context.Execution.StartTime)"
    minute = f"$floor($toMillis({time}) / 60000)"
    # A rule fires within its minute, and the event may say at which second. The standby counts from the minute.
    late_from = f"($exists($states.input.time) ? 60000 * {minute} : $toMillis({time}))"
    return {
        "CheckInput": {
            "Comment": "A rule or an operator starts an execution with the name of a shard. Nothing is read before the input is known to be valid: it names an object in the bucket of plans, and holds no host.",
            "Type": "Choice",
            "Choices": [
                {
                    "Condition": jsonata(_valid_input()),
                    "Assign": {
                        # Two deliveries of one event have the same minute, and so name their executions alike.
                        "tick": jsonata(minute),
                        # What is retried until then begins in time.
                        "latest": jsonata(
                            f"{late_from} + {1000 * seconds(deadlines.LAST_START - deadlines.START_POLICY.longest)}"
                        ),
                        "trigger": jsonata(
                            f"$exists($states.input.trigger) ? $states.input.trigger : '{fields['trigger'].default}'"
                        ),
                        "shard": "{% $states.input.shard %}",
                        "interval": jsonata(
                            f"$exists($states.input.interval) ? $states.input.interval : {fields['interval'].default}"
                        ),
                        "begun": "{% $toMillis($states.context.State.EnteredTime) %}",
                        "every": jsonata(
                            f"$exists($states.input.every_ms) ? $states.input.every_ms : {fields['every_ms'].default}"
                        ),
                    },
                    "Next": "Rotate",
                }
            ],
            "Default": "InvalidInput",
        },
        "InvalidInput": {
            "Comment": "The input is not valid. Nothing was read or changed.",
            "Type": "Fail",
            "Error": InvalidRequestError.__name__,
            "Cause": f'Start with {{"shard": "<name>", "plan": "<digest>"}}; optional: time (UTC, such as 2026-11-27T17:40:00Z, not ahead), concurrency (1 to {MOST_AT_ONCE}), every_ms (1 to {MOST_APART_MS}), interval (seconds) and trigger, and nothing else.',
        },
    }


def _valid_input() -> str:
    """Whether the input is a `FleetInput` whose time is not ahead."""
    fields = structs.fields(FleetInput)
    conditions = [no_other_key("$states.input", FleetInput.__struct_fields__)]
    for field in fields:
        value = f"$states.input.{field.name}"
        valid = _is_valid(value, field.type, most=_MOST.get(field.name, 0))
        conditions.append(valid if field.required else f"($exists({value}) ? {valid} : true)")
    ahead = f"$toMillis($states.input.time) - $toMillis($states.context.State.EnteredTime) > {1000 * seconds(deadlines.CLOCK_SKEW)}"
    valid = f"{' and '.join(conditions)} ? ($exists($states.input.time) ? $not({ahead}) : true) : false"
    return f"$type($states.input) = 'object' ? ({valid}) : false"


def _is_valid(value: str, hint: object, *, most: int) -> str:
    if hint is int:
        return is_number(value, most)
    if hint == Id:
        return is_id(value)
    # Of an optional one, its own annotation.
    annotated = hint if get_origin(hint) is Annotated else get_args(hint)[0]
    (pattern,) = (note.pattern for note in get_args(annotated) if isinstance(note, Meta) and note.pattern)
    return is_text(value, pattern.removeprefix(r"\A").removesuffix(r"\Z"))


def _rotate() -> dict[str, State]:
    default = FleetInput(shard="", plan="").concurrency
    return {
        "Rotate": {
            "Comment": "Start a rotation of each credential of the shard, and await them all. One that fails stops no other. Each item is an execution of its own, so the console shows it.",
            "Type": "Map",
            "Label": LABEL,
            "ItemReader": {
                "Resource": "arn:aws:states:::s3:getObject",
                "ReaderConfig": {"InputType": "JSON"},
                "Arguments": {
                    "Bucket": "${PlanBucket}",
                    "Key": jsonata(f"'{PLANS}/' & $states.input.plan & '/{shard_name(_inserted('$shard'))}'"),
                },
            },
            # A variable of the outer states is not known in a distributed Map.
            "ItemSelector": {
                "item": "{% $states.context.Map.Item.Value %}",
                "tick": "{% $tick %}",
                "latest": "{% $latest %}",
                # Their turn, in the order of the list: what they write in a second does not depend on how long they take.
                "begins": "{% $begun + $states.context.Map.Item.Index * $every %}",
                "trigger": "{% $trigger %}",
                "interval": "{% $interval %}",
            },
            "MaxConcurrency": jsonata(
                f"$exists($states.input.concurrency) ? $states.input.concurrency : {default}"
            ),
            "ToleratedFailurePercentage": 100,
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                "StartAt": "CheckItem",
                "States": _item(),
            },
            "ResultWriter": {
                "Resource": "arn:aws:states:::s3:putObject",
                "Arguments": {"Bucket": "${ReportBucket}", "Prefix": jsonata(f"'{REPORT_PREFIX}' & $shard")},
            },
            # Whatever was started before is not started again.
            "Retry": [retry(_CALL, ["States.ItemReaderFailed"])],
            "Next": "CountRotations",
        },
    }


def _inserted(expression: str) -> str:
    """An expression in the middle of a text."""
    return f"' & {expression} & '"


def _item() -> dict[str, State]:
    # Where it is no text, it has no hash.
    key = f"{_ITEM}.key = $substring($hash({_ITEM}.credential_id, 'SHA-256'), 0, 16)"
    known = f"{no_other_key(_ITEM, ('credential_id', 'key'))} and {is_id(f'{_ITEM}.credential_id')}"
    run = {"credential_id": f"{{% {_ITEM}.credential_id %}}"}
    return {
        "CheckItem": {
            "Comment": "Is the item valid, and still in time? A rotation that began later could hold the lock when the standby's turn comes.",
            "Type": "Choice",
            "Choices": [
                {
                    "Condition": jsonata(
                        f"$not($type({_ITEM}) = 'object' ? ({known} ? {key} : false) : false)"
                    ),
                    "Next": "InvalidItem",
                },
                {
                    "Condition": jsonata(f"$max([{_NOW}, $states.input.begins]) > $states.input.latest"),
                    "Next": "FindRotation",
                },
                {
                    "Condition": jsonata(f"$states.input.begins - {_NOW} >= 1000"),
                    "Next": "AwaitTurn",
                },
            ],
            "Default": "StartRotation",
        },
        "AwaitTurn": {
            "Comment": "Rotations begin one after the other, so that all of them together keep to the writes a second that Secrets Manager takes.",
            "Type": "Wait",
            "Seconds": jsonata(f"$floor($max([0, $states.input.begins - {_NOW}]) / 1000)"),
            "Next": "StartRotation",
        },
        "InvalidItem": {
            "Comment": "What was published for the shard is not a list of credentials with their keys.",
            "Type": "Fail",
            "Error": InvalidRequestError.__name__,
            "Cause": "An item of the published shard is not valid. Nothing was started for it.",
        },
        "FindRotation": {
            "Comment": "It is too late to start a rotation. Where the same trigger came before, that has started it: it has the name.",
            "Type": "Task",
            "Resource": "arn:aws:states:::aws-sdk:sfn:describeExecution",
            "Arguments": {"ExecutionArn": jsonata(f"{_EXECUTIONS} & {_NAME}")},
            "TimeoutSeconds": seconds(deadlines.LOCK_CALL),
            "Output": {**run, "outcome": "repeated"},
            "Retry": [retry(_NEVER, [_NOT_STARTED]), retry(_CALL, ["States.ALL"])],
            "Catch": [{"ErrorEquals": ["States.ALL"], "Output": run, "Next": "TooLate"}],
            "Next": "Repeated",
        },
        "TooLate": {
            "Comment": "Nothing was started: the next trigger rotates it, or the standby before. Either the trigger came late, or too few rotations may run at the same time.",
            "Type": "Fail",
            "Error": StartedLateError.__name__,
            "Cause": f"The rotation would begin later than {seconds(deadlines.START_LATENESS)} s after its trigger. Nothing was started.",
        },
        "StartRotation": {
            "Comment": "One name for a credential and a trigger: what is running is joined, what has ended is not run again.",
            "Type": "Task",
            "Resource": "arn:aws:states:::states:startExecution.sync:2",
            "Arguments": {
                "StateMachineArn": jsonata(
                    f"{_ITEM}.credential_id = '${{Canary}}' ? '${{CanaryAlias}}' : '${{LiveAlias}}'"
                ),
                "Name": jsonata(_NAME),
                "Input": {
                    **run,
                    "trigger": "{% $states.input.trigger %}",
                    "interval": "{% $states.input.interval %}",
                },
            },
            "TimeoutSeconds": seconds(deadlines.RUN_AWAITED),
            "Output": {**run, "outcome": "{% $states.result.Output.outcome %}"},
            "Retry": [retry(deadlines.START_POLICY, _START_ERRORS)],
            "End": True,
            "Catch": [
                {
                    "ErrorEquals": list(_STARTED_BEFORE),
                    "Output": {**run, "outcome": "repeated"},
                    "Next": "Repeated",
                },
                {
                    "ErrorEquals": ["States.TaskFailed"],
                    "Output": {
                        "Error": jsonata(
                            "$states.errorOutput.Error != 'States.TaskFailed' ? $states.errorOutput.Error : "
                            f"$exists({_RUN}.Error) ? {_RUN}.Error : {_RUN}.Status"
                        ),
                        "Cause": jsonata(
                            "$states.errorOutput.Error != 'States.TaskFailed' ? 'No rotation was started.' : "
                            f"'See the execution ' & {_RUN}.ExecutionArn"
                        ),
                    },
                    "Next": "RotationFailed",
                },
            ],
        },
        "Repeated": {
            "Comment": "An earlier delivery of the same trigger has rotated the credential, or has tried.",
            "Type": "Succeed",
        },
        "RotationFailed": {
            "Comment": "The rotation has failed, by the name of its error. Its own execution tells why.",
            "Type": "Fail",
            "Error": "{% $states.input.Error %}",
            "Cause": "{% $states.input.Cause %}",
        },
    }


def _report() -> dict[str, State]:
    counts = "$states.result.ItemCounts"
    failed = f"({counts}.Failed + {counts}.TimedOut + {counts}.Aborted)"
    return {
        "CountRotations": {
            "Comment": "How many have failed? The outcome of each is in the report.",
            "Type": "Task",
            "Resource": "arn:aws:states:::aws-sdk:sfn:describeMapRun",
            "Arguments": {"MapRunArn": "{% $states.input.MapRunArn %}"},
            "TimeoutSeconds": seconds(deadlines.LOCK_CALL),
            "Output": {
                "shard": "{% $shard %}",
                "tick": "{% $tick %}",
                "rotations": f"{{% {counts}.Total %}}",
                "failed": f"{{% {failed} %}}",
                "report": "{% $states.input.ResultWriterDetails.Key %}",
            },
            "Retry": [retry(_CALL, ["States.ALL"])],
            "Next": "Report",
        },
        "Report": {
            "Comment": "A failed rotation has its own alarm. What fails the shard is no matter of one credential.",
            "Type": "Choice",
            "Choices": [
                {"Condition": "{% $states.input.rotations = 0 %}", "Next": "Empty"},
                {
                    "Condition": f"{{% {TOLERATED_ONE_IN} * $states.input.failed > $states.input.rotations %}}",
                    "Next": "FleetFailed",
                },
            ],
            "Default": "Rotated",
        },
        "Rotated": {
            "Comment": "The rotations of the shard have ended, and few or none has failed.",
            "Type": "Succeed",
        },
        "Empty": {
            "Comment": "No shard is empty: what was published is not whole.",
            "Type": "Fail",
            "Error": InvalidRequestError.__name__,
            "Cause": "{% 'The published shard ' & $shard & ' has no credential.' %}",
        },
        "FleetFailed": {
            "Comment": "The alarm fires. Applications are not affected: the current values still work.",
            "Type": "Fail",
            "Error": FleetFailedError.__name__,
            "Cause": "{% $string($states.input.failed) & ' of ' & $string($states.input.rotations) & ' rotations of ' & $shard & ' have failed: see ' & $states.input.report %}",
        },
    }


def text() -> str:
    """The state machine as the file holds it."""
    return f"{formatted(machine())}\n"
