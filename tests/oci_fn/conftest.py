"""Both clouds and the databases on this machine, for tests of the function."""

import base64
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from ruamel.yaml import YAML

from lockstep import wiring
from lockstep.audit.chain import Entry
from lockstep.audit.verify import verify
from lockstep.model import Login, SecretStr
from lockstep.oci import ring
from lockstep.plan import Credential, Plan, load_plan
from sandbox.databases import CertificateAuthority
from sandbox.mysql_fake import MySqlFake
from sandbox.oci import OciSandbox
from sandbox.world import CredentialSpec, Server, World, default_servers, environment, running_world
from tests.contract.oci_fixtures import OciConsole
from tests.oci_fn.function_process import FunctionProcess, running_function

SLOTS = 4
BUCKET = "lockstep-audit"
FUNCTION_MAY = (
    "SECRET_INSPECT",
    "SECRET_READ",
    "SECRET_UPDATE",
    "SECRET_VERSION_INSPECT",
    "SECRET_VERSION_DELETE",
    "SECRET_BUNDLE_READ",
    "OBJECT_CREATE",
    "OBJECT_INSPECT",
)
"""All that the function's policy gives it."""
AWS_RUNNER_MAY = tuple(p for p in FUNCTION_MAY if not p.startswith("OBJECT_"))


@dataclass(kw_only=True)
class TwoClouds:
    """A world with both clouds, and a plan with both stores and both runners."""

    world: World
    sandbox: OciSandbox
    console: OciConsole
    plan: Plan
    plan_file: Path
    rings: Mapping[str, list[str]]
    function_environment: Mapping[str, str]
    secrets: list[str]
    """What must never be shown anywhere, besides the values of the credentials."""

    def in_oci(self, credential: Credential) -> Login | None:
        """What an application gets from the ring."""
        found = [
            (ring.generation_of(name, credential.id, credential.secret_names.app_user), -i, text)
            for i, secret_id in enumerate(self.rings[credential.secret_names.app_user])
            for name, text in [self.console.current(secret_id)]
        ]
        document = json.loads(max(found)[2])
        if "username" not in document:
            return None
        return Login(document["username"], SecretStr(document["password"]))

    def locked_out(self, credential: Credential) -> list[str]:
        """Where what a store serves does not log in."""
        databases = wiring.build_aws_ports(self.plan, credential.id).databases
        logins = {"aws": self.world.stored_login(credential), "oci": self.in_oci(credential)}
        return [
            f"{store} at {name}"
            for store, login in logins.items()
            for name, database in databases.items()
            if login and not database.accepts(login)
        ]

    def entries(self, credential: Credential) -> dict[str, list[Entry]]:
        """The verified chains of both streams."""
        aws = wiring.build_aws_ports(self.plan, credential.id)
        own = wiring.build_oci_ports(self.plan, credential.id)
        logs = [(p.audit_log, p.signer) for p in (aws, own) if p.audit_log.last_seq()]
        found = verify(credential.id, logs, aws.lock.read().heads)
        assert [v.problems for v in found] == [[] for _ in found]
        return {v.stream: v.entries for v in found}


@pytest.fixture(scope="module")
def two_clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoClouds]:
    """MariaDB and PostgreSQL where there are any, and the MySQL fake; a dozen credentials, each for one test."""
    folder = tmp_path_factory.mktemp("two-clouds")
    authority = CertificateAuthority(tmp_path_factory.mktemp("ca"))
    certificate = authority.issue()
    servers: dict[str, Server] = {
        "crm": MySqlFake(certificate.chain_file, certificate.key_file, ca_file=authority.ca_file),
        **default_servers(authority),
    }
    everywhere = ("alternating_users", tuple(servers))
    credentials = [
        CredentialSpec(
            id=f"multi-cloud/app-{n}",
            username=f"app_{n}",
            strategy=strategy,
            databases=databases,
            taken_over=True,
        )
        for n, (strategy, databases) in enumerate([everywhere] + [("dual_password", ("crm",))] * 9)
    ]
    with running_world(credentials, servers, folder=folder) as world, OciSandbox() as sandbox:
        yield from _with_oci(world, sandbox, folder)


