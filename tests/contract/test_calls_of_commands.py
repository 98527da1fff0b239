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
from lockstep.protocol.model import Engine, SecretStr, Strategy
from lockstep.protocol.names import KEY_OUTPUT, STACK_TAG, plan_bucket_name
from lockstep.protocol.ring import SLOTS
from sandbox import plans
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.databases import CertificateAuthority
from sandbox.emulators.oci import write_config_file
from sandbox.estate import Settings, running_estate
from sandbox.fn import running_function
from sandbox.identities import make_role
from sandbox.servers import default_servers
from tests.statemachine.conftest import Case, login_text


def run(*words: str) -> Result:
    """Run a command; the plan is in the environment."""
    return CliRunner().invoke(app, words)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """Both clouds, one database, the audit bucket of OCI in its default tier; each runner has rotated."""
    folder = tmp_path_factory.mktemp("estate")
    servers = {"orders": default_servers(CertificateAuthority(folder))["orders"]}
    credential = plans.credential(
        "multi-cloud/app_user", "orders", username="app_user", strategy=Strategy.ALTERNATING_USERS
    )
    # The back-off is not under test, so a retry follows at once.
    aws = AwsSandbox(retry_sleep=lambda _seconds: None)
    with running_estate([credential], servers, folder=folder, settings=Settings(), aws=aws) as estate:
        found = Case(estate, estate.plan.credentials[0])
        rotate_by_aws(found)
        estate.outside.expire_schedule(found.credential.id)
        with running_function(estate.function_environment) as standby:
            assert standby.call({}).status == 200
        yield found


def rotate_by_aws(case: Case) -> None:
    assert case.again().status == "SUCCEEDED"


def calls_of(case: Case, act: Callable[[], object]) -> Counter[str]:
    """What an act sends, as service and operation."""
    seen, world = Counter[str](), case.world
    world.oci.calls.clear()
    world.aws.on_request = lambda service, operation: seen.update([f"{service} {operation}"])
    act()
    world.aws.on_request = None
    # It is AWS that reads the issuer's documents.
    sent = [r for r in world.oci.calls.records if (r.operation, r.principal) != ("get_object", "anyone")]
    return seen + Counter(f"{r.service} {r.operation}" for r in sent)


def test_a_rotation_writes_to_secrets_manager_as_often_as_the_pace_reckons(case: Case) -> None:
    writes = {"PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage"}
    found = calls_of(case, lambda: rotate_by_aws(case))
    assert sum(n for call, n in found.items() if call.split()[-1] in writes) == WRITES_OF_A_ROTATION


def test_status_and_history_read_no_value_and_no_key_unless_values_are_asked_for(case: Case) -> None:
    """Lists, the lock record, the first entry of each log that is a run's, and for digests."""
    found = calls_of(case, lambda: run("status"))
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
    by_values = calls_of(case, lambda: run("status", "--read-values"))
    values = {"secretsmanager GetSecretValue": 2, "secrets get_secret_bundle": 2 * SLOTS}
    assert by_values - found == values
    of_history = calls_of(case, lambda: run("history"))
    assert {call.split()[0] for call in of_history} == {"dynamodb", "s3", "objectstorage"}
    assert "oci: a run, whose entry 1 is archived and was not read" in run("history").stdout


# A person, who has the rights that docs/iam.md lists

NUMBERS = count(1)


class Person(Case):
    """Runs commands as a role that may do what the page lists, and nothing else."""

    def __init__(self, case: Case, actions: set[str]) -> None:
        super().__init__(case.world, case.credential)
        self._guard, number = case.world.aws.guard, next(NUMBERS)
        self.role, self.key = f"person-{number}", f"AKIAPERSON{number}"
        trust = {"Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
        make_role(case.world.aws, self.role, trust=trust, may=[{"Action": sorted(actions)}])
        self._guard.know(self.key, self.role)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Act as that role."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", self.key)
            botocore_session.cache_clear()  # The functions go on with the clients that they have.
            yield
        botocore_session.cache_clear()

    def does(self, *words: str, given: str | None = None, code: int = 0) -> Result:
        """Run a command as that role."""
        with self.acting():
            shown = CliRunner().invoke(app, words, input=given)
        assert shown.exit_code == code, f"{words}: {shown.output}"
        return shown

    def calls(self, *, allowed: bool) -> set[str]:
        """The actions that it has called, and that it may or may not."""
        own = (r for r in self._guard.records if r.role == self.role)
        return {r.call.action for r in own if r.verdict.allowed is allowed}


@contextmanager
def pending(person: Person) -> Iterator[None]:
    """A generation is in flight, whose run has failed."""
    server = person.world.servers["orders"]
    server.stop()
    try:
        assert person.again().status == "FAILED"
    finally:
        server.start()
    yield
    rotate_by_aws(person)


def look(person: Person, *more: str) -> None:
    with pending(person):
        for words in {("status",), ("status", *more)}:
            assert "pending: generation" in person.does(*words, code=1).stdout


def serve(person: Person) -> None:
    """What the page looks at, for one credential."""
    plan, name = person.world.plan, person.credential.id
    with pending(person), person.acting():
        looker = Looker(plan, operator(plan))
        assert looker.look([name]).seen[name].runs
        looker.look((), records_only=True)


def release(person: Person) -> None:
    person.hold_lock("run-that-died")
    person.does("lock", "release", person.credential.id, "--holder", "run-that-died", "--yes")


