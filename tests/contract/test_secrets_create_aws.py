"""`lockstep secrets create` on Secrets Manager: what it makes, leaves and refuses; cut, throttled and repeated."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from lockstep.cli import app
from lockstep.protocol.model import Engine
from lockstep.protocol.names import KEY_OUTPUT, SECRET_TAG, STACK_TAG
from sandbox import plans
from sandbox.aws import AwsSandbox
from sandbox.aws.executions import Client
from sandbox.estate import environment
from tests.support.settling import settled

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ROOT = Path(__file__).parents[2]
REGION = plans.AWS_REGION
WRITES = {"CreateSecret", "TagResource", "PutSecretValue", "UpdateSecret", "UntagResource", "DeleteSecret"}


def secrets_of(*ids: str) -> list[str]:
    return [name for i in ids for name in (i, f"{i}-connection_blob")]


@dataclass
class Throttling:
    """Secrets Manager that takes so many CreateSecret in any second, and throttles more.

    Attributes:
        takes: In a second.
        took: When each was taken, and how many were not.
    """

    behind: "WSGIApplication"
    takes: float = float("inf")
    took: list[float] = field(default_factory=list)
    refused: int = 0
    _recent: deque[float] = field(default_factory=deque)
    _lock: Lock = field(default_factory=Lock)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if str(environ.get("HTTP_X_AMZ_TARGET", "")).endswith(".CreateSecret") and not self._takes():
            body = json.dumps({"__type": "ThrottlingException", "message": "Rate exceeded"}).encode()
            start_response("400 Bad Request", [("Content-Type", "application/x-amz-json-1.1")])
            return [body]
        return self.behind(environ, start_response)

    def _takes(self) -> bool:
        now = time.monotonic()
        with self._lock:
            while self._recent and self._recent[0] <= now - 1:
                self._recent.popleft()
            if len(self._recent) >= self.takes:
                self.refused += 1
                return False
            self._recent.append(now)
            self.took.append(now)
            return True


@dataclass
class Fleet:
    """An account with a stack, and the command in it."""

    aws: AwsSandbox
    folder: Path
    key: str
    throttling: Throttling
    calls: Counter[str]

    @property
    def owner(self) -> Client:
        """Secrets Manager, as an administrator."""
        return self.aws.client("secretsmanager")

    def plan(self, *ids: str) -> None:
        """The plan has these credentials."""
        document = plans.plan_document(
            [plans.database("orders", Engine.MYSQL, host="orders.internal", tls={})],
            [
                plans.credential(i, "orders", username=f"u{n}", secrets=plans.own_secrets(i))
                for n, i in enumerate(ids)
            ],
        )
        (self.folder / "lockstep.yaml").write_text(json.dumps(document))

    def words(self, *words: str) -> list[str]:
        plan, settings = self.folder / "lockstep.yaml", self.folder / "cdk.json"
        return ["secrets", "create", "-p", str(plan), "--settings", str(settings), "--rate", "50", *words]

    def run(self, *words: str) -> Result:
        """Run the command."""
        self.calls.clear()
        with environment(self.aws.environment()):
            return CliRunner().invoke(app, self.words(*words))

    def done(self, *words: str) -> dict[str, int]:
        """Run the command, which succeeds; its counts."""
        shown = self.run("--json", *words)
        assert shown.exit_code == 0, shown.output
        [cloud] = json.loads(shown.stdout)["clouds"]
        counts: dict[str, int] = cloud["counts"]
        return {name: count for name, count in counts.items() if count}

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Start the command as a process."""
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "lockstep", *self.words(*words)],
            cwd=ROOT,
            env={**self.aws.environment(), "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def writes(self) -> Counter[str]:
        """What the last command has written."""
        return Counter({call: n for call, n in self.calls.items() if call in WRITES})

    def names(self) -> list[str]:
        """The secrets that are there."""
        pages = self.owner.get_paginator("list_secrets").paginate()
        return sorted(s["Name"] for page in pages for s in page["SecretList"])

    def described(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.owner.describe_secret(SecretId=name)
        return found

    def tags(self, name: str) -> dict[str, str]:
        return {t["Key"]: t["Value"] for t in self.described(name).get("Tags", [])}

    def value(self, name: str) -> str:
        text: str = self.owner.get_secret_value(SecretId=name, VersionStage="AWSCURRENT")["SecretString"]
        return text


@pytest.fixture(name="fleet")
def _fleet(tmp_path: Path) -> Iterator[Fleet]:
    aws, calls = AwsSandbox(), Counter[str]()
    throttling = Throttling(aws.application)
    aws.application = throttling  # type: ignore[assignment]  # another application, in front of it
    aws.on_request = lambda _, operation: calls.update([operation])
    with aws:
        key = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
        context = {"stack": "lockstep", "tags": {"team": "data"}, "adopt": {"encryption_key": key}}
        (tmp_path / "cdk.json").write_text(json.dumps({"context": context}))
        found = Fleet(aws, tmp_path, key, throttling, calls)
        found.plan("a", "b")
        yield found


def test_each_secret_has_key_tags_and_a_placeholder(fleet: Fleet) -> None:
    assert fleet.done() == {"made": 4}
    assert fleet.names() == secrets_of("a", "b")
    for name, kind in (("a", "app_user"), ("a-connection_blob", "connection_blob")):
        assert fleet.tags(name) == {"team": "data", STACK_TAG: "lockstep", SECRET_TAG: kind}
        described = fleet.described(name)
        assert (described["KmsKeyId"], described["Description"]) == (
            fleet.key,
            "Lockstep rotates this secret",
        )
        assert json.loads(fleet.value(name)).keys() == {"placeholder"}


def test_a_second_run_changes_nothing_and_says_so(fleet: Fleet) -> None:
    fleet.run()
    shown = fleet.run()
    assert (shown.exit_code, shown.stdout) == (
        0,
        "aws: 4 secrets: 4 there already, 0 made, 0 tagged, 0 in the way; nothing was changed\n",
    )
    assert fleet.calls == {"DescribeSecret": 4}


def test_no_value_is_read_or_shown_and_none_that_exists_is_written(fleet: Fleet) -> None:
    fleet.run()
    fleet.owner.put_secret_value(SecretId="a", SecretString='{"username": "u", "password": "in use"}')
    shown = fleet.run()
    assert fleet.calls == {"DescribeSecret": 4}
    assert "in use" in fleet.value("a")
    assert "in use" not in shown.output


def test_a_dry_run_makes_nothing_and_lists_what_it_would_make(fleet: Fleet) -> None:
    shown = fleet.run("--dry-run")
    assert shown.exit_code == 0
    assert "would make: a\n" in shown.stdout
    assert "4 to make, 0 to tag" in shown.stdout
    assert (fleet.writes, fleet.names()) == ({}, [])


def test_growth_makes_what_is_new_and_what_has_left_stays(fleet: Fleet) -> None:
    fleet.run()
    before = {name: fleet.value(name) for name in fleet.names()}
    fleet.plan("b", "c")
    assert fleet.done() == {"made": 2, "there": 2}
    assert fleet.names() == secrets_of("a", "b", "c")
    assert {name: fleet.value(name) for name in before} == before


def test_only_makes_the_secrets_of_the_credentials_that_it_names(fleet: Fleet) -> None:
    fleet.plan("a", "b", "c")
    assert fleet.done("--only", "c", "--only", "a") == {"made": 4}
    assert fleet.names() == secrets_of("a", "c")
    assert fleet.run("--only", "d").exit_code == 2
    assert fleet.done("--only", "a*", "--only", "b") == {"made": 2, "there": 2}


def test_tags_that_are_lacking_are_set_and_others_stay(fleet: Fleet) -> None:
    tags = [{"Key": STACK_TAG, "Value": "lockstep"}, {"Key": "own", "Value": "kept"}]
    fleet.owner.create_secret(Name="a", SecretString="in use", KmsKeyId=fleet.key, Tags=tags)
    assert fleet.done() == {"made": 3, "tagged": 1}
    assert fleet.tags("a") == {"own": "kept", "team": "data", STACK_TAG: "lockstep", SECRET_TAG: "app_user"}
    assert fleet.value("a") == "in use"
    assert fleet.writes == {"CreateSecret": 3, "TagResource": 1}


def test_another_key_is_told_and_stays(fleet: Fleet) -> None:
    fleet.run()
    fleet.owner.update_secret(SecretId="a", KmsKeyId="alias/other")
    shown = fleet.run()
    assert (shown.exit_code, "a: its key is alias/other" in shown.stdout) == (0, True)
    assert fleet.described("a")["KmsKeyId"] == "alias/other"


def of_another_stack(fleet: Fleet) -> None:
    fleet.owner.create_secret(Name="a", SecretString="x", Tags=[{"Key": STACK_TAG, "Value": "other"}])


def of_people(fleet: Fleet) -> None:
    fleet.owner.create_secret(Name="a", SecretString="x", Tags=[{"Key": "team", "Value": "theirs"}])


def to_be_deleted(fleet: Fleet) -> None:
    fleet.owner.create_secret(Name="a", SecretString="x")
    fleet.owner.delete_secret(SecretId="a", RecoveryWindowInDays=7)


@pytest.mark.parametrize(
    ("make", "told", "command"),
    [
        (of_another_stack, "'other'", None),
        (of_people, "people made it", "lockstep secrets tag --stack lockstep --yes"),
        (
            to_be_deleted,
            "scheduled for deletion",
            f"aws secretsmanager restore-secret --secret-id a --region {REGION}",
        ),
    ],
)
def test_what_is_in_the_way_is_told_and_the_rest_is_made(
    fleet: Fleet, make: Callable[[Fleet], None], told: str, command: str | None
) -> None:
    make(fleet)
    before = fleet.described("a")
    shown = fleet.run()
    assert (shown.exit_code, told in shown.stderr) == (1, True)
    assert command is None or f"    {command}\n" in shown.stdout
    assert "0 there already, 3 made, 0 tagged, 1 in the way" in shown.stdout
    after = fleet.described("a")
    assert (after.get("Tags"), after["VersionIdsToStages"]) == (
        before.get("Tags"),
        before["VersionIdsToStages"],
    )


def test_after_the_command_for_a_deletion_it_says_what_comes_next(fleet: Fleet) -> None:
    to_be_deleted(fleet)
    fleet.run()
    fleet.owner.restore_secret(SecretId="a")
    assert "lockstep secrets tag" in fleet.run().stdout
    with environment(fleet.aws.environment()):
        CliRunner().invoke(app, ["secrets", "tag", "-p", str(fleet.folder / "lockstep.yaml"), "--yes"])
    assert fleet.done() == {"tagged": 1, "there": 3}


def test_the_key_is_that_of_the_stack(fleet: Fleet) -> None:
    (fleet.folder / "cdk.json").write_text(json.dumps({"context": {}}))
    shown = fleet.run()
    assert (shown.exit_code, "make deploy-aws" in shown.stderr) == (1, True)
    assert fleet.names() == []
    key = fleet.aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    template = {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "t"}}},
        "Outputs": {KEY_OUTPUT: {"Value": key}},
    }
    fleet.aws.client("cloudformation").create_stack(StackName="lockstep", TemplateBody=json.dumps(template))
    assert fleet.done() == {"made": 4}
    assert fleet.described("a")["KmsKeyId"] == key
    assert fleet.tags("a") == {STACK_TAG: "lockstep", SECRET_TAG: "app_user"}


