"""Scheduled calls of the function, behind the real fdk: what is overdue is handed on to detached calls of itself."""

import json
from collections.abc import Iterator
from functools import partial

import pytest

from lockstep.runtime.wiring import FUNCTION_VARIABLE, REGION_VARIABLE
from sandbox.emulators.oci.deployment import Detached
from sandbox.estate import Estate
from sandbox.fn import FunctionProcess, running_function

FUNCTION_ID = "ocid1.fnfunc.oc1.eu-frankfurt-1.rotate"
SECONDS = 240


@pytest.fixture(name="deployed", scope="module")
def _deployed(estate: Estate) -> Iterator[FunctionProcess]:
    """What a schedule calls; detached calls come to another container of it."""
    oci = estate.oci
    oci.deployment.functions = [
        {
            "id": FUNCTION_ID,
            "compartmentId": oci.own_compartment_id,
            "applicationId": "ocid1.fnapp.oc1.eu-frankfurt-1.lockstep",
            "displayName": "rotate",
            "lifecycleState": "ACTIVE",
            "invokeEndpoint": oci.endpoint,
        }
    ]
    there = {**estate.function_environment, FUNCTION_VARIABLE: FUNCTION_ID, REGION_VARIABLE: "eu-frankfurt-1"}
    with running_function(there) as called, running_function(there) as another:
        oci.functions.code[FUNCTION_ID] = partial(another.invoked, seconds=SECONDS)
        yield called
        oci.functions.finish(seconds=SECONDS)


def outcomes(calls: list[Detached]) -> list[tuple[str, str]]:
    """Of each run of these calls: the credential, and how it ended."""
    answers = [json.loads(call.answer.result()[1]) for call in calls]
    return [(r["credential_id"], r["outcome"]) for answer in answers for r in answer["results"]]


def test_all_that_aws_left_is_rotated_by_detached_calls(estate: Estate, deployed: FunctionProcess) -> None:
    # (protocol R5)
    everyone = sorted(c.id for c in estate.plan.credentials)
    first = deployed.call()
    assert (first.status, first.body) == (200, {"results": [], "handed_on": len(everyone), "batches": 2})
    done = sorted(outcomes(estate.oci.functions.finish(seconds=SECONDS)))
    assert done == [(key, "rotated") for key in everyone]
    # Nothing is due now.
    assert deployed.call().body == {"results": []}
    for key in everyone:
        estate.outside.expire_schedule(key)
    assert deployed.call().body["handed_on"] == len(everyone)
    assert sorted(outcomes(estate.oci.functions.finish(seconds=SECONDS))) == done
    assert [estate.locked_out(c) for c in estate.plan.credentials] == [[]] * len(everyone)
