"""What the commands of a person send to both clouds, and that docs/iam.md lists the right for each call."""

import base64
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from typer.testing import CliRunner, Result

from lockstep import runner_keys
from lockstep.aws.clients import forget_session
from lockstep.cli import app
from lockstep.cli.operator import operator
from lockstep.cost.calls import Shape
from lockstep.model import Engine, SecretStr
from lockstep.plan_file import load_plan
from lockstep.published.places import INDEX, PLANS
from lockstep.serve.calls import Calls
from lockstep.serve.looking import Looker
from lockstep.stack_names import KEY_OUTPUT, plan_bucket_name
from lockstep.store_kinds.oci_names import oci_name
from lockstep.system import SystemClock
from lockstep.tags import STACK_TAG
from sandbox import plans
from sandbox.count_calls import World, world
from sandbox.oci import OciSandbox, write_config_file
from sandbox.plans import AUDIT_BUCKET
from tests.statemachine.conftest import Case, login_text

SLOTS = 4


@pytest.fixture(scope="module")
def running() -> Iterator[World]:
    """Both clouds, one database, the audit bucket of OCI in its default tier; each runner has rotated."""
    with world(Shape(databases=1, ring=SLOTS)) as found:
        found.by_aws()
        found.by_oci(found.function(), due=True)
        yield found


def run(*words: str) -> Result:
    """Run a command; the plan is in the environment."""
    return CliRunner().invoke(app, words)


def calls_of(running: World, *words: str) -> Counter[str]:
    """What a command sends, as service and operation."""
    shown: list[Result] = []
    found = running.counting.of(lambda: shown.append(run(*words)), "it")
    assert shown[0].exit_code == 0, shown[0].output
    return Counter({call.removeprefix("it "): number for call, number in found.items()})


def test_status_reads_no_value_and_no_key(running: World) -> None:
    """It looks at lists, the lock record, and the log; the first entry of each log that is a run's."""
    found = calls_of(running, "status")
    assert found == {
        "dynamodb GetItem": 1,
        "secretsmanager DescribeSecret": 2,
        "vault list_secrets": 2 * SLOTS,
        "vault list_secret_versions": 2 * SLOTS,
        "s3 GET": 2,
        "objectstorage list_objects": 1,
        "objectstorage get_object": 1,
        "objectstorage head_object": 1,
    }
    told = " ".join(found)
    assert not any(word in told for word in ("GetSecretValue", "bundle", "Decrypt", "Mac", "kms"))


def test_only_read_values_reads_values(running: World) -> None:
    by_names, by_values = calls_of(running, "status"), calls_of(running, "status", "--read-values")
    assert by_values - by_names == {
        "secretsmanager GetSecretValue": 2,
        "secrets get_secret_bundle": 2 * SLOTS,
    }


@contextmanager
def pending(running: World) -> Iterator[None]:
    """A generation is in flight, whose run has failed."""
    [database] = running.credential.databases
    running.estate.outside.expire_schedule(running.credential.id)
    server = running.estate.servers[database]
    server.stop()
    try:
        assert running.estate.rotate(running.credential.id).status == "FAILED"
    finally:
        server.start()
    yield
    running.by_aws()


def test_a_pending_generation_costs_one_call_more(running: World) -> None:
    by_names = calls_of(running, "status")
    with pending(running):
        assert calls_of(running, "status") - by_names == {"secretsmanager ListSecretVersionIds": 1}
        assert ", since " in next(line for line in run("status").stdout.splitlines() if "pending" in line)


def test_history_reads_no_key(running: World) -> None:
    found = calls_of(running, "history")
    assert {"dynamodb", "s3", "objectstorage"} == {call.split()[0] for call in found}
    shown = run("history").stdout
    assert "oci: a run, whose entry 1 is archived and was not read" in shown


# The rights that docs/iam.md lists for a person

KEY, ROLE = "AKIAPERSON", "person"
NOT_ALWAYS = {"kms:VerifyMac", "s3:ListBucket", "dynamodb:Scan"}
"""An entry that is appended needs these where the log does not end where the lock record says; `serve` scans the table
where there are many credentials.
"""
PAGE = Path(__file__).parents[2] / "docs" / "iam.md"


