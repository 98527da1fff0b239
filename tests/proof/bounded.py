"""A plugin of pytest for `make proof`: no test begins after a time, and the figures are printed as one line of JSON.

python -m pytest -p tests.proof.bounded --bound-minutes 5 -m proof tests/agent/languages
"""

import json
import time
from collections import Counter

import pytest

NOT_REACHED = "not reached: the time is over"


BEGAN, OUTCOMES = time.monotonic(), dict[str, str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--bound-minutes", type=float, default=5.0, help="no test begins later than this")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what does not begin in time, before its fixtures are made."""
    if time.monotonic() > BEGAN + item.config.getoption("--bound-minutes") * 60:
        pytest.skip(NOT_REACHED)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what a test has come to: a failure of one of its phases is one of the test."""
    is_late = report.skipped and isinstance(report.longrepr, tuple) and NOT_REACHED in report.longrepr[2]
    outcome = "not_reached" if is_late else report.outcome
    if report.when == "setup" or outcome != "passed":
        OUTCOMES[report.nodeid] = outcome


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    found = Counter(OUTCOMES.values())
    figures = {name: found[name] for name in ("passed", "failed", "skipped", "not_reached")}
    terminalreporter.write_line(json.dumps(figures))
