"""What the policy of a resource that exists lets a service or a role do, as far as its text tells.

A condition on what is not known here counts as met where the statement allows, and as not met where it denies: an
answer may be too kind, and never stops a deployment that would work.
"""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

Statement = Mapping[str, Any]
Context = Mapping[str, str]
"""Values of condition keys, by the key in lower case."""

_EQUAL = frozenset({"StringEquals", "StringLike", "ArnEquals", "ArnLike", "Bool"})


def lets(
    statements: Sequence[Statement], principal: str, action: str, resource: str, context: Context
) -> bool:
    """Whether a principal may make a call.

    Args:
        statements: Of the resource's policy.
        principal: The name of a service, or the ARN of an account's root or of a role, which may end in `*`.
        action: Such as `sns:Publish`.
        resource: The ARN of the resource.
        context: What is known of the call.
    """
    allowed, denied = (
        [s for s in statements if s["Effect"] == effect and _concerns(s, principal, action, resource)]
        for effect in ("Allow", "Deny")
    )
    return any(all(_conditions(s, context, unknown=True)) for s in allowed) and not any(
        all(_conditions(s, context, unknown=False)) for s in denied
    )


def listed(value: object) -> list[Any]:
    """A value that a policy may give alone or in a list."""
    return value if isinstance(value, list) else [value]


def _concerns(statement: Statement, principal: str, action: str, resource: str) -> bool:
    return (
        _names(statement.get("Principal"), principal)
        and any(fnmatchcase(action.lower(), str(a).lower()) for a in listed(statement.get("Action", [])))
        and any(fnmatchcase(resource, str(r)) for r in listed(statement.get("Resource", "*")))
    )


def _names(principal: object, wanted: str) -> bool:
    if not isinstance(principal, Mapping):
        return principal == "*"
    named = [str(p) for p in (*listed(principal.get("AWS", [])), *listed(principal.get("Service", [])))]
    return "*" in named or any(fnmatchcase(name, wanted) for name in named)


def _conditions(statement: Statement, context: Context, *, unknown: bool) -> Iterator[bool]:
    for operator, keys in statement.get("Condition", {}).items():
        for key, wanted in keys.items():
            value = context.get(key.lower())
            if value is None or operator not in _EQUAL:
                yield unknown
            else:
                yield any(_matches(operator, value, str(pattern)) for pattern in listed(wanted))


def _matches(operator: str, value: str, pattern: str) -> bool:
    if operator == "StringEquals":
        return value == pattern
    return fnmatchcase(value.lower(), pattern.lower()) if operator == "Bool" else fnmatchcase(value, pattern)
