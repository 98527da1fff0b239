"""What Terraform and administrators have made beside secrets and objects, for reading: nothing here is called.

The sandbox takes it as the API shows it (`Deployment`), and each operation gives what the caller may see. Which
permission each asks for is in Oracle's policy reference of Functions
(https://docs.oracle.com/iaas/Content/Identity/Reference/functionspolicyreference.htm).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sandbox.emulators.oci.calls import Call
from sandbox.emulators.oci.errors import missing, not_found
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

    @property
    def operations(self) -> dict[str, Callable[[Call], Reply]]:
        """What can be called, by the SDK's names."""
        return {
            "list_applications": self._applications,
            "list_functions": self._functions,
            "get_function": self._function,
        }

    # ---- lists of a compartment

    def _functions(self, call: Call) -> Reply:
        application = call.request.query.get("applicationId", "")
        known = next((a for a in self.deployment.applications if a["id"] == application), None)
        if known is None or not call.may(
            "FN_FUNCTION_LIST", resource=None, compartment=known["compartmentId"]
        ):
            raise not_found()
        found = [f for f in self.deployment.functions if f["applicationId"] == application]
        return _page(call, found)

    def _function(self, call: Call) -> Reply:
        ocid = call.path["function"]
        found = next((f for f in self.deployment.functions if f["id"] == ocid), None)
        if found is None or not call.may(
            "FN_FUNCTION_READ", resource=ocid, compartment=found["compartmentId"]
        ):
            raise not_found()
        return json_reply(found, {})

    def _applications(self, call: Call) -> Reply:
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
