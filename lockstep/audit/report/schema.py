"""docs/audit-report.schema.json, the schema of the JSON report, from the dataclasses that it is made of.

python -m lockstep.audit.report.schema > docs/audit-report.schema.json
"""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import UnionType
from typing import Any, get_args, get_origin

from lockstep.audit.report.data import Report
from lockstep.audit.report.tables import FORMAT, key_of
from lockstep.audit.verify import Verdict
from lockstep.model import Credential

_ATTRIBUTE = re.compile(r"^        (\w+): (.+(?:\n            .+)*)", re.MULTILINE)
_PLAIN: Mapping[type, Mapping[str, object]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    timedelta: {"type": "number", "minimum": 0},
    datetime: {"type": "string", "format": "date-time"},
}
_TEXTS = ("id", "strategy", "plan")
_LISTS = ("usernames", "databases")
_SECONDS = ("interval_seconds", "overlap_seconds")


def schema() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12)."""
    definitions: dict[str, Any] = {}
    whole = _object(Report, definitions)
    head = {"format": {"const": FORMAT}, "verdict": _schema(Verdict, definitions)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Lockstep audit report",
        **whole,
        "description": "Times are RFC 3339 in UTC, durations are seconds.",
        "properties": {**head, **whole["properties"]},
        "required": [*head, *whole["required"]],
        "$defs": dict(sorted(definitions.items())),
    }


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - any annotation
    arguments = get_args(kind)
    if get_origin(kind) is UnionType:
        (one,) = (part for part in arguments if part is not type(None))
        return {"anyOf": [_schema(one, definitions), {"type": "null"}]}
    if get_origin(kind) is tuple:
        return _array(arguments, definitions)
    if get_origin(kind) is Mapping:
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return {"enum": [member.value for member in kind]}
    return _reference(kind, definitions) if is_dataclass(kind) else dict(_PLAIN[kind])


def _array(parts: tuple[Any, ...], definitions: dict[str, Any]) -> dict[str, Any]:
    if parts[1:] == (...,):
        return {"type": "array", "items": _schema(parts[0], definitions)}
    items = [_schema(part, definitions) for part in parts]
    return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}


def _reference(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - a dataclass
    name: str = kind.__name__
    if name not in definitions:
        definitions[name] = {}  # Its place, before what it refers to.
        definitions[name] = _credential() if kind is Credential else _object(kind, definitions)
    return {"$ref": f"#/$defs/{name}"}


def _object(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - a dataclass
    document = kind.__doc__ or ""
    told = {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(document)}
    properties = {}
    for field in fields(kind):
        about = {"description": told[field.name]} if field.name in told else {}
        properties[key_of(field.name, field.type)] = {**_schema(field.type, definitions), **about}
    return _closed(document.partition("\n")[0], properties)


def _credential() -> dict[str, Any]:
    properties: dict[str, Any] = {
        **{name: dict(_PLAIN[str]) for name in _TEXTS},
        **{name: {"type": "array", "items": dict(_PLAIN[str])} for name in _LISTS},
        **{name: dict(_PLAIN[timedelta]) for name in _SECONDS},
    }
    return _closed("What today's plan says of it.", properties)


def _closed(about: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": about,
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(schema(), indent=2) + "\n")
