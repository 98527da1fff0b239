"""Reads `lockstep.yaml`. All mistakes are reported at once, each with its place in the file and how to correct it."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, StreamMark, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from lockstep.plan.credentials import BASE
from lockstep.plan.fields import MistakesError, Section, format_duration, near, with_hint
from lockstep.plan.model import Plan
from lockstep.plan.published import PLAN_NAME
from lockstep.protocol.errors import (
    Environment,
    EnvironmentalError,
    InvalidPlanError,
    NewerFormatError,
)

# A YAML file as data that knows where in the file each value is.

YamlPath = Sequence[str | int]
"""Keys and indexes from the top of a document to a value in it."""
_QUOTED = re.compile(r"""["'].*""", re.DOTALL)
_TAB = r"character '\t'"


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in a file. Line and column begin at 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        """As compilers write it, so that editors and terminals can go there."""
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Document:
    """The content of a file.

    Attributes:
        data: Mappings, lists and scalars.
        root: The same with its marks; None where the file is empty.
        file: What messages call the file.
        variable: Where its first variable is; None where it has none.
    """

    data: object
    root: Node | None
    file: str
    variable: Mark | None = None

    def mark(self, path: YamlPath, *, key: bool = False) -> Mark:
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


def read_yaml(text: str, *, file: str, environ: Mapping[str, str] | None = None) -> "Document":
    """Read a text.

    Args:
        text: The whole file.
        file: What messages call it.
        environ: The variables of the environment in it; None: it has none.

    Raises:
        PlanProblemsError: It is not YAML, uses what a configuration file has no need of (tags that name classes, merge
            keys), or a variable is not set.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer, yaml.Constructor = _Composer, _Constructor
    yaml.composer.warn_double_anchors = False  # The warning quotes the file.
    yaml.composer.environ = environ
    stream = StringIO(text)
    stream.name = file
    try:
        root = yaml.compose(stream)
        if yaml.composer.problems:
            raise PlanProblemsError(yaml.composer.problems)
        data = None if root is None else yaml.constructor.construct_document(root)
    except MarkedYAMLError as e:
        # The message quotes the file, which may hold a misplaced password.
        told = "a tab; indent with spaces" if _TAB in (e.problem or "") else _QUOTED.sub("…", e.problem or "")
        problem, mark = f"not valid YAML ({told})", mark_of(e.problem_mark, file)
    except ReaderError as e:
        before = text[: e.position]
        problem = "not valid YAML (a character that may not be in a text file)"
        mark = Mark(file, before.count("\n") + 1, e.position - before.rfind("\n"))
    except RecursionError:
        problem, mark = "not valid YAML (nested too deeply)", Mark(file, 1, 1)
    except (YAMLError, ValueError):
        # A scalar that is not what its tag or its form says, such as the date 2026-13-45.
        problem = "not valid YAML (a value is not of its type)"
        mark = mark_of(yaml.constructor.last, file)
    except LookupError:
        # The parser looks up the resolver of a `%YAML` directive that is no version which it knows.
        problem, mark = "not valid YAML (a directive is not known)", Mark(file, 1, 1)
    else:
        return Document(data, root, file, yaml.composer.first)
    raise PlanProblemsError([Problem("", problem, mark)])


def mark_of(node: Node | StreamMark | None, file: str) -> Mark:
    """Where a node begins; where there is none, the beginning of the file."""
    mark: Any = getattr(node, "start_mark", node)
    return Mark(mark.name, mark.line + 1, mark.column + 1) if mark else Mark(file, 1, 1)


VARIABLE = r"\$\{[A-Za-z_][A-Za-z0-9_]{0,63}(:-[^}]*)?\}"
_FOUND = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]{0,63})(?::-(?P<default>[^}]*))?\}|\$\{")


class _Composer(Composer):
    """Replaces variables of the environment: `${NAME}`, or `${NAME:-default}`, taken where NAME is unset or empty.

    `$${` is `${` itself; any other dollar sign is a dollar sign. Variables are replaced in values, not in keys, and
    what they come to is a value, never a part of the file's structure.

    Attributes:
        environ: The variables; None: none is replaced.
        problems: Those that are not set, and what only begins like a variable.
        first: Where the first value that has one is.
    """

    environ: Mapping[str, str] | None = None
    first: "Mark | None" = None

    def __init__(self, loader: Any = None) -> None:  # noqa: ANN401 - as in the base class
        super().__init__(loader)
        self.problems: list[Problem] = []

    def compose_node(self, parent: Node | None, index: Node | int | None) -> Node:
        # A key has no index.
        event = self.parser.peek_event()
        if self.environ is not None and index is not None and "${" in getattr(event, "value", ""):
            event.value = _FOUND.sub(partial(self._value, mark_of(event, ""), self.environ), event.value)
        node: Node = super().compose_node(parent, index)
        return node

    def _value(self, mark: Mark, environ: Mapping[str, str], found: re.Match[str]) -> str:
        name, default = found["name"], found["default"]
        if found[0] == "$${":
            return "${"
        self.first = self.first or mark
        if name is None:
            told = (
                "${ begins a variable, ${NAME} or ${NAME:-default}; for these characters themselves write $${"
            )
        elif name not in environ and default is None:
            told = f"the variable {name} is not set; set it, or give a default: ${{{name}:-…}}"
        else:
            return environ.get(name) or default or ""
        self.problems.append(Problem("", told, mark))
        return ""


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


# What is wrong with a file, in words: where it is, what may be there instead, and what was probably meant.
#
# No message quotes the file, which may hold a misplaced password; it names keys, and words that Lockstep knows.

_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PLACE = re.compile(r"([a-z_]+(?:\[[0-9]+\])?(?:\.[a-z_]+(?:\[[0-9]+\])?)*): (.*)", re.DOTALL)
_PART = re.compile(r"[a-z_]+|[0-9]+")
_KINDS = frozenset(("aws-secrets-manager", "oci-vault"))
"""Parts of pydantic's paths that are no keys of the file."""

