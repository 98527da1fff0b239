"""Creates, updates and deletes the resources of a stack, and rolls back, as CloudFormation does.

- A failed creation deletes what it made, but keeps what has the DeletionPolicy `Retain`; `RetainExceptOnCreate` is
  deleted on this path only. The stack ends in ROLLBACK_COMPLETE
  (https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-attribute-deletionpolicy.html).
- An update creates new resources and replacements first, and deletes what is replaced or gone last. If it fails, every
  resource gets its old properties, and what it had created is deleted as above.
- A deletion that fails leaves the stack in DELETE_FAILED with what is left.
"""

import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import Event
from moto.utilities.utils import get_partition

from sandbox.aws.cloudformation.kinds import Kind, Request, ResourceError
from sandbox.aws.cloudformation.registry import kind_of
from sandbox.aws.cloudformation.resources import Record, Resources
from sandbox.aws.cloudformation.template import creation_order
from sandbox.aws.executions import Client
from sandbox.aws.patching import Foreign

_RETAINED = frozenset({"Retain", "RetainExceptOnCreate"})
_HANDLER_CODES = {
    "AccessDenied": "AccessDenied",
    "AccessDeniedException": "AccessDenied",
    "AlreadyExistsException": "AlreadyExists",
    "BucketAlreadyExists": "AlreadyExists",
    "BucketAlreadyOwnedByYou": "AlreadyExists",
    "ParameterAlreadyExists": "AlreadyExists",
    "EntityAlreadyExists": "AlreadyExists",
    "InvalidGroup.Duplicate": "AlreadyExists",
    "RepositoryAlreadyExistsException": "AlreadyExists",
    "ResourceAlreadyExistsException": "AlreadyExists",
    "ResourceConflictException": "AlreadyExists",
    "ResourceExistsException": "AlreadyExists",
    "ResourceInUseException": "AlreadyExists",
    "StateMachineAlreadyExists": "AlreadyExists",
    "ResourceNotFoundException": "NotFound",
    "NotFoundException": "NotFound",
}


class ResourceFailedError(Exception):
    """A resource could not be created, changed or deleted; the text is the reason that CloudFormation shows."""

    def __init__(self, logical_id: str, reason: str) -> None:
        super().__init__(reason)
        self.logical_id = logical_id


