"""Every check of the catalogue passes where nothing is wrong, and is shown to fail once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lockstep.databases.findings import Outcome
from lockstep.operate.doctor import in_cloud
from lockstep.operate.doctor.catalogue import CATALOGUE
from lockstep.operate.doctor.servers import VERIFY_HOSTS
from tests.contract.doctor.breakages import BREAKAGES
from tests.contract.doctor.breaks import OF_AWS, OF_OCI, Break
from tests.contract.doctor.world import World, running_world

OF_CLOUDS = [check for check in CATALOGUE if check.group in {"aws", "oci"}]
"""The others need real databases (`test_databases`, `tests/contract/test_replicas.py`), or deployed functions."""


def told_as(broken: Break) -> str:
    """The name of a break in the tests' ids."""
    return f"{broken.check}: {broken.says}"


@pytest.fixture(name="world")
def _world(tmp_path: Path) -> Iterator[World]:
    with running_world(tmp_path) as world:
        yield world


@pytest.fixture(name="federated")
def _federated(tmp_path: Path) -> Iterator[World]:
    with running_world(tmp_path, federated=True) as world:
        yield world


def require_all_passed(world: World) -> set[str]:
    """The ids of the checks of the clouds that are questions for the plan, all of which pass."""
    found = world.examined(OF_CLOUDS)
    assert [f for f in found if f.outcome is not Outcome.PASSED] == []
    return {f.check for f in found}


def test_nothing_is_wrong_where_all_is_as_it_should_be(world: World) -> None:
    assert require_all_passed(world) == {check.id for check in OF_CLOUDS}


def test_nothing_is_wrong_where_the_runners_have_sessions_instead_of_keys(federated: World) -> None:
    assert require_all_passed(federated) == {check.id for check in OF_CLOUDS}


def test_every_check_has_a_way_to_break_it() -> None:
    of_databases = {row.check for row in BREAKAGES} | {VERIFY_HOSTS}
    # With deployed functions: tests/infrastructure/test_cdk_deploy_local.py.
    inside = {check.id for check in in_cloud.CHECKS}
    of_clouds = {broken.check for broken in (*OF_AWS, *OF_OCI)}
    assert of_clouds | of_databases | inside == {check.id for check in CATALOGUE}


@pytest.mark.parametrize("broken", [*OF_AWS, *OF_OCI], ids=told_as)
def test_a_check_tells_what_is_wrong_and_what_fixes_it(world: World, broken: Break) -> None:
    broken.act(world)
    found = world.by_the_check(broken.check)
    bad = [f for f in found if f.outcome is broken.outcome and broken.says in f.says]
    assert bad, found
    assert all(f.command and broken.command in f.command for f in bad)
    # Whatever else is said of it is no crash.
    assert not [f for f in found if "UnexpectedError" in f.says]
