"""Calls of functions in the sandbox, by the unmodified SDK: synchronous, detached, refused."""

import threading
from collections.abc import Iterator

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.invocation import MAX_BODY_BYTES

FUNCTION_ID = "ocid1.fnfunc.oc1..rotate"
SECONDS = 60
"""How long a test waits for another thread at most."""


class Slow:
    """A function that ends when it is told to."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.bodies: list[bytes] = []

    def __call__(self, body: bytes) -> tuple[int, bytes]:
        self.bodies.append(body)
        assert self.may_end.wait(SECONDS)
        return 502, b"{}"


@pytest.fixture(name="sandbox")
def _sandbox() -> Iterator[OciSandbox]:
    with OciSandbox() as sandbox:
        here = {"compartmentId": sandbox.own_compartment_id, "invokeEndpoint": sandbox.endpoint}
        sandbox.deployment.functions = [{"id": FUNCTION_ID, **here}]
        yield sandbox


@pytest.fixture(name="slow")
def _slow(sandbox: OciSandbox) -> Iterator[Slow]:
    slow = Slow()
    sandbox.functions.code[FUNCTION_ID] = slow
    yield slow
    slow.may_end.set()
    sandbox.functions.finish(seconds=SECONDS)


def invoke(sandbox: OciSandbox, body: bytes, kind: str) -> int:
    client = sandbox.client(oci.functions.FunctionsInvokeClient)
    status: int = client.invoke_function(FUNCTION_ID, invoke_function_body=body, fn_invoke_type=kind).status
    return status


def test_a_detached_call_is_taken_at_once_and_made_later(sandbox: OciSandbox, slow: Slow) -> None:
    assert invoke(sandbox, b"one", "detached") == 202
    assert invoke(sandbox, b"two", "detached") == 202
    assert slow.bodies in ([], [b"one"])  # One at a time.
    slow.may_end.set()
    ended = sandbox.functions.finish(seconds=SECONDS)
    assert slow.bodies == [b"one", b"two"]
    assert [(call.body, call.answer.result()[0]) for call in ended] == [(b"one", 502), (b"two", 502)]


def test_more_than_may_wait_are_refused(sandbox: OciSandbox, slow: Slow) -> None:
    taken = [invoke(sandbox, b"{}", "detached") for _ in range(sandbox.functions.most_waiting)]
    assert set(taken) == {202}
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        invoke(sandbox, b"{}", "detached")
    assert (refused.value.status, refused.value.code) == (429, "TooManyRequests")
    slow.may_end.set()


@pytest.mark.parametrize(
    ("body", "kind", "status"), [(b"{}", "later", 400), (b"x" * (MAX_BODY_BYTES + 1), "detached", 413)]
)
def test_what_the_service_refuses_is_refused(
    sandbox: OciSandbox, slow: Slow, body: bytes, kind: str, status: int
) -> None:
    client = sandbox.client(oci.functions.FunctionsInvokeClient)
    # The SDK lets no other kind through.
    headers = {"fn-invoke-type": kind, "content-type": "application/octet-stream"}
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        client.base_client.call_api(
            resource_path="/functions/{functionId}/actions/invoke",
            method="POST",
            path_params={"functionId": FUNCTION_ID},
            header_params=headers,
            body=body,
        )
    assert refused.value.status == status
    assert slow.bodies == []


def test_a_caller_without_the_right_finds_no_function(sandbox: OciSandbox, slow: Slow) -> None:
    key = sandbox.new_api_key("other", "FN_FUNCTION_READ", compartment=sandbox.own_compartment_id)
    client = oci.functions.FunctionsInvokeClient(key, service_endpoint=sandbox.endpoint)
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        client.invoke_function(FUNCTION_ID, invoke_function_body=b"{}", fn_invoke_type="detached")
    assert (refused.value.status, refused.value.code) == (404, "NotAuthorizedOrNotFound")
    assert slow.bodies == []
