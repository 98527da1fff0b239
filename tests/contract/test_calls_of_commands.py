"""What the commands of a person send to both clouds, and that docs/iam.md lists the right for each call."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lockstep.aws.clients import botocore_session
from lockstep.cli import app
from lockstep.operate.access import operator
from lockstep.operate.documents import Exit
from lockstep.operate.page.snapshot import Looker
from lockstep.plan.file import load_plan
from lockstep.plan.limits import WRITES_OF_A_ROTATION
from lockstep.plan.published import INDEX, PLANS
from lockstep.protocol.model import Engine, SecretStr
from lockstep.protocol.names import KEY_OUTPUT, STACK_TAG, plan_bucket_name
from lockstep.protocol.ring import SLOTS
from sandbox import plans
from sandbox.emulators.oci import write_config_file
from sandbox.identities import make_role
from tests.contract.counted import World, world
from tests.statemachine.conftest import Case, login_text


def run(*words: str) -> Result:
    """Run a command; the plan is in the environment."""
    return CliRunner().invoke(app, words)


@pytest.fixture(scope="module")
def running() -> Iterator[World]:
    """Both clouds, one database, the audit bucket of OCI in its default tier; each runner has rotated."""
    with world() as found:
        found.by_aws()
        found.by_oci()
        yield found


def calls_of(running: World, *words: str) -> Counter[str]:
    """What a command sends, as service and operation."""
    shown: list[Result] = []
    found = running.of(lambda: shown.append(run(*words)), "it")
    assert shown[0].exit_code == 0, shown[0].output
    return Counter({call.removeprefix("it "): number for call, number in found.items()})


def test_a_rotation_writes_to_secrets_manager_as_often_as_the_pace_reckons(running: World) -> None:
    writes = {"PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage"}
    found = running.by_aws()
    assert sum(n for call, n in found.items() if call.split()[-1] in writes) == WRITES_OF_A_ROTATION


def test_status_and_history_read_no_value_and_no_key_unless_values_are_asked_for(running: World) -> None:
    """Lists, the lock record, the first entry of each log that is a run's, and for digests."""
    found = calls_of(running, "status")
    assert found == {
        "dynamodb GetItem": 1,
        "secretsmanager DescribeSecret": 2,
        "vault list_secrets": 2 * SLOTS,
        "vault list_secret_versions": 2 * SLOTS,
        "s3 GET": 4,
        "objectstorage list_objects": 3,
        "objectstorage get_object": 1,
        "objectstorage head_object": 1,
    }
    by_values = calls_of(running, "status", "--read-values")
    values = {"secretsmanager GetSecretValue": 2, "secrets get_secret_bundle": 2 * SLOTS}
    assert by_values - found == values
    assert {call.split()[0] for call in calls_of(running, "history")} == {"dynamodb", "s3", "objectstorage"}
    assert "oci: a run, whose entry 1 is archived and was not read" in run("history").stdout


# A person, who has the rights that docs/iam.md lists

NUMBERS = count(1)


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


