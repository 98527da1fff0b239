"""docs/errors.md, from the classes themselves.

python -m lockstep.cli.errors_page > docs/errors.md
"""

import sys
from collections.abc import Iterator

from lockstep import environment, errors
from lockstep.cli.failures import exit_code_of
from lockstep.environment import EnvironmentalError
from lockstep.errors import LockstepError, RetryableError, TerminalError

_HEAD = """\
# Errors

Made from the classes by `python -m lockstep.cli.errors_page > docs/errors.md`.

Every command ends with one of these exit codes:

| Exit code | Meaning |
|---|---|
| 0 | done, or the answer is yes |
| 1 | the answer is no: not in step, not verified, refused |
| 2 | wrong use, or a plan that is not valid |
| 3 | something was unreachable, or the environment is wrong; nothing is known to be out of step |
| 130, 141 | ended by Ctrl-C; the reader of its output has gone |

An error is one line on standard error: `Name: meaning [where] next`. With `--json` standard output has one document in
any case; after an error it is `{"error": {"name", "meaning", "where", "next", "during", "exit_code"}}`. `during` names
the part of the work that failed, where the reason is the environment. Wrong use has the name `WrongUse`, and a plan
that is not valid has `problems`.
"""
_PARTS = (
    ("The environment", "What is wrong where Lockstep runs, with what mends it.", EnvironmentalError),
    ("A later try may succeed", "Runs try these again by themselves.", RetryableError),
    ("Something must change", "These end a run. Its successor goes on from where it ended.", TerminalError),
)


def page() -> str:
    """The page."""
    return _HEAD + "".join(_section(*part) for part in _PARTS)


def _section(title: str, text: str, kind: type[LockstepError]) -> str:
    rows = "".join(
        f"| `{error.__name__}` | {exit_code_of(error)} | {_cell(error.__doc__ or '')} | {_cell(error.advice)} |\n"
        for error in _classes(kind)
    )
    return f"\n## {title}\n\n{text}\n\n| Name | Exit code | Meaning | Next |\n|---|---|---|---|\n{rows}"


def _classes(kind: type[LockstepError]) -> Iterator[type[LockstepError]]:
    module = environment if kind is EnvironmentalError else errors
    own = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
    for error in own:
        if issubclass(error, kind) and not any(other.__base__ is error for other in own):
            yield error


def _cell(text: str) -> str:
    return text.strip().replace("|", "\\|").replace("<", "\\<")


if __name__ == "__main__":
    sys.stdout.write(page())
