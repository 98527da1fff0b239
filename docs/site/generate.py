"""What is made of the code: pages of the site, and JSON Schemas. `make docs` writes them into docs/; git ignores them.

A link to one of them works in the site alone, so only pages of docs/ have some.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from typer.main import get_command
from typer.testing import CliRunner

from lockstep.cli.app import app
from lockstep.cli.output import exit_code_of
from lockstep.operate.doctor.catalogue import catalogue
from lockstep.operate.doctor.unknowns import Confirmation, Unknown, confirmations, unknowns
from lockstep.operate.documents import DOCUMENTS
from lockstep.operate.documents import schema as document_schema
from lockstep.operate.report.build import Report
from lockstep.plan.file import SCHEMA_NAME, plan_schema
from lockstep.protocol import errors
from lockstep.protocol.errors import (
    Environment,
    EnvironmentalError,
    LockstepError,
    RetryableError,
    TerminalError,
    family,
)

Schema = dict[str, Any]
DOCS = Path(__file__).parents[1]
_PLAN = """\
# The plan, field by field

`lockstep.yaml` says what to rotate. `lockstep init` writes a first one; `lockstep plan schema` prints the JSON Schema
with which editors check it, which is also [lockstep.schema.json](lockstep.schema.json). What depends on several
sections only `lockstep check` knows. A field without a default and without *optional* is required. A duration is
written like `90s`, `20m`, `1h30m` or `7d`. Instead of a text or a number a field may have a variable of the
environment, `${NAME}` or `${NAME:-default}`.
"""
_ERRORS = """\
# Errors

Every command ends with one of these exit codes:

| Exit code | Meaning |
|---|---|
| 0 | done, or the check passed |
| 1 | check failed: not in sync, not verified, refused |
| 2 | usage error, or a plan that is not valid |
| 3 | something was unreachable, or the environment is wrong; nothing is known to be out of sync |
| 130, 141 | ended by Ctrl-C; the reader of its output has gone |

An error is one line on standard error: `Name: meaning [where] next`. With `--json` standard output has one document in
any case; after an error it is `{"error": {"name", "meaning", "where", "next", "during", "exit_code"}}`. `during` names
the part of the work that failed, where the reason is the environment. Wrong use has the name `WrongUse`, and a plan
that is not valid has `problems`.
"""
_PARTS = (
    ("The environment", "What is wrong where Lockstep runs, with what fixes it.", EnvironmentalError),
    ("A later try may succeed", "Runs try these again by themselves.", RetryableError),
    ("Something must change", "These end a run. Its successor goes on from where it ended.", TerminalError),
)
_DOCTOR = """\
# What `lockstep doctor` checks

Run it before the first deployment, after each one, and when something is wrong. It changes nothing. `--only`
takes the id of a check, or its group, which is the word before the dot. What cannot be asked, since a right is missing
or a service does not answer, is *not asked* and not a failure. Each failure names a fix. Checks that passed are
counted, and listed by `--json`.

It does not compare what the stack and Terraform declare, such as alarms, buckets, tables, functions, schedules and
policies. Drift of that show `cdk diff`, `cdk drift` (what was changed by hand) and `terraform plan`.
"""
_UNKNOWNS = """\
# What only a real account can tell

What emulators cannot tell, however strict, and what depends on it. `lockstep doctor --confirm FILE` asks all of it that
can be asked without a change: by its own checks, and by one read each. It gives the command for the rest. The last
column is from `docs/confirmed.json`, which that command writes, and has the day and the version of Lockstep.
A name in braces is one of your plan or account. The identity that asks needs the right for each read; without it the
answer is *not asked*.

