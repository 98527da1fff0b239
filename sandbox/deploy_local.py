"""`make deploy-local`: the real CDK CLI deploys onto this machine, and the deployed functions rotate.

1. MariaDB and PostgreSQL are started, AWS is moto; a plan names them.
2. The bundle is made from the plan, as for AWS, for the Python and the processor of this machine.
3. `cdk bootstrap` and `cdk deploy -c packaging=zip`, with all of the stack's checks, and the plan is published.
4. What a person does once: the administrators' secrets, and `lockstep plan sql` on the databases.
5. Each deployed rule is fired as often as asked: its target, its input, the deployed state machines of the fleet and of
   rotations, the uploaded package in processes that see nothing of the repository, each under its deployed role.
6. `lockstep doctor --in-cloud` lets the deployed functions look, and all is well.
7. The watch is fired while one credential is neglected, until the deployed alarm has paged a subscriber; then the
   credential is rotated, until the subscriber hears that it is over.

Ends with one line of JSON, and with status 1 if any check fails.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdk.bundle import HANDLERS, Bundle, build, import_milliseconds
from cdk.publish import Publication
from cdk.settings import Deployment, Settings
from lockstep.adoption import wanted
from lockstep.audit.verify import verify
from lockstep.aws.secret_tags import tag
from lockstep.identity import AWS_RUNNER
from lockstep.model import ROTATOR, Credential, Login, SecretStr
from lockstep.plan import Plan
from lockstep.plan_file import load_plan
from lockstep.shards import Shard
from lockstep.watch import COUNTED
from lockstep.wiring import Runner, endpoints_from_environment
from sandbox import plans
from sandbox.aws import AwsSandbox, Execution
from sandbox.aws.cloudformation import NOT_EMULATED
from sandbox.aws.deployed import DeployedStack, Fired, Schedule
from sandbox.aws.lambda_process import FunctionProcesses
from sandbox.cdk_cli import CdkCli
from sandbox.databases import CertificateAuthority, DatabaseServer, running
from sandbox.estate import environment
from sandbox.first_day import activate, enrol
from sandbox.plans import LOCK_TABLE
from sandbox.servers import (
    default_credentials,
    default_servers,
    login_text,
    make_database,
    planned,
    provision,
)
from sandbox.watching import NothingArrivedError, Subscriber, Watching

STACK = "lockstep"
MAC_KEY = "alias/lockstep-audit"
ROUNDS = 2
_CURRENT = "AWSCURRENT"


@dataclass(kw_only=True)
class DeployedWorld:
    """The deployed stack beside the databases of its plan.

    Attributes:
        bundle: What was shipped.
        functions: The processes of each version of a function that was called.
        seconds: How long each part of the way here took.
    """

    plan: Plan
    folder: Path
    aws: AwsSandbox
    stack: DeployedStack
    servers: Mapping[str, DatabaseServer]
    bundle: Bundle
    functions: Mapping[str, FunctionProcesses]
    seconds: dict[str, float] = field(default_factory=dict)

    def fire(self, schedule: Schedule) -> Fired:
        """Fire the rule of a shard whose credentials are due."""
        for credential_id in self.shard(schedule).credential_ids:
            self._let_the_interval_pass(credential_id)
        return self.stack.fire(schedule)

    def rotate(self, credential_id: str) -> Execution:
        """Rotate a credential that is due, as the fleet does."""
        self._let_the_interval_pass(credential_id)
        return self.stack.start(credential_id)

    def shard(self, schedule: Schedule) -> Shard:
        """What a rule starts."""
        return next(shard for shard in self.plan.shards if shard.name == schedule.input["shard"])

    def neglect(self, credential_id: str) -> None:
        """Make a credential look as if nobody had rotated it for years."""
        self._let_the_interval_pass(credential_id)

    def current(self, secret: str) -> Mapping[str, object]:
        """What an application reads."""
        reply = self.aws.client("secretsmanager").get_secret_value(SecretId=secret, VersionStage=_CURRENT)
        document: Mapping[str, object] = json.loads(reply["SecretString"])
        return document

    def _let_the_interval_pass(self, credential_id: str) -> None:
        dynamodb = self.aws.client("dynamodb")
        key = {"credential_id": {"S": credential_id}}
        if "Item" in dynamodb.get_item(TableName=self.plan.lock.table, Key=key):
            dynamodb.update_item(
                TableName=self.plan.lock.table,
                Key=key,
                UpdateExpression="SET next_due_at = :past, not_before = :past",
                ExpressionAttributeValues={":past": {"N": "1"}},
            )


OPERATORS, BREAK_GLASS = "operators/*", "break-glass"
"""The roles that the settings name, of which a test makes those that it needs."""


@contextmanager
def deployed_world() -> Iterator[DeployedWorld]:
    """Start, build, deploy; stop and forget everything afterwards."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lockstep-deploy-")))
        seconds: dict[str, float] = {}
        servers = default_servers(CertificateAuthority(folder / "plan" / "ca"))
        with timed(seconds, "start"):
            aws = stack.enter_context(AwsSandbox())
            stack.enter_context(running(*servers.values()))
        plan_file = _write_plan(folder / "plan", servers, aws.region)
        plan = load_plan(plan_file)
        with timed(seconds, "build"):
            bundle = build("aws", plan_file=plan_file, out=folder / "bundle")
        cli = CdkCli(aws, folder / "cdk.out")
        with timed(seconds, "bootstrap"):
            cli.bootstrap()
        with timed(seconds, "deploy"):
            settings = {
                "plan": str(plan_file),
                "packaging": "zip",
                "bundle": str(folder / "bundle"),
                # Nothing fires a rule by itself here.
                "schedules": "true",
                "operators": json.dumps([f"arn:aws:iam::{aws.account_id}:role/{OPERATORS}"]),
                "audit_break_glass_role": f"arn:aws:iam::{aws.account_id}:role/{BREAK_GLASS}",
            }
            cli.deploy(settings)
        with timed(seconds, "publish"):
            # The bucket was just made.
            deployment = Deployment.of(plan, Settings.from_context(settings.get))
            Publication(deployment, aws.client("s3")).publish()
        with timed(seconds, "provision"):
            _provision(plan, servers, aws)
        deployed = DeployedStack(aws, STACK, folder / "deployed")
        functions = stack.enter_context(deployed.running())
        yield DeployedWorld(
            plan=plan,
            folder=folder,
            aws=aws,
            stack=deployed,
            servers=servers,
            bundle=bundle,
            functions=functions,
            seconds=seconds,
        )


