"""Every check of the catalogue passes where nothing is wrong, and is shown to fail once, by requests that read."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from lockstep.aws.clients import botocore_session
from lockstep.cli import app
from lockstep.databases.findings import Outcome
from lockstep.databases.inspect import VERIFY_HOSTS
from lockstep.operate.doctor import in_cloud
from lockstep.operate.doctor.catalogue import catalogue
from lockstep.operate.doctor.unknowns import ELSEWHERE, confirmations, names_of, unknowns
from lockstep.plan.file import plan_schema, schema_text
from sandbox import plans
from sandbox.identities import Way
from sandbox.oci_resources import create_secret
from tests.contract.doctor.test_databases import BREAKAGES
from tests.contract.doctor.world import CREDENTIAL, World, running_world
from tests.contract.oci_fixtures import OciConsole
from tests.unit.test_doctor import CONTEXT

OF_CLOUDS = [check for check in catalogue() if check.group in {"aws", "oci"}]
"""The others need real databases (`test_databases`, `tests/contract/test_replicas.py`), or deployed functions."""


@pytest.fixture(name="world")
def _world(tmp_path: Path) -> Iterator[World]:
    with running_world(tmp_path) as world:
        yield world


def test_nothing_is_wrong_where_all_is_as_it_should_be(tmp_path: Path) -> None:
    """With sessions; by a key: `test_every_request_is_a_read_and_its_right_is_documented`."""
    with running_world(tmp_path, Way.SESSIONS) as world:
        found = world.examined(OF_CLOUDS)
    assert [f for f in found if f.outcome is not Outcome.PASSED] == []
    assert {f.check for f in found} == {check.id for check in OF_CLOUDS}


# How to break what each check of the clouds looks at. What else is in the way of using a secret:
# tests/unit/test_provision.py.

ADMIN = plans.admin_secret("orders")
BLOB = f"{CREDENTIAL}.connection"


class Break(NamedTuple):
    """A way to break something: a check, what breaks it, and parts of what it must tell and of the command."""

    check: str
    act: Callable[[World], object]
    says: str
    command: str
    outcome: Outcome = Outcome.FAILED


def _other_account(world: World) -> None:
    audit = world.document["audit"]
    arn = audit["aws"]["mac_key"].replace(world.aws.account_id, "999988887777")
    world.replan(audit={**audit, "aws": {**audit["aws"], "mac_key": arn}})


def _no_label(world: World) -> None:
    world.secrets.delete_secret(SecretId=ADMIN, ForceDeleteWithoutRecovery=True)
    world.secrets.create_secret(Name=ADMIN)


def _delete_aws_key(world: World) -> None:
    console = OciConsole(world.oci)
    name = plans.AWS_KEY_SECRET.replace("/", ".")
    [key] = console.vaults.list_secrets(world.oci.own_compartment_id, name=name).data
    console.remove(key.id)


def _other_namespace(world: World) -> None:
    audit = world.document["audit"]
    world.replan(audit={**audit, "oci": {**audit["oci"], "namespace": "another"}})


def _another_credential(world: World) -> None:
    one = world.document["credentials"][0]
    other = {**one, "id": "other/user", "username": "other"}
    world.replan(credentials=[one, other])


BREAKS = (
    Break("aws.identity", _other_account, "999988887777", "AWS_PROFILE"),
    Break("aws.secrets", _another_credential, "it is yet to be made", "lockstep secrets create"),
    Break(
        "aws.secrets",
        lambda world: world.secrets.delete_secret(SecretId=BLOB),
        "scheduled for deletion",
        f"aws secretsmanager restore-secret --secret-id {BLOB}",
    ),
    Break("aws.secrets", _no_label, "AWSCURRENT", "put-secret-value"),
    Break(
        "aws.secrets",
        lambda world: world.secrets.untag_resource(SecretId=ADMIN, TagKeys=["lockstep:secret"]),
        "lacks lockstep:secret=admin",
        "lockstep secrets tag --stack lockstep --yes",
    ),
    Break(
        "aws.secrets",
        lambda world: world.secrets.replicate_secret_to_regions(
            SecretId=CREDENTIAL, AddReplicaRegions=[{"Region": "eu-west-3"}]
        ),
        "replicated to eu-west-3",
        f"remove-regions-from-replication --secret-id {CREDENTIAL} --remove-replica-regions eu-west-3",
        Outcome.WARNING,
    ),
    Break("oci.identity", _other_namespace, "another tenancy", "OCI_CONFIG_FILE"),
    Break("oci.secrets", _another_credential, "no such secret", "make deploy-oci"),
    Break("oci.secrets", _delete_aws_key, "scheduled for deletion", "cancel-secret-deletion"),
    Break(
        "oci.secrets",
        lambda world: create_secret(world.oci, "payroll", b"x"),
        "not a slot of this plan",
        "change-compartment",
        Outcome.WARNING,
    ),
    Break(
        "oci.secrets",
        lambda world: world.oci.vault.rotate_by_itself("multi-cloud.app_user.0"),
        "own rotation is on",
        "oci vault secret update --secret-id",
    ),
)


def test_every_check_has_a_way_to_break_it() -> None:
    of_databases = {*BREAKAGES, VERIFY_HOSTS}
    # With deployed functions: tests/infrastructure/test_cdk_deploy_local.py.
    inside = {check.id for check in catalogue() if check.group == in_cloud.GROUP}
    of_clouds = {broken.check for broken in BREAKS}
    assert of_clouds | of_databases | inside == {check.id for check in catalogue()}


@pytest.mark.parametrize("broken", BREAKS, ids=lambda b: f"{b.check}: {b.says}")
def test_a_check_tells_what_is_wrong_and_what_fixes_it(world: World, broken: Break) -> None:
    broken.act(world)
    # Where its cloud knows who asks.
    asked = {f"{broken.check.partition('.')[0]}.identity", broken.check}
    found = world.examined([check for check in catalogue() if check.id in asked])
    found = [finding for finding in found if finding.check == broken.check]
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
        return {f.outcome for f in world.examined([check for check in catalogue() if check.group == "oci"])}

    assert outcomes(listed) == {Outcome.PASSED}
    for permission in sorted(listed):
        assert outcomes(listed - {permission}) & {Outcome.FAILED, Outcome.NOT_ASKED}, permission


# `--confirm`: each question can be asked, and the answers that are kept name nothing in an account


def test_each_question_has_one_way_to_be_asked() -> None:
    checks, keys_of_plans = {check.id for check in catalogue()}, schema_text(plan_schema())
    for one in unknowns():
        assert [bool(way) for way in (one.finding, one.read, one.by_hand)].count(True) == 1, one.id
        assert not one.finding or one.finding.check in checks, one.id
        keys = re.findall(r"[a-z_]+(?=[. &?\]]|$)", re.sub(r"'[^']*'|starts_with\(.*\)", "", one.when))
        assert all(f'"{key}"' in keys_of_plans for key in keys), one.id
        names = re.findall(r"\{([a-z_]+)\}", str(one))
        assert {*names} <= {*names_of(CONTEXT), "account", "partition", "tenancy"}, one.id


def test_every_read_reaches_its_service_and_earlier_answers_stay(tmp_path: Path) -> None:
    file = tmp_path / "confirmed.json"
    real = {"answer": "measured: 9", "on": "2026-01-02", "version": "0.1.0", "regions": []}
    earlier = {"fleet.duration": real, "aws.grants": real, "aws.updated-new": real | {"regions": [ELSEWHERE]}}
    file.write_text(json.dumps(earlier))
    with running_world(tmp_path, Way.SESSIONS) as world:
        options = ["doctor", "--plan", str(world.plan_file), "--only", "oci", "--json", "--confirm"]
        for wrong in (tmp_path / "no/file", world.plan_file):
            assert CliRunner().invoke(app, [*options, str(wrong)]).exit_code == 2
        # An order took the lock, and the standby rotated, which shows nothing of the functions in AWS.
        number = {"N": "1"}
        world.record(CREDENTIAL, fence=number, current_generation=number, rotated_by={"S": "oci.7"})
        shown = CliRunner().invoke(app, [*options, str(file)])
        world.record(CREDENTIAL, rotated_by={"S": "f-1-0"})
        later = CliRunner().invoke(app, [*options, str(file)])
    confirms = [f["check"] for f in json.loads(later.stdout)["findings"] if f["says"] == "confirmed"]
    assert (shown.exit_code, confirms) == (3, ["aws.grants", "aws.updated-new"])
    answers = {f["check"]: f for f in json.loads(shown.stdout)["findings"] if f["check"] != "oci.secrets"}
    # The operator here has an API key.
    assert all(answers[key]["outcome"] == "not_asked" for key in (*confirms, "oci.signature"))
    assert answers.keys() >= {unknown.id for unknown in unknowns() if unknown.read}
    # A call that its SDK does not know would be refused here.
    assert not re.search(
        r"UnexpectedError|code=\w*(Validation|Value|Type|Attribute|UnknownService)Err", shown.stdout
    )
    assert all(f.get("command") for f in answers.values() if f["outcome"] == "by_hand")
    kept = {key: (c.answer, c.on.month > 1, list(c.regions[-1:])) for key, c in confirmations(file).items()}
    unchanged: dict[str, object] = dict.fromkeys(earlier, ("measured: 9", False, []))
    assert kept == unchanged | {"aws.updated-new": ("confirmed", True, [ELSEWHERE])}
    assert not re.search(r"ocid1|[0-9]{12}|arn:", file.read_text())


def test_while_nothing_was_seen_in_a_real_account_the_first_screens_say_so() -> None:
    seen = confirmations(DOCS / "confirmed.json")
    for page in ("../README.md", "index.md"):
        screen = " ".join((DOCS / page).read_text().split()[:400])
        assert ("No run in a real account is on record" in screen) is not bool(seen)
    assert not [key for key, c in seen.items() if ELSEWHERE in c.regions]
