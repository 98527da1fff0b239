# ruff: noqa: E501 - a comment of the state machine is one line in its file, and here
"""The source of `statemachine.asl.json`: the states of the protocol (protocol M1, D3).

`make asl` writes this file and that of the fleet; `make lint` fails where the committed file is not what this source makes. The file is
committed whole, so that it can be read in the repository as in the Step Functions console.
"""

import sys
from pathlib import Path

from msgspec import structs

from cdk import fleetmachine
from cdk.asl import (
    State,
    catch,
    formatted,
    is_id,
    is_number,
    jsonata,
    lock_call,
    no_other_key,
    number,
    seconds,
    step,
)
from lockstep.aws import dynamodb_lock as lock
from lockstep.protocol import deadlines
from lockstep.protocol.errors import StoresDivergedError
from lockstep.protocol.lock_rule import LATEST_END
from lockstep.protocol.messages import ID_CHARACTERS, ID_LENGTH, MOST_SECONDS, RunInput
from lockstep.protocol.schedule import AWS

PATH = Path(__file__).resolve().parents[1] / "statemachine.asl.json"

_SKIPPED = {"outcome": "skipped"}
_SKEW = seconds(deadlines.CLOCK_SKEW)
_NOW = "$floor($toMillis($states.context.State.EnteredTime) / 1000)"


def machine() -> State:
    """The state machine."""
    return {
        "Comment": "Lockstep: one rotation of one credential. Prepare (Generate), apply (ApplyDb), commit (UpdateSecrets) and record (Audit), under one lock. Input, output and history never hold a secret value.",
        "QueryLanguage": "JSONata",
        "StartAt": "CheckInput",
        "TimeoutSeconds": seconds(deadlines.RUN),
        "States": {**_begin(), **_prepare(), **_apply(), **_commit(), **_fail()},
    }


def _begin() -> dict[str, State]:
    return {
        "CheckInput": {
            "Comment": 'The schedule or an operator starts an execution with {"credential_id": …}. `force` rotates before the credential is due, also while it is paused. What a step would refuse is refused here, before the lock is acquired.',
            "Type": "Choice",
            "Choices": [
                {
                    "Condition": jsonata(_valid_input()),
                    "Next": "AcquireLock",
                }
            ],
            "Default": "InvalidInput",
        },
        "InvalidInput": {
            "Comment": "The input is not valid. Nothing was read or changed.",
            "Type": "Fail",
            "Error": "InvalidRequestError",
            "Cause": f'Start with {{"credential_id": "<id in the plan>"}}; optional: trigger (text), force (true or false) and interval (seconds), and nothing else. The texts and the name of the execution: 1 to {ID_LENGTH} of the characters {ID_CHARACTERS}.',
        },
        "AcquireLock": {
            "Comment": f"One conditional write decides which run rotates. The lock must be free, expired or already held by this run; and the credential must be due, forced, or have an order or a generation in flight, and not be paused. The write adds 1 to the fence. The lease ({seconds(deadlines.LEASE)} s) is longer than an execution ({seconds(deadlines.RUN)} s), a function ({seconds(deadlines.STEP)} s) and clock skew together, so the holder has stopped before its lease ends.",
            **lock_call(
                "$states.input.credential_id",
                update=lock.ACQUIRE_UPDATE,
                condition=lock.ACQUIRE_CONDITION,
                values={
                    ":holder": {"S": "{% $states.context.Execution.Name %}"},
                    ":now": number(_NOW),
                    ":expires_at": number(f"{_NOW} + {seconds(deadlines.LEASE)}"),
                    ":latest_end": number(f"{_NOW} + {seconds(LATEST_END)}"),
                    ":latest": number(
                        f"{_NOW} + {_SKEW} + ($exists($states.input.interval) ? $states.input.interval : {MOST_SECONDS})"
                    ),
                    ":skewed": number(f"{_NOW} + {_SKEW}"),
                    ":due_by": {
                        "N": jsonata(f"$states.input.force = true ? '{lock.FAR_FUTURE}' : $string({_NOW})")
                    },
                    ":heeded": {
                        "BOOL": jsonata(
                            f"$states.input.force = true ? {str(lock.PAUSE_WAIVED).lower()} : {str(lock.PAUSE_HEEDED).lower()}"
                        )
                    },
                    ":one": {"N": "1"},
                },
                returns="UPDATED_NEW",
            ),
            "Assign": {
                "rotation": _rotation(),
                "found": None,
                "refused": [],
                "prepared": 0,
                "claim": None,
                "adopted_from": None,
                "seen": [],
                "applied": [],
                "stores": [],
                "revoked": [],
                "audit": None,
                "failure": None,
            },
            "Next": "Generate",
            "Catch": [
                {"ErrorEquals": ["DynamoDB.ConditionalCheckFailedException"], "Next": "Skipped"},
                catch("RotationFailed"),
            ],
        },
        "Skipped": {
            "Comment": "Another run holds the lock, or the credential is not due: this is a success.",
            "Type": "Succeed",
            "Output": _SKIPPED,
        },
    }


