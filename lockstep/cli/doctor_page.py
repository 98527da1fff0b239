"""docs/doctor.md, from the catalogue of checks.

python -m lockstep.cli.doctor_page > docs/doctor.md
"""

import sys
from itertools import groupby

from lockstep.doctor.catalogue import CATALOGUE
from lockstep.doctor.checks import Check

_HEAD = """\
# What `lockstep doctor` looks at

Made from the catalogue of checks by `python -m lockstep.cli.doctor_page > docs/doctor.md`.

Run it before the first deployment, after each one, and when something is wrong. It changes nothing. `--only` and
`--skip` take the id of a check, or its group, which is the word before the dot. What cannot be asked, since a right is
missing or a service does not answer, is told as *not asked* and not as a failure; so is what needs its answer.
"""
_TITLES = {"aws": "AWS", "oci": "Oracle Cloud", "database": "Databases", "inside": "Inside the functions"}


def page() -> str:
    """The page."""
    groups = groupby(CATALOGUE, key=lambda check: check.group)
    return _HEAD + "".join(_section(group, list(checks)) for group, checks in groups)


def _section(group: str, checks: list[Check]) -> str:
    rows = "".join(
        f"| `{c.id}` | {_cell(c.looks_at)} | {_cell(c.means)} | `{_cell(c.command)}` |\n" for c in checks
    )
    head = f"\n## {_TITLES.get(group, group.title())}\n\n"
    return f"{head}| Check | Looks at | A failure means | Mend it |\n|---|---|---|---|\n{rows}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")


if __name__ == "__main__":
    sys.stdout.write(page())
