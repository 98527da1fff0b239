"""The resources of a stack, and what a template means by its references to them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moto.cloudformation.exceptions import UnformattedGetAttTemplateException
from moto.cloudformation.parsing import ResourceMap, clean_json
from moto.utilities.utils import get_partition

from sandbox.aws.cloudformation.kinds import Kind, Made, Request
from sandbox.aws.patching import Foreign


@dataclass(kw_only=True)
class Record:
    """A resource of a stack: what moto's views read, and what the next update compares.

    Attributes:
        kind: Its handler.
        definition: Its part of the template.
        request: What it was made or last updated from.
        made: What exists.
    """

    kind: Kind
    definition: Mapping[str, Any]
    request: Request
    made: Made

    @property
    def logical_resource_id(self) -> str:
        """Its name in the template."""
        return self.request.logical_id

    @property
    def cf_resource_type(self) -> str:
        """Its type."""
        return self.kind.type_name

    @property
    def physical_resource_id(self) -> str:
        """The result of `Ref`."""
        return self.made.physical_id

    def get_cfn_attribute(self, attribute_name: str) -> object:
        """`Fn::GetAtt`."""
        if attribute_name not in self.made.attributes:
            raise UnformattedGetAttTemplateException
        return self.made.attributes[attribute_name]

    def is_created(self) -> bool:
        """A record is made after its resource."""
        return True


class Resources(ResourceMap):
    """Resolves the references of a template. It makes no resource by itself, which moto's own map does when asked."""

    def __init__(self, *arguments: Foreign, **named: Foreign) -> None:
        super().__init__(*arguments, **named)
        partition = get_partition(self._region_name)
        self._parsed_resources["AWS::Partition"] = partition
        self._parsed_resources["AWS::URLSuffix"] = (
            "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
        )
        self.records: dict[str, Record] = {}

    def __getitem__(self, key: str) -> object:  # type: ignore[override]  # of moto's own models
        if key in self.records:
            return self.records[key]
        return self._parsed_resources[key]

    def __iter__(self) -> Foreign:
        return iter(dict(self.records))

    def __len__(self) -> int:
        return len(self.records)

    def wanted(self, logical_id: str) -> bool:
        """Whether the condition of a resource holds."""
        condition = self._resource_json_map[logical_id].get("Condition")
        return condition is None or bool(self.lazy_condition_map[condition])

    def validate_outputs(self) -> None:
        """Nothing: each output is resolved once the resources exist."""

    def resolved(self, value: object) -> Any:  # noqa: ANN401 - as the template has it
        """A part of the template without references."""
        return _without_no_value(clean_json(value, self))


def _without_no_value(value: Any) -> Any:  # noqa: ANN401 - as the template has it
    """Drop what `AWS::NoValue` stands for; moto leaves it in lists."""
    if isinstance(value, dict):
        return {name: _without_no_value(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_without_no_value(part) for part in value if part is not None]
    return value
