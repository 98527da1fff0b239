"""What holds for all tests."""

import gc
import sys
from collections.abc import Iterator
from functools import cache

import pytest
from botocore import session
from hypothesis import HealthCheck, settings
from oci import signer  # type: ignore[import-untyped]  # the SDK ships no types
from typer import testing

from tests.fuzz.harness import PROOF
from tests.tiers import is_proof_tier

# A session of botocore reads the models of its services, and a client of OCI's SDK proves its private key. Both take
# longer than most tests, and nothing changes what was read.
session.create_loader = cache(session.create_loader)
signer.load_private_key = cache(signer.load_private_key)
# Typer makes the commands of an app anew for each invocation, though they have no state. Many commands take less time.
testing._get_command = cache(testing._get_command)  # type: ignore[attr-defined]  # a private import of Typer's

# The same inputs each time, whatever an earlier run has found, and no bound in the time that a busy machine takes: by
# default an input that takes 200 ms fails its test.
settings.register_profile(
    "lockstep",
    derandomize=not PROOF,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("lockstep")

# Each search for garbage goes through all modules and tests, which stay: seldom, and never after the collection.
gc.set_threshold(20_000, 10, 10)

_DEFAULT_DEPTH = 1000


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the second tier, before `-m` selects."""
    for item in items:
        if is_proof_tier(item.nodeid):
            item.add_marker(pytest.mark.proof)


def pytest_collection_finish() -> None:
    """Keep modules and tests out of every later search for garbage."""
    gc.freeze()


@pytest.fixture
def deep() -> Iterator[None]:
    """For a test that goes as deep as Python does: what earlier tests left has no room to be finalized there.

    It is as deep as in production. The sandbox's JSONata lets the whole process go ten times deeper, which takes long.
    """
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(_DEFAULT_DEPTH)
    gc.disable()
    yield
    gc.enable()
    sys.setrecursionlimit(before)
