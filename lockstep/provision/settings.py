"""How the sides are deployed, as far as secrets depend on it: `cdk.json`, and an output of Terraform."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from lockstep.provision.decide import RingTerms
from lockstep.stack_names import DEFAULT_STACK

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """Settings of `cdk.json`.

    Attributes:
        stack: The stack's name.
        key: `adopt.encryption_key`; None: the stack has made one.
        tags: Of every resource.
    """

    stack: str = DEFAULT_STACK
    key: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def stack_settings(cdk_json: object) -> StackSettings:
    """The settings in the document; one that is not there has its default.

    Raises:
        ValueError: It has no settings, or one has another type.
    """
    match cdk_json:
        case {"context": dict() as context}:
            adopt = context.get("adopt") or {}
            key = adopt.get("encryption_key") if isinstance(adopt, dict) else adopt
            given = {"stack": context.get("stack"), "key": key, "tags": context.get("tags")}
            return _read(StackSettings, {name: value for name, value in given.items() if value})
    raise ValueError("it has no `context`")


def ring_terms(output: object, *, region: str) -> RingTerms:
    """What the output `secrets` of Terraform says.

    Args:
        output: The document.
        region: Of the plan's vault.

    Raises:
        ValueError: It is another document.
    """
    if not isinstance(output, dict):
        raise ValueError("it is no object")  # noqa: TRY004 - of a file, not of an argument
    given = {"freeform_tags": output.get("freeform_tags"), **output, "region": region}
    return _read(RingTerms, {**given, "defined_tags": output.get("defined_tags") or {}})


def _read(kind: type[T], given: Mapping[str, object]) -> T:
    try:
        return TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        wrong = (f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors(include_url=False))
        raise ValueError("; ".join(wrong)) from None
