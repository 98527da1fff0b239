"""Reads `lockstep.yaml`. All mistakes are reported at once, each with its path in the file and how to correct it."""

import re
from pathlib import Path
from typing import get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode

from lockstep.environment import PlanMissingError
from lockstep.errors import InvalidPlanError, NewerFormatError
from lockstep.plan import Plan
from lockstep.plan_databases import BASE

MAX_PLAN_CHARACTERS = 262_144
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MESSAGES = {
    "extra_forbidden": "unknown key",
    "missing": "this key is required",
    "model_type": "must be a mapping",
}
"""Our texts for some of pydantic's errors: its own texts name Python classes."""
_QUOTED = re.compile(r"""["'].*""", re.DOTALL)


class PlanProblemsError(InvalidPlanError):
    """The plan file is not valid."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__()


def load_plan(file: Path) -> Plan:
    """Read and check a plan; relative CA files are taken relative to it.

    Raises:
        PlanProblemsError: With every mistake, each as `path: how to correct it`.
            Its cause is a PlanMissingError where the file cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as e:
        missing = PlanMissingError(path=str(file), code=str(e.strerror))
        raise PlanProblemsError([f"{file}: cannot be read: {e.strerror}"]) from missing
    except UnicodeDecodeError:
        raise PlanProblemsError([f"{file}: not UTF-8 text"]) from None
    except ValueError:
        raise PlanProblemsError(["the plan path is not a valid path"]) from None
    return parse_plan(text, base=file.parent)


def parse_plan(text: str, *, base: Path) -> Plan:
    """As `load_plan`, from a text."""
    if len(text) > MAX_PLAN_CHARACTERS:
        raise PlanProblemsError([f"the file has more than {MAX_PLAN_CHARACTERS} characters"])
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    yaml.composer.warn_double_anchors = False  # The warning quotes the file.
    try:
        document = yaml.load(text)
    except MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 0
        # The message quotes the file, which may hold a misplaced password.
        problem = _QUOTED.sub("…", e.problem or "")
        raise PlanProblemsError([f"line {line}: not valid YAML ({problem})"]) from None
    except (YAMLError, ValueError, RecursionError):
        # Errors of the reader and of YAML's own types have no line number.
        raise PlanProblemsError(["the file is not valid YAML"]) from None
    if not isinstance(document, dict):
        raise PlanProblemsError(["the file is not a mapping; start with `version: 1`"])
    version = document.get("version")
    newest = max(get_args(Plan.model_fields["version"].annotation))
    if type(version) is int and version > newest:
        # Whatever else looks wrong in it may be right in that version.
        raise PlanProblemsError(
            [f"version: {version} is newer than {newest}, which this build reads. {NewerFormatError.advice}"]
        )
    try:
        return Plan.model_validate(document, context={BASE: base})
    except ValidationError as e:
        raise PlanProblemsError(sentences(e)) from None


class _Constructor(SafeConstructor):
    """Constructs YAML's own types only, and no merge keys: ten of those can expand to billions of keys."""

    def flatten_mapping(self, node: MappingNode) -> None:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise ConstructorError(None, None, "merge keys are not supported", key.start_mark)


def sentences(error: ValidationError) -> list[str]:
    """Every mistake that pydantic has found, each as `path: how to correct it`, without what the file says."""
    return [_sentence(problem) for problem in error.errors(include_url=False, include_input=False)]


def _sentence(problem: ErrorDetails) -> str:
    path = ""
    for part in problem["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            # A key with other characters may be a misplaced value.
            key = part if _KEY.fullmatch(part) else "?"
            path += f".{key}" if path else key
    message = _MESSAGES.get(problem["type"]) or str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "union_tag_invalid":
        message = f"kind: must be one of {problem['ctx']['expected_tags']}"
    return f"{path}: {message}" if path else message
