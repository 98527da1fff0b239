"""Short ways to make stacks and to look at them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.aws import AwsSandbox
from sandbox.aws.executions import Client

Resource = Mapping[str, Any]


def resource(resource_type: str, *, keep: str | None = None, **properties: object) -> Resource:
    """A resource of a template.

    Args:
        resource_type: Its type.
        keep: Its DeletionPolicy. For a replacement `Retain` is the only one of them.
        properties: Its properties.
    """
    policies = {"DeletionPolicy": keep, "UpdateReplacePolicy": "Retain"} if keep else {}
    return {"Type": resource_type, "Properties": properties, **policies}


@dataclass(frozen=True)
class Stack:
    """A stack by its name, which is used as the CDK CLI does: by change sets."""

    aws: AwsSandbox
    name: str = "stack"

    @property
    def client(self) -> Client:
        return self.aws.client("cloudformation")

    def create(self, *, tags: Mapping[str, str] | None = None, **resources: Resource) -> str:
        """Create it; its status afterwards."""
        return self._change("CREATE", resources, tags or {})

    def update(self, *, tags: Mapping[str, str] | None = None, **resources: Resource) -> str:
        """Update it; its status afterwards."""
        return self._change("UPDATE", resources, tags or {})

    def delete(self) -> str:
        """Delete it; its status afterwards."""
        stack_id = self.client.describe_stacks(StackName=self.name)["Stacks"][0]["StackId"]
        self.client.delete_stack(StackName=self.name)
        return self._status(stack_id)

    @property
    def status(self) -> str:
        return self._status(self.name)

    @property
    def physical_ids(self) -> Mapping[str, str]:
        found = self.client.describe_stack_resources(StackName=self.name)["StackResources"]
        return {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in found}

    def reasons(self, status: str) -> list[str]:
        """The reasons of all events with a status, the newest first."""
        events = self.client.describe_stack_events(StackName=self.name)["StackEvents"]
        return [e.get("ResourceStatusReason", "") for e in events if e["ResourceStatus"] == status]

    def happened(self, logical_id: str) -> list[str]:
        """What happened to a resource, the oldest first."""
        events = self.client.describe_stack_events(StackName=self.name)["StackEvents"]
        return [e["ResourceStatus"] for e in reversed(events) if e["LogicalResourceId"] == logical_id]

    def _change(self, kind: str, resources: Mapping[str, Resource], tags: Mapping[str, str]) -> str:
        named = {"StackName": self.name, "ChangeSetName": "change"}
        if kind == "UPDATE":
            self.client.delete_change_set(**named)
        change_set = self.client.create_change_set(
            **named,
            ChangeSetType=kind,
            TemplateBody=json.dumps({"Resources": resources}),
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
        )["Id"]
        self.client.execute_change_set(ChangeSetName=change_set)
        return self.status

    def _status(self, name: str) -> str:
        status: str = self.client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
        return status
