"""The faces of Lambda and fdk: JSON in, JSON out, errors by name, and no text of a foreign error or a bad input."""

import json
import logging
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from fdk.context import InvokeContext  # type: ignore[import-untyped]  # fdk ships no types

from functions.apply_db.handler import handler as apply_db_handler
from functions.audit.handler import handler as audit_handler
from functions.digest import handler as digest
from functions.face import LambdaFace
from functions.generate import step as generate
from functions.generate.handler import handler as generate_handler
from functions.update_secrets.handler import handler as update_secrets_handler
from functions.watch.handler import handler as watch_handler
from lockstep.audit.digest import Made
from lockstep.protocol import errors
from lockstep.protocol.messages import GenerateRequest, Staged
from lockstep.protocol.strict_json import Message, read, write
from lockstep.stores.credential import Ports
from oci_fn.digest import DigestFunction
from tests.support.lambda_context import NO_LOOKS, TimeLeft
from tests.support.memory import MemoryWorld
from tests.support.world import held, login_of, make_world

CANARY = "hunter2-canary"
DOCTOR = "arn:aws:lambda:eu-central-1:111122223333:function:lockstep-step:doctor"
LOOK = {"doctor": "look"}
HANDLERS = [generate_handler, apply_db_handler, update_secrets_handler, audit_handler, watch_handler]
Step = Callable[[GenerateRequest, Ports], Message]


def _asked(step: Step, world: MemoryWorld, ports: Callable[[str], Ports] | None = None) -> Mapping[str, Any]:
    """The reply to the input of Generate, as the state machine sends it."""
    face = LambdaFace(step, GenerateRequest, ports=ports or (lambda _credential_id: world.ports()))
    return face({"rotation": write(held(world))}, TimeLeft())


def _logged(caplog: pytest.LogCaptureFixture) -> str:
    """Every record with all its fields, including those that a formatter omits."""
    return " ".join(repr(vars(record)) + record.getMessage() for record in caplog.records)


def test_the_reply_is_json_that_the_next_step_accepts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="lockstep")
    world = make_world(placeholder=True)
    reply = _asked(generate.run, world)
    assert json.loads(json.dumps(reply)) == reply
    result = read(Staged, reply)
    assert result.claim == world.lock.record.claim
    logged = _logged(caplog)
    for known in ("functions.generate.step", "multi-cloud/app_user", "run-1", "ok"):
        assert known in logged
    assert login_of(world, 1).password.reveal() not in logged + json.dumps(reply)


@pytest.mark.parametrize("in_ports", [False, True])
@pytest.mark.parametrize("foreign", [RuntimeError({"password": CANARY}), OSError(5, CANARY, CANARY)])
def test_a_foreign_error_shows_only_its_class(
    foreign: Exception, caplog: pytest.LogCaptureFixture, *, in_ports: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    fails = Mock(side_effect=foreign)
    with pytest.raises(errors.UnexpectedError) as caught:
        _asked(fails, make_world(), fails if in_ports else None)
    assert caught.value.where == {"code": type(foreign).__name__}
    assert CANARY not in _logged(caplog) + _shown(caught.value)
    assert type(foreign).__name__ in _logged(caplog)


def _shown(error: BaseException) -> str:
    """Everything that Lambda shows of an error: type, text, stack and cause."""
    return "".join(traceback.format_exception(error)) + str(error) + repr(error)


# What `lockstep doctor --in-cloud` sends, by its alias
REFUSED = [
    *((event, q) for event in ({"password": CANARY}, LOOK) for q in ("", ":1", ":doctors", "-doctor")),
    *((event, ":doctor") for event in (*NO_LOOKS, {"stack": "lockstep", "schedules": True})),
]


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize(
    ("event", "qualifier"), [*REFUSED, ({"rotation": write(held(make_world()))}, ":doctor")]
)
def test_every_function_refuses_a_bad_input_the_doctor_but_by_his_alias_and_by_that_all_but_a_look(
    handler: Callable[[Any, object], Any], event: object, qualifier: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(errors.InvalidRequestError) as caught:
        handler(event, TimeLeft(invoked_function_arn=DOCTOR.removesuffix(":doctor") + qualifier))
    assert CANARY not in _logged(caplog) + _shown(caught.value)


# The digest

MADE: dict[str, Any] = {
    "stream": "aws",
    "hour": "2026-11-29T19",
    "chains": 7,
    "problems": ["chain a is gone"],
    "unread": "",
    "confirms": False,
}


def test_in_aws_a_digest_is_told_in_the_lines_that_alarms_count_and_none_by_the_name_of_the_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="lockstep")
    runner = Mock()
    unreachable, foreign = errors.AuditLogUnreachableError(code="slow-down"), ValueError(CANARY)
    runner.maker.return_value.make.side_effect = [unreachable, foreign, Made(**MADE)]
    monkeypatch.setattr(digest, "hosted_runner", lambda _identity: runner)
    with pytest.raises(errors.AuditLogUnreachableError):
        digest.handler({"detail": CANARY}, TimeLeft())
    with pytest.raises(errors.UnexpectedError, match="code=ValueError") as error:
        digest.handler({}, TimeLeft())
    assert (CANARY in _shown(error.value), caplog.records) == (False, [])
    assert digest.handler({}, TimeLeft()) == MADE
    lines = [{**vars(record), "message": record.getMessage()} for record in caplog.records]
    assert [(line["message"], line.get("examine")) for line in lines] == [
        ("the audit log must be examined", "audit-log"),
        ("digest made", None),
    ]
    assert all(MADE.items() <= line.items() for line in lines)


def test_in_oci_a_problem_and_the_silence_of_the_other_cloud_are_failures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="lockstep")
    deadline = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    call = InvokeContext("", "", "", "", "call", deadline=deadline)
    for problems, confirms, status in (([], True, 200), (["chain x is gone"], True, 502), ([], False, 502)):
        made = Made(**{**MADE, "problems": problems, "confirms": confirms})
        answer = DigestFunction(Mock(return_value=made), leave=pytest.fail)(call)
        assert (answer.status(), json.loads(answer.body())) == (status, write(made))
    examined = [line for line in map(json.loads, caplog.messages) if line.get("examine") == "audit-log"]
    assert [line["problems"] for line in examined] == [["chain x is gone"]]
    refused = Mock(side_effect=errors.AuditLogAccessDeniedError)
    answer = DigestFunction(refused, leave=pytest.fail, forget=lambda: None)(call)
    assert answer.status() == 502
    said = [line for line in map(json.loads, caplog.messages) if "error" in line]
    assert [(line["digest"], line["error"]) for line in said] == [(None, "AuditLogAccessDeniedError")]
