"""Compares the table in `schema.py` with the real provider's own schema, where that can be had.

    terraform -chdir=oci_fn/terraform init
    terraform -chdir=oci_fn/terraform providers schema -json > schema.json
    python -m tests.infrastructure.terraform.compare schema.json

Prints what differs, one line each; exit code 1 if something does.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.infrastructure.terraform.schema import DATA_SOURCES, RESOURCES, Argument, Block

PROVIDER = "registry.terraform.io/oracle/oci"
Schema = dict[str, Any]


def differences(schema: Schema) -> Iterator[str]:
    """What the table says differently than the provider."""
    provider = schema["provider_schemas"][PROVIDER]
    for name, resource in RESOURCES.items():
        yield from _block(name, resource.block, provider["resource_schemas"][name]["block"])
    for name, source in DATA_SOURCES.items():
        yield from _block(f"data.{name}", source.block, provider["data_source_schemas"][name]["block"])


def _block(path: str, block: Block, real: Schema) -> Iterator[str]:
    attributes, blocks = real.get("attributes", {}), real.get("block_types", {})
    named = {a.name: a for a in block.arguments}
    for name in named.keys() | {name for name, found in attributes.items() if found.get("required")}:
        yield from (f"{path}.{name}: {text}" for text in _argument(named.get(name), attributes.get(name)))
    for name, inner in block.blocks.items():
        found = blocks.get(name)
        if found is None:
            yield f"{path}.{name}: the provider has no such block"
            continue
        if not found.get("min_items", 0) <= inner.at_least <= inner.at_most <= found.get("max_items", 99):
            yield f"{path}.{name}: the provider takes another number of blocks"
        yield from _block(f"{path}.{name}", inner, found["block"])


def _argument(argument: Argument | None, found: Schema | None) -> Iterator[str]:
    if found is None or argument is None:
        yield "only one of both has it"
        return
    if _kind(found["type"]) != argument.kind:
        yield f"{argument.kind} in the table, {found['type']} in the provider"
    if found.get("required", False) and argument.presence != "required":
        yield "the provider requires it"
    if argument.presence == "optional" and not found.get("optional"):
        yield "the provider does not take it"
    if found.get("deprecated"):
        yield "the provider deprecates it"


def _kind(kind: Any) -> str:  # noqa: ANN401 - any JSON
    match kind:
        case str():
            return kind
        case ["list" | "set", "string"]:
            return "list"
        case ["map", "string"]:
            return "map"
        case ["list" | "set", ["object", _]]:
            return "rows"
    return str(kind)


if __name__ == "__main__":
    found = list(differences(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
    print("\n".join(found))  # noqa: T201 - a command
    sys.exit(bool(found))
