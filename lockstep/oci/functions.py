"""A deployed function in OCI, to be asked by `lockstep doctor --in-cloud`."""

import json
from collections.abc import Mapping
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.oci.clients import OciClients, Untyped
from lockstep.oci.reads import explained

ANSWER_SECONDS = 120.0
"""The longest wait for an answer: a look takes seconds, a start of the container some more."""


def call(clients: OciClients, function: Untyped, event: Mapping[str, Any]) -> bytes:
    """Invoke a function synchronously; what it answered: JSON, if it is Lockstep's.

    Args:
        clients: Those of the function's region.
        function: As the management of functions lists it.
        event: Its input.

    Raises:
        EnvironmentalError: OCI did not answer, refused the call, or the function has failed.
    """
    with explained("InvokeFunction"):
        client = clients.at(
            oci.functions.FunctionsInvokeClient, function.invoke_endpoint, read_seconds=ANSWER_SECONDS
        )
        reply = client.invoke_function(
            function.id, invoke_function_body=json.dumps(event).encode(), fn_invoke_type="sync"
        )
        return bytes(reply.data.content)
