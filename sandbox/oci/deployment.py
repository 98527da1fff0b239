"""What Terraform and administrators have made beside secrets and objects, for reading: nothing here is called.

The sandbox takes it as the API shows it (`Deployment`), and each operation gives what the caller may see. Which
permission each asks for is in Oracle's policy references
(https://docs.oracle.com/iaas/Content/Identity/Reference/policyreference.htm): of IAM, Key Management, Functions,
Resource Scheduler, Monitoring and Notifications.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.oci.calls import Call
from sandbox.oci.errors import missing, not_found
from sandbox.oci.identity import TENANCY
from sandbox.oci.wire import Reply, json_reply

_PAGE = 100
Shown = dict[str, Any]
"""A resource, as the API shows it."""


@dataclass(slots=True)
class Deployment:
    """What is there. A test changes it as an administrator would.

    Attributes:
        regions: Of the tenancy, with the status of their subscription.
        compartments: By OCID, with their state.
        vault_states: By OCID; ACTIVE where it is not named.
        retention_rules: By the bucket's name.
    """

    regions: dict[str, str] = field(default_factory=lambda: {"eu-frankfurt-1": "READY"})
    compartments: dict[str, str] = field(default_factory=dict)
    vault_states: dict[str, str] = field(default_factory=dict)
    retention_rules: dict[str, list[Shown]] = field(default_factory=dict)
    applications: list[Shown] = field(default_factory=list)
    functions: list[Shown] = field(default_factory=list)
    schedules: list[Shown] = field(default_factory=list)
    alarms: list[Shown] = field(default_factory=list)
    topics: list[Shown] = field(default_factory=list)
    subscriptions: list[Shown] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeploymentService:
    """Reads of a deployment.

    Attributes:
        deployment: What is there.
        vaults: The OCIDs of vaults.
        compartment_id: The compartment of the vaults.
        compartment_of_bucket: That of a bucket, by its name; None where there is none.
        endpoint: Where vaults manage their keys.
    """

    deployment: Deployment
    vaults: set[str]
    compartment_id: str
    compartment_of_bucket: Callable[[str], str | None]
    endpoint: Callable[[], str]

    @property
    def operations(self) -> dict[str, Callable[[Call], Reply]]:
        """What can be called, by the SDK's names."""
        there = self.deployment
        return {
            "list_region_subscriptions": self._regions,
            "get_compartment": self._compartment,
            "get_vault": self._vault,
            "list_retention_rules": self._retention_rules,
            "list_applications": lambda c: self._list(c, there.applications, "FN_APP_LIST"),
            "list_functions": self._functions,
            "get_function": self._function,
            "list_schedules": lambda c: self._list(
                c, there.schedules, "RESOURCE_SCHEDULE_INSPECT", items=True
            ),
            "list_alarms": lambda c: self._list(c, there.alarms, "ALARM_INSPECT"),
            "get_topic": self._topic,
            "list_subscriptions": lambda c: self._list(c, there.subscriptions, "ONS_SUBSCRIPTION_INSPECT"),
        }

    # ---- IAM

    def _regions(self, call: Call) -> Reply:
        if call.path["tenancy"] != TENANCY or not call.may(
            "TENANCY_INSPECT", resource=None, compartment=TENANCY
        ):
            raise not_found()
        found = [
            {"regionKey": name[:3].upper(), "regionName": name, "status": status, "isHomeRegion": i == 0}
            for i, (name, status) in enumerate(self.deployment.regions.items())
        ]
        return json_reply(found, {})

    def _compartment(self, call: Call) -> Reply:
        ocid = call.path["compartment"]
        state = self.deployment.compartments.get(ocid)
        if state is None or not call.may("COMPARTMENT_INSPECT", resource=None, compartment=ocid):
            raise not_found()
        return json_reply({"id": ocid, "name": ocid[-8:], "description": "", "lifecycleState": state}, {})

    # ---- vaults

    def _vault(self, call: Call) -> Reply:
        ocid = call.path["vault"]
        if ocid not in self.vaults or not call.may(
            "VAULT_READ", resource=None, compartment=self.compartment_id
        ):
            raise not_found()
        state = self.deployment.vault_states.get(ocid, "ACTIVE")
        shown = {"id": ocid, "compartmentId": self.compartment_id, "displayName": "lockstep"}
        endpoints = {"managementEndpoint": self.endpoint(), "cryptoEndpoint": self.endpoint()}
        return json_reply({**shown, **endpoints, "lifecycleState": state}, {})

    # ---- Object Storage

    def _retention_rules(self, call: Call) -> Reply:
        name = call.path["bucket"]
        compartment = self.compartment_of_bucket(name)
        if compartment is None or not call.may("BUCKET_READ", resource=name, compartment=compartment):
            raise not_found()
        return json_reply({"items": self.deployment.retention_rules.get(name, [])}, {})

    # ---- lists of a compartment

    def _functions(self, call: Call) -> Reply:
        application = call.request.query.get("applicationId", "")
        known = next((a for a in self.deployment.applications if a["id"] == application), None)
        if known is None or not call.may(
            "FN_FUNCTION_LIST", resource=None, compartment=known["compartmentId"]
        ):
            raise not_found()
        found = [f for f in self.deployment.functions if f["applicationId"] == application]
        return self._page(call, _named(call, found), items=False)

    def _function(self, call: Call) -> Reply:
        ocid = call.path["function"]
        found = next((f for f in self.deployment.functions if f["id"] == ocid), None)
        if found is None or not call.may(
            "FN_FUNCTION_READ", resource=ocid, compartment=found["compartmentId"]
        ):
            raise not_found()
        return json_reply(found, {})

    def _topic(self, call: Call) -> Reply:
        found = next((t for t in self.deployment.topics if t["topicId"] == call.path["topic"]), None)
        if found is None or not call.may("ONS_TOPIC_READ", resource=None, compartment=found["compartmentId"]):
            raise not_found()
        return json_reply(found, {})

    def _list(self, call: Call, among: list[Shown], permission: str, *, items: bool = False) -> Reply:
        query = call.request.query
        compartment = query.get("compartmentId")
        if compartment is None:
            raise missing("compartmentId")
        if not call.may(permission, resource=None, compartment=compartment):
            raise not_found()
        found = [
            one
            for one in among
            if one["compartmentId"] == compartment and query.get("topicId") in {None, one.get("topicId")}
        ]
        return self._page(call, _named(call, found), items=items)

    def _page(self, call: Call, found: list[Shown], *, items: bool) -> Reply:
        page, headers = call.page_of(found, _PAGE)
        return json_reply({"items": list(page)} if items else list(page), headers)


def _named(call: Call, found: list[Shown]) -> list[Shown]:
    name: str | None = call.request.query.get("displayName")
    return [one for one in found if name in {None, _text(one, "displayName")}]


def _text(shown: Mapping[str, Any], key: str) -> str:
    return str(shown.get(key, ""))
