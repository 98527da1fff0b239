"""The stack that the tests share, because it takes seconds to evaluate."""

import pytest

from tests.infrastructure.terraform.stack import Deployment, Stack, plan_document


@pytest.fixture(scope="session")
def stack() -> Stack:
    """The Terraform configuration with a plan; see `deployed`."""
    return Stack(plan=plan_document())


@pytest.fixture(scope="session")
def deployed(stack: Stack) -> Deployment:
    """What the stack comes to, with its runner. A test that changes the stack changes a copy."""
    return stack.deploy()
