"""The function in OCI that makes digests: with a key and rights of its own, and nothing else."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fdk.context import InvokeContext  # type: ignore[import-untyped]  # fdk ships no types

from lockstep.audit.digest import Made
from lockstep.protocol.names import digest_bucket_name
from lockstep.protocol.strict_json import write
from lockstep.runtime.identity import CONFIG_FILE_VARIABLE
from lockstep.runtime.wiring import DIGEST_VARIABLE
from oci_fn.digest import DigestFunction
from sandbox.emulators.oci import write_config_file
from sandbox.estate import Estate
from sandbox.fn import FunctionProcess, running_function
from sandbox.plans import AUDIT_BUCKET
from tests.contract.oci_fixtures import OciConsole
from tests.support.lambda_context import NO_LOOKS

DIGESTS = digest_bucket_name(AUDIT_BUCKET)


@pytest.fixture(name="variables", scope="module")
def _variables(estate: Estate) -> Mapping[str, str]:
    """The environment of the function as Terraform makes it, with exactly its permissions."""
    config = write_config_file(estate.folder, "digest", dict(estate.digests.identities.digest_key))
    return {
        **estate.function_environment,
        CONFIG_FILE_VARIABLE: str(config),
        DIGEST_VARIABLE: f"{estate.digests.keys.ocid}@{estate.oci.endpoint}",
    }


@pytest.fixture(name="digesting", scope="module")
def _digesting(variables: Mapping[str, str]) -> Iterator[FunctionProcess]:
    with running_function(variables) as running:
        yield running


def made(estate: Estate) -> dict[str, Any]:
    """The digests in the bucket, by name."""
    storage = OciConsole(estate.oci).storage
    names = [found.name for found in storage.list_objects(estate.oci.namespace, DIGESTS).data.objects]
    return {
        name: json.loads(storage.get_object(estate.oci.namespace, DIGESTS, name).data.content)["digest"]
        for name in names
    }


def test_another_call_is_refused_and_makes_nothing(estate: Estate, digesting: FunctionProcess) -> None:
    inputs = [
        *NO_LOOKS,
        {"doctor": "look"},
        {"credential_id": "multi-cloud/app-1"},
        {"force": True},
        [],
        b"{",
    ]
    answers = [digesting.call(body) for body in inputs]
    assert {(a.status, a.body["error"]) for a in answers} == {(502, "InvalidRequestError")}
    assert made(estate) == {}


def test_a_digest_an_hour_names_every_chain_and_is_confirmed_by_that_of_aws(
    estate: Estate, function: FunctionProcess, digesting: FunctionProcess
) -> None:
    credential = estate.plan.credentials[0]
    assert function.call({"credential_id": credential.id}).status == 200
    log = digesting.watch_log()
    # AWS has made none yet.
    alone = digesting.call()
    assert (alone.status, alone.body["confirms"]) == (502, False)
    assert (alone.body["chains"], alone.body["problems"]) == (1, [])
    estate.digests.make("aws")
    again = digesting.call({})
    assert (again.status, again.body["confirms"]) == (200, True)
    assert (again.body["chains"], again.body["problems"]) == (1, [])
    # The hour has its digest, which is not made anew; it may have passed since.
    hours = [alone.body["hour"], again.body["hour"]]
    digests = made(estate)
    assert set(digests) == {f"digests/{hour}.json" for hour in hours}
    for digest in digests.values():
        assert (digest["stream"], len(digest["chains"])) == ("oci", 1)
    lines = [
        json.loads(line[line.index("{") :]) for line in log.added().splitlines() if "digest made" in line
    ]
    assert [(line["stream"], line["hour"], line["confirms"]) for line in lines] == [
        ("oci", hours[0], False),
        ("oci", hours[1], True),
    ]


def test_without_its_key_there_is_no_digest_and_the_log_names_the_error(
    estate: Estate, variables: Mapping[str, str]
) -> None:
    refused = estate.oci.faults.refuse("get_key", status=404, code="NotAuthorizedOrNotFound")
    with refused, running_function(variables) as fresh:
        log = fresh.watch_log()
        answer = fresh.call()
        assert (answer.status, answer.body["error"]) == (502, "AuditLogAccessDeniedError")
        assert '{"digest": null, "error": "AuditLogAccessDeniedError"' in log.added()


@pytest.mark.parametrize(
    ("problems", "confirms", "status"), [([], True, 200), (["chain x is gone"], True, 502), ([], False, 502)]
)
def test_a_problem_and_the_silence_of_the_other_cloud_are_failures(
    problems: list[str], status: int, caplog: pytest.LogCaptureFixture, *, confirms: bool
) -> None:
    made = Made(stream="oci", hour="2026-11-29T19", chains=7, problems=problems, confirms=confirms, unread="")
    deadline = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    call = InvokeContext("", "", "", "", "call", deadline=deadline)
    answer = DigestFunction(lambda: made, leave=pytest.fail)(call)
    assert answer.status() == status
    assert json.loads(answer.body()) == write(made)
    examined = [line for line in map(json.loads, caplog.messages) if line.get("examine") == "audit-log"]
    assert [line["problems"] for line in examined] == ([problems] if problems else [])
