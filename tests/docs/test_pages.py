"""The pages: their links lead somewhere, their commands exist, no name is installed, and the site is whole."""

import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from typer.main import get_command

from cdk.artefacts import DISTRIBUTION
from lockstep import __version__
from lockstep.cli import app
from lockstep.protocol.errors import LockstepError, family, told_errors
from tests.docs.pages import ROOT, anchors, blocks, links, name_of, repository_files, spans
from tests.docs.test_installation import PAGE
from tests.docs.test_tutorial import GUIDES, TUTORIAL
from tests.support.programs import ran

PAGES = repository_files("*.md")
GENERATED = [line for line in (ROOT / ".gitignore").read_text().splitlines() if line.startswith("docs/")]
"""What `make docs` makes: the build of the site checks links to it."""

# Links


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere_and_commands_exist(page: Path) -> None:
    assert [target for target in links(page) if is_broken(page, target)] == []
    if page.name != "CHANGELOG.md":  # It also tells of commands as they were.
        assert [f"{command}: {problem}" for command in shown(page) for problem in wrong(command)] == []


def test_pages_and_files_that_code_and_contributing_name_exist() -> None:
    code = repository_files("*.py", "*.tf", "*.yaml", "*.yml", "*.json", "Makefile", ".ci/*")
    cited = re.compile(r"docs/[\w./-]+\.md(?:#[\w-]+)?")
    found = [
        f"{name_of(file)}: {page}"
        for file in code
        if file != Path(__file__)  # which has broken ones
        for page in cited.findall(file.read_text(encoding="utf-8"))
        if is_broken(ROOT / "docs" / "index.md", f"../{page}")
    ]
    assert found == []
    paths = [span for span in spans(ROOT / "CONTRIBUTING.md") if re.fullmatch(r"[\w.]+(/[\w.]+)+", span)]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_a_broken_link_and_a_command_that_does_not_exist_are_found() -> None:
    targets = ["docs/recover.md#release-a-lock", "docs/recover.md#no-such-heading", "../outside.md"]
    assert [is_broken(ROOT / "README.md", target) for target in targets] == [False, True, True]
    commands = ["lockstep plan chekc", "lockstep rotate --revoke", "make dmeo", "make demo"]
    problems = ["no command chekc", "no option --revoke", "no target dmeo"]
    assert [problem for command in commands for problem in wrong(command)] == problems
    assert sum(len([c for c in shown(page) if c.startswith("lockstep ")]) for page in PAGES) > 100


def is_broken(page: Path, target: str) -> bool:
    """Whether a link of a page leads to no file, or to no heading in it. No other site is asked.

    What `make docs` makes is there for the pages of the site alone.
    """
    parts = urlsplit(target)
    if parts.scheme:
        return False
    file = Path(os.path.normpath(page.parent / unquote(parts.path))) if parts.path else page
    if not file.is_relative_to(ROOT):
        return True
    if any(file.relative_to(ROOT).match(made) for made in GENERATED):
        return not page.is_relative_to(ROOT / "docs")
    if not file.exists():
        return True
    return bool(parts.fragment) and (file.suffix != ".md" or parts.fragment not in anchors(file))


# Commands

SHELLS = {"", "sh", "bash", "shell", "console"}
_SEPARATOR = re.compile(r"\|\||&&|[|;\n]|\$\(|[)]")


def shown(page: Path) -> list[str]:
    """The commands that a page shows, in blocks and in sentences."""
    texts = [block.text.replace("\\\n", " ") for block in blocks(page) if block.language in SHELLS]
    prompts = re.compile(r"^(?:\$|>) ", re.MULTILINE)
    texts = [*(prompts.sub("", text) for text in texts), *spans(page)]
    return [part.strip() for text in texts for part in _SEPARATOR.split(text)]


def wrong(command: str) -> Iterator[str]:
    """What is wrong with a command of ours; nothing about others."""
    try:
        # What follows `<` is a file, or a word of the reader.
        words = shlex.split(command.partition("<")[0], comments=True)
    except ValueError:
        words = command.split()
    if words[:1] == ["lockstep"]:
        yield from _wrong_lockstep(words[1:])
    elif words[:1] == ["make"]:
        targets = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        asked = (word for word in words[1:] if re.fullmatch(r"[a-z][a-z-]*", word))
        yield from (f"no target {word}" for word in asked if word not in targets)


def _wrong_lockstep(words: list[str]) -> Iterator[str]:
    command: Any = get_command(app)
    rest = list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        # `…` stands for the command of the reader.
        if name == "…":
            return
        found = command.commands.get(name)
        if found is None:
            yield f"no command {name}"
            return
        command = found
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    options |= {"-h", "--help", *getattr(command, "takes", ())}
    if "--plan" in options:
        options.add("-p")
    given = {word.partition("=")[0] for word in rest if word.startswith("-")}
    yield from (f"no option {o}" for o in given - options - {"-", "--"} if not o.strip("-").startswith("…"))