_WORDS = {
    "extra_forbidden": "unknown key",
    "missing": "this key is required",
    "union_tag_not_found": "this key is required",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "tuple_type": "must be a list",
    "string_type": "must be a text; if it looks like a number or a date, put it in quotes",
    "invalid_key": "a key must be a text; if it looks like something else, put it in quotes",
    "too_short": "too few entries; at least {min_length}",
    "too_long": "too many entries; at most {max_length}",
    "path_type": "must be the path of a file",
}
"""Our texts for errors of pydantic whose own name what only Python has."""

_EXPLAINED = {
    "password": "a plan holds no password: passwords are in the secrets that it names. Remove this, and change the one "
    "that was here",
    "region": "unknown key; the region is that of the lock table, in OCI that of the vault",
    "tls": "unknown key; connections are TLS in any case: leave it out, or name the server's CA as ca_file",
}
"""Texts for keys that people expect."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake.

    Attributes:
        place: The path in the file, such as `credentials[0].username`; empty where it is the file itself.
        message: What is wrong and how to correct it.
        mark: Where it is; None where the file cannot be read.
    """

    place: str
    message: str
    mark: Mark | None = None

    def __str__(self) -> str:
        """In one line, with file, line and column."""
        return ": ".join(str(part) for part in (self.mark, self.place, self.message) if part)


def located(told: str, document: Document, path: YamlPath = ()) -> Problem:
    """The problem in a text `place: what to do`, whose place is below `path`."""
    found = _PLACE.fullmatch(told)
    below, message = (_PART.findall(found[1]), found[2]) if found else ([], told)
    full = (*path, *(int(part) if part.isdecimal() else part for part in below))
    return Problem(place_of(full), message, document.mark(full))


