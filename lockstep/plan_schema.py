"""The JSON Schema of the plan file, with which editors complete and check it as it is written.

It knows each key, its form and its description. What depends on several sections only `lockstep plan check` knows.
"""

import json
from datetime import timedelta
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from lockstep.durations import format_duration
from lockstep.plan import Plan

SCHEMA_NAME = "lockstep.schema.json"


def plan_schema() -> dict[str, Any]:
    """The schema, in the dialect 2020-12."""
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        **_without_section_defaults(Plan.model_json_schema(schema_generator=_Generator)),
        "title": "The plan of Lockstep",
    }


def plan_schema_text() -> str:
    """The schema as the text of a file."""
    return json.dumps(plan_schema(), indent=2, ensure_ascii=False) + "\n"


class _Generator(GenerateJsonSchema):
    """Pydantic's, with durations as people write them."""

    def encode_default(self, dft: Any) -> Any:  # noqa: ANN401 - as in the base class
        """A default value as the file would say it."""
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def _without_section_defaults(schema: Any) -> Any:  # noqa: ANN401 - a schema
    """The schema without defaults that are nothing or whole sections, which are described where they are defined."""
    if isinstance(schema, list):
        return [_without_section_defaults(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _without_section_defaults(value) for key, value in schema.items()}
    return {k: v for k, v in kept.items() if k != "default" or not (v is None or isinstance(v, dict))}
