"""A provider `oracle/oci` that checks arguments as the schema of the real one does, and creates nothing.

Terraform starts it like any provider. It runs in the venv of `.ci/terraform-tools`.
"""

import hashlib
import re
import sys
from typing import Any

# The type-checked venv has none of these packages.
from tf.blocks import SetNestedBlock  # type: ignore[import-not-found]
from tf.gen import tfplugin_pb2 as protocol  # type: ignore[import-not-found]
from tf.iface import Resource as AbstractResource  # type: ignore[import-not-found]
from tf.runner import run_provider  # type: ignore[import-not-found]
from tf.schema import Attribute, NestMode, Schema  # type: ignore[import-not-found]
from tf.schema import Block as TfBlock
from tf.types import Bool, List, Map, Number, String  # type: ignore[import-not-found]

from tests.infrastructure.terraform.schema import RESOURCES, Block, Resource

State = dict[str, Any]
_KINDS = {
    "string": String(),
    "number": Number(),
    "bool": Bool(),
    "list": List(String()),
    "map": Map(String()),
}


class ListBlock(SetNestedBlock):  # type: ignore[misc]  # the base is untyped
    """A list of blocks; the package has only sets."""

    _mode_map = {NestMode.Set: protocol.Schema.NestedBlock.NestingMode.LIST}  # noqa: RUF012 - the base's own field

    def __init__(self, name: str, block: Block) -> None:
        super().__init__(name, _tf_block(block))
        self.min_items, self.max_items = block.at_least, block.at_most


def _tf_block(block: Block) -> TfBlock:
    return TfBlock(attributes=_attributes(block), block_types=_blocks(block))


def _attributes(block: Block) -> list[Attribute]:
    return [Attribute(a.name, _KINDS[a.kind], **{a.presence: True}) for a in block.arguments]


def _blocks(block: Block) -> list[ListBlock]:
    return [ListBlock(name, inner) for name, inner in block.blocks.items()]


class Recorded(AbstractResource):  # type: ignore[misc]  # the base is untyped
    """A resource that is created by writing it into the state.

    Attributes:
        type_name: The type without the provider's prefix.
        resource: The type's row in the table.
    """

    type_name: str
    resource: Resource

    def __init__(self, provider: object) -> None:
        """Keep the package's signature."""

    @classmethod
    def get_name(cls) -> str:
        return cls.type_name

    @classmethod
    def get_schema(cls) -> Schema:
        block = cls.resource.block
        return Schema(attributes=_attributes(block), block_types=_blocks(block))

    def validate(self, diags: Any, type_name: str, config: State) -> None:  # noqa: ANN401 - the package's type
        for name, pattern in self.resource.values.items():
            value = config.get(name)
            # A value that is not known yet is checked in `create`.
            if isinstance(value, str | int | float) and not re.fullmatch(pattern, str(value)):
                diags.add_error(f"{type_name}.{name}", f"OCI does not take {value}", path=[name])
        if type_name == "oci_vault_secret" and bool(config["enable_auto_generation"]) == bool(
            config["secret_content"]
        ):
            diags.add_error(type_name, "either its content is given, or it is generated")

    def create(self, ctx: Any, planned: State) -> State:  # noqa: ANN401 - the package's type
        self.validate(ctx.diagnostics, ctx.type_name, planned)
        named = planned.get("secret_name") or planned.get("name") or planned.get("display_name") or ""
        digest = hashlib.sha256(f"{self.type_name} {named}".encode()).hexdigest()
        region = "" if self.resource.ocid in {"user", "group", "dynamicgroup", "policy"} else "eu-frankfurt-1"
        ocid = f"ocid1.{self.resource.ocid}.oc1.{region}.{digest[:60]}"
        computed = {
            a.name: ocid if a.name in {"id", "topic_id", "bucket_id"} else f"https://{a.name}.{digest[:16]}"
            for a in self.resource.block.arguments
            if a.presence == "computed"
        }
        return {**planned, **computed}

    def read(self, _ctx: object, current: State) -> State:
        return current

    def update(self, _ctx: object, _current: State, planned: State) -> State:
        return planned

    def delete(self, _ctx: object, _current: State) -> None:
        return None


class Provider:
    """The provider, as the package calls it."""

    def get_model_prefix(self) -> str:
        return "oci_"

    def full_name(self) -> str:
        return "registry.terraform.io/oracle/oci"

    def get_provider_schema(self, _diags: object) -> Schema:
        return Schema(attributes=[Attribute("region", String(), optional=True)])

    def validate_config(self, _diags: object, _config: State) -> None:
        return None

    def configure_provider(self, _diags: object, _config: State) -> None:
        return None

    def get_data_sources(self) -> list[type]:
        return []

    def get_functions(self) -> list[type]:
        return []

    def get_resources(self) -> list[type[Recorded]]:
        return [
            type(name, (Recorded,), {"type_name": name.removeprefix("oci_"), "resource": resource})
            for name, resource in RESOURCES.items()
        ]

    def new_resource(self, kind: type[Recorded]) -> Recorded:
        return kind(self)


if __name__ == "__main__":
    run_provider(Provider(), sys.argv)
