"""Variables of the environment in a plan: `${NAME}`, or `${NAME:-default}`, taken where NAME is unset or empty.

`$${` is `${` itself; any other dollar sign is a dollar sign. Variables are replaced in values, not in keys, and what
they come to is a value, never a part of the file's structure.
"""

import re
from collections.abc import Iterator, Mapping

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lockstep.plan_messages import Problem, place_of
from lockstep.plan_yaml import mark_of

VARIABLE = r"\$\{[A-Za-z_][A-Za-z0-9_]{0,63}(:-[^}]*)?\}"
_FOUND = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]{0,63})(?::-(?P<default>[^}]*))?\}|\$\{")


class Variables:
    """Replaces variables in a plan.

    Attributes:
        problems: Those that are not set, and what only begins like a variable.
        first: The first value that has one.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._resolver = YAML(typ="safe", pure=True).resolver
        self.problems: list[Problem] = []
        self.first: Node | None = None

    def replace(self, root: Node) -> None:
        """Replace them in all values below a node."""
        seen = set[int]()  # By an alias a node is at several places.
        for path, node in _scalars(root, (), seen):
            if "${" in node.value:
                self._replace(path, node)

    def _replace(self, path: tuple[str | int, ...], node: ScalarNode) -> None:
        told = set[str]()

        def value(found: re.Match[str]) -> str:
            name, default = found["name"], found["default"]
            if found[0] == "$${":
                return "${"
            self.first = self.first or node
            if name is None:
                told.add(
                    "${ begins a variable, ${NAME} or ${NAME:-default}; for these characters themselves write $${"
                )
                return ""
            known = self._environ.get(name)
            if default is not None:
                return known or default
            if known is None:
                told.add(f"the variable {name} is not set; set it, or give a default: ${{{name}:-…}}")
            return known or ""

        replaced = _FOUND.sub(value, node.value)
        self.problems += [Problem(place_of(path), text, mark_of(node, "")) for text in sorted(told)]
        node.value = replaced
        if node.style is None:  # Not quoted: a number may be a number.
            node.tag = self._resolver.resolve(ScalarNode, replaced, (True, False))


def escaped(value: object) -> object:
    """A value as a plan says it, so that it is read as it is."""
    if isinstance(value, dict):
        return {key: escaped(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [escaped(inner) for inner in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


def _scalars(
    node: Node, path: tuple[str | int, ...], seen: set[int]
) -> Iterator[tuple[tuple[str | int, ...], ScalarNode]]:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, ScalarNode):
        yield path, node
    elif isinstance(node, SequenceNode):
        for i, entry in enumerate(node.value):
            yield from _scalars(entry, (*path, i), seen)
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            yield from _scalars(value, (*path, str(key.value)), seen)