def documented() -> dict[str, set[str]]:
    """The actions of each row of the table, by the text of its first column."""
    section = PAGE.read_text().split("## A person at the command line")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    found: dict[str, set[str]] = {}
    for title, may, *_ in rows:
        actions = set(re.findall(r"`([a-z0-9]+:[A-Za-z]+)`", may))
        for other, theirs in list(found.items()):
            first = other.split("`, `")[0].strip("`")
            if re.search(rf"as (`{re.escape(first)}`|{re.escape(first.split(':')[0])})(?![\w:])", may):
                actions |= theirs
        found[title] = actions
    return found


class Person:
    """Runs commands as a role that may do what the page lists, and nothing else."""

    def __init__(self, running: World, actions: set[str], tmp_path: Path) -> None:
        self.running = running
        self.case = Case(running.estate, running.credential)
        self.tmp_path = tmp_path
        self._guard = running.estate.aws.guard
        iam = running.estate.aws.client("iam")
        with suppress(iam.exceptions.EntityAlreadyExistsException):
            iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument='{"Statement": []}')
        statement = {"Effect": "Allow", "Action": sorted(actions), "Resource": "*"}
        iam.put_role_policy(
            RoleName=ROLE,
            PolicyName="own",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        )
        self._guard.know(KEY, ROLE)
        self.before = len(self._guard.records)

    @contextmanager
    def acting(self, what: object) -> Iterator[None]:
        """Act as that role; no call is refused."""
        seen = len(self._guard.records)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", KEY)
            forget_session()  # The functions go on with the clients that they have.
            yield
        forget_session()
        own = (r for r in self._guard.records[seen:] if r.role == ROLE)
        refused = {r.call.action for r in own if not r.verdict.allowed}
        assert refused == set(), what

    def run(self, *words: str, given: str | None = None) -> Result:
        """Run a command; no call of it is refused."""
        with self.acting(words):
            shown = CliRunner().invoke(app, words, input=given)
        assert shown.exit_code == 0, f"{words}: {shown.output}"
        return shown

    @property
    def used(self) -> set[str]:
        """The actions that its commands have called."""
        return {r.call.action for r in self._guard.records[self.before :] if r.role == ROLE}


def look(person: Person, *more: str) -> None:
    with pending(person.running):
        assert "pending: generation" in person.run("status").stdout
        assert "pending: generation" in person.run("status", *more).stdout


def serve(person: Person) -> None:
    """What the page looks at, for one credential and its steps."""
    estate, clock = person.running.estate, SystemClock()
    calls = Calls(clock.monotonic)
    with pending(person.running), person.acting("serve"):
        clouds = operator(estate.plan, before_send=calls.count)
        looker = Looker(estate.plan, clouds, calls, lambda: estate.machine_arn)
        seen = looker.look([person.case.credential.id]).seen[person.case.credential.id]
        assert seen.steps
        looker.look((), records_only=True)


def release(person: Person) -> None:
    person.case.hold_lock("run-that-died")
    person.run("lock", "release", "-c", person.case.credential.id, "--holder", "run-that-died", "--yes")


def give_orders(person: Person) -> None:
    credential = person.case.credential
    for words in (
        ["pause", credential.id],
        ["resume", credential.id],
        ["enrol", credential.id, *credential.databases],
        ["retry", credential.id, *credential.databases],
        ["plan", "activate", credential.id, "--from", credential.plan_digest],
        ["retire", credential.id],
    ):
        person.run(*words)
    run("resume", credential.id)
    run("plan", "activate", credential.id, "--from", credential.plan_digest)


def acknowledge(person: Person) -> None:
    credential = person.case.credential.id
    person.case.world.aws.client("s3").put_object(
        Bucket=AUDIT_BUCKET,
        Key=f"aws/{credential.replace('/', '.')}/000000000999.json",
        Body=b"{}",
        ChecksumAlgorithm="SHA256",
    )
    person.run("audit", "acknowledge", credential, "aws:999", "--reason", "a test")


def hand_over(person: Person) -> None:
    [database] = person.case.credential.databases
    person.case.set_password(database, "changed-By-hand-1")
    login = replace(person.case.stored_login(), password=SecretStr("changed-By-hand-1"))
    person.run("hand-over", person.case.credential.id, given=login_text(login))
    person.running.by_aws()


def rotate(person: Person) -> None:
    person.case.world.outside.expire_schedule(person.case.credential.id)
    person.run("rotate", person.case.credential.id)
    assert "skipped" in person.run("rotate", person.case.credential.id).stdout


