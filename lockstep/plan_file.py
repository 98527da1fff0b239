"""Reads `lockstep.yaml`. All mistakes are reported at once, each with its place in the file and how to correct it."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from lockstep.environment import PlanMissingError
from lockstep.errors import InvalidPlanError, NewerFormatError
from lockstep.plan import Plan
from lockstep.plan_databases import BASE
from lockstep.plan_messages import Problem, located, problems_of
from lockstep.plan_yaml import Document, Mark, NotYamlError, read_yaml

MAX_PLAN_CHARACTERS = 262_144
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
    """A plan with the file that it was read from.

    Attributes:
        plan: What it says.
        document: Where it says it.
    """

    plan: Plan
    document: Document

    def located(self, told: str) -> Problem:
        """A problem `place: what to do` that was found in the plan later, with its place in the file."""
        return located(told, self.document)


def load_plan(file: Path) -> Plan:
    """Read and check a plan; relative CA files are taken relative to it.

    Raises:
        PlanProblemsError: With every mistake. Its cause is a PlanMissingError where the file cannot be read.
    """
    return load_source(file).plan


def load_source(file: Path) -> PlanSource:
    """As `load_plan`, with the places in the file.

    Raises:
        PlanProblemsError: As `load_plan`.
    """
    return _parse(_read(file), base=file.parent, name=str(file))


def parse_plan(text: str, *, base: Path) -> Plan:
    """As `load_plan`, from a text."""
    return _parse(text, base=base, name=PLAN_NAME).plan


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as e:
        missing = PlanMissingError(path=str(file), code=str(e.strerror))
        raise PlanProblemsError([Problem("", f"{file}: cannot be read: {e.strerror}")]) from missing
    except UnicodeDecodeError:
        raise PlanProblemsError([Problem("", f"{file}: not UTF-8 text")]) from None
    except ValueError:
        raise PlanProblemsError([Problem("", "the plan path is not a valid path")]) from None


def _parse(text: str, *, base: Path, name: str) -> PlanSource:
    document = _document(text, name)
    try:
        plan = Plan.model_validate(document.data, context={BASE: base})
    except ValidationError as e:
        of_sections = any(details["loc"] for details in e.errors(include_input=False))
        raise PlanProblemsError(problems_of(e, document, Plan), all_told=not of_sections) from None
    return PlanSource(plan, document)


def _document(text: str, name: str) -> Document:
    if len(text) > MAX_PLAN_CHARACTERS:
        told = f"the file has more than {MAX_PLAN_CHARACTERS} characters"
        raise PlanProblemsError([Problem("", told, Mark(name, 1, 1))])
    try:
        document = read_yaml(text, file=name)
    except NotYamlError as e:
        raise PlanProblemsError([Problem("", e.problem, e.mark)]) from None
    if not isinstance(document.data, dict):
        told = "the file is not a mapping; start with `version: 1`"
        raise PlanProblemsError([Problem("", told, document.mark(()))])
    version = document.data.get("version")
    newest = max(get_args(Plan.model_fields["version"].annotation))
    if type(version) is int and version > newest:
        # Whatever else looks wrong in it may be right in that version.
        told = f"version: {version} is newer than {newest}, which this build reads. {NewerFormatError.advice}"
        raise PlanProblemsError([located(told, document)])
    return document