class Operation:
    """One change of a stack.

    Args:
        stack: moto's stack; its status and its events are written.
        resources: The stack's resources; an update hands over a new map.
        client: Returns a client of a service.
    """

    def __init__(self, stack: Foreign, resources: Resources, client: Callable[[str], Client]) -> None:
        self._stack = stack
        self._resources = resources
        self._client = client

    def create(self, template: Mapping[str, Any]) -> None:
        """Create every resource, or roll back."""
        self._status("CREATE_IN_PROGRESS", "User Initiated")
        try:
            for logical_id in self._wanted(template):
                self._create(logical_id, template["Resources"][logical_id])
        except ResourceFailedError as failure:
            self._status(
                "ROLLBACK_IN_PROGRESS",
                f"The following resource(s) failed to create: [{failure.logical_id}]. Rollback requested by user.",
            )
            left = self._delete_all(list(self._resources.records.values()), kept={"Retain"})
            self._resources.records = {record.logical_resource_id: record for record in left}
            self._status("ROLLBACK_FAILED" if left else "ROLLBACK_COMPLETE")
        else:
            self._status("CREATE_COMPLETE")

    def update(self, template: Mapping[str, Any], before: Resources) -> bool:
        """Change every resource that differs, or roll back.

        Args:
            template: The new template.
            before: The resources under the old one.

        Returns:
            Whether the new template holds; False if the old one does again.
        """
        self._status("UPDATE_IN_PROGRESS", "User Initiated")
        self._resources.records = dict(before.records)
        changed: list[tuple[Record | None, Record | None]] = []
        try:
            for logical_id in self._wanted(template):
                self._bring(logical_id, template["Resources"][logical_id], changed)
        except ResourceFailedError as failure:
            self._status(
                "UPDATE_ROLLBACK_IN_PROGRESS",
                f"The following resource(s) failed to create or update: [{failure.logical_id}].",
            )
            left = self._roll_back(changed)
            self._status("UPDATE_ROLLBACK_FAILED" if left else "UPDATE_ROLLBACK_COMPLETE")
            return False
        self._status("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        wanted = set(self._wanted(template))
        replaced = [
            old for old, new in changed if old and new and old.made.physical_id != new.made.physical_id
        ]
        gone = [record for name, record in before.records.items() if name not in wanted]
        # What cannot be deleted here is left behind: the update has succeeded.
        self._delete_all(
            replaced, kept={"Retain"}, policy="UpdateReplacePolicy", templates=template["Resources"]
        )
        self._delete_all(gone, kept=_RETAINED)
        for record in gone:
            del self._resources.records[record.logical_resource_id]
        self._status("UPDATE_COMPLETE")
        return True

    def delete(self) -> bool:
        """Delete every resource whose DeletionPolicy does not keep it; whether the stack is gone."""
        self._status("DELETE_IN_PROGRESS", "User Initiated")
        left = self._delete_all(list(self._resources.records.values()), kept=_RETAINED)
        self._resources.records = {record.logical_resource_id: record for record in left}
        names = ", ".join(record.logical_resource_id for record in left)
        if left:
            self._status("DELETE_FAILED", f"The following resource(s) failed to delete: [{names}].")
        else:
            self._status("DELETE_COMPLETE")
        return not left

    def _wanted(self, template: Mapping[str, Any]) -> list[str]:
        return [name for name in creation_order(template) if self._resources.wanted(name)]

    def _create(self, logical_id: str, definition: Mapping[str, Any]) -> Record:
        kind = kind_of(definition["Type"])
        self._event(logical_id, kind, "CREATE_IN_PROGRESS")
        try:
            request = self._request(logical_id, kind, definition)
            _refuse_existing(kind, request)
            record = Record(kind=kind, definition=definition, request=request, made=kind.create(request))
        except (ResourceError, ClientError, BotoCoreError, ValidationError) as error:
            self._event(logical_id, kind, "CREATE_FAILED", _reason(error))
            raise ResourceFailedError(logical_id, _reason(error)) from error
        self._resources.records[logical_id] = record
        self._event(logical_id, kind, "CREATE_COMPLETE", physical_id=record.made.physical_id)
        return record

    def _bring(
        self,
        logical_id: str,
        definition: Mapping[str, Any],
        changed: list[tuple[Record | None, Record | None]],
    ) -> None:
        """Create, replace or update one resource, and note what there was before and is now."""
        old = self._resources.records.get(logical_id)
        if old is None:
            changed.append((None, self._create(logical_id, definition)))
            return
        kind = kind_of(definition["Type"])
        if kind is not old.kind:
            raise ResourceFailedError(logical_id, "Update of resource type is not permitted.")
        try:
            request = self._request(logical_id, kind, definition, name=old.request.name)
        except ValidationError as error:
            raise ResourceFailedError(logical_id, _reason(error)) from error
        before = old.request
        if (request.properties, request.tags) == (before.properties, before.tags):
            self._resources.records[logical_id] = Record(
                kind=kind, definition=definition, request=request, made=old.made
            )
        elif kind.replaces(before.properties, request.properties):
            self._event(
                logical_id,
                kind,
                "UPDATE_IN_PROGRESS",
                "Requested update requires the creation of a new physical resource; hence creating one.",
                physical_id=old.made.physical_id,
            )
            changed.append((old, self._create(logical_id, definition)))
        else:
            # Before the call: what a failed one has changed is changed back too.
            changed.append((old, None))
            self._resources.records[logical_id] = self._update(old, request, definition)

    def _update(self, old: Record, request: Request, definition: Mapping[str, Any]) -> Record:
        named = old.logical_resource_id, old.kind
        self._event(*named, "UPDATE_IN_PROGRESS", physical_id=old.made.physical_id)
        try:
            made = old.kind.update(request, old.made, old.request.properties)
        except (ResourceError, ClientError, BotoCoreError) as error:
            self._event(*named, "UPDATE_FAILED", _reason(error), physical_id=old.made.physical_id)
            raise ResourceFailedError(old.logical_resource_id, _reason(error)) from error
        self._event(*named, "UPDATE_COMPLETE", physical_id=made.physical_id)
        return Record(kind=old.kind, definition=definition, request=request, made=made)

    def _roll_back(self, changed: list[tuple[Record | None, Record | None]]) -> list[Record]:
        """Undo an update; what it could not undo."""
        left = []
        for old, new in reversed(changed):
            if old is None:
                continue
            now = self._resources.records[old.logical_resource_id]
            self._resources.records[old.logical_resource_id] = old
            if new is None:
                try:
                    self._update(now, replace(old.request, rolls_back=True), old.definition)
                except ResourceFailedError:
                    left.append(old)
        created = [new for _, new in changed if new]
        return left + self._delete_all(created, kept={"Retain"})

    def _delete_all(
        self,
        records: list[Record],
        *,
        kept: frozenset[str] | set[str],
        policy: str = "DeletionPolicy",
        templates: Mapping[str, Any] | None = None,
    ) -> list[Record]:
        """Delete in reverse order, except what a policy keeps; what could not be deleted."""
        left = []
        for record in reversed(records):
            definition = (templates or {}).get(record.logical_resource_id, record.definition)
            named = record.logical_resource_id, record.kind
            physical_id = record.made.physical_id
            if definition.get(policy) in kept:
                self._event(*named, "DELETE_SKIPPED", physical_id=physical_id)
                continue
            self._event(*named, "DELETE_IN_PROGRESS", physical_id=physical_id)
            try:
                record.kind.delete(record.request, record.made)
            except (ResourceError, ClientError, BotoCoreError) as error:
                # What is gone already counts as deleted.
                if _code(error) != "NotFound":
                    self._event(*named, "DELETE_FAILED", _reason(error), physical_id=physical_id)
                    left.append(record)
                    continue
            self._event(*named, "DELETE_COMPLETE", physical_id=physical_id)
        return list(reversed(left))

    def _request(
        self, logical_id: str, kind: Kind, definition: Mapping[str, Any], *, name: str | None = None
    ) -> Request:
        properties = self._resources.resolved(definition.get("Properties", {}))
        given = properties.get(kind.name_property) if kind.name_property else None
        return Request(
            client=self._client,
            account_id=self._stack.account_id,
            region=self._stack.region_name,
            partition=get_partition(self._stack.region_name),
            logical_id=logical_id,
            name=str(given or name or _generated_name(kind.type_name, self._stack.name, logical_id)),
            properties=properties,
            tags={
                "aws:cloudformation:stack-name": self._stack.name,
                "aws:cloudformation:stack-id": self._stack.stack_id,
                "aws:cloudformation:logical-id": logical_id,
                **self._stack.tags,
                **_tags(properties.get("Tags")),
            },
            stack_name=self._stack.name,
        )

    def _status(self, status: str, reason: str | None = None) -> None:
        self._stack.status = status
        self._stack._add_stack_event(status, resource_status_reason=reason)  # noqa: SLF001 - of moto

    def _event(
        self, logical_id: str, kind: Kind, status: str, reason: str | None = None, *, physical_id: str = ""
    ) -> None:
        self._stack.events.append(
            Event(
                stack_id=self._stack.stack_id,
                stack_name=self._stack.name,
                logical_resource_id=logical_id,
                physical_resource_id=physical_id,
                resource_type=kind.type_name,
                resource_status=status,
                resource_status_reason=reason,
                resource_properties=None,
            )
        )


def _refuse_existing(kind: Kind, request: Request) -> None:
    if kind.exists(request):
        raise ResourceError(
            "AlreadyExists",
            f"Resource of type '{kind.type_name}' with identifier '{request.name}' already exists.",
        )


def _code(error: Exception) -> str:
    if isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        return _HANDLER_CODES.get(
            code, "NotFound" if "NonExistent" in code or "NoSuch" in code else "InvalidRequest"
        )
    return getattr(error, "code", None) or "InvalidRequest"


def _reason(error: Exception) -> str:
    text = error.response["Error"]["Message"] if isinstance(error, ClientError) else str(error)
    return f'Resource handler returned message: "{text}" (HandlerErrorCode: {_code(error)})'


def _generated_name(type_name: str, stack: str, logical_id: str) -> str:
    suffix = "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(12))
    if type_name == "AWS::S3::Bucket":
        return f"{stack[:24]}-{logical_id[:24]}-{suffix}".lower()
    # A role's name has 64 characters at most, a function's too.
    return f"{stack[:24]}-{logical_id[:24]}-{suffix}"


def _tags(given: object) -> Mapping[str, str]:
    if isinstance(given, Mapping):
        return {str(key): str(value) for key, value in given.items()}
    return {tag["Key"]: tag["Value"] for tag in given} if isinstance(given, list) else {}
