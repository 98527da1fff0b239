"""Prints how many inputs were judged."""

import json
import sys
from collections.abc import Iterator

import pytest

from tests.fuzz.harness import counted


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures as one JSON line."""
    if counted:
        figures = {"fuzz_inputs": sum(counted.values()), "by_kind": dict(sorted(counted.items()))}
        terminalreporter.write_line(json.dumps(figures))


@pytest.fixture(autouse=True, scope="module")
def python_as_in_production() -> Iterator[None]:
    """Set the interpreter's default recursion limit: the sandbox's JSONata raises it for the whole process."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)