class Person:
    """Runs commands as a role that may do what the page lists, and nothing else."""

    def __init__(self, running: World, actions: set[str], tmp_path: Path) -> None:
        self.running = running
        self.case = Case(running.estate, running.credential)
        self.tmp_path = tmp_path
        self._guard = running.estate.aws.guard
        number = next(NUMBERS)
        self.role, self.key = f"person-{number}", f"AKIAPERSON{number}"
        trust = {"Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
        make_role(running.estate.aws, self.role, trust=trust, may=[{"Action": sorted(actions)}])
        self._guard.know(self.key, self.role)

    @contextmanager
    def acting(self, what: object) -> Iterator[None]:
        """Act as that role; no call is refused."""
        seen = len(self._guard.records)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", self.key)
            botocore_session.cache_clear()  # The functions go on with the clients that they have.
            yield
        botocore_session.cache_clear()
        own = (r for r in self._guard.records[seen:] if r.role == self.role)
        refused = {r.call.action for r in own if not r.verdict.allowed}
        assert refused == set(), what

    def run(self, *words: str, given: str | None = None, code: int = 0) -> Result:
        """Run a command; no call of it is refused."""
        with self.acting(words):
            shown = CliRunner().invoke(app, words, input=given)
        assert shown.exit_code == code, f"{words}: {shown.output}"
        return shown

    @property
    def used(self) -> set[str]:
        """The actions that its commands have called."""
        return {r.call.action for r in self._guard.records if r.role == self.role}


def look(person: Person, *more: str) -> None:
    with pending(person.running):
        for words in {("status",), ("status", *more)}:
            assert "pending: generation" in person.run(*words, code=1).stdout


def serve(person: Person) -> None:
    """What the page looks at, for one credential."""
    estate = person.running.estate
    with pending(person.running), person.acting("serve"):
        looker = Looker(estate.plan, operator(estate.plan))
        assert looker.look([person.case.credential.id]).seen[person.case.credential.id].runs
        looker.look((), records_only=True)


def release(person: Person) -> None:
    person.case.hold_lock("run-that-died")
    person.run("lock", "release", person.case.credential.id, "--holder", "run-that-died", "--yes")


def give_orders(person: Person) -> None:
    credential = person.case.credential
    databases, active = credential.databases, ["--from", credential.plan_digest]
    for order, more in {"pause": [], "resume": [], "take-over": databases, "unblock": databases}.items():
        person.run(order, credential.id, *more)
    person.run("apply", credential.id, *active)
    person.run("retire", credential.id)
    run("resume", credential.id)
    run("apply", credential.id, *active)


def import_login(person: Person) -> None:
    [database] = person.case.credential.databases
    person.case.set_password(database, "changed-By-hand-1")
    login = replace(person.case.stored_login(), password=SecretStr("changed-By-hand-1"))
    person.run("import", person.case.credential.id, given=login_text(login))
    person.running.by_aws()


def rotate(person: Person) -> None:
    person.case.world.outside.expire_schedule(person.case.credential.id)
    person.run("rotate", person.case.credential.id)
    assert "skipped" in person.run("rotate", person.case.credential.id).stdout


def audit(person: Person) -> None:
    """In the first hour of digests OCI has confirmed none of AWS."""
    person.running.estate.make_digests()
    for words in (["verify"], ["report", "-o", str(person.tmp_path / "r.html")]):
        person.run("audit", *words, code=Exit.NOT_CONFIRMED)


def fleet_plan(person: Person) -> Path:
    """A plan of one credential that nobody else has."""
    document = plans.plan_document(
        [plans.database("orders", Engine.MYSQL)], [plans.credential("fleet/a", "orders")]
    )
    file = person.tmp_path / "fleet.yaml"
    file.write_text(json.dumps(document))
    return file


def publish(person: Person) -> None:
    """Publish a plan, and find a document that somebody has changed."""
    s3, plan = person.running.estate.aws.client("s3"), fleet_plan(person)
    bucket = plan_bucket_name(load_plan(plan).compiled.aws_stream.bucket)
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(
            Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": person.running.estate.aws.region}
        )
    words = ("plan", "publish", "-p", str(plan), "--cloud", "aws")
    person.run(*words)
    digest = run(*words, "--digest").stdout.strip()
    s3.put_object(Bucket=bucket, Key=f"{PLANS}/{digest}/{INDEX}", Body=b"hunter2")
    told = person.run(*words, code=1).output
    assert (INDEX in told, "hunter2" in told) == (True, False)
    assert f"delete them below s3://{bucket}/{PLANS}/{digest}" in told


def create_secrets(person: Person) -> None:
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
    for more, told in ((["--dry-run"], "1 to be made, 1 to be tagged"), ([], "1 made, 1 tagged")):
        shown = person.run("secrets", "create", "-p", str(plan), "--stack", "fleet", *more)
        assert told in shown.stdout


ACTS: Mapping[str, Callable[[Person], object]] = {
    "status": look,
    "status --read-values": lambda person: look(person, "--read-values"),
    "history": lambda person: person.run("history"),
    "serve": serve,
    "lock show": lambda person: person.run("lock", "show"),
    "lock release": release,
    "audit verify": audit,
    "audit show": lambda person: person.run("audit", "show"),
    "orders": give_orders,
    "plan publish": publish,
    "secrets tag": lambda person: person.run("secrets", "tag", "--yes"),
    "secrets create": create_secrets,
    "sessions": lambda person: person.run("sessions", person.case.credential.id),
    "rotate": rotate,
    "revoke --yes": lambda person: person.run("revoke", "--yes", person.case.credential.id),
    "import": import_login,
}
"""What a person does, by the first column of the table in docs/iam.md."""

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


def first_of(title: str) -> str:
    return title.split(":", maxsplit=1)[0].split("`, ", maxsplit=1)[0].strip("`")


@pytest.mark.parametrize("title", ACTS)
def test_a_person_needs_what_the_page_lists_and_no_more(running: World, title: str, tmp_path: Path) -> None:
    assert [first_of(row) for row in documented()] == list(ACTS)
    [listed] = [actions for row, actions in documented().items() if first_of(row) == title]
    person = Person(running, listed, tmp_path)
    ACTS[title](person)
    assert listed - NOT_ALWAYS <= person.used <= listed


# The permissions that docs/iam-oci.md lists

OCI_PAGE = PAGE.with_name("iam-oci.md")
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


@pytest.mark.parametrize("command", ["status", "history", "status --read-values"])
def test_in_oci_a_person_needs_what_the_page_lists(running: World, tmp_path: Path, command: str) -> None:
    listed, more = listed_in_oci(command.split(maxsplit=1)[0]), listed_in_oci(command)
    ring = listed.get("the rings' compartment", set()) | more.get("the rings' compartment", set())
    log = listed["the audit bucket"] | listed.get("Lockstep's own compartment", set())
    shown = as_person_in_oci(running, tmp_path, ring, log, *command.split())
    assert (shown.exit_code, REFUSED.search(shown.output)) == (0, None), shown.output
    lacked = ring | log if more == listed else more["the rings' compartment"]
    for lacking in lacked:
        less = as_person_in_oci(running, tmp_path, ring - {lacking}, log - {lacking}, *command.split())
        assert REFUSED.search(less.output), f"without {lacking}: {less.output}"