def revoke(person: Person, *more: str) -> None:
    person.run("rotate", "--revoke-previous", *more, person.case.credential.id)


def audit(person: Person) -> None:
    for words in (["verify", "--stream", "aws"], ["show"], ["report", "-o", str(person.tmp_path / "r.json")]):
        person.run("audit", *words)


def checkpoint(person: Person) -> None:
    person.run("audit", "checkpoint", "-o", str(person.tmp_path / "checkpoint"))


def fleet_plan(person: Person) -> Path:
    """A plan of one credential that nobody else has."""
    document = plans.plan_document(
        [plans.database("orders", Engine.MYSQL)],
        [plans.credential("fleet/a", "orders", secrets=plans.own_secrets("fleet/a"))],
    )
    file = person.tmp_path / "fleet.yaml"
    file.write_text(json.dumps(document))
    return file


def publish(person: Person) -> None:
    """Publish a plan, and put right a document that somebody has changed."""
    s3, plan = person.running.estate.aws.client("s3"), fleet_plan(person)
    bucket = plan_bucket_name(load_plan(plan).compiled.aws_stream.bucket)
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(
            Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": person.running.estate.aws.region}
        )
    words = ("plan", "publish", "-p", str(plan), "--cloud", "aws")
    digest = json.loads(person.run(*words, "--json").stdout)["digest"]
    s3.put_object(Bucket=bucket, Key=f"{PLANS}/{digest}/{INDEX}", Body=b"{}")
    person.run(*words, "--replace")


def provision(person: Person) -> None:
    """Make a secret, and tag one; the stack says with which key."""
    aws, plan = person.running.estate.aws, fleet_plan(person)
    key = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    template = {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "of-a-stack"}}},
        "Outputs": {KEY_OUTPUT: {"Value": key}},
    }
    aws.client("cloudformation").create_stack(StackName="fleet", TemplateBody=json.dumps(template))
    tags = [{"Key": STACK_TAG, "Value": "fleet"}]
    aws.client("secretsmanager").create_secret(Name="fleet/a", SecretString="{}", KmsKeyId=key, Tags=tags)
    for more, told in ((["--dry-run"], "1 to make, 1 to tag"), ([], "1 made, 1 tagged")):
        shown = person.run("provision", "-p", str(plan), "--stack", "fleet", *more)
        assert told in shown.stdout


def rotate_key(person: Person, runner: str) -> None:
    """Replace a key that no runner has."""
    estate = person.running.estate
    names = plans.OciNames(
        compartment_id=estate.oci.compartment_id,
        own_compartment_id=estate.oci.own_compartment_id,
        vault_id=estate.oci.vault_id,
    )
    document = plans.plan_document(
        [plans.database("orders", Engine.MYSQL)], [plans.credential("fleet/a", "orders")], oci=names
    )
    document["runners"] = {"aws": {"oci_key_secret": "own/oci"}, "oci": {"aws_key_secret": "own/aws"}}
    file = person.tmp_path / "keys.yaml"
    file.write_text(json.dumps(document))
    if runner == "aws":
        key = estate.oci.new_api_key("owner")
        text = json.dumps({**key, "private_key": key["key_content"]})
        estate.aws.client("secretsmanager").create_secret(Name="own/oci", SecretString=text)
    else:
        iam = estate.aws.client("iam")
        iam.create_user(UserName="owner")
        made = iam.create_access_key(UserName="owner")["AccessKey"]
        fields = {"access_key_id": made["AccessKeyId"], "secret_access_key": made["SecretAccessKey"]}
        put_in_oci(estate.oci, oci_name("own/aws"), json.dumps(fields))
    config = write_config_file(person.tmp_path, "administrator", estate.oci.config())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCI_CONFIG_FILE", str(config))
        patch.setattr(runner_keys, "GRACE", timedelta())
        patch.setattr(runner_keys, "_PAUSE_SECONDS", 0.01)
        shown = person.run("identity", "rotate-key", runner, "--yes", "--json", "-p", str(file))
    [told] = json.loads(shown.stdout)["keys"]
    assert len(told["deleted"]) == 1


