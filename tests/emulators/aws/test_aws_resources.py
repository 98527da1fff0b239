import json

import pytest

from sandbox.emulators.aws import AwsSandbox, create_state_machine
from sandbox.emulators.aws.resources import LeftOverPlaceholderError, substitute
from tests.emulators.aws.conftest import ROLE, invoke


def test_a_state_machine_is_created_from_its_text(aws: AwsSandbox) -> None:
    aws.lambda_host.register_handler("echo", lambda event, _: event)
    text = json.dumps(
        {
            "QueryLanguage": "JSONata",
            "StartAt": "Echo",
            "States": {"Echo": invoke("${Function}", {"table": "${LockTable}"})},
        }
    )
    arn = create_state_machine(
        aws.client("stepfunctions"),
        "machine",
        text,
        {"Function": aws.lambda_host.arn("echo"), "LockTable": 'lo"cks'},
        role_arn=ROLE,
    )
    assert aws.run_execution(arn, {}).output == {"table": 'lo"cks'}


def test_a_placeholder_without_substitution_is_an_error() -> None:
    assert substitute('{"a": "${A}-${A}", "n": ${N}}', {"A": "x", "N": "5"}) == '{"a": "x-x", "n": 5}'
    with pytest.raises(LeftOverPlaceholderError, match="Bee, Cee"):
        substitute("${Cee} ${A} ${Bee}", {"A": "x"})
