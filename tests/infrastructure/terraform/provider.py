"""A provider `oracle/oci` that checks arguments as the schema of the real one does, and makes things in a file.

It runs in the venv of `.ci/terraform-tools`. `terraform validate` starts it like any provider; other commands attach to
one that `tests.infrastructure.terraform.tool` serves.
"""

import hashlib
import re
import sys
from collections.abc import Iterator
from typing import Any

# The type-checked venv has none of these packages.
from tf.blocks import SetNestedBlock  # type: ignore[import-not-found]
from tf.gen import tfplugin_pb2 as protocol  # type: ignore[import-not-found]
from tf.iface import DataSource as AbstractDataSource  # type: ignore[import-not-found]
from tf.iface import Resource as AbstractResource
from tf.runner import run_provider  # type: ignore[import-not-found]
from tf.schema import Attribute, NestMode, Schema  # type: ignore[import-not-found]
from tf.schema import Block as TfBlock
from tf.types import Bool, List, Map, Number, String  # type: ignore[import-not-found]

from tests.infrastructure.terraform.schema import DATA_SOURCES, RESOURCES, Block, DataSource, Resource
from tests.infrastructure.terraform.tenancy import RefusedError, Tenancy, tenancy

State = dict[str, Any]
_KINDS = {
    "string": String(),
    "number": Number(),
    "bool": Bool(),
    "list": List(String()),
    "map": Map(String()),
    "rows": List(Map(String())),
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
    return [
        Attribute(a.name, _KINDS[a.kind], **{a.presence: True}, requires_replace=a.forces_new)
        for a in block.arguments
    ]


def _blocks(block: Block) -> list[ListBlock]:
    return [ListBlock(name, inner) for name, inner in block.blocks.items()]


def _computed(name: str, ocid: str, planned: State) -> str | None:
    """What the service adds to a resource that is made."""
    match name:
        case "id" | "ocid" | "topic_id" | "bucket_id":
            return ocid
        case "domain_ocid":
            domain = hashlib.sha256(planned["idcs_endpoint"].encode()).hexdigest()
            return f"ocid1.domain.oc1..{domain[:40]}"
        case "current_key_version":
            return ocid.replace("ocid1.key.", "ocid1.keyversion.")
        case "client_secret":
            # Only what is asked for is returned, where that is said (the provider's `attributes`).
            asked = planned["attributes"]
            return None if asked and "clientSecret" not in asked.split(",") else f"secret-of-{ocid[-16:]}"
    return f"https://{name.replace('_', '-')}.{ocid[-16:]}"


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

    def create(self, ctx: Any, planned: State) -> State | None:  # noqa: ANN401 - the package's type
        self.validate(ctx.diagnostics, ctx.type_name, planned)
        try:
            with tenancy() as there:
                ocid = there.create(ctx.type_name, self.resource.ocid, planned)
                computed = {
                    a.name: _computed(a.name, ocid, planned)
                    for a in self.resource.block.arguments
                    if a.presence == "computed"
                }
                there.put(ctx.type_name, ocid, {**planned, **computed})
        except RefusedError as refused:
            ctx.diagnostics.add_error(ctx.type_name, str(refused))
            return None
        return {**planned, **computed}

    def read(self, _ctx: object, current: State) -> State | None:
        with tenancy() as there:
            return current if there.exists(current["id"]) else None

    def import_(self, ctx: Any, ocid: str) -> State | None:  # noqa: ANN401 - the package's type
        """What the service shows of a resource. Of a secret that is neither its content nor how it was generated."""
        try:
            with tenancy() as there:
                values = there.values(ocid)
        except RefusedError as refused:
            ctx.diagnostics.add_error(ctx.type_name, str(refused))
            return None
        block = self.resource.block
        shown = {a.name: values.get(a.name) for a in block.arguments}
        return {**shown, **{name: [] for name in block.blocks}, "id": ocid}

    def update(self, ctx: Any, current: State, planned: State) -> State:  # noqa: ANN401 - the package's type
        with tenancy() as there:
            there.put(ctx.type_name, current["id"], planned)
        return planned

    def delete(self, ctx: Any, current: State) -> State | None:  # noqa: ANN401 - the package's type
        if ctx.type_name == "oci_identity_compartment" and not current["enable_delete"]:
            return None
        try:
            with tenancy() as there:
                there.delete(ctx.type_name, current["id"])
        except RefusedError as refused:
            ctx.diagnostics.add_error(ctx.type_name, str(refused))
            return current
        return None


class Looked(AbstractDataSource):  # type: ignore[misc]  # the base is untyped
    """A data source that reads the tenancy.

    Attributes:
        type_name: The type without the provider's prefix.
        source: The type's row in the table.
    """

    type_name: str
    source: DataSource

    def __init__(self, provider: object) -> None:
        """Keep the package's signature."""

    @classmethod
    def get_name(cls) -> str:
        return cls.type_name

    @classmethod
    def get_schema(cls) -> Schema:
        block = cls.source.block
        return Schema(attributes=_attributes(block), block_types=_blocks(block))

    def validate(self, diags: object, type_name: str, config: State) -> None:
        """Nothing is checked beyond the schema."""

    def read(self, ctx: Any, config: State) -> State | None:  # noqa: ANN401 - the package's type
        try:
            with tenancy() as there:
                return {**config, **self._found(there, config)}
        except RefusedError as refused:
            ctx.diagnostics.add_error(ctx.type_name, str(refused))
            return None

    def _found(self, there: Tenancy, config: State) -> State:
        kind, names = self.source.of, [a.name for a in self.source.block.arguments]
        if self.source.columns:
            return {self.source.rows: list(self._rows(there, config))}
        if self.source.by:
            values = there.values(config[self.source.by])
            return {name: values.get(name) for name in names if name != self.source.by}
        for values, _ in there.all(kind):
            if all(values[name] == config[name] for name in ("namespace", "name")):
                rules = [{"display_name": r["display_name"]} for r in values.get("retention_rules") or ()]
                return {**{name: values.get(name) for name in names}, "retention_rules": rules}
        raise RefusedError(f"404-BucketNotFound, {config['name']}")

    def _rows(self, there: Tenancy, config: State) -> Iterator[State]:
        everywhere = {"compartment_id"} if config.get("compartment_id_in_subtree") else set()
        filters = {"compartment_id", "user_id", "name"} - everywhere
        asked = {name: config[name] for name in filters if config.get(name) is not None}
        for values, lifecycle in there.all(self.source.of):
            if all(values.get(name) == wanted for name, wanted in asked.items()):
                yield {**{name: values.get(name) for name in self.source.columns}, "state": lifecycle}


class Provider:
    """The provider, as the package calls it."""

    def get_model_prefix(self) -> str:
        return "oci_"

    def full_name(self) -> str:
        return "registry.terraform.io/oracle/oci"

    def get_provider_schema(self, _diags: object) -> Schema:
        return Schema(
            attributes=[
                Attribute("region", String(), optional=True),
                Attribute("ignore_defined_tags", List(String()), optional=True),
            ]
        )

    def validate_config(self, _diags: object, _config: State) -> None:
        return None

    def configure_provider(self, _diags: object, _config: State) -> None:
        return None

    def get_data_sources(self) -> list[type[Looked]]:
        return [
            type(name, (Looked,), {"type_name": name.removeprefix("oci_"), "source": source})
            for name, source in DATA_SOURCES.items()
        ]

    def get_functions(self) -> list[type]:
        return []

    def get_resources(self) -> list[type[Recorded]]:
        return [
            type(name, (Recorded,), {"type_name": name.removeprefix("oci_"), "resource": resource})
            for name, resource in RESOURCES.items()
        ]

    def new_resource(self, kind: type[Recorded]) -> Recorded:
        return kind(self)

    def new_data_source(self, kind: type[Looked]) -> Looked:
        return kind(self)


if __name__ == "__main__":
    run_provider(Provider(), sys.argv)