def problems_of(error: ValidationError, document: Document, root: type[Section]) -> list[Problem]:
    """Every mistake that pydantic has found, in the order of the file.

    Args:
        error: Pydantic's.
        document: What was validated.
        root: The class of the whole file.
    """
    found, misspelt = list[Problem](), set[str]()
    for details in error.errors(include_url=False):
        # Pydantic puts the kind of a store after its number.
        path, context = details["loc"], details.get("ctx", {})
        if path[:1] == ("stores",) and path[2:3] and path[2] in _KINDS:
            path = (*path[:2], *path[3:])
        if isinstance(mistakes := context.get("error"), MistakesError):
            found += [located(told, document, path) for told in mistakes.args]
        elif details["type"] == "extra_forbidden":
            hint = "" if path[-1] in _EXPLAINED else near(path[-1], _keys(root, path[:-1]))
            misspelt.add(place_of((*path[:-1], hint)))
            told = _EXPLAINED.get(str(path[-1])) or with_hint(_WORDS["extra_forbidden"], hint)
            found.append(Problem(place_of(path), told, document.mark(path, key=True)))
        elif details["type"] == "invalid_key":
            found.append(Problem(place_of(path[:-1]), message_of(details), document.mark(path, key=True)))
        # A list that is long enough has entries with mistakes of their own, which pydantic does not count.
        elif details["type"] != "too_short" or len(details["input"]) < context["min_length"]:
            if details["type"].startswith("union_tag"):
                path = (*path, "kind")
            found.append(Problem(place_of(path), message_of(details), document.mark(path)))
    # A key that is misspelt is not missing too.
    return in_order([p for p in found if not (p.message == _WORDS["missing"] and p.place in misspelt)])


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """As they are in the file."""
    return sorted(problems, key=lambda p: (p.mark.line, p.mark.column) if p.mark else (0, 0))


def place_of(path: YamlPath) -> str:
    """A path as messages write it: `credentials[0].username`."""
    # A key with other characters may be a misplaced value.
    shown = (
        f"[{part}]" if isinstance(part, int) else f".{part if _KEY.fullmatch(part) else '?'}" for part in path
    )
    return "".join(shown).removeprefix(".")


def message_of(details: ErrorDetails) -> str:
    """One of pydantic's errors in our words."""
    context = details.get("ctx", {})
    if expected := context.get("expected") or context.get("expected_tags", "").replace(", ", " or "):
        hint = near(context.get("tag", details["input"]), re.findall("'([^']+)'", expected))
        return with_hint("must be " + expected.replace("'", ""), hint)
    if template := _WORDS.get(details["type"]):
        return template.format(**context)
    return details["msg"].removeprefix("Value error, ").replace("Input should", "must")


def _keys(root: type[Section], path: YamlPath) -> list[str]:
    """The keys that a mapping of the file may have."""
    kinds = [root]
    for key in path:
        if isinstance(key, str):
            kinds = [
                inner for kind in kinds for name, f in _fields(kind) if name == key for inner in _sections(f)
            ]
    return [name for kind in kinds for name, _ in _fields(kind)]


def _fields(kind: type[Section]) -> Iterator[tuple[str, object]]:
    return ((f.alias or name, f.annotation) for name, f in kind.model_fields.items())


def _sections(annotation: object) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections(argument)


MAX_PLAN_CHARACTERS = 4_194_304
"""More than 10,000 credentials need, at some 130 to 300 characters each. To read 1.3 million takes 6 seconds."""


class PlanProblemsError(InvalidPlanError):
    """The plan file is not valid."""

    def __init__(self, problems: list[Problem], *, all_told: bool = False) -> None:
        """Keep the problems.

        Args:
            problems: In the order of the file.
            all_told: Whether that is everything: what concerns several sections is checked once each of them is valid.
        """
        self.problems = problems
        self.all_told = all_told
        super().__init__()

    @property
    def lines(self) -> list[str]:
        """A line for each problem."""
        return [str(problem) for problem in self.problems]


@dataclass(frozen=True, slots=True)
class PlanSource:
    """A plan with what it was read from.

    Attributes:
        plan: What it says.
        document: Where it says it.
        text: It in one file without variables: the file's own text, or what it comes to.
    """

    plan: Plan
    document: Document
    text: str

    def located(self, told: str) -> Problem:
        """A problem `place: what to do` that was found in the plan later, with its place in the file."""
        return located(told, self.document)


def load_plan(file: Path) -> Plan:
    """Read and check a plan; relative CA files are taken relative to it, variables from the environment.

    Raises:
        PlanProblemsError: With every mistake. Its cause is an EnvironmentalError where the file cannot be read.
    """
    return load_source(file).plan


def load_source(file: Path) -> PlanSource:
    """As `load_plan`, with the places in the file.

    Raises:
        PlanProblemsError: As `load_plan`.
    """
    return _parse(read_text(file), base=file.parent, name=str(file), environ=os.environ)