def _rotation() -> State:
    return {
        "credential_id": "{% $states.input.credential_id %}",
        "rotation_id": "{% $states.context.Execution.Name %}",
        "runner": AWS,
        "trigger": jsonata(
            f"$exists($states.input.trigger) ? $states.input.trigger : '{RunInput(credential_id='').trigger}'"
        ),
        "started_at": "{% $states.context.Execution.StartTime %}",
        "fence": "{% $number($states.result.Attributes.fence.N) %}",
        "force": "{% $states.input.force = true %}",
    }


def _valid_input() -> str:
    """Whether the messages of the steps accept the input and the name of the execution (protocol R6)."""
    conditions = [
        is_id("$states.context.Execution.Name"),
        no_other_key("$states.input", RunInput.__struct_fields__),
    ]
    for field in structs.fields(RunInput):
        value = f"$states.input.{field.name}"
        match field.name:
            case "force":
                valid = f"$type({value}) = 'boolean'"
            case "interval":
                valid = is_number(value, MOST_SECONDS)
            case _:
                valid = is_id(value)
        conditions.append(valid if field.required else f"($exists({value}) ? {valid} : true)")
    return f"$type($states.input) = 'object' ? ({' and '.join(conditions)}) : false"


def _prepare() -> dict[str, State]:
    return {
        "Generate": {
            "Comment": "Prepare. Compares the plan with the active one, reads what every store serves, claims the one generation in flight under the fence, and stages its value as pending in every store. No database accepts the new value yet. Where the stores and the record disagree, or nothing may begin yet, it asks which of the candidates log in, and is called again.",
            **step(
                "Generate",
                {
                    "rotation": "{% $rotation %}",
                    "found": "{% $found %}",
                    "refused": "{% $refused %}",
                },
            ),
            "Assign": {
                "rotation": "{% $states.result.Payload.rotation %}",
                "prepared": "{% $prepared + 1 %}",
                **_where_staged("claim", "adopted_from", "seen"),
            },
            "Next": "IsAnythingToDo",
            "Catch": [catch("AuditFailure")],
        },
        "IsAnythingToDo": {
            "Comment": "Every store serves what works on every database, and no rotation may begin yet: the lock is given back as it was.",
            "Type": "Choice",
            "Choices": [
                {"Condition": "{% $states.input.action = 'nothing' %}", "Next": "ReleaseLockUnchanged"}
            ],
            "Default": "ApplyDb",
        },
        "ReleaseLockUnchanged": {
            "Comment": "Release the lock. Nothing was changed, and nothing is recorded; consent that is used up goes.",
            **_release(
                lock.RELEASE_UNCHANGED_UPDATE, values={":proven": {"SS": "{% $states.input.proven %}"}}
            ),
            "Output": _SKIPPED,
            "End": True,
            "Catch": [catch("RotationFailed")],
        },
    }


def _where_staged(*names: str) -> State:
    """The variables that Generate sets where it has staged, and leaves where it asks for a probe."""
    staged = "$states.result.Payload.action = 'apply'"
    return {name: jsonata(f"{staged} ? $states.result.Payload.{name} : ${name}") for name in names}


