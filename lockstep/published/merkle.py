"""A hash tree over named documents, as in RFC 6962, section 2.1: its root stands for all of them.

A leaf covers the name of its document, so a document proves its content only at its own place. Leaves and inner nodes
are hashed with different prefixes, so neither can be taken for the other.

    leaf(name, content) = SHA-256(00, length of the name in 8 bytes, name, content)
    node(left, right)   = SHA-256(01, left, right)

A node without a sibling moves up as it is. The *path* of a document is the siblings from its leaf to the root: each as
`l` or `r`, the side on which the sibling is, and 64 hexadecimal digits.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LONGEST_PATH = 64
"""More siblings than any tree has."""
_STEP = re.compile(r"[lr][0-9a-f]{64}")


class PathError(ValueError):
    """It is not the path of a document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A hash tree.

    Attributes:
        root: In hexadecimal.
        paths: Of each document, by name.
    """

    root: str
    paths: Mapping[str, Sequence[str]]


def tree(documents: Mapping[str, bytes]) -> Tree:
    """The tree over documents by name; there is at least one."""
    names = sorted(documents)
    paths: dict[str, list[str]] = {name: [] for name in names}
    level = [(_leaf(name, documents[name]), [name]) for name in names]
    while len(level) > 1:
        above = []
        for (left, of_left), (right, of_right) in zip(level[::2], level[1::2], strict=False):
            for name in of_left:
                paths[name].append(f"r{right.hex()}")
            for name in of_right:
                paths[name].append(f"l{left.hex()}")
            above.append((_node(left, right), of_left + of_right))
        level = above + level[len(level) - len(level) % 2 :]
    return Tree(root=level[0][0].hex(), paths=paths)


def root(name: str, content: bytes, path: Sequence[str]) -> str:
    """The root of the tree that has this document at this path, in hexadecimal.

    Raises:
        PathError: It is no path.
    """
    if len(path) > LONGEST_PATH:
        raise PathError
    digest = _leaf(name, content)
    for step in path:
        if not _STEP.fullmatch(step):
            raise PathError
        sibling = bytes.fromhex(step[1:])
        digest = _node(sibling, digest) if step[0] == "l" else _node(digest, sibling)
    return digest.hex()


def _leaf(name: str, content: bytes) -> bytes:
    named = name.encode()
    return hashlib.sha256(b"\0" + len(named).to_bytes(8) + named + content).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()
