"""An OCI sandbox with a fixed clock for each test, with the SDK's clients on it; and its identity domain."""

from collections.abc import Iterator

import pytest

from sandbox.emulators.oci import OciSandbox, SandboxClock
from tests.emulators.oci.domain_case import DomainCase
from tests.emulators.oci.oci_case import START, OciCase


@pytest.fixture
def case() -> Iterator[OciCase]:
    with OciCase() as made:
        yield made


@pytest.fixture
def domain() -> Iterator[DomainCase]:
    with OciSandbox(SandboxClock.fixed(START)) as sandbox:
        yield DomainCase(sandbox)
