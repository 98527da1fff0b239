"""What AWS publishes of a type of resources: cfn-lint carries these schemas.

https://docs.aws.amazon.com/cloudformation-cli/latest/userguide/resource-type-schema.html
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from cfnlint.schema import PROVIDER_SCHEMA_MANAGER  # type: ignore[import-untyped]  # the package carries no types

_PREFIX = "/properties/"


@cache
def attributes(type_name: str) -> frozenset[str]:
    """What `Fn::GetAtt` knows."""
    return frozenset(
        name.removeprefix(_PREFIX).replace("/", ".")
        for name in _schema(type_name).get("readOnlyProperties") or ()
    )


@cache
def replaced_by(type_name: str) -> frozenset[tuple[str, ...]]:
    """The paths of the properties whose change replaces a resource, for some of them only under a condition."""
    schema = _schema(type_name)
    names = [
        *(schema.get("createOnlyProperties") or ()),
        *(schema.get("conditionalCreateOnlyProperties") or ()),
    ]
    return frozenset(tuple(name.removeprefix(_PREFIX).split("/")) for name in names)


def at(given: object, path: tuple[str, ...]) -> object:
    """A property, by its path; None where there is none."""
    for name in path:
        given = given.get(name) if isinstance(given, Mapping) else None
    return given


def _schema(type_name: str) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = PROVIDER_SCHEMA_MANAGER.get_resource_schema(
        region="us-east-1", resource_type=type_name
    ).schema
    return schema
