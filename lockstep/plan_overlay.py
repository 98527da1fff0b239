"""An overlay: a plan file that says what differs from another one, which it names in `extends`.

One rule: mappings merge key by key; `stores`, `databases` and `credentials` merge entry by entry, by kind, name and id;
anything else replaces what it meets; and `null` removes a key.
"""

from collections.abc import Iterator

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lockstep.plan_fields import Text
from lockstep.plan_messages import Problem, place_of
from lockstep.plan_yaml import mark_of

EXTENDS = "extends"
"""The key with the name of the file below."""
BASE_NAME = Text(r"[A-Za-z0-9_.-]{1,200}", "the name of a file in the same folder")
_IDENTITY = {"stores": "kind", "databases": "name", "credentials": "id"}
"""What an entry of a list at the top of the plan is known by."""
_NULL = "tag:yaml.org,2002:null"


def extended(root: Node | None) -> Node | None:
    """What the file says in `extends`."""
    return _values(root).get(EXTENDS) if isinstance(root, MappingNode) else None


def repeated_entries(overlay: MappingNode, file: str) -> Iterator[Problem]:
    """Entries of an overlay that it has already: of two that say what differs, one would be lost."""
    for key, lists in overlay.value:
        identity = _IDENTITY.get(key.value) if isinstance(key, ScalarNode) else None
        if not identity or not isinstance(lists, SequenceNode):
            continue
        seen = set[str]()
        for i, entry in enumerate(lists.value):
            named = _named(entry, identity)
            if named and named.value in seen:
                told = "this overlay has an entry of it already; say in one what differs"
                yield Problem(place_of((key.value, i, identity)), told, mark_of(named, file))
            seen |= {named.value} if named else set()


def merged(base: MappingNode, overlay: MappingNode) -> MappingNode:
    """The plan that an overlay and the file below it are together; each node keeps its place in its file."""
    return _Merge().mappings(base, overlay, top=True)


class _Merge:
    """One merge. By aliases a node may be at many places, so what was merged once is kept."""

    def __init__(self) -> None:
        self._done: dict[tuple[int, int], Node] = {}

    def _of(self, base: Node, overlay: Node, identity: str = "") -> Node:
        if isinstance(base, MappingNode) and isinstance(overlay, MappingNode):
            return self._done.get((id(base), id(overlay))) or self.mappings(base, overlay)
        if identity and isinstance(base, SequenceNode) and isinstance(overlay, SequenceNode):
            return self._lists(base, overlay, identity)
        return overlay

    def mappings(self, base: MappingNode, overlay: MappingNode, *, top: bool = False) -> MappingNode:
        """Two mappings; at the top of the file the lists of named things merge too."""
        below, above = _values(base), _values(overlay)
        pairs = list[tuple[Node, Node]]()
        node = MappingNode(overlay.tag, pairs, overlay.start_mark, overlay.end_mark)
        self._done[id(base), id(overlay)] = node  # Before its content, which may hold it.
        for key, value in base.value:
            over = above.get(key.value) if isinstance(key, ScalarNode) else None
            if over is None:
                pairs.append((key, value))
            elif over.tag != _NULL:
                pairs.append((key, self._of(value, over, _IDENTITY.get(key.value, "") if top else "")))
        for key, value in overlay.value:
            is_new = not isinstance(key, ScalarNode) or key.value not in below
            if is_new and value.tag != _NULL and not (top and key.value == EXTENDS):
                pairs.append((key, value))
        return node

    def _lists(self, base: SequenceNode, overlay: SequenceNode, identity: str) -> SequenceNode:
        below = {name for entry in base.value if (name := _id(entry, identity))}
        above = {_id(entry, identity): entry for entry in overlay.value}
        entries = [
            self._of(entry, above[name]) if (name := _id(entry, identity)) and name in above else entry
            for entry in base.value
        ]
        entries += [entry for entry in overlay.value if _id(entry, identity) not in below]
        return SequenceNode(overlay.tag, entries, overlay.start_mark, overlay.end_mark)


def _id(entry: Node, identity: str) -> str:
    named = _named(entry, identity)
    return str(named.value) if named else ""


def _named(entry: Node, identity: str) -> ScalarNode | None:
    """What says which entry it is."""
    value = _values(entry).get(identity) if isinstance(entry, MappingNode) else None
    return value if isinstance(value, ScalarNode) else None


def _values(mapping: MappingNode) -> dict[str, Node]:
    # A key that is no scalar is a mistake, which is told later.
    return {key.value: value for key, value in mapping.value if isinstance(key, ScalarNode)}
