"""The life of the sandbox: one at a time, which leaves nothing behind."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pkgutil import resolve_name

import pytest

from sandbox.emulators.aws import AwsSandbox, create_resources
from sandbox.emulators.aws.patching import Foreign, Patches
from tests.emulators.aws.conftest import Runner


def test_one_sandbox_at_a_time_and_a_stopped_one_can_start_again_empty(aws: AwsSandbox) -> None:
    with pytest.raises(RuntimeError, match="one AwsSandbox at a time"):
        AwsSandbox().start()
    create_resources(aws, lock_table="locks", audit_bucket="audit", secrets={})
    aws.stop()
    with pytest.raises(RuntimeError, match="not running"):
        _ = aws.url
    aws.start()
    assert aws.client("dynamodb").list_tables()["TableNames"] == []
    assert aws.client("s3").list_buckets()["Buckets"] == []


PATCHED = (
    "moto.stepfunctions.parser.asl.jsonata.jsonata:_eval_jsonata",
    "moto.stepfunctions.models:stepfunctions_backends",
    "moto.stepfunctions.parser.models:StepFunctionsParserBackend._validate_definition",
    "moto.secretsmanager.models:SecretsManagerBackend._add_secret",
    "moto.kms.models:KmsBackend.generate_mac",
)


def test_stopping_undoes_every_patch() -> None:
    before = [resolve_name(name) for name in PATCHED]
    with AwsSandbox():
        assert all(resolve_name(name) is not found for name, found in zip(PATCHED, before, strict=True))
    assert [resolve_name(name) for name in PATCHED] == before


def test_stopping_aborts_running_executions(aws: AwsSandbox, run: Runner) -> None:
    arn = run.create({"Wait": {"Type": "Wait", "Seconds": 3600, "End": True}}, "sleeper")
    aws.client("stepfunctions").start_execution(stateMachineArn=arn, input="{}")
    backends = import_module("moto.stepfunctions.parser.models").stepfunctions_parser_backends
    execution = backends[aws.account_id][aws.region].state_machines[0].executions[0]
    aws.stop()
    for thread in import_module("moto.stepfunctions.parser.utils").TMP_THREADS:
        thread.join(timeout=10)
    assert execution.status == "ABORTED"


def test_requests_to_one_service_are_served_one_at_a_time(aws: AwsSandbox) -> None:
    create_resources(aws, lock_table="locks", audit_bucket="audit", secrets={})
    dynamodb, meeting, met = aws.client("dynamodb"), threading.Barrier(2), list[int]()

    def wrapper(original: Foreign) -> object:
        def put_item(*args: Foreign, **fields: Foreign) -> object:
            with contextlib.suppress(threading.BrokenBarrierError):
                met.append(meeting.wait(timeout=0.1))
            return original(*args, **fields)

        return put_item

    patches = Patches()
    patches.wrap("moto.dynamodb.models:DynamoDBBackend.put_item", wrapper)
    try:
        with ThreadPoolExecutor(8) as pool:
            item = {"TableName": "locks", "Item": {"credential_id": {"S": "a"}}}
            list(pool.map(lambda _: dynamodb.put_item(**item), range(16)))
    finally:
        patches.undo()
    assert met == []