def parse_plan(text: str, *, base: Path, environ: Mapping[str, str] | None = None) -> Plan:
    """As `load_plan`, from a text.

    Args:
        text: That of the file.
        base: The folder of CA files.
        environ: The variables; those of this process unless given.
    """
    return _parse(text, base=base, name=PLAN_NAME, environ=os.environ if environ is None else environ).plan


def read_text(file: Path) -> str:
    """The text of a plan, or of other settings; of one that is too long, only so much that this is seen.

    Raises:
        PlanProblemsError: It cannot be read; its cause is then an EnvironmentalError.
    """
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.read(MAX_PLAN_CHARACTERS + 1)  # What is longer is refused, and may have no end.
    except OSError as e:
        missing = EnvironmentalError(Environment.PLAN_MISSING, path=str(file), code=str(e.strerror))
        raise PlanProblemsError([Problem("", f"{file}: cannot be read: {e.strerror}")]) from missing
    except ValueError:
        raise PlanProblemsError([Problem("", f"{file}: not UTF-8 text")]) from None


def _parse(text: str, *, base: Path, name: str, environ: Mapping[str, str]) -> PlanSource:
    if len(text) > MAX_PLAN_CHARACTERS:
        told = f"the file has more than {MAX_PLAN_CHARACTERS} characters"
        raise PlanProblemsError([Problem("", told, Mark(name, 1, 1))])
    document = read_yaml(text, file=name, environ=environ)
    if not isinstance(document.data, dict):
        told = "the file is not a mapping; start with `version: 1`"
        raise PlanProblemsError([Problem("", told, document.mark(()))])
    version = document.data.get("version")
    newest = max(get_args(Plan.model_fields["version"].annotation))
    if type(version) is int and version > newest:
        # Whatever else looks wrong in it may be right in that version.
        told = f"version: {version} is newer than {newest}, which this build reads. {NewerFormatError.advice}"
        raise PlanProblemsError([located(told, document)])
    try:
        plan = Plan.model_validate(document.data, context={BASE: base})
    except ValidationError as e:
        of_sections = any(details["loc"] for details in e.errors(include_input=False))
        raise PlanProblemsError(problems_of(e, document, Plan), all_told=not of_sections) from None
    return PlanSource(plan, document, _rendered(document) if document.variable else text)


def _rendered(document: Document) -> str:
    yaml = YAML()
    yaml.representer.ignore_aliases = lambda _: True
    text = StringIO()
    yaml.dump(document.data, text)
    said = text.getvalue().replace("${", "$${")
    return f"# Made from {Path(document.file).name} by `lockstep plan render`.\n{said}"


# The JSON Schema of the plan file, with which editors complete and check it as it is written.
#
# It knows each key, its form and its description. What depends on several sections only `lockstep check`
# knows.

SCHEMA_NAME = "lockstep.schema.json"


def plan_schema() -> dict[str, Any]:
    """The schema, in the dialect 2020-12."""
    made = Plan.model_json_schema(schema_generator=_Generator)
    found: dict[str, Any] = {**_adapted(made), "title": "The plan of Lockstep"}
    found["$defs"]["Variable"] = {
        "type": "string",
        "pattern": VARIABLE,
        "description": "Has a variable of the environment, ${NAME} or ${NAME:-default}.",
    }
    return {"$schema": GenerateJsonSchema.schema_dialect, **found}


def schema_text(schema: dict[str, Any]) -> str:
    """A schema as the text of a file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


class _Generator(GenerateJsonSchema):
    """Pydantic's, with durations as people write them."""

    def encode_default(self, dft: Any) -> Any:  # noqa: ANN401 - as in the base class
        """A default value as the file would say it."""
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def _adapted(schema: Any) -> Any:  # noqa: ANN401 - a schema
    """The schema with variables in the place of values, and without defaults that are nothing or whole sections."""
    if isinstance(schema, list):
        return [_adapted(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: _adapted(value)
        for key, value in schema.items()
        if key != "default" or not isinstance(value, dict | None)
    }
    if kept.get("type") == "integer" or (kept.get("type") == "string" and kept.keys() & {"pattern", "enum"}):
        about = {key: kept.pop(key) for key in ("title", "description", "default", "examples") if key in kept}
        return {**about, "anyOf": [kept, {"$ref": "#/$defs/Variable"}]}
    return kept
