"""docs/plan.md and docs/json/: each field of the plan, and of what a command prints with `--json`.

    python -m lockstep.cli.schema_page plan > docs/plan.md
    python -m lockstep.cli.schema_page status > docs/json/status.md

They are made from the JSON Schemas, which editors and other programs read.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from lockstep.cli.documents import DOCUMENTS
from lockstep.cli.documents import schema as document_schema
from lockstep.plan_schema import plan_schema

Schema = dict[str, Any]
PLAN = "plan"
NAMES = (PLAN, *DOCUMENTS)
"""What has a page."""
_PLAN = """\
# The plan, field by field

Made from the schema by `python -m lockstep.cli.schema_page plan > docs/plan.md`.

`lockstep.yaml` says what to rotate. `lockstep init` writes a first one; `lockstep plan schema` prints the JSON Schema
with which editors check it, which is also [lockstep.schema.json](lockstep.schema.json). What depends on several
sections only `lockstep plan check` knows. A field without a default and without *optional* is required. A duration is
written like `90s`, `20m`, `1h30m` or `7d`. Instead of a text or a number a field may have
[a variable](how-to/environments.md).
"""
_DOCUMENT = """\
# What `lockstep {name} --json` prints

Made from the schema by `python -m lockstep.cli.schema_page {name} > docs/json/{name}.md`; the schema itself is
[{name}.schema.json](../{name}.schema.json). Later versions only add fields. Times are UTC.
"""
_REF = "#/$defs/"
_VARIABLE = "Variable"
_UNITS = "[dhms]"
"""In the pattern of a duration."""


def page(name: str) -> str:
    """A page.

    Args:
        name: Of `NAMES`: `plan`, or a command whose document has a schema.
    """
    schema = plan_schema() if name == PLAN else document_schema(name)
    head = _PLAN if name == PLAN else _DOCUMENT.format(name=name)
    return head + "".join(_sections(_with_enums(schema, schema["$defs"])))


def _with_enums(schema: Any, defs: Schema) -> Any:  # noqa: ANN401 - a schema
    """The schema with the values of an enumeration in the places that name it."""
    if isinstance(schema, list):
        return [_with_enums(part, defs) for part in schema]
    if not isinstance(schema, dict):
        return schema
    named = defs.get(str(schema.get("$ref", "")).removeprefix(_REF), {})
    if _is_enum(named):
        return {**named, **{key: value for key, value in schema.items() if key != "$ref"}}
    return {key: _with_enums(value, defs) for key, value in schema.items()}


def _is_enum(schema: Schema) -> bool:
    return "enum" in schema or any("enum" in form for form in schema.get("anyOf", ()))


def _sections(schema: Schema) -> Iterator[str]:
    yield _section("The file" if "lock" in schema["properties"] else "The document", schema)
    for name in _reachable(schema, schema["$defs"], []):
        forms = schema["$defs"][name].get("anyOf", [schema["$defs"][name]])
        for form in forms:
            if "properties" in form:
                yield _section(name, form)


def _section(title: str, schema: Schema) -> str:
    required = schema.get("required", ())
    fields = schema["properties"].items()
    columns = ["field", "type", "default", "meaning"]
    rows = [
        [
            f"`{name}`",
            _type(field, nullable=name in required),
            _default(field, optional=name not in required),
            _cell(_about(field)),
        ]
        for name, field in fields
    ]
    shown = [i for i in range(len(columns)) if any(row[i] for row in rows)]
    lines = [[columns[i] for i in shown], ["---" for _ in shown], *([row[i] for i in shown] for row in rows)]
    table = "".join("|" + "".join(f" {cell} |" for cell in line) + "\n" for line in lines)
    return f"\n## {title}\n\n{_sentence(schema)}{table}"


def _sentence(schema: Schema) -> str:
    text = _about(schema)
    return f"{text}\n\n" if text else ""


def _about(schema: Schema) -> str:
    """Its description, without what follows its first paragraph."""
    return " ".join(str(schema.get("description", "")).partition("\n\n")[0].split())


def _reachable(schema: Any, defs: Schema, seen: list[str]) -> list[str]:  # noqa: ANN401 - a schema
    """The definitions that a schema names, in the order in which they are met."""
    if isinstance(schema, list):
        for part in schema:
            _reachable(part, defs, seen)
    elif isinstance(schema, dict):
        name = str(schema.get("$ref", "")).removeprefix(_REF)
        if name and name != _VARIABLE and name not in seen:
            seen.append(name)
            _reachable(defs[name], defs, seen)
        for key, part in schema.items():
            if key != "$defs":
                _reachable(part, defs, seen)
    return seen


def _type(schema: Schema, *, nullable: bool = False) -> str:
    """The form of a value, in words.

    Args:
        schema: That of the value.
        nullable: Whether to say that it may be null; in a plan that is what a field without a value is.
    """
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema or "oneOf" in schema:
        forms = [
            _type(part)
            for part in schema.get("anyOf") or schema["oneOf"]
            if part.get("$ref") != _REF + _VARIABLE and (nullable or part.get("type") != "null")
        ]
        return " or ".join(dict.fromkeys(forms))
    if values := schema.get("enum") or ([schema["const"]] if "const" in schema else []):
        return " or ".join(map(_value, values))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return _simple(schema)


def _simple(schema: Schema) -> str:
    kind = str(schema.get("type", "any"))
    if _UNITS in schema.get("pattern", ""):
        return "duration"
    if said := schema.get("patternErrorMessage"):
        return _cell(f"text: {str(said).removeprefix('must be ')}")
    if schema.get("format") == "date-time":
        return "time"
    if kind == "integer" and "maximum" in schema:
        return f"number, {schema['minimum']} to {schema['maximum']}"
    return {"string": "text", "integer": "number", "number": "number", "boolean": "true or false"}.get(
        kind, kind
    )


def _default(schema: Schema, *, optional: bool) -> str:
    if "default" in schema and schema["default"] not in (None, []):
        return _value(schema["default"])
    return "*optional*" if optional else ""


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{_cell(text)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page(sys.argv[1]))
