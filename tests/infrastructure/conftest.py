"""The stack that the tests share, because making one takes seconds."""

from pathlib import Path

import pytest

from tests.infrastructure.terraform.stack import Deployment, Stack, plan_document


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The Terraform configuration with a plan; see `deployed`."""
    return Stack.new(tmp_path_factory.mktemp("terraform"), plan_document())


@pytest.fixture(scope="session")
def deployed(stack: Stack) -> Deployment:
    """The stack after it was applied, with its runner. A test that changes the stack changes a copy."""
    return stack.deploy()


@pytest.fixture(name="fresh")
def _fresh(blank: Stack, tmp_path: Path) -> Stack:
    """A copy for one test of the stack that its file calls `blank`, in which nothing is deployed."""
    return blank.copy(tmp_path)
