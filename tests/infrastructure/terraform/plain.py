"""Lockstep's configuration without the provider: Terraform evaluates it, and nothing is made.

Terraform asks a provider for the schema of each resource, and the real one comes from a registry. So resources become
locals with their arguments and some attributes that the service would add, data sources become what a test says, and
conditions become those of an output. Variables with their validations, locals, outputs and the module stay as they are.
What a provider, its schema and a state do is not evaluated: names of arguments, replacement, `lifecycle`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import hcl2

Body = Mapping[str, Any]

MADE = "made"
"""The output with the arguments of everything that is made, by type and name."""
EMPTY: Mapping[str, object] = {
    "oci_identity_compartments": {"compartments": []},
    "oci_vault_secrets": {"secrets": []},
    "oci_kms_key_version": {"public_key": "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n"},
}
"""What a data source finds, unless a test says something else."""
_OF_TERRAFORM = {"provider", "depends_on", "lifecycle", "count", "for_each", "dynamic"}
_REFERENCE = re.compile(r"(?<![\w.])(data\.)?((?:oci|time)_\w+)\.(\w+)")


def write(configuration: Path, folder: Path, there: Mapping[str, Any]) -> None:
    """Write a configuration and its modules in this form.

    Args:
        configuration: The folder of the configuration.
        folder: Where it is written.
        there: What exists: the attributes of a data source, by its type and name, such as `oci_vault_secrets.rings`.
    """
    for part in [configuration, *sorted({file.parent for file in configuration.glob("*/*.tf")})]:
        place = folder / part.relative_to(configuration)
        place.mkdir(parents=True, exist_ok=True)
        (place / "main.tf").write_text("\n".join(_lines(part, there)))


def blocks(folder: Path, kind: str) -> Iterator[tuple[list[str], Body]]:
    """The blocks of a kind in the files of a folder: labels and body."""
    for file in sorted(folder.glob("*.tf")):
        for found in _parsed(file).get(kind, []):
            yield from _unlabelled(found, [])


@cache
def _parsed(file: Path) -> Body:
    with file.open() as opened:
        document: Body = hcl2.load(opened)
    return document


def _unlabelled(found: Body, labels: list[str]) -> Iterator[tuple[list[str], Body]]:
    if "__is_block__" in found:
        yield labels, found
        return
    for label, inner in found.items():
        yield from _unlabelled(inner, [*labels, label.strip('"')])


def _lines(folder: Path, there: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("variable", "output"):
        for [name], body in blocks(folder, kind):
            yield from _block(f'{kind} "{name}"', body)
    for _, body in blocks(folder, "locals"):
        yield from _block("locals", body)
    modules = [name for [name], _ in blocks(folder, "module")]
    for [name], body in blocks(folder, "module"):
        yield from _block(
            f'module "{name}"', {k: v for k, v in body.items() if k not in ("providers", "depends_on")}
        )
    conditions: list[str] = []
    addresses: list[str] = []
    for kind in ("resource", "data"):
        for (type_name, name), body in blocks(folder, kind):
            local = _local(kind == "data", type_name, name)
            found = there.get(f"{type_name}.{name}", EMPTY.get(type_name, {})) if kind == "data" else None
            yield f"locals {{ {local} = {_value(type_name, name, body, found)} }}"
            conditions += _conditions(local, body)
            if kind == "resource":
                addresses.append(f'"{type_name}.{name}" = local.{local}')
    addresses += [f'"module.{name}" = one(module.{name}[*].{MADE})' for name in modules]
    yield from (f'output "{MADE}" {{', "value = {", *addresses, "}", *conditions, "}")


def _local(is_data: object, type_name: str, name: str) -> str:
    return f"{'data__' if is_data else ''}{type_name}__{name}"


def _value(type_name: str, name: str, body: Body, found: object) -> str:
    """What a resource, or all that `count` or `for_each` make of it, comes to."""
    key = "each_key" if "for_each" in body else '""'
    short = type_name.rpartition("_")[2]
    added = (
        f'id = "ocid1.{short}.oc1.eu-frankfurt-1.${{sha1("{type_name}.{name}.${{{key}}}")}}",'
        f'ocid = "ocid1.{short}.oc1..${{sha1("{name}.${{{key}}}")}}", domain_ocid = "ocid1.domain.oc1..aaaa",'
        'current_key_version = "ocid1.keyversion.oc1.eu-frankfurt-1.aaaa",'
        'management_endpoint = "https://management", crypto_endpoint = "https://crypto"'
    )
    arguments = {name: value for name, value in body.items() if name not in _OF_TERRAFORM}
    for each in body.get("dynamic", []):
        [(label, dynamic)] = [(k.strip('"'), v) for k, v in each.items() if not k.startswith("__")]
        [content] = dynamic["content"]
        inner = re.sub(rf"\b{label}\.(key|value)\b", rf"{label}_\1", _text(content))
        arguments[label] = f"${{[for {label}_key, {label}_value in {_text(dynamic['for_each'])} : {inner}]}}"
    one = f"merge({{{added}}}, {_text(arguments)}"
    one += ")" if found is None else f", {_literal(found)})"
    one = re.sub(r"\beach\.(key|value)\b", r"each_\1", one)
    if "for_each" in body:
        return f"{{for each_key, each_value in {_text(body['for_each'])} : each_key => {one}}}"
    return f"[for _ in range({_text(body['count'])}) : {one}]" if "count" in body else one


def _literal(found: object) -> str:
    return json.dumps(found).replace("${", "$${")


def _conditions(local: str, body: Body) -> Iterator[str]:
    """The conditions of a resource, for the output; they hold where there is none of it."""
    several = "count" in body or "for_each" in body
    for lifecycle in body.get("lifecycle", []):
        for rule in (*lifecycle.get("precondition", []), *lifecycle.get("postcondition", [])):
            condition, message = (
                re.sub(r"\bself\.", f"local.{local}[0]." if several else f"local.{local}.", _text(rule[part]))
                for part in ("condition", "error_message")
            )
            if several:
                condition = f"length(local.{local}) == 0 ? true : {condition}"
            yield f'precondition {{\ncondition = {condition}\nerror_message = try({message}, "")\n}}'


def _block(head: str, body: Body) -> Iterator[str]:
    yield f"{head} {{"
    for name, value in body.items():
        if name.startswith("__"):
            continue
        if isinstance(value, list) and value and isinstance(value[0], dict) and "__is_block__" in value[0]:
            for inner in value:
                yield from _block(name, inner)
        else:
            yield f"{name} = {_text(value)}"
    yield "}"


def _text(value: Any) -> str:  # noqa: ANN401 - what the parser makes
    """A value as the parser gives it, as an expression."""
    match value:
        case list():
            return f"[{', '.join(_text(one) for one in value)}]"
        case dict():
            pairs = (f"{name} = {_text(inner)}" for name, inner in value.items() if not name.startswith("__"))
            return f"{{{', '.join(pairs)}}}"
        case str():
            inner = value[2:-1] if value.startswith("${") and value.endswith("}") else value
            return _REFERENCE.sub(lambda m: f"local.{_local(*m.groups())}", inner)
    return json.dumps(value)