def put_in_oci(cloud: OciSandbox, name: str, text: str) -> None:
    """Make a secret in Lockstep's own compartment."""
    models = oci.vault.models
    content = models.Base64SecretContentDetails(content=base64.b64encode(text.encode()).decode())
    cloud.client(oci.vault.VaultsClient).create_secret(
        models.CreateSecretDetails(
            compartment_id=cloud.own_compartment_id,
            vault_id=cloud.vault_id,
            key_id=cloud.key_id,
            secret_name=name,
            secret_content=content,
        )
    )


ACTS: Mapping[str, Callable[[Person], object]] = {
    "status": look,
    "status --read-values": lambda person: look(person, "--read-values"),
    "history": lambda person: person.run("history"),
    "serve": serve,
    "lock show": lambda person: person.run("lock", "show"),
    "lock release": release,
    "audit verify": audit,
    "audit checkpoint": checkpoint,
    "orders": give_orders,
    "plan publish": publish,
    "audit acknowledge": acknowledge,
    "adopt": lambda person: person.run("adopt", "--yes"),
    "provision": provision,
    "identity rotate-key aws": lambda person: rotate_key(person, "aws"),
    "identity rotate-key oci": lambda person: rotate_key(person, "oci"),
    "sessions": lambda person: person.run("sessions", person.case.credential.id),
    "rotate": rotate,
    "rotate --revoke-previous --yes": lambda person: revoke(person, "--yes"),
    "hand-over": hand_over,
}


def test_each_row_of_the_page_has_its_commands() -> None:
    assert [first_of(title) for title in documented()] == list(ACTS)


def first_of(title: str) -> str:
    return title.split(":", maxsplit=1)[0].split("`, ", maxsplit=1)[0].strip("`")


@pytest.mark.parametrize("title", ACTS)
def test_a_person_needs_what_the_page_lists_and_nothing_else(
    running: World, title: str, tmp_path: Path
) -> None:
    [listed] = [actions for row, actions in documented().items() if first_of(row) == title]
    person = Person(running, listed, tmp_path)
    ACTS[title](person)
    assert listed - NOT_ALWAYS <= person.used <= listed


# The permissions that docs/iam-oci.md lists

OCI_PAGE = PAGE.with_name("iam-oci.md")
NUMBERS = itertools.count(1)
REFUSED = re.compile("AccessDenied|BucketNotFound")
"""Object Storage tells nobody who lacks a right that there is a bucket."""


def listed_in_oci(command: str) -> dict[str, set[str]]:
    """The permissions that the page lists for a command, by where it has them."""
    section = OCI_PAGE.read_text().split("## A person at the command line")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {
        place: set(re.findall(r"`([A-Z_]+)`", may))
        for title, may, place in rows
        if f"`{command}`" in title.split(", ")
    }


def as_person_in_oci(running: World, tmp_path: Path, ring: set[str], log: set[str], *words: str) -> Result:
    """Run a command as an identity that has these permissions."""
    cloud, name = running.estate.oci, f"person-{next(NUMBERS)}"
    cloud.identity.permit(name, *log, compartment=cloud.own_compartment_id)
    key = cloud.new_api_key(name, *ring, compartment=cloud.compartment_id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCI_CONFIG_FILE", str(write_config_file(tmp_path, name, key)))
        return run(*words)


@pytest.mark.parametrize("command", ["status", "history"])
def test_in_oci_a_person_needs_what_the_page_lists_and_nothing_else(
    running: World, tmp_path: Path, command: str
) -> None:
    listed = listed_in_oci(command)
    ring = listed.get("the rings' compartment", set())
    log = listed["the audit bucket"] | listed.get("Lockstep's own compartment", set())
    shown = as_person_in_oci(running, tmp_path, ring, log, command)
    assert (shown.exit_code, REFUSED.search(shown.output)) == (0, None), shown.output
    for lacking in ring | log:
        less = as_person_in_oci(running, tmp_path, ring - {lacking}, log - {lacking}, command)
        assert REFUSED.search(less.output), f"without {lacking}: {less.output}"


def test_with_read_values_a_person_needs_one_permission_more(running: World, tmp_path: Path) -> None:
    listed = listed_in_oci("status")
    ring, log = listed["the rings' compartment"], listed["the audit bucket"]
    more = ring | listed_in_oci("status --read-values")["the rings' compartment"]
    words = ("status", "--read-values")
    assert as_person_in_oci(running, tmp_path, more, log, *words).exit_code == 0
    less = as_person_in_oci(running, tmp_path, ring, log, *words)
    assert (less.exit_code, "AccessDenied" in less.output) == (3, True)
