"""The life of the sandbox: one at a time, which leaves nothing behind."""

import contextlib
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

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


def test_stopping_undoes_every_patch() -> None:
    def patched() -> list[object]:
        found = (
            ("moto.stepfunctions.parser.asl.jsonata.jsonata", "_eval_jsonata"),
            ("moto.stepfunctions.parser.asl.utils.boto_client", "boto3"),
            ("moto.stepfunctions.models", "stepfunctions_backends"),
            ("moto.stepfunctions.parser.models", "StepFunctionsParserBackend._validate_definition"),
            ("moto.secretsmanager.models", "SecretsManagerBackend._add_secret"),
            ("moto.kms.models", "KmsBackend.generate_mac"),
        )
        things = []
        for module, path in found:
            owner: object = import_module(module)
            *parents, name = path.split(".")
            for parent in parents:
                owner = getattr(owner, parent)
            things.append(inspect.getattr_static(owner, name))
        return things

    before = patched()
    with AwsSandbox():
        assert all(now is not then for now, then in zip(patched(), before, strict=True))
    assert patched() == before


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
