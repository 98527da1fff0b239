"""A request's JSON body, read field by field with the errors that OCI answers to a malformed one."""

import json
from collections.abc import Mapping
from datetime import datetime

from sandbox.emulators.oci.errors import ApiError, invalid, missing


class Details:
    """A JSON object. A field that is absent or null reads as None; one of another type is InvalidParameter."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        """Read from decoded fields."""
        self._fields = fields

    @classmethod
    def parsed(cls, body: bytes) -> "Details":
        """Read from a body; an empty one has no fields."""
        try:
            fields = json.loads(body) if body else {}
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise ApiError(400, "CannotParseRequest", "The request is incorrectly formatted.")
        return cls(fields)

    def __contains__(self, name: str) -> bool:
        return self._fields.get(name) is not None

    def text(self, name: str) -> str | None:
        """A string."""
        value = self._fields.get(name)
        if value is not None and not isinstance(value, str):
            raise invalid(f"{name} must be a string")
        return value

    def required_text(self, name: str) -> str:
        """A string that must be there."""
        value = self.text(name)
        if not value:
            raise missing(name)
        return value

    def integer(self, name: str) -> int | None:
        """A whole number."""
        value = self._fields.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise invalid(f"{name} must be an integer")
        return value

    def moment(self, name: str) -> datetime | None:
        """An RFC 3339 time with its zone."""
        text = self.text(name)
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise invalid(f"{name} must be an RFC 3339 timestamp")
        return moment

    def section(self, name: str) -> "Details | None":
        """A nested object."""
        value = self._fields.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise invalid(f"{name} must be an object")
        return Details(value)

    def mapping(self, name: str) -> Mapping[str, object]:
        """A nested object as it came; empty where absent."""
        section = self.section(name)
        return section._fields if section else {}
