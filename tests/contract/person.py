"""A person at the command line, and what they do with each command that calls the clouds."""

import json
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
from lockstep.plan.published import INDEX, PLANS
from lockstep.protocol.model import Engine, SecretStr
from lockstep.protocol.names import KEY_OUTPUT, STACK_TAG, plan_bucket_name
from sandbox import plans
from sandbox.identities import make_role
from tests.contract.counted import World
from tests.statemachine.conftest import Case, login_text

_NUMBERS = count(1)


def run(*words: str) -> Result:
    """Run a command; the plan is in the environment."""
    return CliRunner().invoke(app, words)


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
        number = next(_NUMBERS)
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
    for words in (
        ["pause", credential.id],
        ["resume", credential.id],
        ["take-over", credential.id, *credential.databases],
        ["unblock", credential.id, *credential.databases],
        ["apply", credential.id, "--from", credential.plan_digest],
        ["retire", credential.id],
    ):
        person.run(*words)
    run("resume", credential.id)
    run("apply", credential.id, "--from", credential.plan_digest)


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


def revoke(person: Person, *more: str) -> None:
    person.run("revoke", *more, person.case.credential.id)


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
    s3.put_object(Bucket=bucket, Key=f"{PLANS}/{digest}/{INDEX}", Body=b"{}")
    assert INDEX in person.run(*words, code=1).output


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
    "revoke --yes": lambda person: revoke(person, "--yes"),
    "import": import_login,
}
"""What a person does, by the first column of the table in docs/iam.md."""
