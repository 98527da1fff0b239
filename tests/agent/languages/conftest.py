"""A machine for the application of a test: an agent of its own, beside clouds and databases that tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.estate import Estate
from sandbox.fn import FunctionProcess, running_function
from tests.agent.languages.harness import NEVER, Machine, running_machine


@pytest.fixture(scope="package")
def function(estate: Estate) -> Iterator[FunctionProcess]:
    """The runner in OCI. The runner in AWS has rotated once, so that every secret has a value."""
    estate.outside.expire_schedule(estate.plan.credentials[0].id)
    assert estate.rotate(estate.plan.credentials[0].id).status == "SUCCEEDED"
    with running_function(estate.function_environment) as running:
        yield running


@pytest.fixture
def machine(estate: Estate, function: FunctionProcess, tmp_path: Path) -> Iterator[Machine]:
    """With an agent that keeps `pgpass` and `my.cnf`."""
    with running_machine(estate, function, tmp_path) as running:
        yield running


@pytest.fixture
def unaware_machine(estate: Estate, function: FunctionProcess, tmp_path: Path) -> Iterator[Machine]:
    """With an agent that does not look at the stores unless it is asked to."""
    with running_machine(estate, function, tmp_path, refresh=NEVER) as running:
        yield running