It ends with 0 if all that was asked is confirmed or measured, with 1 if something is refuted, and with 3 if something
could not be asked. What is left to your hand counts as neither.
"""
_GROUPS = {"aws": "AWS", "oci": "Oracle Cloud", "database": "Databases", "inside": "Inside the functions"}
_GROUPS |= {"identity": "Identity", "fleet": "Fleets"}


def generated() -> Iterator[tuple[str, str]]:
    """Each file in docs/, with its text."""
    yield "commands.md", "# Commands\n" + "".join(_help((), get_command(app)))
    yield "errors.md", _ERRORS + "".join(_errors(*part) for part in _PARTS)
    yield "doctor.md", _DOCTOR + "".join(_checks())
    yield "unknowns.md", _UNKNOWNS + "".join(_unknowns(confirmations(DOCS / "confirmed.json")))
    yield "plan.md", _PLAN + "".join(_sections(plan_schema()))
    schemas: Mapping[str, Schema] = {
        SCHEMA_NAME: plan_schema(),
        "audit-report.schema.json": document_schema(Report),
        **{f"{name}.schema.json": document_schema(kind) for name, kind in DOCUMENTS.items()},
    }
    for name, schema in schemas.items():
        yield name, json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def setup(app: Sphinx) -> dict[str, Any]:
    """For Sphinx."""
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True}


def _write(app: Sphinx) -> None:
    """Write what differs from what is there; other pages than those of the repository are built as they are."""
    if Path(app.srcdir) != DOCS:
        return
    for name, text in generated():
        file = DOCS / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def _help(path: tuple[str, ...], command: Any) -> Iterator[str]:  # noqa: ANN401 - of Typer's own copy of Click
    shown = CliRunner().invoke(app, [*path, "--help"], prog_name="lockstep", env={"COLUMNS": "80"})
    yield f"\n## {' '.join(('lockstep', *path))}\n\n```text\n{shown.stdout.rstrip()}\n```\n"
    for name, inner in getattr(command, "commands", {}).items():
        yield from _help((*path, name), inner)


def _errors(title: str, text: str, kind: type[LockstepError]) -> str:
    if kind is EnvironmentalError:
        told = {problem.error_name: (problem.meaning, problem.advice) for problem in Environment}
        exits = dict.fromkeys(told, exit_code_of(kind))
    else:
        leaves = [e for e in family(kind) if e.__module__ == errors.__name__ and e is not EnvironmentalError]
        told = {
            e.__name__: (
                e.meaning,
                " ".join([e.advice, *(f"`{code}`: {text}" for code, text in e.advices.items())]),
            )
            for e in leaves
        }
        exits = {e.__name__: exit_code_of(e) for e in leaves}
    rows = [(f"`{name}`", str(exits[name]), *texts) for name, texts in told.items()]
    return f"\n## {title}\n\n{text}\n\n" + _table(("Name", "Exit code", "Meaning", "Next"), rows)


def _checks() -> Iterator[str]:
    for group, checks in groupby(catalogue(), key=lambda check: check.group):
        rows = [(f"`{c.id}`", c.looks_at, c.means) for c in checks]
        columns = ("Check", "Looks at", "A failure means")
        yield f"\n## {_GROUPS.get(group, group.title())}\n\n{_table(columns, rows)}"


def _unknowns(answered: Mapping[str, Confirmation]) -> Iterator[str]:
    for group, listed in groupby(unknowns(), key=lambda unknown: unknown.id.partition(".")[0]):
        rows = [(f"`{u.id}`", u.what, u.depends, _asked(u), _answered(answered.get(u.id))) for u in listed]
        columns = ("Id", "Unknown", "What depends on it", "How it is asked", "Confirmed")
        yield f"\n## {_GROUPS[group]}\n\n{_table(columns, rows)}"


def _asked(unknown: Unknown) -> str:
    first = f"after {unknown.first}: " if unknown.first else ""
    if told := unknown.finding:
        return f"{first}the check `{told.check}`, from {told.where}"
    if read := unknown.read:
        return f"{first}`{read.client}.{read.operation}`, of which `` {read.look} ``"
    return f"by hand: `{unknown.by_hand}`"


def _answered(found: Confirmation | None) -> str:
    return (
        f"{found.answer} on {found.on} ({found.version}, {', '.join(found.regions)})" if found else "not yet"
    )


def _sections(schema: Schema) -> Iterator[str]:
    for name, section in (("The file", schema), *sorted(schema["$defs"].items())):
        for form in section.get("anyOf", [section]):
            if fields := form.get("properties"):
                required = form.get("required", ())
                rows = [
                    (
                        f"`{field}`",
                        _type(about, schema["$defs"]),
                        "" if field in required else _default(about),
                        _first(about),
                    )
                    for field, about in fields.items()
                ]
                yield f"\n## {name}\n\n{_first(form)}\n\n"
                yield _table(("field", "type", "default", "meaning"), rows)


def _type(field: Schema, definitions: Schema) -> str:
    """The form of a value, in words."""
    name = field.get("$ref", "").rpartition("/")[2]
    if name and "properties" in str(definitions[name]):
        return f"[{name}](#{name.lower()})"
    if name:
        return _type(definitions[name], definitions)
    if forms := field.get("anyOf") or field.get("oneOf"):
        own = (f for f in forms if f.get("type") != "null" and not f.get("$ref", "").endswith("/Variable"))
        return " or ".join(dict.fromkeys(_type(form, definitions) for form in own))
    if values := [field["const"]] if "const" in field else field.get("enum"):
        return " or ".join(f"`{value}`" for value in values)
    if field.get("type") == "array":
        return f"list of {_type(field['items'], definitions)}"
    return _simple(field)


def _simple(field: Schema) -> str:
    if "[dhms]" in field.get("pattern", ""):
        return "duration"
    if said := field.get("patternErrorMessage"):
        return f"text: {said.removeprefix('must be ')}"
    if "maximum" in field:
        return f"number, {field['minimum']} to {field['maximum']}"
    kind = str(field.get("type", "any"))
    return {"string": "text", "integer": "number", "boolean": "true or false"}.get(kind, kind)


def _default(field: Schema) -> str:
    default = field.get("default")
    return (
        "*optional*"
        if default in (None, [])
        else f"`{default if isinstance(default, str) else json.dumps(default)}`"
    )


def _first(about: Schema) -> str:
    """Its description, without what follows its first paragraph."""
    return " ".join(str(about.get("description", "")).partition("\n\n")[0].split())


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = (columns, ("---",) * len(columns), *rows)
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")
