"""Stacks and change sets: what may be done with a stack in which state, and what it is afterwards."""

from collections.abc import Callable, Mapping
from typing import Any

from moto.cloudformation.exceptions import AlreadyExistsException, CloudFormationError, ValidationError
from moto.cloudformation.models import ChangeSet, Stack
from moto.cloudformation.utils import generate_changeset_id, generate_stack_id, validate_create_change_set
from moto.core.responses import ActionResult, EmptyResult

from sandbox.aws.cloudformation.engine import Operation
from sandbox.aws.cloudformation.resources import Resources
from sandbox.aws.cloudformation.template import check
from sandbox.aws.executions import Client
from sandbox.aws.patching import Foreign, Patches

_MODELS = "moto.cloudformation.models"
_RESPONSES = "moto.cloudformation.responses:CloudFormationResponse"
_UPDATABLE = frozenset(
    {
        "CREATE_COMPLETE",
        "UPDATE_COMPLETE",
        "UPDATE_ROLLBACK_COMPLETE",
        "IMPORT_COMPLETE",
        "REVIEW_IN_PROGRESS",
    }
)
"""The states in which a stack takes an update
(https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html)."""

_NO_CHANGES = (
    "The submitted information didn't contain changes. Submit different information to create a change set."
)
"""By this text the CDK CLI knows that there is nothing to do."""


class ChangeSetNotFoundError(CloudFormationError):
    """The stack has no change set of this name; the CDK CLI waits for this after it has deleted one."""

    code = "ChangeSetNotFound"


def apply(patches: Patches, client: Callable[[str], Client]) -> None:
    """Let stacks be made by `Operation`.

    Args:
        patches: Undone when the sandbox stops.
        client: Returns a client of a service of the sandbox.
    """
    patches.replace(f"{_MODELS}:ResourceMap", Resources)
    _operate(patches, client)
    _manage(patches)