@contextmanager
def timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    """Write down how long something takes."""
    began = time.monotonic()
    yield
    seconds[what] = round(time.monotonic() - began, 1)


def _write_plan(folder: Path, servers: Mapping[str, DatabaseServer], region: str) -> Path:
    credentials = [{"secrets": plans.own_secrets(c["id"]), **c} for c in default_credentials(servers)]
    return plans.write_plan(
        folder / "lockstep.yaml",
        plans.plan_document(planned_in(folder, servers), credentials, region=region, mac_key=MAC_KEY),
    )


def planned_in(folder: Path, servers: Mapping[str, DatabaseServer]) -> list[plans.Document]:
    """Servers as a plan in a folder names them: CA files by path relative to it, as in a plan that is shipped."""
    databases = [planned(name, server) for name, server in servers.items()]
    for database in databases:
        if "tls" in database:
            database["tls"]["ca_file"] = str(Path(database["tls"]["ca_file"]).relative_to(folder))
    return databases


def _provision(plan: Plan, servers: Mapping[str, DatabaseServer], aws: AwsSandbox) -> None:
    rotators = {name: Login(ROTATOR, SecretStr(secrets.token_urlsafe(24))) for name in servers}
    client = aws.client("secretsmanager")
    for name, login in rotators.items():
        make_database(servers[name])
        client.create_secret(
            Name=plans.admin_secret(name),
            SecretString=login_text(login),
            KmsKeyId=encryption_key(aws),
        )
    for secret in wanted(plan):
        tag(client, secret.name, secret.tags(STACK))
    for credential in plan.credentials:
        provision(plan, credential, servers, rotators)
        activate(aws.client("dynamodb"), LOCK_TABLE, credential)
        enrol(aws.client("dynamodb"), LOCK_TABLE, credential)