_UNPREPARED = "$exists($states.input.winner) or $exists($states.input.refused)"
"""Whether Generate is called again for what ApplyDb has answered."""


def _apply() -> dict[str, State]:
    return {
        "ApplyDb": {
            "Comment": "Apply, on all databases at once. Under their advisory locks: the fence must still be this run's, and base must log in on every one; make each accept pending beside base; then prove by real logins that pending and base log in and that what came before is refused. Or search, where Generate wants it: which candidates log in? That changes nothing.",
            **step("ApplyDb", jsonata("$states.input")),
            "Assign": {
                "applied": "{% $exists($states.result.Payload.databases) ? $states.result.Payload.databases : $applied %}",
                "found": "{% $exists($states.result.Payload.winner) ? $states.result.Payload : null %}",
                "refused": "{% $exists($states.result.Payload.refused) ? $states.result.Payload.refused : $refused %}",
            },
            "Next": "EveryDatabaseAccepts",
            "Catch": [catch("AuditFailure")],
        },
        "EveryDatabaseAccepts": {
            "Comment": "A value is promoted only after every database was seen to accept it. What a search has found is a value to prepare. Where a database refuses base, nothing was changed, and a search is prepared. A run that prepares again and again ends.",
            "Type": "Choice",
            "Choices": [
                {
                    "Condition": jsonata(f"({_UNPREPARED}) and $prepared >= {deadlines.PREPARED_AT_MOST}"),
                    "Assign": {
                        "failure": {
                            "Error": StoresDivergedError.__name__,
                            "Cause": "What was found does not stay: stores or databases change meanwhile.",
                        }
                    },
                    "Next": "AuditFailure",
                },
                {"Condition": jsonata(_UNPREPARED), "Next": "Generate"},
            ],
            "Default": "UpdateSecrets",
        },
    }


def _commit() -> dict[str, State]:
    return {
        "UpdateSecrets": {
            "Comment": "Commit. Marks the claim as promoting, promotes pending to current in every store, by compare-and-set, then waits until every store serves it in both secrets.",
            **step(
                "UpdateSecrets",
                {
                    "rotation": "{% $rotation %}",
                    "claim": "{% $claim %}",
                    "proven": "{% [$applied.database] %}",
                    "seen": "{% $seen %}",
                },
            ),
            "Assign": {
                "stores": "{% $states.result.Payload.stores %}",
                "promoted_at": "{% $states.result.Payload.promoted_at %}",
                "revoke": "{% $states.result.Payload.revoke %}",
            },
            "Next": "RevokeOrdered",
            "Catch": [catch("AuditFailure")],
        },
        "RevokeOrdered": {
            "Comment": "Normally the previous value logs in until the overlap ends. In an emergency all but the new one is revoked at once, and the audit entry says so.",
            "Type": "Choice",
            "Choices": [{"Condition": "{% $revoke %}", "Next": "RevokeDb"}],
            "Default": "Audit",
        },
        "RevokeDb": {
            "Comment": "Revoke every other value on every database; refused logins prove it.",
            **step("ApplyDb", {"action": "revoke", "rotation": "{% $rotation %}", "claim": "{% $claim %}"}),
            "Assign": {"revoked": "{% $states.result.Payload.databases %}"},
            "Next": "Audit",
            "Catch": [catch("AuditFailure")],
        },
        "Audit": {
            "Comment": "Record. Appends one signed entry that is chained to the entry before it.",
            **step("Audit", _report("rotated", promoted_at="{% $promoted_at %}")),
            "Assign": {"audit": "{% $states.result.Payload %}"},
            "Next": "ReleaseLock",
            "Catch": [catch("AuditFailure")],
        },
        "ReleaseLock": {
            "Comment": "Release the lock: clear the claim, write which generation is current, when the next rotation is due and allowed, and which audit entry is the newest. The credential is rotated: every store serves the new generation, and every database accepts it and the one before it.",
            **lock_call(
                "$rotation.credential_id",
                update=lock.RELEASE_DONE_UPDATE,
                condition=lock.RELEASE_DONE_CONDITION,
                names=_HEAD_NAME,
                values={
                    **_head(),
                    ":fence": number("$rotation.fence"),
                    ":holder": {"S": "{% $rotation.rotation_id %}"},
                    ":current": number("$audit.release.current_generation"),
                    ":valid": {"NS": jsonata("[$map($audit.release.valid, function($g) { $string($g) })]")},
                    ":valid_from": number("$min($audit.release.valid)"),
                    ":proven": {"SS": "{% $audit.release.proven %}"},
                    ":next_due_at": number("$toMillis($audit.release.next_due_at) / 1000"),
                    ":not_before": number("$toMillis($audit.release.not_before) / 1000"),
                    ":rotated_at": number("$toMillis($audit.release.rotated_at) / 1000"),
                },
            ),
            "Output": {
                "outcome": "rotated",
                "generation": "{% $claim.generation %}",
                "kind": "{% $claim.kind %}",
                "adopted": "{% $adopted_from != null %}",
                "audit": {"stream": "{% $audit.stream %}", "seq": "{% $audit.seq %}"},
                # What `functions.announce` tells others.
                "promoted": "{% $audit.promoted %}",
            },
            "End": True,
            "Catch": [catch("RotationFailed")],
        },
    }