def _operate(patches: Patches, client: Callable[[str], Client]) -> None:
    def create(stack: Foreign) -> None:
        _check(stack.template)
        Operation(stack, stack.resource_map, client).create(stack.template_dict)
        _show(stack)

    def update(
        stack: Foreign,
        template: str,
        role_arn: str | None = None,
        parameters: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        parsed = _check(template)
        if stack.status not in _UPDATABLE:
            raise ValidationError(
                message=f"Stack:{stack.stack_id} is in {stack.status} state and can not be updated."
            )
        old_tags, old_parameters = stack.tags, stack.parameters
        stack.tags = tags if tags is not None else old_tags
        stack.parameters = parameters or old_parameters
        resources = _resources(stack, parsed)
        operation = Operation(stack, resources, client)
        if stack.status == "REVIEW_IN_PROGRESS":
            operation.create(parsed)
        elif not operation.update(parsed, stack.resource_map):
            # The old template holds again, with its records.
            stack.tags, stack.parameters = old_tags, old_parameters
            return
        stack.resource_map = resources
        stack.template = template
        stack.role_arn = role_arn
        stack._parse_template()  # noqa: SLF001 - of moto
        _show(stack)

    def delete(stack: Foreign) -> bool:
        return Operation(stack, stack.resource_map, client).delete()

    patches.replace(f"{_MODELS}:Stack.create_resources", create)
    patches.replace(f"{_MODELS}:Stack.update", update)
    patches.replace(f"{_MODELS}:Stack.delete", delete)
    patches.replace(f"{_MODELS}:ChangeSet.apply", _apply)
    patches.replace(f"{_MODELS}:Stack.stack_parameters", property(_previous_values))


def _previous_values(stack: Foreign) -> Mapping[str, Any]:
    """What UsePreviousValue means: the value as it was given, such as the name of an SSM parameter, not its content."""
    defaults = {name: one.get("Default") for name, one in stack.template_dict.get("Parameters", {}).items()}
    return {**defaults, **stack.parameters}


def _apply(change_set: Foreign) -> None:
    change_set.stack.update(change_set.template, change_set.role_arn, change_set.parameters, change_set.tags)


def _manage(patches: Patches) -> None:
    for replaced in (_create_stack, _create_change_set, _execute_change_set, _delete_stack):
        patches.replace(f"{_MODELS}:CloudFormationBackend.{replaced.__name__[1:]}", replaced)
    patches.replace(f"{_RESPONSES}.describe_change_set", _describe_change_set)
    patches.replace(f"{_RESPONSES}.delete_change_set", _delete_change_set)


def _describe_change_set(response: Foreign) -> ActionResult:
    return ActionResult(_change_set(response.cloudformation_backend, *_asked_for(response)))


def _delete_change_set(response: Foreign) -> ActionResult:
    backend = response.cloudformation_backend
    try:
        change_set = _change_set(backend, *_asked_for(response))
    except ChangeSetNotFoundError:
        # Deleting what is not there succeeds.
        return EmptyResult()
    del backend.change_sets[change_set.change_set_id]
    return EmptyResult()


def _asked_for(response: Foreign) -> tuple[str, str | None]:
    return response._get_param("ChangeSetName"), response._get_param("StackName")  # noqa: SLF001 - of moto


def _change_set(backend: Foreign, name_or_arn: str, stack_name: str | None) -> Foreign:
    """A change set by its ARN, or by its name, which is unique in its stack only."""
    for change_set in backend.change_sets.values():
        named = change_set.change_set_name, change_set.stack_name
        if name_or_arn == change_set.change_set_id or (name_or_arn, stack_name) == named:
            return change_set
    raise ChangeSetNotFoundError(f"ChangeSet [{name_or_arn}] does not exist")


def _create_stack(
    backend: Foreign,
    name: str,
    template: str,
    parameters: dict[str, Any],
    tags: dict[str, str] | None = None,
    **more: Foreign,
) -> Foreign:
    if any(stack.name == name for stack in backend.stacks.values()):
        raise AlreadyExistsException(f"Stack [{name}] already exists")
    more.pop("stack_policy_body", None)
    stack = _new_stack(backend, name, template, parameters, tags, **more)
    stack.create_resources()
    return stack


def _create_change_set(
    backend: Foreign, stack_name: str, change_set_name: str, template: str, **asked: Foreign
) -> tuple[str, str]:
    validate_create_change_set(change_set_name)
    _check(template)
    change_set_type = asked["change_set_type"]
    stack = _find(backend, stack_name)
    if change_set_type == "UPDATE":
        _refuse_update(stack, stack_name)
    elif stack is None:
        described = {name: asked[name] for name in ("notification_arns", "role_arn") if name in asked}
        stack = _new_stack(backend, stack_name, {}, asked["parameters"], asked["tags"], **described)
        stack.status = "REVIEW_IN_PROGRESS"
        stack._add_stack_event("REVIEW_IN_PROGRESS", resource_status_reason="User Initiated")  # noqa: SLF001 - moto
    elif stack.status != "REVIEW_IN_PROGRESS":
        raise AlreadyExistsException(
            f"Stack [{stack_name}] already exists and cannot be created again with the changeSet "
            f"[{change_set_name}]."
        )
    if any((c.change_set_name, c.stack) == (change_set_name, stack) for c in backend.change_sets.values()):
        raise AlreadyExistsException(f"ChangeSet {change_set_name} cannot be created, since it exists")
    change_set: Foreign = ChangeSet(
        change_set_id=generate_changeset_id(change_set_name, backend.region_name, backend.account_id),
        change_set_name=change_set_name,
        stack=stack,
        template=template,
        **asked,
    )
    if change_set_type == "UPDATE" and _nothing_changes(stack, change_set):
        change_set.status, change_set.execution_status = "FAILED", "UNAVAILABLE"
        change_set.status_reason = _NO_CHANGES
    else:
        change_set.status, change_set.execution_status = "CREATE_COMPLETE", "AVAILABLE"
    backend.change_sets[change_set.change_set_id] = change_set
    return change_set.change_set_id, stack.stack_id


def _execute_change_set(backend: Foreign, change_set_name: str, stack_name: str | None = None) -> None:
    change_set = _change_set(backend, change_set_name, stack_name)
    if change_set.execution_status != "AVAILABLE":
        raise ValidationError(message=f"ChangeSet [{change_set_name}] cannot be executed for {stack_name}")
    change_set.apply()
    change_set.execution_status = "EXECUTE_COMPLETE"


def _delete_stack(backend: Foreign, name_or_stack_id: str) -> None:
    stack = _find(backend, name_or_stack_id)
    if stack is None:
        # Deleting what is not there succeeds.
        return
    if stack.enable_termination_protection:
        raise ValidationError(
            message=f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled"
        )
    if stack.delete():
        del backend.stacks[stack.stack_id]
        backend.deleted_stacks[stack.stack_id] = stack
        for change_set_id in [i for i, c in backend.change_sets.items() if c.stack is stack]:
            del backend.change_sets[change_set_id]


def _find(backend: Foreign, name_or_id: str) -> Foreign:
    return next((s for s in backend.stacks.values() if name_or_id in (s.name, s.stack_id)), None)


def _new_stack(
    backend: Foreign,
    name: str,
    template: str | dict[str, Any],
    parameters: dict[str, Any],
    tags: dict[str, str] | None,
    **more: Foreign,
) -> Foreign:
    stack_id = generate_stack_id(name, backend.region_name, backend.account_id)
    kind: Foreign = Stack
    stack = kind(
        stack_id=stack_id,
        name=name,
        template=template,
        parameters=parameters,
        account_id=backend.account_id,
        region_name=backend.region_name,
        tags=tags,
        cross_stack_resources=backend.exports,
        **more,
    )
    backend.stacks[stack_id] = stack
    return stack


def _refuse_update(stack: Foreign, name: str) -> None:
    if stack is None:
        raise ValidationError(message=f"Stack [{name}] does not exist")
    if stack.status not in _UPDATABLE:
        raise ValidationError(
            message=f"Stack:{stack.stack_id} is in {stack.status} state and can not be updated."
        )


def _nothing_changes(stack: Foreign, change_set: Foreign) -> bool:
    return bool(
        stack.has_template(change_set.template)
        and stack.has_parameters(change_set.parameters)
        and change_set.tags in (None, stack.tags)
    )


def _check(template: str) -> Mapping[str, Any]:
    parsed: Mapping[str, Any] = Stack.parse_template(template)
    if "Resources" not in parsed:
        raise ValidationError(message="Template format error: At least one Resources member must be defined.")
    check(template, parsed)
    return parsed


def _resources(stack: Foreign, template: Mapping[str, Any]) -> Resources:
    resources = Resources(
        stack.stack_id,
        stack.name,
        stack.parameters,
        stack.tags,
        account_id=stack.account_id,
        region_name=stack.region_name,
        template=template,
        cross_stack_resources=stack.cross_stack_resources,
    )
    resources.load()
    return resources


def _show(stack: Foreign) -> None:
    """Show outputs and description of what is deployed now."""
    stack.description = stack.template_dict.get("Description")
    complete = stack.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    stack.output_map = stack._create_output_map() if complete else stack.output_map  # noqa: SLF001