def encryption_key(aws: AwsSandbox) -> str:
    """Lockstep's own key, as `docs/iam.md` says of secrets that people make for it."""
    arn: str = aws.client("kms").describe_key(KeyId=f"alias/{STACK}")["KeyMetadata"]["Arn"]
    return arn


def check_credential(world: DeployedWorld, credential: Credential, generation: int) -> list[str]:
    """What does not hold after a credential's rotation; nothing, if all is well."""
    names = credential.secret_names
    problems = [
        f"{name} does not serve generation {generation}"
        for name in (names.app_user, names.connection_blob)
        if world.current(name).get("generation") != generation
    ]
    with environment(world.aws.environment()):
        ports = Runner(world.plan, AWS_RUNNER, endpoints=endpoints_from_environment()).ports(credential.id)
        login = ports.stores.first.read_current().login
        for name, database in ports.databases.items():
            if login is None or not database.accepts(login):
                problems.append(f"{name} refuses the current login of {credential.id}")
        for found in verify(credential.id, [(ports.audit_log, ports.signer)], ports.lock.read()):
            problems += [f"audit chain of {credential.id}: {problem}" for problem in found.problems]
    return problems


def check_shard(world: DeployedWorld, schedule: Schedule, fired: Fired) -> list[str]:
    """What does not hold after a rule has fired; nothing, if each credential of its shard was rotated."""
    if fired.fleet.status != "SUCCEEDED":
        return [f"{schedule.rule}: {fired.fleet.error}: {fired.fleet.cause}"]
    ended = {rotation.input["credential_id"]: rotation for rotation in fired.rotations}
    if ended.keys() != set(world.shard(schedule).credential_ids):
        return [f"{schedule.rule} has rotated {', '.join(sorted(ended)) or 'nothing'}"]
    problems = []
    for credential in (c for c in world.plan.credentials if c.id in ended):
        output = ended[credential.id].output or {}
        if output.get("outcome") == "rotated":
            problems += check_credential(world, credential, output["generation"])
        else:
            told = output.get("outcome", ended[credential.id].error)
            problems.append(f"{credential.id}: {told} instead of rotated")
    return problems


def check_audit_objects(world: DeployedWorld) -> tuple[int, list[str]]:
    """How many audit entries there are, and which of them are not as the plan wants them kept."""
    s3, audit = world.aws.client("s3"), world.plan.audit.aws
    problems = []
    keys = [o["Key"] for o in s3.list_objects_v2(Bucket=audit.bucket).get("Contents", [])]
    for key in keys:
        head = s3.head_object(Bucket=audit.bucket, Key=key)
        # S3 names no class where it is the usual one.
        kind = head.get("StorageClass", "STANDARD")
        if head.get("ObjectLockMode") != "COMPLIANCE" or kind != audit.storage_class:
            problems.append(f"{key}: not locked, or not in {audit.storage_class}")
    return len(keys), problems


def check_roles(world: DeployedWorld) -> list[str]:
    """Calls that a role made without a permission."""
    return sorted(
        {
            f"{record.role} may not {record.call.action}"
            for record in world.aws.guard.records
            if not record.verdict.allowed
        }
    )


def check_logs(world: DeployedWorld) -> list[str]:
    """Functions that have written a password which an application reads now."""
    passwords = [str(world.current(c.secret_names.app_user)["password"]) for c in world.plan.credentials]
    return [
        f"{name} has logged a password"
        for name in world.stack.functions
        if any(password in world.stack.log_of(name) for password in passwords)
    ]


