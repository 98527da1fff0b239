"""Calls of functions: what is deployed under an OCID answers, such as `sandbox.fn.FunctionProcess`.

As the service's own reference has it (https://docs.oracle.com/iaas/api/#/en/functions/20181201/Function/InvokeFunction):
the body is passed on as it is, the reply comes back with the function's status.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from sandbox.oci.calls import Call
from sandbox.oci.deployment import Deployment
from sandbox.oci.errors import not_found
from sandbox.oci.wire import Reply

Invoke = Callable[[bytes], tuple[int, bytes]]
"""Answers a call's body with a status and a body."""


@dataclass(frozen=True, slots=True)
class InvocationService:
    """The functions that can be called.

    Attributes:
        deployment: Which functions there are, and in which compartment.
        code: What answers, by the function's OCID.
    """

    deployment: Deployment
    code: dict[str, Invoke] = field(default_factory=dict)

    @property
    def operations(self) -> dict[str, Callable[[Call], Reply]]:
        """What can be called, by the SDK's names."""
        return {"invoke_function": self._invoke}

    def _invoke(self, call: Call) -> Reply:
        ocid = call.path["function"]
        shown = next((f for f in self.deployment.functions if f["id"] == ocid), None)
        # https://docs.oracle.com/iaas/Content/Identity/Reference/functionspolicyreference.htm
        if shown is None or not call.may("FN_INVOCATION", resource=ocid, compartment=shown["compartmentId"]):
            raise not_found()
        status, body = self.code[ocid](call.request.body)
        return Reply(status, {"content-type": "application/json"}, body)
