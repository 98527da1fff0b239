"""What runs the commands of a page finds an output that the page does not show, and a command that fails."""

import os
from pathlib import Path

import pytest

from tests.docs.console import Shell, commands, follow, is_as_shown

PAGE = """\
# A page

```console
$ echo one; echo two 2
one
two …
$ word=kept
$ cat <<'END'
> a line
>
> another
> END
a line

another
$ echo $word
…
kept
```

```sh
not run
```
"""


def page_with(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text)
    return page


def test_a_page_runs_as_it_is_written(tmp_path: Path) -> None:
    page = page_with(tmp_path, PAGE)
    assert [c.line for c in commands(page)] == [4, 7, 8, 16]
    with Shell(tmp_path, dict(os.environ)) as shell:
        assert follow(shell, page) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("$ echo one\ntwo\n", "printed:\none"),
        ("$ echo one\n", "printed:\none"),
        ("$ true\nsomething\n", "printed:"),
        ("$ echo one; echo two\none\n", "two"),
        ("$ echo lost; false\nlost\n", "ended with 1"),
        ("$ nothing-of-this-name\n…\n", "ended with 127"),
    ],
)
def test_what_differs_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    page = page_with(tmp_path, f"```console\n{text}```\n")
    with Shell(tmp_path, dict(os.environ)) as shell:
        (problem,) = follow(shell, page)
    assert problem.startswith("line 2: ")
    assert said in problem


def test_dots_stand_for_any_text_of_a_line_and_for_any_lines(tmp_path: Path) -> None:
    (command,) = commands(page_with(tmp_path, "```console\n$ x\n…\ngeneration … is\n…\n```\n"))
    assert is_as_shown(command, "a\nb\ngeneration 12 is\n")
    assert is_as_shown(command, "generation 12 is\nmore\n")
    assert not is_as_shown(command, "a generation 12 is\n")
    assert not is_as_shown(command, "generation\n12 is\n")
