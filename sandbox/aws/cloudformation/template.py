"""What CloudFormation refuses in a template before it touches a resource."""

import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from moto.cloudformation.exceptions import ValidationError

from sandbox.aws.cloudformation.registry import kind_of

RESOURCES = 500
BYTES = 1_000_000
"""Quotas of a template from S3
(https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html)."""

_POLICIES = {
    "DeletionPolicy": {"Delete", "Retain", "RetainExceptOnCreate", "Snapshot"},
    "UpdateReplacePolicy": {"Delete", "Retain", "Snapshot"},
}
_SUBSTITUTED = re.compile(r"\$\{([A-Za-z0-9]+)(?:\.[A-Za-z0-9.]+)?\}")


def check(text: str, template: Mapping[str, Any]) -> None:
    """Refuse a template that is too large, or that does not hold together.

    Raises:
        ValidationError: As the API answers.
    """
    if len(text.encode()) > BYTES:
        raise ValidationError(message=f"Template size exceeds the limit of {BYTES} bytes")
    resources = template["Resources"]
    if len(resources) > RESOURCES:
        raise ValidationError(
            message=f"Template format error: Number of resources, {len(resources)}, is greater than maximum allowed, "
            f"{RESOURCES}"
        )
    for name, resource in resources.items():
        kind_of(resource["Type"])
        for policy, values in _POLICIES.items():
            if resource.get(policy, "Delete") not in values:
                raise ValidationError(message=f"Template error: {name}: unknown {policy} {resource[policy]}")
    known = set(resources) | set(template.get("Parameters", {}))
    missing = sorted(
        {
            target
            for resource in resources.values()
            for target in _references(resource)
            if not target.startswith("AWS::")
        }
        - known
    )
    if missing:
        raise ValidationError(
            message=f"Template format error: Unresolved resource dependencies [{', '.join(missing)}] in the Resources "
            "block of the template"
        )
    creation_order(template)


def creation_order(template: Mapping[str, Any]) -> list[str]:
    """The resources, each after those that it refers to or names in DependsOn.

    Raises:
        ValidationError: They depend on each other.
    """
    resources = template["Resources"]
    sorter = TopologicalSorter(
        {
            name: [target for target in _references(resource) if target in resources]
            for name, resource in resources.items()
        }
    )
    try:
        return list(sorter.static_order())
    except CycleError as error:
        raise ValidationError(message=f"Circular dependency between resources: {error.args[1]}") from error


def _references(resource: Mapping[str, Any]) -> Iterator[str]:
    depends = resource.get("DependsOn", [])
    yield from [depends] if isinstance(depends, str) else depends
    yield from _in(resource.get("Properties", {}))


def _in(value: object) -> Iterator[str]:
    match value:
        case {"Ref": str(name)}:
            yield name
        case {"Fn::GetAtt": [str(name), *_]}:
            yield name
        case {"Fn::GetAtt": str(text)}:
            yield text.partition(".")[0]
        case {"Fn::Sub": str(text)}:
            yield from _SUBSTITUTED.findall(text)
        case {"Fn::Sub": [str(text), dict(given)]}:
            yield from (name for name in _SUBSTITUTED.findall(text) if name not in given)
            yield from _in(given)
        case dict():
            for part in value.values():
                yield from _in(part)
        case list():
            for part in value:
                yield from _in(part)
