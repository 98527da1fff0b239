"""The stack that the real CDK CLI deploys onto this machine, beside the databases of its plan; and OCI beside it.

Neither cloud has a key of the other one: the domain trusts the account's tokens, and the stack's role those of the
issuer.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdk.bundle import Bundle, build
from cdk.deployment import Deployment, Publication, digest_alias
from cdk.settings import PRINCIPALS_OUTPUT, Settings, oci_runner_name
from lockstep.aws.kms import KmsDigestKey
from lockstep.operate.secrets import ROTATED, wanted
from lockstep.plan.file import load_plan
from lockstep.plan.model import Plan
from lockstep.protocol.model import Login
from lockstep.protocol.names import DOCTOR
from lockstep.protocol.schedule import Shard
from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from lockstep.runtime.wiring import DIGEST_VARIABLE, DOCTOR_VARIABLE
from sandbox import plans
from sandbox.emulators.aws import AwsSandbox, Execution
from sandbox.emulators.aws.deployed import DeployedStack, Fired, Schedule
from sandbox.emulators.aws.lambda_process import FunctionProcesses
from sandbox.emulators.databases import CertificateAuthority, DatabaseServer, running
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.emulators.oci.identity import pem_of
from sandbox.emulators.oci.keys import Key
from sandbox.estate import environment, temporary_folder
from sandbox.first_day import activate, create_secrets, take_over
from sandbox.fn import FunctionProcess, function_variables, running_function
from sandbox.identities import (
    digest_key,
    federated,
    function_key,
    grant,
    know_application,
    let_in,
    make_digest_key,
    make_issuer,
    make_log,
)
from sandbox.oci_resources import make_secrets, names_in
from sandbox.plans import LOCK_TABLE, TO_OCI
from sandbox.servers import (
    admin_texts,
    default_credentials,
    default_servers,
    make_database,
    new_rotation_users,
    planned,
    provision,
)

STACK = "lockstep"
MAC_KEY = "alias/lockstep-audit"
_CURRENT = "AWSCURRENT"
_COMMAND_SECONDS = 900
ROOT = Path(__file__).resolve().parent.parent
COMMAND = ROOT / "node_modules" / ".bin" / "cdk"


@dataclass(kw_only=True)
class DeployedWorld:
    """The deployed stack beside the databases of its plan.

    Attributes:
        bundle: What was shipped.
        functions: The processes of each version of a function that was called.
        seconds: How long each part of the way here took.
        audited: The plan with all public keys of digests, as it is once the stack is there.
        standby: The OCI function; None where the plan has AWS alone.
        digests: The OCI function that makes digests; likewise.
        operator: Variables of an administrator's environment, besides those of AWS.
        oci: None where the plan has AWS alone.
    """

    plan: Plan
    folder: Path
    aws: AwsSandbox
    stack: DeployedStack
    servers: Mapping[str, DatabaseServer]
    bundle: Bundle
    functions: Mapping[str, FunctionProcesses]
    audited: Path
    seconds: dict[str, float] = field(default_factory=dict)
    standby: FunctionProcess | None = None
    digests: FunctionProcess | None = None
    operator: Mapping[str, str] = field(default_factory=dict)
    oci: OciSandbox | None = None

    def fire(self, schedule: Schedule) -> Fired:
        """Fire the rule of a shard whose credentials are due."""
        for credential_id in self.shard(schedule).credential_ids:
            self.neglect(credential_id)
        return self.stack.fire(schedule)

    def rotate(self, credential_id: str) -> Execution:
        """Rotate a credential that is due, as the fleet does."""
        self.neglect(credential_id)
        return self.stack.start(credential_id)

    def shard(self, schedule: Schedule) -> Shard:
        """What a rule starts."""
        return next(shard for shard in self.plan.shards if shard.name == schedule.input["shard"])

    def current(self, secret: str) -> Mapping[str, object]:
        """What an application reads."""
        reply = self.aws.client("secretsmanager").get_secret_value(SecretId=secret, VersionStage=_CURRENT)
        document: Mapping[str, object] = json.loads(reply["SecretString"])
        return document

    def neglect(self, credential_id: str) -> None:
        """Make a credential look as if nobody had rotated it for years."""
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
def deployed_world(
    *,
    in_both: bool = False,
    credentials: Callable[[Mapping[str, DatabaseServer]], Sequence[plans.Document]] = default_credentials,
    imported: int = 0,
) -> Iterator[DeployedWorld]:
    """Start, build, deploy; stop and forget everything afterwards.

    Args:
        in_both: With a second store in OCI, and the standby. By default the plan has AWS alone.
        credentials: Those of the plan, by its servers.
        imported: So many of them, the last ones, are not activated and taken over: their logins are to be imported.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(temporary_folder()))
        seconds: dict[str, float] = {}
        servers = default_servers(CertificateAuthority(folder / "plan" / "ca"))
        with timed(seconds, "start"):
            aws = stack.enter_context(AwsSandbox())
            oci = stack.enter_context(OciSandbox(names=aws.names)) if in_both else None
            stack.enter_context(running(*servers.values()))
        digest_key = make_digest_key(oci) if oci else None
        keys = {"oci": pem_of(digest_key.current.public_key)} if digest_key else {}
        document = plan_of(folder / "plan", servers, credentials(servers), aws, oci)
        plan_file = _write_plan(folder, "lockstep.yaml", document, keys)
        plan = load_plan(plan_file)
        bundle = deploy(
            aws,
            plan,
            plan_file,
            folder,
            seconds,
            operators=json.dumps([f"arn:aws:iam::{aws.account_id}:role/{OPERATORS}"]),
            audit_break_glass_role=f"arn:aws:iam::{aws.account_id}:role/{BREAK_GLASS}",
        )
        beside = operator(oci, folder) if oci else {}
        with timed(seconds, "secrets"), environment({**aws.environment(), **beside}):
            create_secrets(plan, key=encryption_key(aws), oci_key=oci.key_id if oci else None)
        with timed(seconds, "provision"):
            rotation_users = make_accounts(plan, servers, aws)
            for credential in plan.credentials[: len(plan.credentials) - imported]:
                activate(aws.client("dynamodb"), LOCK_TABLE, credential)
                take_over(aws.client("dynamodb"), LOCK_TABLE, credential)
        endpoint = {name: beside[name] for name in (OCI_ENDPOINT_VARIABLE,) if name in beside}
        deployed = DeployedStack(aws, STACK, folder / "deployed", environment=endpoint)
        in_aws = KmsDigestKey(aws.client("kms"), digest_alias(STACK)).public_key()
        audited = _write_plan(folder, "audited.yaml", document, {**keys, "aws": in_aws})
        standby, digests = None, None
        if oci and digest_key:
            know_deployed(aws, oci, deployed)
            make_log(oci, retention_days=400)
            make_secrets(oci, admin_texts(rotation_users))
            standby = stack.enter_context(running_standby(aws, oci, STACK, folder, plan_file))
            digests = stack.enter_context(running_digests(aws, oci, folder, audited, digest_key))
        functions = stack.enter_context(deployed.running())
        yield DeployedWorld(
            plan=plan,
            folder=folder,
            aws=aws,
            stack=deployed,
            servers=servers,
            bundle=bundle,
            functions=functions,
            audited=audited,
            seconds=seconds,
            standby=standby,
            digests=digests,
            operator=beside,
            oci=oci,
        )


