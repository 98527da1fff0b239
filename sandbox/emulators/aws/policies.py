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
    """A policy uses a part of the language that the sandbox does not know, so it cannot say what IAM would decide."""


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
    """Whether a statement covers the call.

    Raises:
        UnknownConditionError: It has an element or an operator that is not known here.
    """
    if unknown := statement.keys() - _ELEMENTS:
        raise UnknownConditionError(", ".join(sorted(unknown)))
    return (
        any(_like(pattern, call.action, ignore_case=True) for pattern in as_list(statement["Action"]))
        and any(_like(pattern, call.resource) for pattern in as_list(statement["Resource"]))
        and all(
            _holds(operator, key, tuple(map(_text, as_list(wanted))), call.context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def as_list(value: object) -> list[Any]:
    """A policy may write a list of one item without brackets."""
    return value if isinstance(value, list) else [value]


def _text(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if "${" in text:
        raise UnknownConditionError(text)
    return text


def _holds(operator: str, key: str, wanted: tuple[str, ...], context: Context) -> bool:
    """Whether one condition holds, as the pages on multivalued keys and on operators say.

    - Names of keys ignore case (reference_policies_condition-keys.html). Two tags that differ in nothing else are not
      told apart there, so neither counts.
    - A key that is absent meets no operator but the negated ones, ForAllValues, those with IfExists and `Null: true`
      (reference_policies_elements_condition_operators.html).
    """
    found = [values for name, values in context.items() if name.lower() == key.lower()]
    there = found[0] if len(found) == 1 else ()
    if operator == "Null":
        return (not there) == (wanted == ("true",))
    quantifier, _, plain = operator.rpartition(":")
    if plain.endswith("IfExists"):
        if not there:
            return True
        plain = plain.removesuffix("IfExists")
    is_negated = plain in _NEGATED
    comparison = _COMPARISONS.get(_NEGATED.get(plain, plain))
    if comparison is None or quantifier not in _QUANTIFIERS:
        raise UnknownConditionError(operator)

    def meets(value: str) -> bool:
        return any(comparison(one, value) for one in wanted) != is_negated

    if not quantifier and len(there) > 1:
        raise UnknownConditionError(f"{operator} of {key}, which has several values")
    if quantifier == "ForAllValues" or (is_negated and not quantifier):
        return all(map(meets, there))
    return any(map(meets, there))


def _like(pattern: str, value: str, *, ignore_case: bool = False) -> bool:
    if ignore_case:
        pattern, value = pattern.lower(), value.lower()
    return _regex(pattern).fullmatch(value) is not None


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile("".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern))


def _arn_like(pattern: str, value: str) -> bool:
    """Each of the six parts is compared on its own, so a `*` ends with its part."""
    parts, found = pattern.split(":", 5), value.split(":", 5)
    return len(parts) == len(found) and all(map(_like, parts, found))


_ELEMENTS = {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
_QUANTIFIERS = {"", "ForAllValues", "ForAnyValue"}
_NEGATED = {
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "StringNotEquals": "StringEquals",
    "StringNotLike": "StringLike",
}
_COMPARISONS: Mapping[str, Callable[[str, str], bool]] = {
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
    "Bool": str.__eq__,
    "NumericLessThan": lambda wanted, value: float(value) < float(wanted),
    "NumericLessThanEquals": lambda wanted, value: float(value) <= float(wanted),
    "StringEquals": str.__eq__,
    "StringLike": _like,
}
