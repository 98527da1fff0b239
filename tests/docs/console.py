"""Runs the console blocks of a page in a shell, and compares what its commands print with what the page shows.

A line that begins with `$ ` is a command, `> ` continues it. What follows is its output: `…` in a line stands for any
text, a line of `…` alone for any lines. A command must succeed, unless it says its exit code itself.
"""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.docs.pages import Block, blocks

CONSOLE = "console"
ANY = "…"
LIMIT_SECONDS = 900.0
_MARK = "--end-of-command--"


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of a page.

    Attributes:
        text: As it is typed, without the prompts.
        shown: The lines that the page shows as its output.
        line: Where it stands in the page.
    """

    text: str
    shown: list[str]
    line: int


def commands(page: Path) -> list[Command]:
    """The commands of a page's console blocks, in their order."""
    return [c for block in blocks(page) if block.language == CONSOLE for c in _commands(block)]


def _commands(block: Block) -> Iterator[Command]:
    typed: list[str] = []
    shown: list[str] = []
    began = block.line
    for number, line in enumerate(block.text.splitlines(), start=block.line + 1):
        if (line.startswith("> ") or line == ">") and typed and not shown:
            typed.append(line[2:])
        elif line.startswith("$ "):
            if typed:
                yield Command(text="\n".join(typed), shown=shown, line=began)
            typed, shown, began = [line[2:]], [], number
        else:
            shown.append(line)
    if typed:
        yield Command(text="\n".join(typed), shown=shown, line=began)


def pattern(shown: list[str]) -> re.Pattern[str]:
    """What an output must be, from the lines that a page shows."""
    parts = []
    for line in shown:
        if line.strip() == ANY:
            parts.append("(?:.*\n)*?")
        else:
            parts.append(".*".join(re.escape(part) for part in line.split(ANY)) + "\n")
    return re.compile("".join(parts))


def is_as_shown(command: Command, output: str) -> bool:
    """Whether a command has printed what its page shows."""
    text = f"{output.rstrip()}\n" if output.strip() else ""
    return pattern(command.shown).fullmatch(text) is not None


@dataclass
class Shell:
    """A shell that keeps its folder and its variables from command to command.

    Attributes:
        folder: Where it begins.
        environment: All of its variables.
        log: What it has printed, with the commands, for a test that fails.
    """

    folder: Path
    environment: Mapping[str, str]
    log: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],  # noqa: S607 - as a person starts it
            cwd=self.folder,
            env=dict(self.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(30)

    def run(self, text: str) -> tuple[int, str]:
        """Run a command; its exit code, and what it printed.

        Raises:
            EOFError: It has not ended in time, or has ended the shell.
        """
        given, taken = self._process.stdin, self._process.stdout
        if given is None or taken is None:
            raise TypeError("the shell has no pipes")
        # A command that reads its input must not read the commands that follow.
        given.write(f"{{ {text}\n}} < /dev/null\ncode=$?; echo; echo {_MARK} $code\n")
        given.flush()
        watchdog = threading.Timer(LIMIT_SECONDS, os.killpg, (self._process.pid, signal.SIGKILL))
        watchdog.start()
        try:
            return self._ended(text, taken)
        finally:
            watchdog.cancel()

    def _ended(self, text: str, taken: IO[str]) -> tuple[int, str]:
        lines: list[str] = []
        for line in taken:
            if line.startswith(_MARK):
                output = "".join(lines).removesuffix("\n")
                self.log += [f"$ {text}\n", output]
                return int(line.split()[1]), output
            lines.append(line)
        raise EOFError(f"`{text}` has not ended in {LIMIT_SECONDS:.0f} s:\n{''.join(lines)}")


def follow(shell: Shell, page: Path) -> list[str]:
    """Type every command of a page; what is not as the page shows it."""
    return [problem for command in commands(page) for problem in typed(shell, command)]


def typed(shell: Shell, command: Command) -> Iterator[str]:
    """Type a command; what is not as its page shows it."""
    code, output = shell.run(command.text)
    if code:
        yield f"line {command.line}: `{command.text}` ended with {code}:\n{output}"
    elif not is_as_shown(command, output):
        yield f"line {command.line}: `{command.text}` printed:\n{output}"


def has_come(is_there: Callable[[], bool], process: "subprocess.Popen[bytes]") -> bool:
    """Wait until something is there; False if the process that was to make it has ended, or takes too long."""
    give_up = time.monotonic() + LIMIT_SECONDS
    while not is_there():
        if process.poll() is not None or time.monotonic() > give_up:
            return is_there()
        time.sleep(0.1)
    return True
