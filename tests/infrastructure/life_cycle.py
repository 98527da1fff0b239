"""An account that people deploy into with the CDK CLI, again and again, and a database whose password is rotated."""

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aws_cdk import App

from cdk.app import make_app
from cdk.bundle import Bundle, build, read_bundle
from cdk.deploy import create_secrets
from cdk.deployment import Deployment, read_deployment
from cdk.publish import Publication
from cdk.settings import ROOT, Settings
from lockstep.model import ROTATOR, Login, SecretStr, Strategy
from lockstep.plan import Plan
from lockstep.plan_file import load_plan
from lockstep.tags import SECRET_TAG, STACK_TAG, SecretKind
from sandbox import plans
from sandbox.aws import AwsSandbox
from sandbox.aws.deployed import DeployedStack
from sandbox.cdk_cli import CdkCli
from sandbox.databases import CertificateAuthority, DatabaseServer, running
from sandbox.deploy_local import check_credential
from sandbox.deployed_world import DeployedWorld
from sandbox.first_day import activate, enrol
from sandbox.servers import default_servers, login_text, make_database, planned, provision

DATABASE = "orders"
_ASSEMBLIES = count()
_IMAGE = "application/vnd.docker.container.image.v1+json"


@dataclass
class Account:
    """An AWS account after `cdk bootstrap`, and a database server beside it.

    Attributes:
        folder: For packages and assemblies.
        plans: The folder of plans and CA files. It is in the repository, because images are built from there.
        rotator: The rotator admin's login on the server.
    """

    aws: AwsSandbox
    folder: Path
    plans: Path
    server: DatabaseServer
    rotator: Login = field(default_factory=lambda: Login(ROTATOR, SecretStr(secrets.token_urlsafe(24))))

    @cached_property
    def cli(self) -> CdkCli:
        return CdkCli(self.aws, self.folder / "cdk.out")

    def estate(self, name: str, *credentials: str, **more: object) -> "Estate":
        """Names of a stack's own, and credentials by the last part of their ids, with more keys in the plan."""
        return Estate(self, name, credentials or ("app",), more)

    def publish_images(self, assembly: Path) -> None:
        """Let each image of an assembly be in the registry, as if it had been built and pushed before.

        The CLI builds no image that is there already. Nothing can run these.
        """
        ecr = self.aws.client("ecr")
        for number, file in enumerate(sorted(assembly.glob("*.assets.json"))):
            images = json.loads(file.read_text())["dockerImages"].values()
            for destination in (d for image in images for d in image["destinations"].values()):
                digest = f"sha256:{number:064x}"
                manifest = {
                    "schemaVersion": 2,
                    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                    "config": {"mediaType": _IMAGE, "size": 1, "digest": digest},
                    "layers": [],
                }
                repository = destination["repositoryName"].replace("${AWS::AccountId}", self.aws.account_id)
                ecr.put_image(
                    repositoryName=repository.replace("${AWS::Region}", self.aws.region),
                    imageTag=destination["imageTag"],
                    imageManifest=json.dumps(manifest),
                )


@contextmanager
def bootstrapped(folder: Path) -> Iterator[Account]:
    """Start the account and the database."""
    with ExitStack() as stack:
        (ROOT / "build").mkdir(exist_ok=True)
        plan_folder = Path(stack.enter_context(TemporaryDirectory(prefix="plans-", dir=ROOT / "build")))
        aws = stack.enter_context(AwsSandbox())
        server = next(iter(default_servers(CertificateAuthority(plan_folder / "ca")).values()))
        stack.enter_context(running(server))
        make_database(server)
        account = Account(aws, folder, plan_folder, server)
        account.cli.bootstrap()
        yield account