def test_commands_of_the_workflows_and_of_errors_exist() -> None:
    texts = [file.read_text().replace("\\\n", " ") for file in (ROOT / ".github/workflows").glob("*.yml")]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    advices = [advice for _, advice in told_errors().values()]
    advices += [advice for kind in family(LockstepError) for advice in kind.advices.values()]
    named = {words for advice in advices for words in re.findall(r"`(lockstep [^`]+)`", advice)}
    assert len(named) >= 20
    assert [f"{line}: {problem}" for line in (*lines, *named) for problem in wrong(line)] == []


def test_what_a_page_shows_as_run_is_run() -> None:
    """A block of `console` has an output that a test compares. One of `sh` is for a person's own machine or account."""
    shown = {page for page in PAGES if any(block.language == "console" for block in blocks(page))}
    assert shown == {TUTORIAL, PAGE, *(ROOT / f"docs/how-to/{guide}.md" for guide in GUIDES)}


# How it is installed

_INSTALLS = re.compile(
    r"\b(?:(?:pip3?|pipx|uv|uv pip|uv tool|poetry|pdm|p?npm|yarn|gem|go) "
    r"(?:install|inject|add|get|upgrade|uninstall|download|run)|uvx|npx)\b"
    r"(?P<words>[^`#;|&,\n]*)"
)
_WRAPPED = re.compile(r"(?<!`)`([^`\n]+)\n\s*([^`\n]+)`")
_NO_NAME = re.compile(r"[-./$]|.*(?:/|\.whl$|\.txt$)")


def asked_of_an_index(text: str) -> Iterator[str]:
    """The names of packages that the commands of a text ask an index for."""
    for command in _INSTALLS.finditer(_WRAPPED.sub(r"`\1 \2`", text.replace("\\\n", ""))):
        words = (word.strip("'\"") for word in command["words"].split())
        yield from (re.split(r"[\[=<>~@]", word)[0] for word in words if not _NO_NAME.match(word))


def test_no_text_says_to_install_a_name_that_others_may_own() -> None:
    """Whoever registers it would run code beside every reader's password: the project is installed from files."""
    bad = f"""pip install --upgrade '{DISTRIBUTION}[cli]'\n`pipx
        install x`, uv tool install x==1, pip uninstall x\nuvx x; npm install x; go get x
        python -m pip install --quiet \\\n  x"""
    assert sorted(asked_of_an_index(bad)) == [DISTRIBUTION, *"xxxxxxx"]
    required = re.compile(r"\blockstep(?:[-_]rotation)?(?:\[[a-z,]+\])? ?(?:[=~<>]=|@ )")
    for file in repository_files():
        text = "" if file == Path(__file__) else file.read_text(errors="replace")
        assert [*asked_of_an_index(text), *required.findall(text)] == [], file


# The site

LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"(?:https?:)?//|<link\b[^>]*\bhref=\"(?:https?:)?//"
)
"""What a browser would fetch from another host."""


def test_the_site_has_every_page_but_decisions_and_asks_no_other_host(tmp_path: Path) -> None:
    """It is built as `make docs` does, without a warning."""
    recipe = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "-m sphinx" in line)
    places = {"build/site": str(tmp_path), "build/doctrees": str(tmp_path / ".doctrees")}
    built = ran([sys.executable, *(places.get(word, word) for word in recipe.split()[1:])], cwd=ROOT)
    assert (built.returncode, built.stderr) == (0, "")
    home = (tmp_path / "index.html").read_text()
    made = [ROOT / "docs" / f"{name}.md" for name in ("commands", "doctor", "errors", "plan", "unknowns")]
    for page in [*repository_files("docs/*.md"), *made]:
        html = page.relative_to(ROOT / "docs").with_suffix(".html")
        is_there = (tmp_path / html).is_file()
        assert is_there is (html.parts[0] != "adr" and html.stem != "README")
        assert (
            not is_there or html.name == "index.html" or f'class="reference internal" href="{html}"' in home
        )
    assert f"Lockstep {__version__}" in home
    assert [page.name for page in tmp_path.rglob("*.html") if LOADED.search(page.read_text())] == []
    styles = "".join(sheet.read_text() for sheet in tmp_path.rglob("*.css"))
    assert re.findall(r"@import[^;]*//|url\([\"']?(?:https?:)?//[^)]*", styles) == []
    assert (tmp_path / "searchindex.js").is_file()