def give_orders(person: Person) -> None:
    name, databases = person.credential.id, person.credential.databases
    active = ["--from", person.credential.plan_digest]
    for order, more in {"pause": [], "resume": [], "take-over": databases}.items():
        person.does(order, name, *more)
    person.does("apply", name, *active)
    person.does("retire", name)
    run("resume", name)
    run("apply", name, *active)


def import_login(person: Person) -> None:
    person.set_password("orders", "changed-By-hand-1")
    login = replace(person.stored_login(), password=SecretStr("changed-By-hand-1"))
    person.does("import", person.credential.id, given=login_text(login))
    rotate_by_aws(person)


def rotate(person: Person) -> None:
    person.world.outside.expire_schedule(person.credential.id)
    person.does("rotate", person.credential.id)
    assert "skipped" in person.does("rotate", person.credential.id).stdout


def audit(person: Person) -> None:
    """In the first hour of digests OCI has confirmed none of AWS."""
    person.world.make_digests()
    for words in (["verify"], ["report", "-o", str(person.world.folder / "r.html")]):
        person.does("audit", *words, code=Exit.NOT_CONFIRMED)


def fleet_plan(person: Person) -> Path:
    """A plan of one credential that nobody else has."""
    database, credential = plans.database("orders", Engine.MYSQL), plans.credential("fleet/a", "orders")
    return plans.write_plan(person.world.folder / "fleet.yaml", plans.plan_document([database], [credential]))


def publish(person: Person) -> None:
    """Publish a plan, and find a document that somebody has changed."""
    aws, plan = person.world.aws, fleet_plan(person)
    bucket, s3 = plan_bucket_name(load_plan(plan).compiled.aws_stream.bucket), aws.client("s3")
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": aws.region})
    words = ("plan", "publish", "-p", str(plan), "--cloud", "aws")
    person.does(*words)
    digest = run(*words, "--digest").stdout.strip()
    s3.put_object(Bucket=bucket, Key=f"{PLANS}/{digest}/{INDEX}", Body=b"hunter2")
    told = person.does(*words, code=1).output
    assert (INDEX in told, "hunter2" in told) == (True, False)
    assert f"delete them below s3://{bucket}/{PLANS}/{digest}" in told


def create_secrets(person: Person) -> None:
    """Make a secret, and tag one; the stack says with which key."""
    aws, plan = person.world.aws, fleet_plan(person)
    key = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    template = {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "of-a-stack"}}},
        "Outputs": {KEY_OUTPUT: {"Value": key}},
    }
    aws.client("cloudformation").create_stack(StackName="fleet", TemplateBody=json.dumps(template))
    tags = [{"Key": STACK_TAG, "Value": "fleet"}]
    aws.client("secretsmanager").create_secret(Name="fleet/a", SecretString="{}", KmsKeyId=key, Tags=tags)
    for more, told in ((["--dry-run"], "1 to be made, 1 to be tagged"), ([], "1 made, 1 tagged")):
        shown = person.does("secrets", "create", "-p", str(plan), "--stack", "fleet", *more)
        assert told in shown.stdout


ACTS: Mapping[str, Callable[[Person], object]] = {
    "status": look,
    "status --read-values": lambda person: look(person, "--read-values"),
    "history": lambda person: person.does("history"),
    "serve": serve,
    "lock show": lambda person: person.does("lock", "show"),
    "lock release": release,
    "audit verify": audit,
    "audit show": lambda person: person.does("audit", "show"),
    "orders": give_orders,
    "plan publish": publish,
    "secrets tag": lambda person: person.does("secrets", "tag", "--yes"),
    "secrets create": create_secrets,
    "sessions": lambda person: person.does("sessions", person.credential.id),
    "rotate": rotate,
    "revoke --yes": lambda person: person.does("revoke", "--yes", person.credential.id),
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
def test_a_person_needs_what_the_page_lists_and_no_more(case: Case, title: str) -> None:
    assert [first_of(row) for row in documented()] == list(ACTS)
    [listed] = [actions for row, actions in documented().items() if first_of(row) == title]
    person = Person(case, listed)
    ACTS[title](person)
    assert person.calls(allowed=False) == set()
    assert person.calls(allowed=True) >= listed - NOT_ALWAYS


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


def as_person_in_oci(case: Case, tmp_path: Path, ring: set[str], log: set[str], *words: str) -> Result:
    """Run a command as an identity that has these permissions."""
    cloud, name = case.world.oci, f"person-{next(NUMBERS)}"
    cloud.identity.permit(name, *log, compartment=cloud.own_compartment_id)
    key = cloud.new_api_key(name, *ring, compartment=cloud.compartment_id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCI_CONFIG_FILE", str(write_config_file(tmp_path, name, key)))
        return run(*words)


@pytest.mark.parametrize("command", ["status", "history", "status --read-values"])
def test_in_oci_a_person_needs_what_the_page_lists(case: Case, tmp_path: Path, command: str) -> None:
    listed, more = listed_in_oci(command.split(maxsplit=1)[0]), listed_in_oci(command)
    ring = listed.get("the rings' compartment", set()) | more.get("the rings' compartment", set())
    log = listed["the audit bucket"] | listed.get("Lockstep's own compartment", set())
    shown = as_person_in_oci(case, tmp_path, ring, log, *command.split())
    assert (shown.exit_code, REFUSED.search(shown.output)) == (0, None), shown.output
    lacked = ring | log if more == listed else more["the rings' compartment"]
    for lacking in lacked:
        less = as_person_in_oci(case, tmp_path, ring - {lacking}, log - {lacking}, *command.split())
        assert REFUSED.search(less.output), f"without {lacking}: {less.output}"