def main() -> int:
    """Deploy, rotate, check; the exit code."""
    began = time.monotonic()
    problems: list[str] = []
    milliseconds: list[int] = []
    with deployed_world() as world:
        schedules = world.stack.schedules
        if {s.input["shard"] for s in schedules} != {shard.name for shard in world.plan.shards}:
            problems.append("there is not one rule for each shard")
        for _ in range(ROUNDS):
            for schedule in schedules:
                started = time.monotonic()
                fired = world.fire(schedule)
                milliseconds.append(round((time.monotonic() - started) * 1000))
                problems += check_shard(world, schedule, fired)
        examined, unwell = check_doctor(world)
        problems += unwell
        watched, unseen = check_watch(world)
        problems += unseen
        entries, unlocked = check_audit_objects(world)
        problems += unlocked + check_roles(world) + check_logs(world)
        figures = {
            "rotations": ROUNDS * len(world.plan.credentials),
            "shard_ms": milliseconds,
            "databases": [f"{s.product} {s.version}" for s in world.servers.values()],
            "audit_entries": entries,
            "doctor": examined,
            "watch": watched,
            "calls": len(world.aws.guard.records),
            "processes": sum(f.starts for f in world.functions.values()),
            "zip_bytes": world.bundle.zip_bytes,
            "unpacked_bytes": world.bundle.unpacked_bytes,
            "import_ms": {
                name: import_milliseconds(world.folder / "bundle" / "content", f"functions.{name}.handler")
                for name in HANDLERS
            },
            "not_emulated": sorted(NOT_EMULATED & world.stack.types),
            "seconds": {**world.seconds, "all": round(time.monotonic() - began, 1)},
        }
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201 - for a person
    print(json.dumps({**figures, "problems": len(problems)}))  # noqa: T201 - for other programs
    return 1 if problems else 0


def doctor_in_cloud(world: DeployedWorld, *words: str) -> tuple[dict[str, Any], float]:
    """What `lockstep doctor --in-cloud` prints of functions and databases, and how long it took, in seconds.

    Args:
        world: What is deployed.
        words: More options.
    """
    began = time.monotonic()
    plan = str(world.folder / "plan" / "lockstep.yaml")
    only = ("--only", "inside", "--only", "database")
    printed = subprocess.run(
        [sys.executable, "-m", "lockstep", "doctor", "--in-cloud", "--json", "--plan", plan, *only, *words],
        env={**os.environ, **world.aws.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    try:
        document: dict[str, Any] = json.loads(printed.stdout)
    except ValueError:
        raise RuntimeError(printed.stderr) from None
    return document, round(seconds, 1)


def check_doctor(world: DeployedWorld) -> tuple[Mapping[str, object], list[str]]:
    """Let the doctor look where all is well; its figures, and what it complains about."""
    document, seconds = doctor_in_cloud(world)
    problems = [
        f"doctor in {f['where']}: {f['check']}: {f['subject']}: {f['says']}"
        for f in document["findings"]
        if f["outcome"] != "passed"
    ]
    places = sorted({f["where"] for f in document["findings"]})
    return {"findings": len(document["findings"]), "places": places, "seconds": seconds}, problems


def check_watch(world: DeployedWorld) -> tuple[Mapping[str, float], list[str]]:
    """Neglect a credential until people are paged, rotate it until they hear that all is well; the minutes of each."""
    watching = Watching(world.stack, STACK)
    outputs = world.aws.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]["Outputs"]
    topic = next(o["OutputValue"] for o in outputs if o["OutputKey"] == "PageTopicArn")
    people = Subscriber.of(world.aws, topic)
    neglected = world.plan.credentials[-1].id
    try:
        healthy = watching.look()
        world.neglect(neglected)
        to_page = watching.minutes_until(people, "Stale", "ALARM")
        world.rotate(neglected)
        to_ok = watching.minutes_until(people, "Stale", "OK")
    except NothingArrivedError as error:
        return {}, [str(error)]
    found = [f"the watch counts {name} where all is well" for name in COUNTED if healthy[name]]
    return {**healthy, "minutes_to_page": to_page, "minutes_to_ok": to_ok}, found


if __name__ == "__main__":
    argparse.ArgumentParser(
        prog="python -m sandbox.deploy_local", description=__doc__.partition("\n")[0]
    ).parse_args()
    sys.exit(main())
