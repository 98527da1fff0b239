"""Functions in OCI: one that is asked by `lockstep doctor --in-cloud`, and this one, which calls itself.

A deployed function in OCI, to be asked by `lockstep doctor --in-cloud`.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.oci.clients import OciClients, Untyped
from lockstep.oci.reads import explained
from lockstep.protocol.errors import ErrorKind, Errors, NotHandedOnError

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
        client = clients.of(
            oci.functions.FunctionsInvokeClient,
            endpoint=function.invoke_endpoint,
            read_seconds=ANSWER_SECONDS,
        )
        reply = client.invoke_function(
            function.id, invoke_function_body=json.dumps(event).encode(), fn_invoke_type="sync"
        )
        return bytes(reply.data.content)


# The function in OCI calls itself, so that what one call has no time for runs at the same time as it.

_ERRORS: Errors = dict.fromkeys(ErrorKind, NotHandedOnError)


class OwnFunction:
    """The function that this process is an instance of.

    Args:
        clients: Those of its region.
        function_id: Its OCID.
    """

    def __init__(self, clients: OciClients, function_id: str) -> None:
        self._clients = clients
        self._id = function_id

    def call(self, event: Mapping[str, Any]) -> None:
        """Have it called, detached: the service takes the call, and makes it when it can.

        A call that the service has taken, and whose reply was lost, is made all the same.

        Raises:
            NotHandedOnError: The service did not take the call, or did not answer.
        """
        with self._clients.translated(_ERRORS):
            client = self._clients.of(oci.functions.FunctionsInvokeClient, endpoint=self._endpoint)
            client.invoke_function(
                self._id, invoke_function_body=json.dumps(event).encode(), fn_invoke_type="detached"
            )

    @cached_property
    def _endpoint(self) -> str:
        """Where it is called; no variable of its environment says that."""
        management = self._clients.of(oci.functions.FunctionsManagementClient)
        return str(management.get_function(self._id).data.invoke_endpoint)
