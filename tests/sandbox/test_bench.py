"""`make bench`: what it computes, and that a rotation stays within its budget."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from sandbox.bench import peer
from sandbox.bench.budget import MACHINE, SMALL, STEPS
from sandbox.bench.goals import Goal, figure, goals
from sandbox.bench.measure import PEER, Depth, small
from sandbox.bench.network import Network, covered_ms, longest_chain
from sandbox.bench.rounds import LATENCIES_MS, round_trips
from sandbox.bench.table import Tables
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.databases import MariaDbServer, available
from sandbox.emulators.oci import OciSandbox

LATENCY_MS = 400.0
"""So long that the work for a request is little beside it on a busy machine."""


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        ({0: 500, 20: 500, 50: 500}, 0),
        ({0: 500, 20: 520, 50: 550}, 1),
        ({0: 300, 20: 580, 50: 1000}, 14),
        ({0: 110, 20: 280, 50: 610}, 10.08),  # 10 round trips, with errors of 10, -20 and 10 ms.
    ],
)
def test_round_trips_are_the_slope_of_time_over_latency(
    milliseconds: dict[int, float], expected: float
) -> None:
    assert round_trips(milliseconds) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([], 0),
        ([(0, 1), (1, 2), (2, 3)], 3),
        ([(0, 1), (0.1, 1.1), (0.2, 1.2)], 1),
        ([(0, 4), (0, 1), (1, 2), (2, 3)], 3),
        ([(1.5, 2.5), (0, 1), (0.5, 1.5), (2.6, 3)], 3),
    ],
)
def test_the_chain_is_the_most_requests_that_follow_one_another(
    intervals: list[tuple[float, float]], expected: int
) -> None:
    assert longest_chain(intervals) == expected


def test_time_that_two_invocations_share_counts_once() -> None:
    assert covered_ms([(0.0, 1.0), (0.5, 2.0), (0.6, 0.7), (3.0, 3.5)]) == pytest.approx(2500)


class Clouds:
    """Both clouds' emulators with the network before them."""

    def __init__(self, aws: AwsSandbox, oci_sandbox: OciSandbox) -> None:
        self.network = Network(aws, oci_sandbox)
        secrets: Any = aws.client("secretsmanager")
        vaults: Any = oci_sandbox.client(oci.vault.VaultsClient)
        self.requests: dict[str, Callable[[], object]] = {
            "aws": secrets.list_secrets,
            "oci": lambda: vaults.list_secrets(oci_sandbox.compartment_id),
        }


@pytest.fixture
def clouds() -> Iterator[Clouds]:
    with AwsSandbox() as aws, OciSandbox() as oci_sandbox:
        made = Clouds(aws, oci_sandbox)
        for request in made.requests.values():
            request()  # What only the first request of a client does.
        yield made


@pytest.mark.parametrize("cloud", ["aws", "oci"])
def test_requests_that_are_under_way_together_wait_together(clouds: Clouds, cloud: str) -> None:
    request, both = clouds.requests[cloud], threading.Barrier(2, timeout=30)

    def met() -> None:
        both.wait()

    with clouds.network.recording(LATENCY_MS, at_boundary=met) as record, ThreadPoolExecutor(2) as pool:
        began = time.monotonic()
        for future in [pool.submit(request), pool.submit(request)]:
            future.result()
        took_ms = (time.monotonic() - began) * 1000
    assert took_ms >= LATENCY_MS
    assert (len(record.requests), record.chain()) == (2, 1)


@pytest.mark.parametrize("cloud", ["aws", "oci"])
def test_requests_that_follow_one_another_wait_one_after_the_other(clouds: Clouds, cloud: str) -> None:
    with clouds.network.recording(20) as record:
        for _ in range(3):
            clouds.requests[cloud]()
    assert (len(record.requests), record.chain()) == (3, 3)


def test_the_chain_to_one_cloud_leaves_the_other_out(clouds: Clouds) -> None:
    with clouds.network.recording(20) as record:
        for cloud in ("aws", "oci", "aws"):
            clouds.requests[cloud]()
    assert (record.chain(cloud="aws"), record.chain(cloud="oci"), record.chain()) == (2, 1, 3)


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
def test_a_rotation_stays_within_its_budget_beside_one_that_locks_out(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder, checkout = tmp_path_factory.mktemp("bench"), tmp_path_factory.mktemp("peer")
    (checkout / peer.FILE).parent.mkdir()
    (checkout / peer.FILE).write_text(ROTATES_IN_PLACE)
    figures = small(Depth(repetitions=3, back_to_back=2), checkout, folder, lambda _text: None)
    rotation = figures[SMALL][MACHINE]
    assert rotation["wall_ms"].keys() == {str(latency) for latency in LATENCIES_MS}
    assert list(rotation["steps"]) == list(STEPS[SMALL])
    assert rotation["calls"] == sum(step["aws_calls"] for step in rotation["steps"].values())
    assert figures[SMALL]["boundaries"]["boundaries"] >= rotation["calls"]
    assert [f"{g.name}: {figure(figures, g.path)}" for g in goals() if g.verdict(figures) == "FAILS"] == []
    other = figures[PEER]
    assert (other["calls"], other["chain"], other["connections"]) == (10, 10, 1)
    assert list(other["steps"]) == list(peer.STEPS)
    # At the end of setSecret, around the calls of testSecret, and before those of finishSecret.
    assert other["boundaries"] == {"boundaries": 14, "refused": 7}
    assert other["back to back"]["refused"] > 0
    assert json.loads(json.dumps(figures)) == figures


@pytest.mark.parametrize(
    ("found", "claimed", "verdict"),
    [(3, 3, "met"), (4, 5, "short"), (4, None, "short"), (6, 5, "FAILS"), (None, 5, "")],
)
def test_only_what_is_claimed_can_fail(found: int | None, claimed: float | None, verdict: str) -> None:
    goal = Goal(name="round trips", path=("1x1", "chain"), at_most=3, claimed=claimed)
    assert goal.verdict({"1x1": {"chain": found}}) == verdict


def test_a_baseline_is_shown_before_each_figure() -> None:
    text = "\n".join(Tables(_with_chain(13), _with_chain(34)).lines())
    assert "34 → 13" in text


def _with_chain(length: int) -> dict[str, Any]:
    return {SMALL: {MACHINE: {"chain": length, "steps": {}}}}
