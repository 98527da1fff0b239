"""A YAML file as data that knows where in the file each value is."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

Path = Sequence[str | int]
"""Keys and indexes from the top of a document to a value in it."""
_QUOTED = re.compile(r"""["'].*""", re.DOTALL)


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in a file. Line and column begin at 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        """As compilers write it, so that editors and terminals can go there."""
        return f"{self.file}:{self.line}:{self.column}"


class NotYamlError(Exception):
    """The text is not YAML; `problem` says why, without what the text says."""

    def __init__(self, problem: str, mark: Mark) -> None:
        self.problem, self.mark = problem, mark
        super().__init__()


@dataclass(frozen=True, slots=True)
class Document:
    """The content of a file.

    Attributes:
        data: Mappings, lists and scalars.
        root: The same with its marks; None where the file is empty.
        file: What messages call the file.
    """

    data: object
    root: Node | None
    file: str

    def mark(self, path: Path, *, key: bool = False) -> Mark:
        """Where a value is, or what is nearest to it: of a value that is missing, what it is missing in.

        Args:
            path: The value's.
            key: Point at its key instead. A mapping or a list in a mapping is always pointed at by its key.
        """
        node, mark = self.root, mark_of(self.root, self.file)
        for i, part in enumerate(path):
            is_key = key and i == len(path) - 1
            if isinstance(node, MappingNode):
                found = next((pair for pair in node.value if pair[0].value == str(part)), None)
                if found is None:
                    break
                name, node = found
                mark = mark_of(node if isinstance(node, ScalarNode) and not is_key else name, self.file)
            elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                mark = mark_of(node, self.file)
            else:
                break
        return mark


def read_yaml(text: str, *, file: str) -> Document:
    """Read a text.

    Args:
        text: The whole file.
        file: What messages call it.

    Raises:
        NotYamlError: It is not YAML, or uses what a configuration file has no need of: tags that name classes, merge
            keys.
    """
    yaml = _yaml()
    stream = StringIO(text)
    stream.name = file
    with _explained(text, file, yaml.constructor):
        root = yaml.compose(stream)
    return Document(data=None, root=None, file=file) if root is None else document_of(root, file=file)


def document_of(root: Node, *, file: str) -> Document:
    """The document that nodes are.

    Raises:
        NotYamlError: As `read_yaml`.
    """
    yaml = _yaml()
    with _explained("", file, yaml.constructor):
        return Document(data=yaml.constructor.construct_document(root), root=root, file=file)


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    yaml.composer.warn_double_anchors = False  # The warning quotes the file.
    return yaml


@contextmanager
def _explained(text: str, file: str, constructor: "_Constructor") -> Iterator[None]:
    """Turn each error of the parser into one that quotes nothing."""
    try:
        yield
    except MarkedYAMLError as e:
        # The message quotes the file, which may hold a misplaced password.
        problem = f"not valid YAML ({_QUOTED.sub('…', e.problem or '')})"
        mark = e.problem_mark
        place = Mark(mark.name, mark.line + 1, mark.column + 1) if mark else Mark(file, 1, 1)
        raise NotYamlError(problem, place) from None
    except ReaderError as e:
        before = text[: e.position]
        column = e.position - (before.rfind("\n") + 1) + 1
        problem = "not valid YAML (a character that may not be in a text file)"
        raise NotYamlError(problem, Mark(file, before.count("\n") + 1, column)) from None
    except RecursionError:
        raise NotYamlError("not valid YAML (nested too deeply)", Mark(file, 1, 1)) from None
    except (YAMLError, ValueError):
        # A scalar that is not what its tag or its form says, such as the date 2026-13-45.
        problem = "not valid YAML (a value is not of its type)"
        raise NotYamlError(problem, mark_of(constructor.last, file)) from None
    except LookupError:
        # The parser looks up the resolver of a `%YAML` directive that is no version which it knows.
        raise NotYamlError("not valid YAML (a directive is not known)", Mark(file, 1, 1)) from None


def mark_of(node: Node | None, file: str) -> Mark:
    """Where a node begins; where there is none, the beginning of the file."""
    if node is None:
        return Mark(file, 1, 1)
    return Mark(node.start_mark.name, node.start_mark.line + 1, node.start_mark.column + 1)


class _Constructor(SafeConstructor):
    """Constructs YAML's own types only, and no merge keys: ten of those can expand to billions of keys.

    Attributes:
        last: What is being constructed.
    """

    last: Node | None = None

    def construct_object(self, node: Node, deep: bool = False) -> object:  # noqa: FBT001, FBT002 - as in the base class
        self.last = node
        return super().construct_object(node, deep)

    def flatten_mapping(self, node: MappingNode) -> None:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise ConstructorError(None, None, "merge keys are not supported", key.start_mark)
