"""Every check of the catalogue passes where nothing is wrong, and is shown to fail once, by requests that read."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lockstep.aws.clients import botocore_session
from lockstep.cli import app
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


# The doctor changes nothing: every request is a read, and docs/iam*.md lists the right for it

DOCS = Path(__file__).parents[3] / "docs"
KEY, ROLE = "AKIAPERSON", "person"
_READS = re.compile(r"[a-z0-9]+:(Describe|Get|Head|List)[A-Za-z]+|kms:VerifyMac")
"""What changes nothing, by its name. VerifyMac compares a MAC."""


def documented(page: str) -> set[str]:
    """The rights in the section about the doctor."""
    section = (DOCS / page).read_text().split("## What `lockstep doctor` reads")[1].split("\n## ")[0]
    rows = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    return {right for row in rows for right in re.findall(r"`([^`]+)`", row)}


def test_every_request_is_a_read_and_its_right_is_documented(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, iam = documented("iam.md"), world.aws.client("iam")
    iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument='{"Statement": []}')
    statement = {"Effect": "Allow", "Action": sorted(listed), "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName=ROLE, PolicyName="own", PolicyDocument=policy)
    world.aws.guard.know(KEY, ROLE)
    world.oci.calls.clear()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    botocore_session.cache_clear()
    options = ["--plan", str(world.plan_file), "--only", "aws", "--only", "oci"]
    shown = CliRunner().invoke(app, ["doctor", *options])
    botocore_session.cache_clear()
    assert shown.exit_code == 0, shown.output
    used = {record.call.action for record in world.aws.guard.records if record.role == ROLE}
    assert {action for action in used if not _READS.fullmatch(action)} == set()
    assert used | {"sts:GetCallerIdentity"} == listed, "which needs no permission"
    operations = {record.operation for record in world.oci.calls.records}
    assert operations
    assert [o for o in operations if not o.startswith(("get_", "head_", "list_"))] == []


def test_in_oci_it_needs_what_the_page_lists_and_nothing_else(world: World) -> None:
    listed = documented("iam-oci.md")
    principal = world.oci.identity.principal("administrator")
    principal.is_administrator = False

    def outcomes(permissions: set[str]) -> set[Outcome]:
        principal.grants.clear()
        world.oci.identity.permit("administrator", *sorted(permissions))
        return {f.outcome for f in world.examined([check for check in CATALOGUE if check.group == "oci"])}

    assert outcomes(listed) == {Outcome.PASSED}
    for permission in sorted(listed):
        assert outcomes(listed - {permission}) & {Outcome.FAILED, Outcome.NOT_ASKED}, permission
