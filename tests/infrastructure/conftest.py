"""What the tests of one stack share; making it takes seconds."""

import pytest

from tests.infrastructure.terraform.stack import Deployment, Stack, plan_document


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The Terraform configuration beside a plan; see `deployed`."""
    return Stack.new(tmp_path_factory.mktemp("terraform"), plan_document())


@pytest.fixture(scope="session")
def deployed(stack: Stack) -> Deployment:
    """What stands when it has been applied, with its runner. Tests change copies of the stack."""
    return stack.deploy()
