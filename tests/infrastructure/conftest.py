"""What Terraform comes to, which tests share because it takes seconds to evaluate."""

import pytest

from tests.infrastructure.terraform.case import Deployment, Stack, keys


@pytest.fixture(scope="session")
def stack() -> Stack:
    """The Terraform configuration with a plan; see `deployed`."""
    return keys()[0]


@pytest.fixture(scope="session")
def deployed(stack: Stack) -> Deployment:
    """What the stack comes to, with its runner. A test that changes the stack changes a copy."""
    assert stack
    return keys()[1]


@pytest.fixture(name="fresh")
def _fresh(stack: Stack) -> Stack:
    """A copy, whose plan has the OCIDs of what was deployed."""
    return stack.copy()