@dataclass(frozen=True)
class Estate:
    """What one plan names in the account.

    Attributes:
        stack: The stack's name, and the prefix of every other name.
        credentials: The last parts of the credentials' ids.
        more: What the plan says of each of them, beside what every plan says.
        runners: The section of the plan, with a store and a runner in OCI; None: all is in AWS.
    """

    account: Account
    stack: str
    credentials: tuple[str, ...]
    more: Mapping[str, object] = field(default_factory=dict)
    runners: Mapping[str, Mapping[str, object]] | None = None

    @property
    def table(self) -> str:
        return f"{self.stack}-locks"

    @property
    def bucket(self) -> str:
        return f"{self.stack}-audit"

    @property
    def mac_key(self) -> str:
        return f"alias/{self.stack}-audit"

    @property
    def secrets(self) -> list[str]:
        return [
            name
            for c in self.plan.credentials
            for name in (c.secret_names.app_user, c.secret_names.connection_blob)
        ]

    @cached_property
    def plan_file(self) -> Path:
        database = planned(DATABASE, self.account.server)
        folder = self.account.plans
        if "tls" in database:
            database["tls"]["ca_file"] = str(Path(database["tls"]["ca_file"]).relative_to(folder))
        database["admin_secret"] = f"{self.stack}/admin"
        document = plans.plan_document(
            [database],
            [
                plans.credential(
                    f"{self.stack}/{name}",
                    DATABASE,
                    username=f"{self.stack}_{name}".replace("-", "_"),
                    strategy=Strategy.ALTERNATING_USERS,
                    secrets=plans.own_secrets(f"{self.stack}/{name}"),
                    **self.more,
                )
                for name in self.credentials
            ],
            region=self.account.aws.region,
            mac_key=self.mac_key,
            oci=plans.OciNames() if self.runners else None,
        )
        if self.runners:
            document["runners"] = dict(self.runners)
            database["oci_admin_secret"] = f"{self.stack}.admin"
        document["lock"]["table"] = self.table
        document["audit"]["aws"]["bucket"] = self.bucket
        ways = [key for runner in (self.runners or {}).values() for key in runner]
        named = "-".join((self.stack, *self.credentials, *self.more, *ways))
        return plans.write_plan(folder / f"{named}.yaml", document)

    @cached_property
    def plan(self) -> Plan:
        return load_plan(self.plan_file)

    @cached_property
    def bundle(self) -> Bundle:
        """The package of this plan."""
        return build("aws", plan_file=self.plan_file, out=self.bundle_folder)

    @property
    def bundle_folder(self) -> Path:
        return self.account.folder / "bundles" / self.plan_file.stem

    def assembly(self, settings: Mapping[str, object]) -> Path:
        """Synthesise.

        Args:
            settings: As in `cdk.json`. By default the package is built of the estate's own plan; another one will do
                where no function is run.
        """
        if "bundle" not in settings:
            assert self.bundle
        out = self.account.folder / "assemblies" / str(next(_ASSEMBLIES))
        app = App(outdir=str(out), context=json.loads((ROOT / "cdk.json").read_text())["context"])
        wanted: dict[str, Any] = {
            "plan": self.plan_file,
            "stack": self.stack,
            "packaging": "zip",
            "bundle": self.bundle_folder,
            **settings,
        }
        make_app(read_deployment(Settings.model_validate(wanted)), app)
        app.synth()
        return out

    def deploy(self, **settings: object) -> str:
        """Synthesise and deploy; what the CLI says. Plan and secrets follow, as by `make deploy-aws`."""
        assembly = self.assembly(settings)
        is_there = self.publish(settings)
        said = self.account.cli.deploy_assembly(assembly)
        if not is_there:
            assert self.publish(settings)
        chosen = Settings.model_validate({"plan": self.plan_file, "stack": self.stack, **settings})
        assert create_secrets(
            Deployment.of(self.plan, chosen), lambda service, _: self.account.aws.client(service)
        )
        return said

    def publish(self, settings: Mapping[str, object]) -> bool:
        """Publish the plan; whether there is a bucket for it."""
        chosen = Settings.model_validate({"plan": self.plan_file, "stack": self.stack, **settings})
        s3 = self.account.aws.client("s3")
        if f"{self.bucket}-plans" not in {b["Name"] for b in s3.list_buckets()["Buckets"]}:
            return False
        Publication(Deployment.of(self.plan, chosen), s3).publish()
        return True

    def deploy_asking(self, **settings: object) -> str:
        """Deploy as `make deploy-aws` does, which asks the account what exists; what it says."""
        assert self.bundle
        given: dict[str, object] = {
            "plan": self.plan_file,
            "stack": self.stack,
            "packaging": "zip",
            "bundle": self.bundle_folder,
            **settings,
        }
        context = {name: v if isinstance(v, str | Path) else json.dumps(v) for name, v in given.items()}
        return self.account.cli.deploy_asking({name: str(value) for name, value in context.items()})

    def destroy(self, **settings: object) -> str:
        """Destroy; what the CLI says."""
        return self.account.cli.destroy_assembly(self.assembly(settings))

    def status(self) -> str | None:
        """The stack's status; None if there is none."""
        client = self.account.aws.client("cloudformation")
        found = [s for s in client.describe_stacks()["Stacks"] if s["StackName"] == self.stack]
        status: str | None = found[0]["StackStatus"] if found else None
        return status

    @property
    def encryption_key(self) -> str:
        """The key behind the stack's alias, as an ARN."""
        kms = self.account.aws.client("kms")
        arn: str = kms.describe_key(KeyId=f"alias/{self.stack}")["KeyMetadata"]["Arn"]
        return arn

    def provision(self, *, enrolled: bool = True) -> None:
        """What people do on the first day: the rotator admin's secret, the accounts, and their consent.

        Args:
            enrolled: Whether they consent to taking over accounts whose passwords are not known.
        """
        aws = self.account.aws
        aws.client("secretsmanager").create_secret(
            Name=f"{self.stack}/admin",
            SecretString=login_text(self.account.rotator),
            KmsKeyId=self.encryption_key,
            Tags=[{"Key": STACK_TAG, "Value": self.stack}, {"Key": SECRET_TAG, "Value": SecretKind.ADMIN}],
        )
        for credential in self.plan.credentials:
            provision(
                self.plan, credential, {DATABASE: self.account.server}, {DATABASE: self.account.rotator}
            )
            activate(aws.client("dynamodb"), self.table, credential)
            if enrolled:
                enrol(aws.client("dynamodb"), self.table, credential)

    @contextmanager
    def _world(self) -> Iterator[DeployedWorld]:
        folder = self.account.folder / "deployed" / str(next(_ASSEMBLIES))
        folder.mkdir(parents=True)
        deployed = DeployedStack(self.account.aws, self.stack, folder)
        with deployed.running() as functions:
            yield DeployedWorld(
                plan=self.plan,
                folder=folder,
                aws=self.account.aws,
                stack=deployed,
                servers={DATABASE: self.account.server},
                bundle=read_bundle(self.bundle_folder),
                functions=functions,
            )

    def rotate(self) -> None:
        """Rotate each credential as the fleet does. Each is at a newer generation afterwards, and all is well."""
        before = self.generations()
        with self._world() as world:
            assert {s.input["shard"] for s in world.stack.schedules} == {s.name for s in self.plan.shards}
            for credential in self.plan.credentials:
                execution = world.rotate(credential.id)
                assert execution.output, f"{execution.error}: {execution.cause}"
                assert execution.output["outcome"] == "rotated"
                assert execution.output["generation"] > before[credential.id], execution.output
                assert check_credential(world, credential, execution.output["generation"]) == []

    def generations(self) -> Mapping[str, int]:
        """What applications read, as its generation, by credential."""
        values = self.values()
        served = {c.id: json.loads(values[c.secret_names.app_user]) for c in self.plan.credentials}
        return {name: content.get("generation", 0) for name, content in served.items()}

    def rules(self) -> list[str]:
        """The stack's rules."""
        return self._deployed.of_type("AWS::Events::Rule")

    def package_types(self) -> set[str]:
        """How the stack's functions are packaged."""
        client = self.account.aws.client("lambda")
        configurations = (client.get_function_configuration(FunctionName=f) for f in self._deployed.functions)
        return {configuration["PackageType"] for configuration in configurations}

    @property
    def _deployed(self) -> DeployedStack:
        return DeployedStack(self.account.aws, self.stack, self.account.folder)

    def values(self) -> Mapping[str, str]:
        """What applications read, by secret."""
        client = self.account.aws.client("secretsmanager")
        return {
            name: client.get_secret_value(SecretId=name, VersionStage="AWSCURRENT")["SecretString"]
            for name in self.secrets
        }

    def entries(self) -> set[str]:
        """The keys of the audit entries."""
        listed = self.account.aws.client("s3").list_objects_v2(Bucket=self.bucket)
        return {entry["Key"] for entry in listed.get("Contents", [])}

    def items(self) -> list[Mapping[str, Any]]:
        """The items of the lock table."""
        items: list[Mapping[str, Any]] = self.account.aws.client("dynamodb").scan(TableName=self.table)[
            "Items"
        ]
        return sorted(items, key=lambda item: item["credential_id"]["S"])

    def kept(self, **more: object) -> Mapping[str, Any]:
        """The adoption of everything that a stack leaves behind."""
        everything = {
            "lock_table": True,
            "audit_bucket": True,
            "plan_bucket": True,
            "mac_key": True,
            "log_groups": True,
        }
        return {**everything, "encryption_key": self.encryption_key, **more}