def deploy(
    aws: AwsSandbox, plan: Plan, plan_file: Path, folder: Path, seconds: dict[str, float], **more: str
) -> Bundle:
    """Build the bundle, deploy the stack with the CDK CLI, and publish the plan; what was shipped.

    Args:
        aws: The account.
        plan: The plan.
        plan_file: Its file.
        folder: For the bundle and the cloud assembly.
        seconds: Gets how long each part took.
        more: Settings of the deployment.
    """
    with timed(seconds, "build"):
        bundle = build("aws", plan_file=plan_file, out=folder / "bundle")
    with timed(seconds, "deploy"):
        # Nothing fires a rule by itself here.
        settings = {"packaging": "zip", "bundle": str(folder / "bundle"), "schedules": "true", **more}
        settings["plan"] = str(plan_file)
        cli = CdkCli(aws, folder / "cdk.out")
        cli.bootstrap()
        cli.deploy(settings)
        # The bucket was just made.
        Publication(Deployment.of(plan, Settings.from_context(settings.get)), aws.client("s3")).publish()
    return bundle


def lockstep(
    variables: Mapping[str, str], *words: str, given: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run a command of an operator.

    Args:
        variables: Of its environment, beside those of this process.
        words: The command.
        given: Its standard input.
    """
    return subprocess.run(
        [sys.executable, "-m", "lockstep", *words],
        env={**os.environ, **variables},
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=_COMMAND_SECONDS,
    )


@contextmanager
def timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    """Write down how long something takes."""
    began = time.monotonic()
    yield
    seconds[what] = round(time.monotonic() - began, 1)


def _write_plan(folder: Path, name: str, document: plans.Document, keys: Mapping[str, str]) -> Path:
    return plans.write_plan(folder / "plan" / name, plans.with_digest_keys(document, keys))


def plan_of(
    folder: Path,
    servers: Mapping[str, DatabaseServer],
    credentials: Sequence[plans.Document],
    aws: AwsSandbox,
    oci: OciSandbox | None,
) -> plans.Document:
    """A plan for the stack, in a folder. It names CA files by path relative to that, as a plan that is shipped."""
    databases = [planned(name, server) for name, server in servers.items()]
    for database in databases:
        if "ca_file" in database:
            database["ca_file"] = str(Path(database["ca_file"]).relative_to(folder))
    return plans.plan_document(
        databases,
        credentials,
        region=aws.region,
        mac_key=MAC_KEY,
        oci=names_in(oci) if oci else None,
        runners=planned_runners(aws, oci, STACK) if oci else None,
    )


def make_accounts(plan: Plan, servers: Mapping[str, DatabaseServer], aws: AwsSandbox) -> Mapping[str, Login]:
    """What people make: databases, accounts, and the secrets that the AWS runner reads; the rotation users' logins."""
    rotation_users = new_rotation_users(servers)
    client, key = aws.client("secretsmanager"), encryption_key(aws)
    for server in servers.values():
        make_database(server)
    for name, text in admin_texts(rotation_users).items():
        client.create_secret(Name=name, SecretString=text, KmsKeyId=key)
    for secret in wanted(plan):
        if secret.kind not in ROTATED:
            tags = [{"Key": key, "Value": value} for key, value in secret.tags(STACK).items()]
            client.tag_resource(SecretId=secret.name, Tags=tags)
    for credential in plan.credentials:
        provision(plan, credential, servers, rotation_users)
    return rotation_users


def encryption_key(aws: AwsSandbox) -> str:
    """Lockstep's own key, as `docs/iam.md` says of secrets that people make for it."""
    arn: str = aws.client("kms").describe_key(KeyId=f"alias/{STACK}")["KeyMetadata"]["Arn"]
    return arn


APPLICATION_ID, FUNCTION_ID = "ocid1.fnapp.oc1..lockstep", "ocid1.fnfunc.oc1..rotate"
DOCTOR_ID = "ocid1.fnfunc.oc1..doctor"


def planned_runners(aws: AwsSandbox, oci: OciSandbox, stack: str) -> plans.Document:
    """`runners` of a plan whose stack makes what AWS knows of them; makes what OCI knows of AWS.

    Args:
        aws: The account.
        oci: The tenancy.
        stack: The name of the stack.
    """
    let_in(aws, oci)
    role_arn = f"arn:aws:iam::{aws.account_id}:role/{oci_runner_name(stack)}"
    return federated(oci, {**make_issuer(oci), "role_arn": role_arn})


def know_deployed(aws: AwsSandbox, oci: OciSandbox, stack: DeployedStack) -> None:
    """Let OCI know the roles and the key of the stack, as Terraform and an administrator of the domain do."""
    know_application(aws, oci, key_id=TO_OCI["kms_key"])
    grant(oci, json.loads(stack.outputs[PRINCIPALS_OUTPUT]))


def operator(oci: OciSandbox, folder: Path) -> Mapping[str, str]:
    """The variables of an administrator's environment that are of the tenancy."""
    config = write_config_file(folder, "operator", oci.config())
    return {OCI_ENDPOINT_VARIABLE: oci.endpoint, CONFIG_FILE_VARIABLE: str(config)}


@contextmanager
def running_standby(
    aws: AwsSandbox, oci: OciSandbox, stack: str, folder: Path, plan_file: Path
) -> Iterator[FunctionProcess]:
    """Run the function in OCI, and the doctor's beside it, under the names that Terraform gives them; the first.

    Args:
        aws: The account.
        oci: The tenancy.
        stack: The name of the stack.
        folder: For its config file.
        plan_file: The plan.
    """
    config = write_config_file(folder, "function", function_key(oci))
    variables = function_variables(aws=aws.url, oci=oci.endpoint, plan=plan_file, config=config)
    doctors = {**variables, DOCTOR_VARIABLE: "1"}
    with running_function(variables) as running, running_function(doctors) as doctor:
        know_functions(oci, stack, running, doctor)
        yield running


@contextmanager
def running_digests(
    aws: AwsSandbox, oci: OciSandbox, folder: Path, plan_file: Path, key: Key
) -> Iterator[FunctionProcess]:
    """Run the function that makes OCI's digests.

    Args:
        aws: The account.
        oci: The tenancy.
        folder: For its config file.
        plan_file: The plan.
        key: What signs.
    """
    config = write_config_file(folder, "digest", digest_key(oci))
    variables = function_variables(aws=aws.url, oci=oci.endpoint, plan=plan_file, config=config)
    with running_function({**variables, DIGEST_VARIABLE: f"{key.ocid}@{oci.endpoint}"}) as running:
        yield running


def know_functions(
    oci: OciSandbox, application: str, standby: FunctionProcess, doctor: FunctionProcess
) -> None:
    """Let the tenancy have both functions.

    Args:
        oci: The tenancy.
        application: The name of their application.
        standby: What answers as the standby.
        doctor: What answers as the doctor.
    """
    here: dict[str, Any] = {"compartmentId": oci.own_compartment_id, "lifecycleState": "ACTIVE"}
    oci.deployment.applications = [{**here, "id": APPLICATION_ID, "displayName": application}]
    named = {"applicationId": APPLICATION_ID, "invokeEndpoint": oci.endpoint}
    oci.deployment.functions = [
        {**here, **named, "id": FUNCTION_ID, "displayName": "rotate"},
        {**here, **named, "id": DOCTOR_ID, "displayName": DOCTOR},
    ]
    oci.functions.code.update({FUNCTION_ID: standby.invoked, DOCTOR_ID: doctor.invoked})


_DEPLOY = ("deploy", "--require-approval", "never")
_INHERITED = ("HOME", "LANG", "PATH")


class CdkError(Exception):
    """The CLI is not there, or it failed; the text ends with what it said."""


class CdkCli:
    """Bootstraps and deploys into a running sandbox.

    Args:
        aws: Takes the deployment.
        output: A folder for the cloud assembly.
    """

    def __init__(self, aws: AwsSandbox, output: Path) -> None:
        self._aws = aws
        self._output = output

    def bootstrap(self) -> None:
        """Make what CDK needs in an account: staging bucket and roles.

        Raises:
            CdkError: It failed.
        """
        # Not from the repository: with an app at hand, the CLI would synthesise it first.
        self._run("bootstrap", f"aws://{self._aws.account_id}/{self._aws.region}", cwd=self._output.parent)

    def deploy(self, context: Mapping[str, str]) -> str:
        """Synthesise the stack, with its checks, and deploy it; what the CLI says.

        Args:
            context: Settings that differ from `cdk.json`.

        Raises:
            CdkError: It failed.
        """
        settings = [part for name, value in context.items() for part in ("--context", f"{name}={value}")]
        return self._run(*_DEPLOY, "--output", str(self._output), *settings, cwd=ROOT)

    def _run(self, *arguments: str, cwd: Path) -> str:
        if not COMMAND.exists():
            raise CdkError("the CDK CLI is not there; `make cdk-cli` installs it")
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        done = subprocess.run(
            [COMMAND, *arguments, "--ci", "--no-notices", "--no-color"],
            env={
                **environment,
                **self._aws.environment(),
                # Debian's node is older than CDK likes; it says so in twelve lines.
                "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1",
                "JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION": "1",
            },
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMMAND_SECONDS,
        )
        if done.returncode:
            raise CdkError(f"cdk {arguments[0]} failed\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return done.stdout + done.stderr
