"""A plugin of pytest for `make proof`: no test begins after a time, and the figures are printed as one line of JSON.

python -m pytest -p tests.proof.bounded --bound-minutes 5 -m proof tests/agent/languages
"""

import json
import time
from collections import Counter

import pytest

NOT_REACHED = "not reached: the time is over"


class _Bounded:
    """Skips what does not begin in time, and counts what became of each test."""

    def __init__(self, minutes: float) -> None:
        self._until = time.monotonic() + minutes * 60
        self._outcomes: dict[str, str] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Skip the test before its fixtures are made."""
        if time.monotonic() > self._until:
            pytest.skip(NOT_REACHED)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a test has come to: a failure of one of its phases is one of the test."""
        is_late = report.skipped and isinstance(report.longrepr, tuple) and NOT_REACHED in report.longrepr[2]
        outcome = "not_reached" if is_late else report.outcome
        if report.when == "setup" or outcome != "passed":
            self._outcomes[report.nodeid] = outcome

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the figures."""
        found = Counter(self._outcomes.values())
        figures = {name: found[name] for name in ("passed", "failed", "skipped", "not_reached")}
        terminalreporter.write_line(json.dumps(figures))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--bound-minutes", type=float, default=5.0, help="no test begins later than this")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to count."""
    config.pluginmanager.register(_Bounded(config.getoption("--bound-minutes")))
