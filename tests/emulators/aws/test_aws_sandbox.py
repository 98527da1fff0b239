"""The life of the sandbox: one at a time, which leaves nothing behind; and what else its services refuse."""

import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pkgutil import resolve_name

import pytest

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.patching import Foreign, Patches
from sandbox.emulators.aws.resources import create_lock_table
from sandbox.emulators.aws.serving import Rate
from tests.emulators.aws.conftest import Runner, refused
from tests.support.aws import Clock

PATCHED = (
    "moto.stepfunctions.parser.asl.jsonata.jsonata:_eval_jsonata",
    "moto.stepfunctions.models:stepfunctions_backends",
    "moto.secretsmanager.models:SecretsManagerBackend._add_secret",
)


def test_one_sandbox_at_a_time_and_a_stopped_one_leaves_nothing_and_can_start_again(aws: AwsSandbox) -> None:
    patched = [resolve_name(name) for name in PATCHED]
    with pytest.raises(RuntimeError, match="one AwsSandbox at a time"):
        AwsSandbox().start()
    create_lock_table(aws.client("dynamodb"), "locks")
    aws.stop()
    assert all(resolve_name(name) is not found for name, found in zip(PATCHED, patched, strict=True))
    with pytest.raises(RuntimeError, match="not running"):
        _ = aws.url
    aws.start()
    assert aws.client("dynamodb").list_tables()["TableNames"] == []


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
    dynamodb, meeting, met = aws.client("dynamodb"), threading.Barrier(2), list[int]()
    create_lock_table(dynamodb, "locks")

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


def test_what_is_above_a_rate_is_refused_until_time_passes(aws: AwsSandbox, clock: Clock) -> None:
    secrets = aws.client("secretsmanager")
    secrets.create_secret(Name="app", SecretString="0")
    rate = aws.rates["secretsmanager"] = Rate(frozenset({"PutSecretValue"}), 2, monotonic=clock)
    put = {"SecretId": "app", "SecretString": "1"}
    for passed, taken in ((0, 2), (0.5, 1), (60, 2)):
        clock.now += passed
        for _ in range(taken):
            secrets.put_secret_value(**put)
        assert refused(secrets.put_secret_value, **put) == "ThrottlingException"
        secrets.get_secret_value(SecretId="app")
    assert rate.refused == 3


def test_a_stack_with_an_unknown_type_or_boundary_fails(aws: AwsSandbox) -> None:
    create = aws.client("cloudformation").create_stack
    boundary = {"PermissionsBoundary": f"arn:aws:iam::{aws.account_id}:policy/none"}
    role = {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {}, **boundary}}
    for name, resource, code in (
        ("unknown", {"Type": "AWS::Nobody::KnowsThis", "Properties": {}}, "ValidationError"),
        ("unbound", role, "NoSuchEntity"),
    ):
        body = json.dumps({"Resources": {"It": resource}})
        assert refused(create, StackName=name, TemplateBody=body) == code
