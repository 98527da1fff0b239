"""Rotations by each way to prove an identity, and while sessions end or are refused (protocol R19)."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from lockstep.protocol.model import Strategy
from sandbox import plans
from sandbox.emulators.aws import Execution
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer
from sandbox.estate import Estate, Settings, running_estate
from sandbox.fn import FunctionProcess, running_function
from sandbox.identities import Way
from sandbox.plans import AUDIT_BUCKET, LOCK_TABLE

CREDENTIAL = "multi-cloud/app"
JWT = re.compile(r"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


@contextmanager
def estate_of(way: Way, folder: Path) -> Iterator[Estate]:
    """One database, both clouds, and a generation that both stores serve."""
    servers = {"orders": MariaDbServer(authority=CertificateAuthority(folder / "ca"))}
    credential = plans.credential(CREDENTIAL, *servers, strategy=Strategy.DUAL_PASSWORD)
    settings = Settings(way=way, audit_tier="Standard")
    with running_estate([credential], servers, folder=folder, settings=settings) as running:
        for number in (1, 2):
            assert generation(running) == number
        yield running


@pytest.fixture(scope="module", name="estate")
def _estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with estate_of(Way.SESSIONS, tmp_path_factory.mktemp("estate")) as running:
        yield running


@pytest.fixture(name="function")
def _function(estate: Estate) -> Iterator[FunctionProcess]:
    """The standby, without a session."""
    with running_function(estate.function_environment) as running:
        yield running


def standby(estate: Estate, function: FunctionProcess) -> dict[str, Any]:
    estate.outside.expire_schedule(CREDENTIAL)
    [result] = function.call({"credential_id": CREDENTIAL, "force": True}).body["results"]
    found: dict[str, Any] = result
    return found


def rotate(estate: Estate) -> Execution:
    estate.outside.expire_schedule(CREDENTIAL)
    return estate.rotate(CREDENTIAL, timeout_seconds=180)


def generation(estate: Estate) -> int:
    answer = rotate(estate)
    assert answer.status == "SUCCEEDED", answer.cause
    return int((answer.output or {})["generation"])


def assert_nothing_is_lost(estate: Estate) -> None:
    [credential] = estate.plan.credentials
    assert not estate.locked_out(credential)
    assert "holder" not in estate.outside.lock_item(CREDENTIAL)
    assert all(v.problems == [] for v in estate.verify_now(credential))


@pytest.mark.parametrize("way", [*Way][1:], ids=lambda way: way.name.lower())
def test_both_runners_rotate_however_they_prove_themselves(way: Way, tmp_path: Path) -> None:
    """Also by keys. It comes before the estate of the other tests: there is one AWS at a time."""
    with estate_of(way, tmp_path) as running, running_function(running.function_environment) as function:
        assert standby(running, function)["generation"] == 3
        assert_nothing_is_lost(running)


@pytest.mark.parametrize("operation", ["list_secret_versions", "get_secret_bundle"])
def test_sessions_that_end_in_the_middle_of_a_rotation_are_replaced(estate: Estate, operation: str) -> None:
    """At the first call of this kind, and at the next one after both values were staged by the new session."""
    number, writes, ends = generation(estate), 0, [0, 2]

    def end(when: Literal["before", "after"], called: str, _resource: str) -> None:
        nonlocal writes
        writes += (when, called) == ("after", "update_secret")
        if (when, called) == ("before", operation) and ends and writes >= ends[0]:
            ends.pop(0)
            estate.oci.domain.end_sessions()

    estate.oci.on_call = end
    try:
        assert generation(estate) == number + 1
    finally:
        estate.oci.on_call = None
    assert not ends
    assert_nothing_is_lost(estate)


def test_a_trust_that_was_revoked_ends_a_run_at_once_and_no_token_is_on_record_anywhere(
    estate: Estate, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The next run after it rotates."""
    caplog.set_level(logging.DEBUG)
    estate.restart_functions()
    [trust] = estate.oci.domain.trusts.values()
    trust.is_active = False
    failed = rotate(estate)
    assert (failed.status, failed.error) == ("FAILED", "StoreAccessDeniedError")
    assert_nothing_is_lost(estate)
    trust.is_active = True
    execution = rotate(estate)
    assert execution.status == "SUCCEEDED"
    assert_nothing_is_lost(estate)
    with running_function(estate.function_environment) as function:
        assert standby(estate, function)["generation"]
        logs = function.log
    out, err = capfd.readouterr()
    client = estate.aws.client
    history = client("stepfunctions").get_execution_history
    entries = client("s3").list_objects_v2(Bucket=AUDIT_BUCKET)["Contents"]
    bodies = [client("s3").get_object(Bucket=AUDIT_BUCKET, Key=e["Key"])["Body"].read() for e in entries]
    seen = {
        "logs": f"{caplog.text} {[vars(r) for r in caplog.records]} {out} {err} {logs}",
        "histories": str(
            [history(executionArn=e.arn, maxResults=1000)["events"] for e in (execution, failed)]
        ),
        "lock table": json.dumps(client("dynamodb").scan(TableName=LOCK_TABLE)["Items"]),
        "audit entries": str(bodies),
    }
    for place, text in seen.items():
        assert text.strip(), place
        assert not JWT.search(text), place
