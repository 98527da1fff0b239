"""Functions: what Terraform and administrators have made of them, for reading, and calls of them.

The sandbox takes it as the API shows it (`Deployment`), and each operation gives what the caller may see. Which
permission each asks for is in Oracle's policy reference of Functions
(https://docs.oracle.com/iaas/Content/Identity/Reference/functionspolicyreference.htm).
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sandbox.emulators.oci.calls import Call
from sandbox.emulators.oci.errors import ApiError, invalid, missing, not_found
from sandbox.emulators.oci.wire import Reply, json_reply

_PAGE = 100
Shown = dict[str, Any]
"""A resource, as the API shows it."""


@dataclass(slots=True)
class Deployment:
    """What is there. A test changes it as an administrator would."""

    applications: list[Shown] = field(default_factory=list)
    functions: list[Shown] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeploymentService:
    """Reads of a deployment.

    Attributes:
        deployment: What is there.
    """

    deployment: Deployment

    # ---- lists of a compartment

    def list_functions(self, call: Call) -> Reply:
        """Serve ListFunctions."""
        application = call.request.query.get("applicationId", "")
        known = next((a for a in self.deployment.applications if a["id"] == application), None)
        if known is None or not call.may(
            "FN_FUNCTION_LIST", resource=None, compartment=known["compartmentId"]
        ):
            raise not_found()
        found = [f for f in self.deployment.functions if f["applicationId"] == application]
        return _page(call, found)

    def get_function(self, call: Call) -> Reply:
        """Serve GetFunction."""
        ocid = call.path["function"]
        found = next((f for f in self.deployment.functions if f["id"] == ocid), None)
        if found is None or not call.may(
            "FN_FUNCTION_READ", resource=ocid, compartment=found["compartmentId"]
        ):
            raise not_found()
        return json_reply(found, {})

    def list_applications(self, call: Call) -> Reply:
        """Serve ListApplications."""
        compartment = call.request.query.get("compartmentId")
        if compartment is None:
            raise missing("compartmentId")
        if not call.may("FN_APP_LIST", resource=None, compartment=compartment):
            raise not_found()
        return _page(call, [a for a in self.deployment.applications if a["compartmentId"] == compartment])


def _page(call: Call, found: list[Shown]) -> Reply:
    """A page of those that have the name that is asked for, if any."""
    name = call.request.query.get("displayName")
    page, headers = call.page_of([one for one in found if name in {None, one.get("displayName")}], _PAGE)
    return json_reply(list(page), headers)


# Calls of functions: what is registered under an OCID answers.
#
# As the service's own reference has it
# (https://docs.oracle.com/iaas/api/#/en/functions/20181201/Function/InvokeFunction): the body is passed on as it is,
# and the reply comes back with the function's status. A detached call is taken with 202 and made later; nobody gets its
# reply (https://docs.oracle.com/iaas/Content/Functions/Tasks/functionsinvokingfunctions.htm).
Invoke = Callable[[bytes], tuple[int, bytes]]
"""Answers a call's body with a status and a body."""
MAX_BODY_BYTES = 6_291_456


@dataclass(slots=True)
class Detached:
    """A detached call that was taken.

    Attributes:
        body: Its body.
        answer: The status and the body with which it ended.
    """

    body: bytes
    answer: Future[tuple[int, bytes]]


@dataclass(frozen=True)
class InvocationService:
    """The functions that can be called.

    Attributes:
        deployment: Which functions there are, and in which compartment.
        code: What answers, by the function's OCID.
        most_waiting: So many are taken before the service refuses with 429.
        detached: Those that were taken, in their order.
    """

    deployment: Deployment
    code: dict[str, Invoke] = field(default_factory=dict)
    most_waiting: int = 200
    detached: list[Detached] = field(default_factory=list)

    def finish(self, *, seconds: float) -> list[Detached]:
        """Wait for the end of all detached calls; those that were taken since the last wait.

        Raises:
            TimeoutError: Some have not ended.
        """
        taken = list(self.detached)
        if wait([call.answer for call in taken], timeout=seconds).not_done:
            raise TimeoutError
        del self.detached[: len(taken)]
        return taken

    @cached_property
    def _workers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=1, thread_name_prefix="detached")

    def invoke_function(self, call: Call) -> Reply:
        """Serve InvokeFunction."""
        ocid = call.path["function"]
        shown = next((f for f in self.deployment.functions if f["id"] == ocid), None)
        # https://docs.oracle.com/iaas/Content/Identity/Reference/functionspolicyreference.htm
        if shown is None or not call.may("FN_INVOCATION", resource=ocid, compartment=shown["compartmentId"]):
            raise not_found()
        body, kind = call.request.body, call.headers.get("fn-invoke-type", "sync")
        if kind not in {"sync", "detached"}:
            raise invalid("fn-invoke-type is neither sync nor detached")
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(413, "RequestEntityTooLarge", "the body is too large")
        if kind == "detached":
            if sum(not taken.answer.done() for taken in self.detached) >= self.most_waiting:
                raise ApiError(429, "TooManyRequests", "too many calls")
            self.detached.append(Detached(body, self._workers.submit(self.code[ocid], body)))
            return Reply(202, {}, b"")
        status, answer = self.code[ocid](body)
        return Reply(status, {"content-type": "application/json"}, answer)
