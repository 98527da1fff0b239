"""`make bench`: what it computes, and that a rotation stays within its budget."""

import json
import re
from pathlib import Path

import pytest

from sandbox.bench import peer
from sandbox.bench.budget import CALLS, MACHINE, PEER, SMALL, STEPS, SUMS, Goal, figure, goals
from sandbox.bench.measure import small
from sandbox.bench.network import covered_ms, longest_chain
from sandbox.bench.table import lines
from sandbox.emulators.databases import MariaDbServer, available


@pytest.mark.parametrize(
    ("intervals", "expected", "covered"),
    [
        ([], 0, 0),
        ([(0, 1), (1, 2), (2, 3)], 3, 3000),
        ([(0, 1), (0.1, 1.1), (0.2, 1.2)], 1, 1200),
        ([(0, 4), (0, 1), (1, 2), (2, 3)], 3, 4000),
        ([(1.5, 2.5), (0, 1), (0.5, 1.5), (2.6, 3)], 3, 2900),
    ],
)
def test_the_chain_is_the_most_that_follow_one_another_and_shared_time_counts_once(
    intervals: list[tuple[float, float]], expected: int, covered: float
) -> None:
    assert longest_chain(intervals) == expected
    assert covered_ms(intervals) == pytest.approx(covered)


ROTATES_IN_PLACE = """
import json, os
import boto3, pymysql


def lambda_handler(event, context):
    secrets = boto3.client("secretsmanager", endpoint_url=os.environ["SECRETS_MANAGER_ENDPOINT"])
    name, token, step = event["SecretId"], event["ClientRequestToken"], event["Step"]
    stages = secrets.describe_secret(SecretId=name)["VersionIdsToStages"]
    assert stages[token] == ["AWSPENDING"]
    [current] = [version for version in stages if "AWSCURRENT" in stages[version]]
    now = json.loads(secrets.get_secret_value(SecretId=name, VersionId=current)["SecretString"])
    later = dict(now, password=token)
    if step == "createSecret":
        secrets.put_secret_value(
            SecretId=name, ClientRequestToken=token, SecretString=json.dumps(later), VersionStages=["AWSPENDING"]
        )
    if step == "setSecret":
        login = dict(host=now["host"], port=now["port"], user=now["username"], ssl={"ca": "/nowhere"})
        with pymysql.connect(**login, password=now["password"]) as connection, connection.cursor() as cursor:
            cursor.execute("SET PASSWORD = PASSWORD(%s)", later["password"])
    if step == "finishSecret":
        secrets.update_secret_version_stage(
            SecretId=name, VersionStage="AWSCURRENT", MoveToVersionId=token, RemoveFromVersionId=current
        )
"""
"""A rotation function with one password: between setSecret and finishSecret what is current is refused."""


@pytest.mark.skipif(not available()[MariaDbServer], reason=available()[MariaDbServer].missing)
def test_a_rotation_stays_in_budget_beside_one_that_locks_out(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder, checkout = tmp_path_factory.mktemp("bench"), tmp_path_factory.mktemp("peer")
    (checkout / peer.FILE).parent.mkdir()
    (checkout / peer.FILE).write_text(ROTATES_IN_PLACE)
    figures = small(checkout, folder, lambda _text: None, repetitions=1, times=2)
    rotation, other = figures[SMALL][MACHINE], figures[SMALL][PEER]
    assert list(rotation["steps"]) == list(STEPS[SMALL])
    assert rotation["calls"] == sum(step["aws_calls"] for step in rotation["steps"].values())
    assert [f"{g.name}: {figure(figures, g.path)}" for g in goals() if g.verdict(figures) == "FAILS"] == []
    assert (rotation["boundaries"]["refused"], rotation["back to back"]["refused"]) == (0, 0)
    assert rotation["boundaries"]["boundaries"] >= rotation["calls"]
    assert (other["calls"], other["chain"], list(other["steps"])) == (10, 10, list(peer.STEPS))
    # At the end of setSecret, around the calls of testSecret, and before those of finishSecret.
    assert other["boundaries"] == {"boundaries": 14, "refused": 7}
    assert other["back to back"]["refused"] > 0
    assert json.loads(json.dumps(figures)) == figures
    assert "FAILS" not in "\n".join(lines(figures))


@pytest.mark.parametrize(
    ("found", "claimed", "verdict"),
    [(3, 3, "met"), (4, 5, "short"), (6, 5, "FAILS"), (None, 5, "")],
)
def test_more_than_is_claimed_fails(found: int | None, claimed: float, verdict: str) -> None:
    goal = Goal(name="round trips", path=("1x1", "chain"), at_most=3, claimed=claimed)
    assert goal.verdict({"1x1": {"chain": found}}) == verdict


def test_the_page_has_the_counts_of_the_budget() -> None:
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    told = {most for _, most in (*SUMS.values(), *CALLS.values())}
    assert told <= {int(count) for count in re.findall(r"\| (\d+) (?=\|)", page)}
