"""The deployed stack: deployed by the real CDK CLI, run from the uploaded package, under the deployed policies."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lockstep.protocol.model import Login, SecretStr
from sandbox.deploy_local import (
    check_credential,
    check_digest,
    check_logs,
    check_roles,
    check_shard,
    doctor_in_cloud,
)
from sandbox.deployed_world import DeployedWorld, deployed_world
from sandbox.emulators.aws.deployed import NotPermittedError
from sandbox.emulators.aws.policies import as_list
from sandbox.plans import LOCK_TABLE
from sandbox.servers import set_password
from sandbox.watching import Subscriber, Watching

ROUNDS = 3
UNSEEN_SERVICES = {"logs", "xray"}
"""Lambda and Step Functions call these themselves, so the sandbox sees no request."""
UNUSED = {
    ("generate", "secretsmanager:DescribeSecret"),
    ("apply_db", "secretsmanager:DescribeSecret"),
    ("update_secrets", "secretsmanager:DescribeSecret"),
    ("update_secrets", "dynamodb:GetItem"),
    *((step, "s3:ListBucket") for step in ("generate", "apply_db", "update_secrets", "watch")),
    *(("fleet", f"s3:{call}") for call in ("AbortMultipartUpload", "ListMultipartUploadParts")),
}
"""What only other paths need: a version that is missing, a comparison that is lost, a record that was
not told, a plan that is not published, a large report; an emergency that passes over a database."""


@pytest.fixture(scope="module", name="world")
def _world() -> Iterator[DeployedWorld]:
    with deployed_world() as world:
        yield world


@pytest.fixture(scope="module", name="rotated")
def _rotated(world: DeployedWorld) -> DeployedWorld:
    """The world after three rotations of every credential, a failed one of the first, and a look of the watch.

    Before the third one the lock table lost the chain's head. Before the failed one a database's account was changed.
    """
    for _ in range(ROUNDS - 1):
        for schedule in world.stack.schedules:
            assert check_shard(world, schedule, world.fire(schedule)) == []
    for credential in world.plan.credentials:
        _update(world, credential.id, "REMOVE head_aws")
        execution = world.rotate(credential.id)
        assert execution.output, f"{execution.error}: {execution.cause}"
        assert execution.output["outcome"] == "rotated"
        assert check_credential(world, credential, execution.output["generation"]) == []
    credential = world.plan.credentials[0]
    changed = Login(
        str(world.current(credential.secret_names.app_user)["username"]), SecretStr("Changed-outside-1")
    )
    set_password(world.servers[credential.databases[0]], changed)
    execution = world.rotate(credential.id)
    assert execution.error == "CurrentCredentialRejectedError", execution.cause
    assert not world.stack.call(world.stack.rule_of("watch")).function_error
    assert check_digest(world) == []
    return world


def _update(world: DeployedWorld, credential_id: str, expression: str, **values: object) -> None:
    """Change a record as nobody should."""
    more = {"ExpressionAttributeValues": {f":{n}": value for n, value in values.items()}} if values else {}
    world.aws.client("dynamodb").update_item(
        TableName=LOCK_TABLE, Key={"credential_id": {"S": credential_id}}, UpdateExpression=expression, **more
    )


def test_no_call_is_refused_every_permission_is_used_and_nothing_secret_is_logged(
    rotated: DeployedWorld,
) -> None:
    guard, stack = rotated.aws.guard, rotated.stack
    assert check_roles(rotated) == []
    assert check_logs(rotated) == []
    # CloudFormation makes a function of another package type before it deletes the old one, so their names differ.
    assert all(name.endswith("-zip") for name in stack.functions)
    used = {(r.role, r.call.action) for r in guard.records}
    assert used
    titles = {role: "fleet" if "Fleet" in role else "state machine" for role, _ in used}
    for name in stack.functions:
        titles[stack.role_of(name)] = name.removeprefix("lockstep-").removesuffix("-zip").replace("-", "_")
    unused = {
        (title, action)
        for role, title in titles.items()
        for statement in guard.statements(role)
        for action in as_list(statement["Action"] if statement["Effect"] == "Allow" else [])
        if action.partition(":")[0] not in UNSEEN_SERVICES and (role, action) not in used
    }
    assert unused == UNUSED


def test_people_are_paged_for_a_stale_credential_and_hear_when_it_is_over(rotated: DeployedWorld) -> None:
    watching = Watching(rotated.stack, "lockstep")
    people = Subscriber.of(rotated.aws, rotated.stack.outputs["PageTopicArn"], name="people")
    failing, neglected = rotated.plan.credentials[0].id, rotated.plan.credentials[-1].id

    rotated.neglect(neglected)
    rotated.neglect(failing)
    assert watching.look()["StaleCredentials"] == 2
    assert watching.minutes_until(people, "Stale", "ALARM") <= 30

    assert rotated.rotate(neglected).status == "SUCCEEDED"
    _update(rotated, failing, "SET paused = :yes", yes={"BOOL": True})
    assert watching.look()["StaleCredentials"] == 0
    assert watching.minutes_until(people, "Stale", "OK") <= 10

    assert watching.minutes_until(people, "WatchSilent", "INSUFFICIENT_DATA", each=watching.stay_silent) <= 30
    assert watching.minutes_until(people, "WatchSilent", "OK") <= 10


def test_a_rule_that_the_function_does_not_know_may_not_call_it(world: DeployedWorld) -> None:
    rule = world.stack.rule_of("watch")
    world.aws.client("events").put_rule(Name="foreign", ScheduleExpression="rate(5 minutes)")
    with pytest.raises(NotPermittedError):
        world.stack.call(replace(rule, rule="foreign"))


# `lockstep doctor --in-cloud`


def test_the_deployed_functions_look_under_their_own_roles_and_change_nothing(
    rotated: DeployedWorld, tmp_path: Path
) -> None:
    """One database refuses what is served: it is told, and shown a login by one place alone."""
    before = rotated.aws.client("dynamodb").scan(TableName=LOCK_TABLE)["Items"]
    calls = len(rotated.aws.guard.records)
    document, _ = doctor_in_cloud(rotated, "--confirm", str(tmp_path / "confirmed.json"))
    confirmed = {f["check"] for f in document["findings"] if f["says"] == "confirmed"}
    assert confirmed >= {"aws.grants", "aws.updated-new", "aws.lock-table-key", "aws.locked-entries"}
    found = [f for f in document["findings"] if f["check"].startswith(("inside.", "database."))]
    steps = ("generate", "apply_db", "update_secrets", "audit", "watch")
    functions = {f["where"]: f["outcome"] for f in found if f["check"] == "inside.function"}
    assert functions == {f"aws/{step}": "passed" for step in steps}
    bad = {(f["where"], f["check"]) for f in found if f["outcome"] == "failed"}
    assert bad == {("here", "database.login")}
    assert rotated.aws.client("dynamodb").scan(TableName=LOCK_TABLE)["Items"] == before
    # Nothing that a function asked was refused, and nothing secret was answered or logged.
    asked = rotated.aws.guard.records[calls:]
    assert asked
    assert [f"{r.role} may not {r.call.action}" for r in asked if not r.verdict.allowed] == []
    assert check_logs(rotated) == []
    text = json.dumps(document)
    for each in rotated.plan.credentials:
        assert str(rotated.current(each.secret_names.app_user)["password"]) not in text
