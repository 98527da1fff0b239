import contextlib
import inspect
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import pytest
from botocore.exceptions import ClientError

from sandbox.emulators.aws import AwsSandbox, create_resources
from sandbox.emulators.aws.patching import Foreign, Patches
from tests.emulators.aws.conftest import ROLE


def test_one_sandbox_at_a_time(aws: AwsSandbox) -> None:
    assert aws.url
    with pytest.raises(RuntimeError, match="one AwsSandbox at a time"):
        AwsSandbox().start()


def test_a_stopped_sandbox_has_no_address_and_can_start_again_empty() -> None:
    sandbox = AwsSandbox()
    with sandbox:
        create_resources(sandbox, lock_table="locks", audit_bucket="audit", secrets={})
    with pytest.raises(RuntimeError, match="not running"):
        _ = sandbox.url
    with sandbox:
        assert sandbox.client("dynamodb").list_tables()["TableNames"] == []
        assert sandbox.client("s3").list_buckets()["Buckets"] == []


def test_stopping_undoes_every_patch() -> None:
    before = _patched_things()
    with AwsSandbox():
        during = _patched_things()
    assert _patched_things() == before
    assert all(during[name] is not before[name] for name in before)


def _patched_things() -> dict[str, object]:
    asl = "moto.stepfunctions.parser.asl"
    targets = [
        (f"{asl}.jsonata.jsonata", "_eval_jsonata"),
        (f"{asl}.utils.boto_client", "boto3"),
        (f"{asl}.component.common.retry.retrier_decl", "time"),
        ("moto.stepfunctions.models", "stepfunctions_backends"),
        ("moto.secretsmanager.models", "time"),
    ]
    methods = [
        ("moto.stepfunctions.parser.models", "StepFunctionsParserBackend", "_validate_definition"),
        ("moto.secretsmanager.models", "SecretsManagerBackend", "_add_secret"),
        ("moto.kms.models", "KmsBackend", "generate_mac"),
    ]
    things = {f"{module}:{name}": getattr(import_module(module), name) for module, name in targets}
    for module, owner, name in methods:
        things[f"{owner}.{name}"] = inspect.getattr_static(getattr(import_module(module), owner), name)
    return things


def test_stopping_aborts_running_executions() -> None:
    with AwsSandbox() as sandbox:
        stepfunctions = sandbox.client("stepfunctions")
        states = {"Wait": {"Type": "Wait", "Seconds": 3600, "End": True}}
        arn = stepfunctions.create_state_machine(
            name="sleeper",
            definition=json.dumps({"QueryLanguage": "JSONata", "StartAt": "Wait", "States": states}),
            roleArn=ROLE,
        )["stateMachineArn"]
        stepfunctions.start_execution(stateMachineArn=arn, input="{}")
        backends = import_module("moto.stepfunctions.parser.models").stepfunctions_parser_backends
        execution = backends[sandbox.account_id][sandbox.region].state_machines[0].executions[0]
    for thread in import_module("moto.stepfunctions.parser.utils").TMP_THREADS:
        thread.join(timeout=10)
    assert execution.status == "ABORTED"


def _losers(attempt: Callable[[int], object]) -> list[str]:
    """Race 24 attempts. Returns the error codes of those that lost."""

    def lost_by(number: int) -> str | None:
        try:
            attempt(number)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return None

    with ThreadPoolExecutor(max_workers=12) as pool:
        return [code for code in pool.map(lost_by, range(24)) if code]


def test_requests_to_one_service_are_served_one_at_a_time(aws: AwsSandbox) -> None:
    create_resources(aws, lock_table="locks", audit_bucket="audit", secrets={})
    dynamodb = aws.client("dynamodb")
    meeting = threading.Barrier(2)
    met: list[int] = []

    def wrapper(original: Foreign) -> object:
        def put_item(*args: Foreign, **fields: Foreign) -> object:
            with contextlib.suppress(threading.BrokenBarrierError):
                met.append(meeting.wait(timeout=0.1))
            return original(*args, **fields)

        return put_item

    patches = Patches()
    patches.wrap("moto.dynamodb.models:DynamoDBBackend.put_item", wrapper)
    try:
        assert (
            _losers(lambda _: dynamodb.put_item(TableName="locks", Item={"credential_id": {"S": "a"}})) == []
        )
    finally:
        patches.undo()
    assert met == []