def test_a_service_that_throttles_is_survived(fleet: Fleet) -> None:
    fleet.throttling.takes = 8
    ids = [f"c{n:02}" for n in range(30)]
    fleet.plan(*ids)
    assert fleet.done() == {"made": 60}
    assert fleet.names() == secrets_of(*ids)
    assert fleet.throttling.refused > 0
    assert fleet.calls["CreateSecret"] == 60


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_is_taken_up_by_the_next(fleet: Fleet, ending: signal.Signals) -> None:
    ids = [f"c{n:02}" for n in range(60)]
    fleet.plan(*ids)
    process = fleet.start()
    try:
        until = time.monotonic() + 60
        while len(fleet.throttling.took) < 25 and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(ending)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    # What it has sent before its end is still served.
    made = len(settled(fleet.names, is_so=lambda names: len(names) == len(fleet.throttling.took)))
    assert 25 <= made < 120
    if ending is signal.SIGINT:
        assert process.returncode == 128 + signal.SIGINT
        assert "repeat the command to go on" in told
        assert "Traceback" not in told
    before = {name: fleet.value(name) for name in fleet.names()}
    assert fleet.done() == {"made": 120 - made, "there": made}
    assert fleet.names() == secrets_of(*ids)
    assert {name: fleet.value(name) for name in before} == before


def test_two_runs_at_once_make_each_secret_once(fleet: Fleet) -> None:
    ids = [f"c{n:02}" for n in range(20)]
    fleet.plan(*ids)
    both = [fleet.start("--json") for _ in range(2)]
    counts = []
    for process in both:
        answer, told = process.communicate(timeout=200)
        assert process.returncode == 0, told
        counts.append(json.loads(answer)["clouds"][0]["counts"])
    assert sum(c["made"] for c in counts) == 40
    assert sum(c["there"] for c in counts) == 40
    assert fleet.names() == secrets_of(*ids)


def test_an_identity_without_the_right_is_told_once(fleet: Fleet) -> None:
    fleet.aws.guard.denied.add("secretsmanager:CreateSecret")
    shown = fleet.run()
    assert shown.exit_code == 3
    assert "AwsActionDeniedError" in shown.stderr
    assert fleet.names() == []
