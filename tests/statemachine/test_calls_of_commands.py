"""What the commands of a person send to both clouds, and that docs/iam.md lists the right for each call."""

from collections import Counter
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner, Result

from lockstep.cli import app
from lockstep.cost.calls import Shape
from sandbox.count_calls import World, world

SLOTS = 4


@pytest.fixture(scope="module")
def running() -> Iterator[World]:
    """Both clouds, one database, the audit bucket of OCI in its default tier; each runner has rotated."""
    with world(Shape(databases=1, ring=SLOTS)) as found:
        found.by_aws()
        found.by_oci(found.function(), due=True)
        yield found


def run(*words: str) -> Result:
    """Run a command; the plan is in the environment."""
    return CliRunner().invoke(app, words)


def calls_of(running: World, *words: str) -> Counter[str]:
    """What a command sends, as service and operation."""
    shown: list[Result] = []
    found = running.counting.of(lambda: shown.append(run(*words)), "it")
    assert shown[0].exit_code == 0, shown[0].output
    return Counter({call.removeprefix("it "): number for call, number in found.items()})


def test_status_reads_no_value_and_no_key(running: World) -> None:
    """It looks at lists, the lock record, and the log; the first entry of each log that is a run's."""
    found = calls_of(running, "status")
    assert found == {
        "dynamodb GetItem": 1,
        "secretsmanager DescribeSecret": 2,
        "vault list_secrets": 2 * SLOTS,
        "vault list_secret_versions": 2 * SLOTS,
        "s3 GET": 2,
        "objectstorage list_objects": 1,
        "objectstorage get_object": 1,
        "objectstorage head_object": 1,
    }
    told = " ".join(found)
    assert not any(word in told for word in ("GetSecretValue", "bundle", "Decrypt", "Mac", "kms"))


def test_only_read_values_reads_values(running: World) -> None:
    by_names, by_values = calls_of(running, "status"), calls_of(running, "status", "--read-values")
    assert by_values - by_names == {
        "secretsmanager GetSecretValue": 2,
        "secrets get_secret_bundle": 2 * SLOTS,
    }


def test_a_pending_generation_costs_one_call_more(running: World) -> None:
    credential = running.credential
    server = running.estate.servers[credential.databases[0]]
    by_names = calls_of(running, "status")
    running.estate.outside.expire_schedule(credential.id)
    server.stop()
    try:
        assert running.estate.rotate(credential.id).status == "FAILED"
    finally:
        server.start()
    assert calls_of(running, "status") - by_names == {"secretsmanager ListSecretVersionIds": 1}
    assert ", since " in next(line for line in run("status").stdout.splitlines() if "pending" in line)
    running.by_aws()


def test_history_reads_no_key(running: World) -> None:
    found = calls_of(running, "history")
    assert {"dynamodb", "s3", "objectstorage"} == {call.split()[0] for call in found}
    shown = run("history").stdout
    assert "oci: a run, whose entry 1 is archived and was not read" in shown
