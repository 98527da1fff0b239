"""The JSON Schema of the plan file, with which editors complete and check it as it is written.

It knows each key, its form and its description. What depends on several sections only `lockstep plan check` knows.
"""

import json
from datetime import timedelta
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from lockstep.durations import format_duration
from lockstep.plan import Plan
from lockstep.plan_variables import VARIABLE

SCHEMA_NAME = "lockstep.schema.json"


def plan_schema() -> dict[str, Any]:
    """The schema, in the dialect 2020-12."""
    made = Plan.model_json_schema(schema_generator=_Generator)
    found: dict[str, Any] = {**_adapted(made), "title": "The plan of Lockstep"}
    found["$defs"]["Variable"] = {
        "type": "string",
        "pattern": VARIABLE,
        "description": "Has a variable of the environment, ${NAME} or ${NAME:-default}.",
    }
    return {"$schema": GenerateJsonSchema.schema_dialect, **found}


def schema_text(schema: dict[str, Any]) -> str:
    """A schema as the text of a file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


class _Generator(GenerateJsonSchema):
    """Pydantic's, with durations as people write them."""

    def encode_default(self, dft: Any) -> Any:  # noqa: ANN401 - as in the base class
        """A default value as the file would say it."""
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def _adapted(schema: Any) -> Any:  # noqa: ANN401 - a schema
    """The schema with variables in the place of values, and without defaults that are nothing or whole sections."""
    if isinstance(schema, list):
        return [_adapted(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _adapted(value) for key, value in schema.items() if not _is_no_default(key, value)}
    if kept.get("type") == "integer" or (kept.get("type") == "string" and kept.keys() & {"pattern", "enum"}):
        about = {key: kept.pop(key) for key in ("title", "description", "default", "examples") if key in kept}
        return {**about, "anyOf": [kept, {"$ref": "#/$defs/Variable"}]}
    return kept


def _is_no_default(key: str, value: object) -> bool:
    return key == "default" and (value is None or isinstance(value, dict))
