"""Prints how many inputs were judged: the figure that a proof needs."""

import json

import pytest

from tests.fuzz.harness import counted


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One JSON line."""
    if counted:
        figures = {"fuzz_inputs": sum(counted.values()), "by_kind": dict(sorted(counted.items()))}
        terminalreporter.write_line(json.dumps(figures))
