"""The condition keys of DynamoDB that say what of an item a request names, and what it gets back.

See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html.
"""

import re
from collections.abc import Mapping
from typing import Any

from sandbox.emulators.aws.policies import Context

_WRITES = ("UpdateItem", "PutItem", "DeleteItem")
_EXPRESSIONS = ("UpdateExpression", "ConditionExpression", "ProjectionExpression")
_LEGACY = ("AttributeUpdates", "Expected", "Item", "Key")
_WORDS = {"add", "and", "between", "delete", "in", "not", "or", "remove", "set"}
_TOKEN = re.compile(
    r"""
    (?P<value> :\w+ )
    | (?P<function> [A-Za-z_]\w* \s* \( )
    | (?P<path> [#A-Za-z_]\w* (?: \s* (?: \. \s* [#A-Za-z_]\w* | \[ \s* \d+ \s* \] ) )* )
    """,
    re.VERBOSE,
)


class UnknownNameError(Exception):
    """An expression has a placeholder that the request does not define; DynamoDB refuses it."""


def item_context(operation: str, asked: Mapping[str, Any]) -> Context:
    """`dynamodb:Attributes`, with the attributes of the key, and for a write `dynamodb:ReturnValues`.

    Only top-level attributes count, of `a.b[1]` the attribute `a`. A request that names none (a GetItem of the whole
    item) has only those of its key. What a write returns is not among them: `dynamodb:ReturnValues` is for that.
    """
    attributes = {name for part in _LEGACY for name in asked.get(part, {})}
    names: Mapping[str, str] = asked.get("ExpressionAttributeNames", {})
    for part in _EXPRESSIONS:
        attributes |= set(_named(asked.get(part, ""), names))
    attributes |= set(asked.get("AttributesToGet", ()))
    found = {"dynamodb:Attributes": tuple(sorted(attributes))} if attributes else {}
    if operation in _WRITES:
        found["dynamodb:ReturnValues"] = (asked.get("ReturnValues", "NONE"),)
    return found


def _named(expression: str, names: Mapping[str, str]) -> list[str]:
    found = []
    for token in _TOKEN.finditer(expression):
        path = token["path"]
        if path is None or path.lower() in _WORDS:
            continue
        first = re.split(r"[\s.\[]", path, maxsplit=1)[0]
        if first.startswith("#") and first not in names:
            raise UnknownNameError(first)
        found.append(names.get(first, first))
    return found
