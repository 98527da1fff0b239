"""Calls of functions in the sandbox, by the unmodified SDK: synchronous, detached, refused."""

import threading
from collections.abc import Iterator

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.deployment import MAX_BODY_BYTES
from tests.emulators.oci.oci_case import refused

FUNCTION_ID = "ocid1.fnfunc.oc1..rotate"
SECONDS = 60
"""How long a test waits for another thread at most."""


@pytest.fixture
def sandbox() -> Iterator[OciSandbox]:
    with OciSandbox() as sandbox:
        here = {"compartmentId": sandbox.own_compartment_id, "invokeEndpoint": sandbox.endpoint}
        sandbox.deployment.functions = [{"id": FUNCTION_ID, **here}]
        yield sandbox


@pytest.fixture
def slow(sandbox: OciSandbox) -> Iterator[list[bytes]]:
    """A function that ends with the test; what it was called with."""
    called, may_end = list[bytes](), threading.Event()

    def run(body: bytes) -> tuple[int, bytes]:
        called.append(body)
        return 200 if may_end.wait(SECONDS) else 504, b""

    sandbox.functions.code[FUNCTION_ID] = run
    yield called
    may_end.set()
    sandbox.functions.finish(seconds=SECONDS)


def invoke(
    sandbox: OciSandbox, body: bytes = b"{}", kind: str = "detached", config: dict[str, str] | None = None
) -> int:
    # The SDK's own method lets no other kind through.
    reply = sandbox.client(oci.functions.FunctionsInvokeClient, config).base_client.call_api(
        resource_path="/functions/{functionId}/actions/invoke",
        method="POST",
        path_params={"functionId": FUNCTION_ID},
        header_params={"fn-invoke-type": kind, "content-type": "application/octet-stream"},
        body=body,
    )
    return int(reply.status)


def test_what_the_service_refuses_is_refused(sandbox: OciSandbox, slow: list[bytes]) -> None:
    with refused(400, "InvalidParameter"):
        invoke(sandbox, kind="later")
    with refused(413, "RequestEntityTooLarge"):
        invoke(sandbox, b"x" * (MAX_BODY_BYTES + 1))
    reader = sandbox.new_api_key("other", "FN_FUNCTION_READ", compartment=sandbox.own_compartment_id)
    with refused(404, "NotAuthorizedOrNotFound"):
        invoke(sandbox, config=reader)
    assert slow == []
    assert {invoke(sandbox) for _ in range(sandbox.functions.most_waiting)} == {202}
    with refused(429, "TooManyRequests"):
        invoke(sandbox)