def _with_oci(world: World, sandbox: OciSandbox, folder: Path) -> Iterator[TwoClouds]:
    console = OciConsole(sandbox)
    function_key = sandbox.new_api_key("lockstep-function", *FUNCTION_MAY)
    aws_runner_key = sandbox.new_api_key("lockstep-aws", *AWS_RUNNER_MAY)
    access_key = {"access_key_id": "AKIALOCKSTEP", "secret_access_key": secrets.token_urlsafe(30)}
    mac_key = base64.b64encode(secrets.token_bytes(48)).decode()
    plan_file = _plan_file(world, sandbox, folder)
    plan = load_plan(plan_file)

    aws = world.aws.client("secretsmanager")
    aws.create_secret(Name="lockstep/oci-key", SecretString=_oci_key_text(aws_runner_key))
    console.create_secret("lockstep.aws-key", json.dumps(access_key))
    console.create_secret("lockstep.mac", mac_key)
    admins = []
    for name in {d.admin_secret for d in plan.databases}:
        admins.append(aws.get_secret_value(SecretId=name)["SecretString"])
        console.create_secret(ring.oci_name(name), admins[-1])
    console.create_bucket(BUCKET)
    rings = {}
    for credential in plan.credentials:
        names = credential.secret_names
        for name in (names.app_user, names.connection_blob):
            rings[name] = console.create_ring(name, SLOTS)
        taken_over = aws.get_secret_value(SecretId=names.app_user)["SecretString"]
        console.edit(rings[names.app_user][0], taken_over)

    variables = {
        wiring.PLAN_VARIABLE: str(plan_file),
        wiring.OCI_ENDPOINT_VARIABLE: sandbox.endpoint,
        "AWS_ENDPOINT_URL": world.aws.url,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    # The test's own process is the AWS runner, and an auditor who may read everything in OCI.
    with environment({**variables, "OCI_CONFIG_FILE": _config_file(folder, "auditor", sandbox.config())}):
        yield TwoClouds(
            world=world,
            sandbox=sandbox,
            console=console,
            plan=plan,
            plan_file=plan_file,
            rings=rings,
            function_environment={
                **variables,
                "OCI_CONFIG_FILE": _config_file(folder, "function", function_key),
            },
            secrets=[
                access_key["secret_access_key"],
                mac_key,
                *(json.loads(text)["password"] for text in admins),
                *(key["key_content"].splitlines()[5] for key in (function_key, aws_runner_key)),
            ],
        )


def _plan_file(world: World, sandbox: OciSandbox, folder: Path) -> Path:
    yaml = YAML(typ="safe", pure=True)
    document: dict[str, Any] = yaml.load(world.plan_file.read_text())
    document["stores"].append(
        {
            "kind": "oci-vault",
            "region": "eu-frankfurt-1",
            "compartment_id": sandbox.compartment_id,
            "vault_id": sandbox.vault_id,
            "ring": SLOTS,
        }
    )
    document["audit"]["oci"] = {
        "bucket": BUCKET,
        "namespace": sandbox.namespace,
        "region": "eu-frankfurt-1",
        "mac_secret": "lockstep/mac",
    }
    document["runners"] = {
        "aws": {"oci_key_secret": "lockstep/oci-key"},
        "oci": {"aws_key_secret": "lockstep/aws-key"},
    }
    file = folder / "two-clouds.yaml"
    with file.open("w") as output:
        yaml.dump(document, output)
    return file


def _oci_key_text(config: Mapping[str, str]) -> str:
    fields = {name: config[name] for name in ("tenancy", "user", "fingerprint", "region")}
    return json.dumps({**fields, "private_key": config["key_content"]})


def _config_file(folder: Path, name: str, config: Mapping[str, str]) -> str:
    """An SDK config file, which names the file of its key."""
    key_file, config_file = folder / f"{name}.pem", folder / f"{name}.config"
    key_file.write_text(config["key_content"])
    key_file.chmod(0o600)
    lines = [f"{k}={v}" for k, v in config.items() if k != "key_content"]
    config_file.write_text("\n".join(["[DEFAULT]", *lines, f"key_file={key_file}", ""]))
    assert oci.config.from_file(str(config_file))["key_file"] == str(key_file)
    return str(config_file)


@pytest.fixture(scope="module")
def function(two_clouds: TwoClouds) -> Iterator[FunctionProcess]:
    """The function, running."""
    with running_function(two_clouds.function_environment) as running:
        yield running


@contextmanager
def broken_plan(two_clouds: TwoClouds, text: str) -> Iterator[FunctionProcess]:
    """The function with another plan file."""
    file = two_clouds.plan_file.with_name("broken.yaml")
    file.write_text(text)
    with running_function({**two_clouds.function_environment, wiring.PLAN_VARIABLE: str(file)}) as running:
        yield running


class _Supply:
    def __init__(self, plan: Plan) -> None:
        self._left = list(plan.credentials)

    def take(self) -> Credential:
        return self._left.pop()


@pytest.fixture(scope="module")
def supply(two_clouds: TwoClouds) -> _Supply:
    """Hands out each credential once."""
    return _Supply(two_clouds.plan)


@pytest.fixture
def credential(supply: _Supply) -> Credential:
    """One that no other test has touched."""
    return supply.take()
