"""What a handler of one type of resources promises, as the handlers of CloudFormation do.

A handler calls the service's API, so it meets every rule of the service. What a template gets wrong is an error of
that API; the engine makes a failed resource of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sandbox.aws.cloudformation.schema import at, attributes, replaced_by
from sandbox.aws.executions import Client

Properties = Mapping[str, Any]


class ResourceError(Exception):
    """A handler refuses its resource.

    Args:
        code: CloudFormation's name of the error, such as `AlreadyExists`.
        text: What is wrong.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Request:
    """What CloudFormation hands to the handler of a resource.

    Attributes:
        client: Returns a client of a service, by boto3's name.
        account_id: The account of the stack.
        region: The region of the stack.
        partition: Such as `aws`.
        logical_id: The resource's name in the template.
        name: Its physical name: the one of the template, else a generated one.
        properties: Its properties, with every reference resolved.
        tags: The tags of the template over those of the stack.
        stack_name: The stack's name.
        rolls_back: Whether an update is undone.
    """

    client: Callable[[str], Client]
    account_id: str
    region: str
    partition: str
    logical_id: str
    name: str
    properties: Properties
    tags: Mapping[str, str]
    stack_name: str
    rolls_back: bool = False

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource of the stack's account and region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account_id}:{resource}"

    def tag_list(self) -> list[dict[str, str]]:
        """The tags as most services take them."""
        return [{"Key": key, "Value": value} for key, value in self.tags.items()]

    def only(self, *names: str) -> dict[str, Any]:
        """These properties, as far as the template has them."""
        return {name: self.properties[name] for name in names if name in self.properties}


@dataclass(frozen=True)
class Made:
    """A resource that exists.

    Attributes:
        physical_id: The result of `Ref`.
        attributes: The results of `Fn::GetAtt`, by attribute.
    """

    physical_id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Kind(ABC):
    """The handler of one type.

    To add a type: subclass this, and add an instance to the registry. Each method raises `ResourceError`, or lets the
    error of the service (`ClientError`) through.

    Attributes:
        type_name: The type in a template.
        name_property: The property that names it; None if it has no name.
    """

    type_name: ClassVar[str]
    name_property: ClassVar[str | None] = None

    def exists(self, request: Request) -> bool:  # noqa: ARG002 - for the kinds that ask
        """Whether a resource of this name exists, where the service's own API would take it over silently."""
        return False

    @abstractmethod
    def create(self, request: Request) -> Made:
        """Create the resource."""

    def update(self, request: Request, made: Made, before: Properties) -> Made:  # noqa: ARG002 - for the kinds that can
        """Change a resource in place.

        Args:
            request: The resource as it shall be.
            made: The resource as it is.
            before: Its properties so far.
        """
        raise ResourceError("NotUpdatable", f"the sandbox cannot update a {self.type_name} in place")

    @abstractmethod
    def delete(self, request: Request, made: Made) -> None:
        """Delete the resource."""

    def replaces(self, before: Properties, after: Properties) -> bool:
        """Whether a change replaces the resource, by the schema of its type.

        The new one is created before the old one is deleted, so a fixed name collides.
        """
        return any(at(before, path) != at(after, path) for path in replaced_by(self.type_name))


class Recorded(Kind):
    """A type that is accepted and has no effect in the sandbox. Its name must still be free in the stack."""

    def __init__(self, type_name: str, *, name_property: str | None = None) -> None:
        self.type_name = type_name  # type: ignore[misc]  # one class for several types
        self.name_property = name_property  # type: ignore[misc]

    def create(self, request: Request) -> Made:
        """Accept it."""
        return Made(request.name, dict.fromkeys(attributes(self.type_name), request.name))

    def update(self, request: Request, made: Made, before: Properties) -> Made:  # noqa: ARG002 - no effect
        """Accept the change."""
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Forget it."""