def _fail() -> dict[str, State]:
    return {
        "AuditFailure": {
            "Comment": "Record the failure by the error's name, never by its text. Nothing is rolled back: the current value works everywhere, and the next run, in either cloud, rolls forward.",
            **step("Audit", _report("failed", error="{% $failure.Error %}")),
            "Assign": {"audit": "{% $states.result.Payload %}"},
            "Next": "ReleaseLockAfterFailure",
            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "ReleaseLockUnrecorded"}],
        },
        "ReleaseLockAfterFailure": {
            "Comment": "Release the lock, but keep the claim and the schedule: the next run goes on from here. The failure's entry is the newest.",
            **_release(lock.RELEASE_FAILED_UPDATE, names=_HEAD_NAME, values=_head()),
            "Next": "RotationFailed",
            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "RotationFailed"}],
        },
        "ReleaseLockUnrecorded": {
            "Comment": "Likewise, where the failure could not be recorded.",
            **_release(),
            "Next": "RotationFailed",
            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "RotationFailed"}],
        },
        "RotationFailed": {
            "Comment": "The alarm fires. Nothing that works was ended. What the stores serve logs in, unless the error is CurrentCredentialRejectedError: then a database refuses it, since somebody else has changed it there.",
            "Type": "Fail",
            "Error": "{% $failure.Error %}",
            "Cause": "{% $exists($failure.Cause) ? $failure.Cause : 'no cause was given' %}",
        },
    }


_HEAD_NAME = {"#head": f"{lock.HEAD}{AWS}"}


def _head() -> State:
    """What Audit has returned."""
    return {":head": {"M": {"seq": number("$audit.seq"), "hash": {"S": "{% $audit.hash %}"}}}}


def _release(
    update: str = lock.RELEASE_UPDATE, *, names: State | None = None, values: State | None = None
) -> State:
    return lock_call(
        "$rotation.credential_id",
        update=update,
        condition=lock.RELEASE_CONDITION,
        names=names,
        values={
            **(values or {}),
            ":fence": number("$rotation.fence"),
            ":holder": {"S": "{% $rotation.rotation_id %}"},
        },
    )


def _report(outcome: str, **more: str) -> State:
    return {
        "outcome": outcome,
        "rotation": "{% $rotation %}",
        "claim": "{% $claim %}",
        "adopted_from": "{% $adopted_from %}",
        "databases": "{% $applied %}",
        "stores": "{% $stores %}",
        "revoked": "{% $revoked %}",
        **more,
    }


def text() -> str:
    """The state machine as the file holds it."""
    return f"{formatted(machine())}\n"


if __name__ == "__main__":
    for path, made in {PATH: text(), fleetmachine.PATH: fleetmachine.text()}.items():
        if sys.argv[1:] != ["--check"]:
            path.write_text(made, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != made:
            sys.exit(f"{path.name} differs from what its source in cdk/ makes: run `make asl`")
