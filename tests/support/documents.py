"""Documents of the command, held against their schemas."""

from typing import Any

import jsonschema

from lockstep.operate.documents import DOCUMENTS, schema


def require_document(command: str, document: object) -> None:
    """Require what the schema says, and nothing beside it: the schema itself lets later versions add fields."""
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(_closed(schema(DOCUMENTS[command])), format_checker=checker).validate(
        document
    )


def _closed(part: Any) -> Any:  # noqa: ANN401 - a schema
    if isinstance(part, list):
        return [_closed(one) for one in part]
    if not isinstance(part, dict):
        return part
    closed = {key: _closed(value) for key, value in part.items()}
    return {**closed, "additionalProperties": False} if "properties" in closed else closed
