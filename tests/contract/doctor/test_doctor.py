"""Every check of the clouds passes where nothing is wrong, and is shown to fail, by requests that read.

Those of databases: `test_databases`, tests/contract/test_replicas.py; of functions: tests/contract/test_federation.py,
tests/infrastructure/test_cdk_deploy_local.py.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from lockstep.aws.clients import botocore_session
from lockstep.cli import app
from lockstep.databases.findings import Finding, Outcome
from lockstep.oci.clients import OciIdentity
from lockstep.operate.access import operator
from lockstep.operate.doctor import inside
from lockstep.operate.doctor.catalogue import catalogue
from lockstep.operate.doctor.checks import Check, Context, examine
from lockstep.operate.doctor.clouds import own_secrets_of
from lockstep.operate.doctor.in_cloud import every_database
from lockstep.operate.doctor.unknowns import (
    ELSEWHERE,
    confirmations,
    confirmed,
    names_of,
    questions,
    unknowns,
)
from lockstep.operate.secrets import wanted
from lockstep.plan.file import load_plan, plan_schema, schema_text
from lockstep.plan.model import Plan
from lockstep.plan.published import WholePlan, index_of
from lockstep.protocol.deadlines import CloudTimeouts, Timeouts
from lockstep.protocol.model import FORMAT, Engine
from lockstep.protocol.names import DEFAULT_STACK
from lockstep.protocol.workers import one_after_the_other
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE, OCI_RUNNER, Identity
from sandbox import plans
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.resources import ORDER_KEY, create_audit_bucket, create_lock_table, create_mac_key
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.estate import environment
from sandbox.identities import ISSUER_BUCKET, OCI_FUNCTION, Identities, Way, make_identities
from sandbox.oci_resources import create_audit_bucket as create_oci_audit_bucket
from sandbox.oci_resources import create_ring, create_secret, names_in
from sandbox.plans import AUDIT_BUCKET, LOCK_TABLE
from tests.contract.clouds import OciConsole
from tests.unit.test_doctor import CONTEXT

CREDENTIAL, PLACEHOLDER = "multi-cloud/app_user", '{"placeholder": true}'
OF_CLOUDS = [check for check in catalogue() if check.group in {"aws", "oci"}]


@dataclass(kw_only=True)
class World:
    """Both clouds in which nothing is wrong, with what the stack, Terraform and people make for a plan.

    Attributes:
        file: The plan, as the command reads it.
        document: Its content.
        identities: Who the runners are.
    """

    file: Path
    document: plans.Document
    plan: Plan
    aws: AwsSandbox
    oci: OciSandbox
    identities: Identities

    @property
    def secrets(self) -> Any:  # noqa: ANN401 - botocore makes its clients' types at run time
        return self.aws.client("secretsmanager")

    def examined(self, checks: Sequence[Check]) -> list[Finding]:
        """What checks find now; no service is silent here, and the emulator makes one at its first call."""
        clouds = operator(self.plan)
        clouds.timeouts = Timeouts(cloud=CloudTimeouts(connect_seconds=60.0, read_seconds=60.0))
        clouds.side_by_side = one_after_the_other
        return examine(checks, Context(plan=self.plan, clouds=clouds))

    def replan(self, **changes: object) -> None:
        """Change sections of the plan file."""
        self.plan = load_plan(plans.write_plan(self.file, self.document | changes))

    def record(self, **attributes: Any) -> None:  # noqa: ANN401 - of DynamoDB
        """Set attributes of the lock record."""
        self.aws.client("dynamodb").update_item(
            TableName=LOCK_TABLE,
            Key={"credential_id": {"S": CREDENTIAL}},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
            ExpressionAttributeNames={f"#{name}": name for name in attributes},
            ExpressionAttributeValues={f":{name}": value for name, value in attributes.items()},
        )

    def fill(self) -> None:
        [credential] = self.plan.credentials
        create_lock_table(self.aws.client("dynamodb"), LOCK_TABLE)
        number = {"format": {"N": str(FORMAT)}, "next_due_at": {"N": str(int(time.time()) + 600)}}
        self.record(plan={"S": credential.plan_digest}, **number)
        create_audit_bucket(self.aws.client("s3"), AUDIT_BUCKET, region=self.aws.region)
        for one in wanted(self.plan):
            self.secrets.create_secret(
                Name=one.name,
                SecretString=self.identities.in_aws.get(one.name, PLACEHOLDER),
                Tags=[{"Key": key, "Value": value} for key, value in one.tags(DEFAULT_STACK).items()],
            )
        for name in (credential.secret_names.app_user, credential.secret_names.connection_blob):
            create_ring(self.oci, name, PLACEHOLDER)
        texts = {name.replace("/", "."): text for name, text in self.identities.in_oci.items()}
        for name in own_secrets_of(self.plan):
            text = texts.get(name, PLACEHOLDER)
            create_secret(self.oci, name, text.encode(), compartment=self.oci.own_compartment_id)
        create_oci_audit_bucket(self.oci, AUDIT_BUCKET)


@contextmanager
def running_world(folder: Path, way: Way = Way.KEY) -> Iterator[World]:
    """Start both clouds, with what a deployed plan has there; the runners prove themselves in this way."""
    with ExitStack() as stack:
        aws = stack.enter_context(AwsSandbox())
        oci = stack.enter_context(OciSandbox(names=aws.names))
        key = create_mac_key(aws.client("kms"))
        create_mac_key(aws.client("kms"), ORDER_KEY)
        identities = make_identities(aws, oci, way)
        document = plans.plan_document(
            [plans.database("orders", Engine.MYSQL, tls="")],
            [plans.credential(CREDENTIAL, "orders")],
            mac_key=key,
            oci=names_in(oci),
            events=True,
        )
        document["runners"] = identities.section
        variables = {
            **aws.environment(),
            CONFIG_FILE_VARIABLE: str(write_config_file(folder, "operator", oci.config())),
            OCI_ENDPOINT_VARIABLE: oci.endpoint,
        }
        stack.enter_context(environment(variables))
        file = plans.write_plan(folder / "lockstep.yaml", document)
        world = World(
            file=file, document=document, plan=load_plan(file), aws=aws, oci=oci, identities=identities
        )
        world.fill()
        yield world


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
OTHER_KEY = f"arn:aws:kms:{plans.AWS_REGION}:999988887777:key/1234abcd-12ab-34cd-56ef-1234567890ab"


class Break(NamedTuple):
    """A way to break something: a check, what breaks it, and parts of what it must tell and of the command."""

    check: str
    act: Callable[[World], object]
    says: str
    command: str
    outcome: Outcome = Outcome.FAILED


def _audit(cloud: str, **changes: str) -> Callable[[World], None]:
    def replan(world: World) -> None:
        audit = world.document["audit"]
        world.replan(audit={**audit, cloud: {**audit[cloud], **changes}})

    return replan


def _no_label(world: World) -> None:
    world.secrets.delete_secret(SecretId=ADMIN, ForceDeleteWithoutRecovery=True)
    world.secrets.create_secret(Name=ADMIN)


def _delete_aws_key(world: World) -> None:
    console = OciConsole(world.oci)
    name = plans.AWS_KEY_SECRET.replace("/", ".")
    [key] = console.vaults.list_secrets(world.oci.own_compartment_id, name=name).data
    console.remove(key.id)


def _another_credential(world: World) -> None:
    one = world.document["credentials"][0]
    other = {**one, "id": "other/user", "username": "other"}
    world.replan(credentials=[one, other])


BREAKS = (
    Break("aws.identity", _audit("aws", mac_key=OTHER_KEY), "999988887777", "AWS_PROFILE"),
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
    Break("oci.identity", _audit("oci", namespace="another"), "another tenancy", "OCI_CONFIG_FILE"),
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
    options = ["--plan", str(world.file), "--only", "aws", "--only", "oci"]
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
        options = ["doctor", "--plan", str(world.file), "--only", "oci", "--json", "--confirm"]
        for wrong in (tmp_path / "no/file", world.file):
            assert CliRunner().invoke(app, [*options, str(wrong)]).exit_code == 2
        # An order took the lock, and the standby rotated, which shows nothing of the functions in AWS.
        number = {"N": "1"}
        world.record(fence=number, current_generation=number, rotated_by={"S": "oci.7"})
        shown = CliRunner().invoke(app, [*options, str(file)])
        world.record(rotated_by={"S": "f-1-0"})
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


# Functions make a session in the other cloud and use it, and say what keeps them out

TO_OCI, TO_AWS, VAULT = "session in OCI", "session in AWS", "Vault"
FROM_SESSIONS = {"assertion": TO_OCI, "keys-of-aws": TO_OCI, "resource-session": VAULT, "issuer": TO_AWS}
"""The questions of `--confirm` that the sessions of these two functions answer."""


def look(world: World, function: str) -> list[Finding]:
    """What a function finds, which shows no login to a database."""
    if function.startswith("oci/"):
        own = OciIdentity(config=dict(world.identities.function_key))
        identity: Identity = replace(OCI_RUNNER, oci=lambda _reach: own)
    else:
        identity = world.identities.of_functions[function.removeprefix("aws/")]
    clouds = Clouds(WholePlan(world.plan.compiled), identity)
    index, silent = index_of(clouds.plan), every_database(world.plan)
    return [*inside.looked(clouds.plan, index, clouds, function=function, silent=silent).findings]


def answered(world: World, found: list[Finding]) -> dict[str, str]:
    """What `--confirm` makes of it, by the name of the question."""
    asked = questions(world.plan, found)
    asked = [c for c in asked if c.id.removeprefix("identity.") in FROM_SESSIONS]
    context = Context(plan=world.plan, clouds=operator(world.plan))
    answers = examine(asked, context)
    # A reason names who was refused, and is not kept.
    assert "refuted: " not in confirmed({}, answers, context)
    return {one.check.removeprefix("identity."): one.says.partition(":")[0] for one in answers}


BROKEN: dict[str, tuple[Callable[[World], object], str, str]] = {
    "nothing": (lambda world: world, "", ""),
    "the trust is not active": (
        lambda world: setattr(world.oci.domain.trusts[world.aws.web_identity.issuer], "is_active", False),
        TO_OCI,
        "identity propagation trust",
    ),
    "the vault takes no resource sessions": (
        lambda world: world.oci.faults.refuse(
            service="vault", status=401, code="NotAuthenticated", times=None
        ),
        VAULT,
        "docs/identity.md#choices",
    ),
    "the documents are private": (
        lambda world: world.oci.storage.set_public_access(ISSUER_BUCKET, "NoPublicAccess"),
        TO_AWS,
        "lockstep identity publish",
    ),
}


@pytest.mark.parametrize(("act", "subject", "word"), BROKEN.values(), ids=BROKEN)
def test_what_keeps_a_runner_out_of_the_other_cloud_is_told_with_what_to_do(
    tmp_path: Path, act: Callable[[World], object], subject: str, word: str
) -> None:
    """The subject has failed, what comes before it has passed, and the command has this word."""
    with running_world(tmp_path, Way.ASSERTION) as world:
        own = world.oci.own_compartment_id
        world.oci.identity.permit(OCI_FUNCTION, "OBJECT_INSPECT", "OBJECT_READ", compartment=own)
        act(world)
        found = [*look(world, "aws/generate"), *look(world, "oci/rotate")]
        answers = answered(world, found)
    failed = [f for f in found if f.outcome is Outcome.FAILED]
    assert {f.subject for f in failed if f.check == inside.SESSION} == {subject} - {""}
    assert all(word in str(f.command) for f in failed if f.check == inside.SESSION), failed
    # What needs the session says why it has no answer, and nothing is a bug.
    assert not subject or [f for f in failed if f.check == inside.ACCESS]
    assert not [f for f in found if "unexpected" in f.says.lower()]
    refuted = {name: "refuted" for name, of in FROM_SESSIONS.items() if of == subject}
    unasked = {"resource-session": "inside.session says nothing of it from aws/generate"}
    unknown = unasked if subject == TO_OCI else {}
    assert answers == {**dict.fromkeys(FROM_SESSIONS, "confirmed"), **unknown, **refuted}
