"""Reads `lockstep.yaml`. All mistakes are reported at once, each with its place in the file and how to correct it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import get_args

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode

from lockstep.environment import PlanMissingError
from lockstep.errors import InvalidPlanError, NewerFormatError
from lockstep.plan import Plan
from lockstep.plan_databases import BASE
from lockstep.plan_messages import Problem, in_order, located, problems_of
from lockstep.plan_variables import Variables, escaped
from lockstep.plan_yaml import Document, Mark, NotYamlError, document_of, mark_of, read_yaml

MAX_PLAN_CHARACTERS = 4_194_304
"""More than 10,000 credentials need, at some 130 to 300 characters each. To read 1.3 million takes 6 seconds."""
PLAN_NAME = "lockstep.yaml"


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
        variable: Where its first variable is; None where it has none.
    """

    plan: Plan
    document: Document
    text: str
    variable: Mark | None

    def located(self, told: str) -> Problem:
        """A problem `place: what to do` that was found in the plan later, with its place in the file."""
        return located(told, self.document)


def load_plan(file: Path) -> Plan:
    """Read and check a plan; relative CA files are taken relative to it, variables from the environment.

    Raises:
        PlanProblemsError: With every mistake. Its cause is a PlanMissingError where the file cannot be read.
    """
    return load_source(file).plan


def load_shipped_plan(file: Path) -> Plan:
    """As `load_plan`, of a plan that goes into a cloud: without variables, since a function has none.

    Raises:
        PlanProblemsError: As `load_plan`; or the plan has variables.
    """
    source = load_source(file)
    if source.variable:
        told = (
            "has variables, which a function has not; write what they come to, and deploy that: "
            f"lockstep plan render --plan {file} > rendered.yaml"
        )
        raise PlanProblemsError([Problem("", told, source.variable)])
    return source.plan


def load_source(file: Path) -> PlanSource:
    """As `load_plan`, with the places in the file.

    Raises:
        PlanProblemsError: As `load_plan`.
    """
    return _parse(_read(file), base=file.parent, name=str(file), environ=os.environ)


def parse_plan(text: str, *, base: Path, environ: Mapping[str, str] | None = None) -> Plan:
    """As `load_plan`, from a text.

    Args:
        text: That of the file.
        base: The folder of CA files.
        environ: The variables; those of this process unless given.
    """
    return _parse(text, base=base, name=PLAN_NAME, environ=os.environ if environ is None else environ).plan


def _read(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.read(MAX_PLAN_CHARACTERS + 1)  # What is longer is refused, and may have no end.
    except OSError as e:
        missing = PlanMissingError(path=str(file), code=str(e.strerror))
        raise PlanProblemsError([Problem("", f"{file}: cannot be read: {e.strerror}")]) from missing
    except UnicodeDecodeError:
        raise PlanProblemsError([Problem("", f"{file}: not UTF-8 text")]) from None
    except ValueError:
        raise PlanProblemsError([Problem("", "the plan path is not a valid path")]) from None


def _parse(text: str, *, base: Path, name: str, environ: Mapping[str, str]) -> PlanSource:
    root = _nodes(text, name)
    variables = Variables(environ)
    variables.replace(root)
    if variables.problems:
        raise PlanProblemsError(in_order(variables.problems))
    variable = variables.first
    document = _document(root, name)
    try:
        plan = Plan.model_validate(document.data, context={BASE: base})
    except ValidationError as e:
        of_sections = any(details["loc"] for details in e.errors(include_input=False))
        raise PlanProblemsError(problems_of(e, document, Plan), all_told=not of_sections) from None
    return PlanSource(
        plan,
        document,
        text=_rendered(document.data, name) if variable else text,
        variable=mark_of(variable, name) if variable else None,
    )


def _nodes(text: str, name: str) -> MappingNode:
    """The nodes of a file, which is a mapping of YAML's own types."""
    if len(text) > MAX_PLAN_CHARACTERS:
        told = f"the file has more than {MAX_PLAN_CHARACTERS} characters"
        raise PlanProblemsError([Problem("", told, Mark(name, 1, 1))])
    try:
        document = read_yaml(text, file=name)
    except NotYamlError as e:
        raise PlanProblemsError([Problem("", e.problem, e.mark)]) from None
    if not (isinstance(document.root, MappingNode) and isinstance(document.data, dict)):
        told = "the file is not a mapping; start with `version: 1`"
        raise PlanProblemsError([Problem("", told, document.mark(()))])
    return document.root


def _document(root: MappingNode, name: str) -> Document:
    """The content of the plan."""
    try:
        document = document_of(root, file=name)
    except NotYamlError as e:
        raise PlanProblemsError([Problem("", e.problem, e.mark)]) from None
    version = document.data.get("version") if isinstance(document.data, dict) else None
    newest = max(get_args(Plan.model_fields["version"].annotation))
    if type(version) is int and version > newest:
        # Whatever else looks wrong in it may be right in that version.
        told = f"version: {version} is newer than {newest}, which this build reads. {NewerFormatError.advice}"
        raise PlanProblemsError([located(told, document)])
    return document


def _rendered(data: object, name: str) -> str:
    yaml = YAML()
    yaml.representer.ignore_aliases = lambda _: True
    text = StringIO()
    text.write(f"# Made from {Path(name).name} by `lockstep plan render`.\n")
    yaml.dump(escaped(data), text)
    return text.getvalue()
