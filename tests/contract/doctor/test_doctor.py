"""Every check of the catalogue passes where nothing is wrong, and is shown to fail once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lockstep.databases.findings import Outcome
from lockstep.operate.doctor import in_cloud
from lockstep.operate.doctor.catalogue import CATALOGUE
from lockstep.operate.doctor.servers import VERIFY_HOSTS
from sandbox.identities import Way
from tests.contract.doctor.breakages import BREAKAGES
from tests.contract.doctor.breaks import OF_AWS, OF_OCI, Break
from tests.contract.doctor.world import World, running_world

OF_CLOUDS = [check for check in CATALOGUE if check.group in {"aws", "oci"}]
"""The others need real databases (`test_databases`, `tests/contract/test_replicas.py`), or deployed functions."""


@pytest.fixture(name="world")
def _world(tmp_path: Path) -> Iterator[World]:
    with running_world(tmp_path) as world:
        yield world


@pytest.mark.parametrize("way", [Way.KEY, Way.SESSIONS])
def test_nothing_is_wrong_where_all_is_as_it_should_be(way: Way, tmp_path: Path) -> None:
    with running_world(tmp_path, way) as world:
        found = world.examined(OF_CLOUDS)
    assert [f for f in found if f.outcome is not Outcome.PASSED] == []
    assert {f.check for f in found} == {check.id for check in OF_CLOUDS}


def test_every_check_has_a_way_to_break_it() -> None:
    of_databases = {*BREAKAGES, VERIFY_HOSTS}
    # With deployed functions: tests/infrastructure/test_cdk_deploy_local.py.
    inside = {check.id for check in in_cloud.CHECKS}
    of_clouds = {broken.check for broken in (*OF_AWS, *OF_OCI)}
    assert of_clouds | of_databases | inside == {check.id for check in CATALOGUE}


@pytest.mark.parametrize("broken", [*OF_AWS, *OF_OCI], ids=lambda b: f"{b.check}: {b.says}")
def test_a_check_tells_what_is_wrong_and_what_fixes_it(world: World, broken: Break) -> None:
    broken.act(world)
    found = world.by_the_check(broken.check)
    bad = [f for f in found if f.outcome is broken.outcome and broken.says in f.says]
    assert bad, found
    assert all(f.command and broken.command in f.command for f in bad)
    # Whatever else is said of it is no crash.
    assert not [f for f in found if "UnexpectedError" in f.says]
