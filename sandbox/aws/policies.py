"""IAM policies: whether a statement allows or refuses a call.

This is the part of the policy language that Lockstep's policies use; everything else is an error
(https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

Context = Mapping[str, tuple[str, ...]]
Statement = Mapping[str, Any]


class UnknownConditionError(Exception):
    """A policy uses an operator that the sandbox does not know."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call that needs a permission.

    Attributes:
        action: Such as `dynamodb:GetItem`.
        resource: The ARN of its resource.
        context: Its condition keys; an absent key is left out.
    """

    action: str
    resource: str
    context: Context = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Whether a call is allowed, and the statement that decided it; None where no statement matched."""

    allowed: bool
    statement: Statement | None


def decide(call: Call, statements: Iterable[Statement]) -> Verdict:
    """A refusal takes precedence over every permission. A call without a permission is refused."""
    matching = [s for s in statements if matches(s, call)]
    for statement in matching:
        if statement["Effect"] == "Deny":
            return Verdict(allowed=False, statement=statement)
    return Verdict(allowed=bool(matching), statement=matching[0] if matching else None)


def matches(statement: Statement, call: Call) -> bool:
    """Whether a statement covers the call."""
    return (
        any(_like(pattern, call.action, ignore_case=True) for pattern in as_list(statement["Action"]))
        and any(_like(pattern, call.resource) for pattern in as_list(statement["Resource"]))
        and all(
            _holds(operator, key, tuple(map(str, as_list(wanted))), call.context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def as_list(value: object) -> list[Any]:
    """A policy may write a list of one item without brackets."""
    return value if isinstance(value, list) else [value]


def _holds(operator: str, key: str, wanted: tuple[str, ...], context: Context) -> bool:
    there = context.get(key)
    if operator == "Null":
        return (there is None) == (wanted == ("true",))
    if operator == "ForAllValues:StringEquals":
        return all(value in wanted for value in there or ())
    if operator not in _COMPARISONS:
        raise UnknownConditionError(operator)
    # An absent key meets only the two conditions above.
    return any(_COMPARISONS[operator](one, value) for value in there or () for one in wanted)


def _like(pattern: str, value: str, *, ignore_case: bool = False) -> bool:
    if ignore_case:
        pattern, value = pattern.lower(), value.lower()
    return _regex(pattern).fullmatch(value) is not None


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile("".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern))


_COMPARISONS: Mapping[str, Callable[[str, str], bool]] = {
    "ArnEquals": _like,
    "ArnLike": _like,
    "Bool": str.__eq__,
    "NumericLessThan": lambda wanted, value: float(value) < float(wanted),
    "StringEquals": str.__eq__,
    "StringLike": _like,
}
