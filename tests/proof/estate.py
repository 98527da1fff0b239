"""Both clouds and the databases on this machine, with a wire in front of everything that the shipped code calls."""

import base64
import json
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
from ruamel.yaml import YAML

from lockstep.databases.provisioning import ROTATOR
from lockstep.identity import AWS_RUNNER, CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from lockstep.model import Credential, Login, SecretStr
from lockstep.plan import PLAINTEXT_CONSENT, Plan
from lockstep.plan_file import load_plan
from lockstep.store_kinds import oci_vault
from lockstep.timeouts import CloudTimeouts, DatabaseTimeouts, Timeouts
from lockstep.wiring import PLAN_VARIABLE, hosted_runner
from sandbox.aws import AwsSandbox, create_resources, create_state_machine
from sandbox.databases import (
    CertificateAuthority,
    DatabaseServer,
    MariaDbServer,
    MySqlServer,
    PostgresServer,
    running,
)
from sandbox.databases.front import DatabaseFront, TlsServer, database_fronts
from sandbox.http_front import aws_front, oci_front
from sandbox.oci import OciSandbox, SandboxClock, write_config_file
from sandbox.wire import Wire
from sandbox.world import (
    AUDIT_BUCKET,
    DBNAME,
    LOCK_TABLE,
    PLACEHOLDER,
    ROOT,
    deploy_state_machine,
    engine_of,
    environment,
    provision,
    set_password,
)
from tests.proof.clock import JumpingClock

INTERVAL_SECONDS = 40 * 60
"""Long enough for a ring of two (the plan checks it), and longer than any lease."""
RING = 2
OCI_REGION = "eu-frankfurt-1"
OCI_KEY, AWS_KEY, OCI_MAC = "lockstep/oci-key", "lockstep/aws-key", "lockstep/mac"


PATIENT = Timeouts(
    cloud=CloudTimeouts(read_seconds=60.0),
    database=DatabaseTimeouts(connect_seconds=10.0, io_seconds=60.0, lock_seconds=1),
)
"""So that a runner that is put to sleep in the middle of a call does not wake up by itself."""
IMPATIENT = Timeouts(
    cloud=CloudTimeouts(read_seconds=0.6),
    database=DatabaseTimeouts(connect_seconds=2.0, io_seconds=1.2, lock_seconds=1),
)
"""So that a hang costs a second; the shipped time-outs are 5 and 10."""

KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "mariadb": ("dual_password", ("orders",)),
    "mysql": ("dual_password", ("crm",)),
    "dual": ("dual_password", ("orders", "crm")),
    "alternating": ("alternating_users", ("orders", "ledger")),
}
"""Kinds of credential: strategy and databases. orders is MariaDB, ledger PostgreSQL, crm MySQL."""


@dataclass(kw_only=True)
class Estate:
    """What runs.

    Attributes:
        plan: As the shipped code reads it: with the fronts' ports.
        direct: The same with the servers' own ports, for whoever only looks.
        machine_arn: The state machine of `statemachine.asl.json`.
        timeouts: Those of both runners.
    """

    wire: Wire
    clock: JumpingClock
    plan: Plan
    direct: Plan
    aws: AwsSandbox
    oci: OciSandbox
    servers: Mapping[str, DatabaseServer]
    fronts: Mapping[str, DatabaseFront]
    machine_arn: str
    timeouts: Timeouts

    def credential(self, kind: str) -> Credential:
        """The credential of a kind, as whoever only looks has it."""
        found = self.direct.credential(f"proof/{kind}")
        assert found
        return found


@contextmanager
def estate(kinds: Sequence[str], timeouts: Timeouts = PATIENT) -> Iterator[Estate]:
    """Start it all; the credentials hold a login that is taken over in both stores."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(_temporary_folder()))
        authority = CertificateAuthority(folder / "ca")
        certificate = authority.issue()
        names = sorted({name for kind in kinds for name in KINDS[kind][1]})
        servers: dict[str, TlsServer] = {}
        for name in names:
            if name == "orders":
                servers[name] = MariaDbServer(authority=authority, certificate=certificate)
            elif name == "ledger":
                servers[name] = PostgresServer(authority=authority, certificate=certificate)
            else:
                servers[name] = MySqlServer(authority=authority, certificate=certificate)
        clock, wire = JumpingClock(), Wire()
        stack.enter_context(clock.installed())
        aws = stack.enter_context(AwsSandbox(retry_sleep=clock.jump, wall_clock=clock.time))
        oci_sandbox = stack.enter_context(OciSandbox(SandboxClock(clock.now)))
        stack.enter_context(running(*servers.values()))
        fronts = stack.enter_context(database_fronts(wire, servers))
        aws_port = stack.enter_context(aws_front(wire, aws))
        oci_port = stack.enter_context(oci_front(wire, oci_sandbox))

        rotators = {name: Login(ROTATOR, SecretStr(secrets.token_urlsafe(24))) for name in servers}
        admin_texts = {f"lockstep/admin/{n}": _login_text(login) for n, login in rotators.items()}
        resources = create_resources(
            aws,
            lock_table=LOCK_TABLE,
            audit_bucket=AUDIT_BUCKET,
            secrets={**admin_texts, OCI_KEY: _oci_key(oci_sandbox)},
        )
        console = _OciConsole(oci_sandbox)
        for name, text in {**admin_texts, AWS_KEY: _AWS_KEY_TEXT, OCI_MAC: secrets.token_hex(32)}.items():
            console.create_secret(oci_vault.oci_name(name), text)
        console.create_bucket(AUDIT_BUCKET)

        def plan_of(file_name: str, ports: Mapping[str, int]) -> Plan:
            file = folder / file_name
            document = _document(kinds, servers, ports, aws, oci_sandbox, resources.mac_key_arn)
            with file.open("w") as opened:
                YAML(typ="safe", pure=True).dump(document, opened)
            return load_plan(file)

        plan = plan_of("lockstep.yaml", {n: f.port for n, f in fronts.items()})
        direct = plan_of("direct.yaml", {n: s.port for n, s in servers.items()})
        for server in servers.values():
            server.execute_as_superuser(f"CREATE DATABASE {DBNAME}")
        for credential in direct.credentials:
            provision(direct, credential, servers, rotators)
            _hand_over(credential, servers, aws, console)
        config_file = write_config_file(folder, "oci", oci_sandbox.new_api_key("administrator"))
        stack.enter_context(
            environment(
                {
                    **aws.environment(),
                    "AWS_ENDPOINT_URL": f"http://localhost:{aws_port}",
                    PLAN_VARIABLE: str(folder / "lockstep.yaml"),
                    OCI_ENDPOINT_VARIABLE: f"http://127.0.0.1:{oci_port}",
                    CONFIG_FILE_VARIABLE: str(config_file),
                }
            )
        )
        # The state machine's own calls go over the wire as well.
        aws.route_tasks_to(aws_port)
        yield Estate(
            wire=wire,
            clock=clock,
            plan=plan,
            direct=direct,
            aws=aws,
            oci=oci_sandbox,
            servers=servers,
            fronts=fronts,
            machine_arn=_deploy(aws, timeouts),
            timeouts=timeouts,
        )


@contextmanager
def _temporary_folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="lockstep-proof-") as folder:
        Path(folder).chmod(0o711)
        yield folder


def _deploy(aws: AwsSandbox, timeouts: Timeouts) -> str:
    """As deployed, but one branch of a Map after the other, so that calls come in the same order every time."""
    deploy_state_machine(aws, lambda credential_id: hosted_runner(AWS_RUNNER, timeouts).ports(credential_id))
    definition = (
        (ROOT / "statemachine.asl.json").read_text().replace('"MaxConcurrency": 8', '"MaxConcurrency": 1')
    )
    arns = {
        placeholder: aws.lambda_host.arn(function)
        for placeholder, function in {
            "GenerateFunction": "generate",
            "ApplyDbFunction": "apply_db",
            "UpdateSecretsFunction": "update_secrets",
            "AuditFunction": "audit",
        }.items()
    }
    return create_state_machine(
        aws.client("stepfunctions"),
        "lockstep-one-by-one",
        definition,
        {**arns, "LockTable": LOCK_TABLE},
        role_arn=f"arn:aws:iam::{aws.account_id}:role/lockstep",
    )


def _document(
    kinds: Sequence[str],
    servers: Mapping[str, DatabaseServer],
    ports: Mapping[str, int],
    aws: AwsSandbox,
    oci_sandbox: OciSandbox,
    mac_key: str,
) -> dict[str, Any]:
    return {
        "version": 1,
        "lock": {"table": LOCK_TABLE, "region": aws.region},
        "stores": [
            {"kind": "aws-secrets-manager", "region": aws.region},
            {
                "kind": "oci-vault",
                "region": OCI_REGION,
                "compartment_id": oci_sandbox.compartment_id,
                "vault_id": oci_sandbox.vault_id,
                "ring": RING,
            },
        ],
        "audit": {
            "aws": {"bucket": AUDIT_BUCKET, "region": aws.region, "mac_key": mac_key},
            "oci": {
                "bucket": AUDIT_BUCKET,
                "namespace": oci_sandbox.namespace,
                "region": OCI_REGION,
                "mac_secret": OCI_MAC,
            },
        },
        "runners": {"aws": {"oci_key_secret": OCI_KEY}, "oci": {"aws_key_secret": AWS_KEY}},
        "databases": [
            {
                "name": name,
                "engine": engine_of(server).value,
                "host": server.host,
                "port": ports[name],
                "dbname": DBNAME,
                "admin_secret": f"lockstep/admin/{name}",
                **(
                    {"tls": {"ca_file": str(server.ca_file)}}
                    if server.ca_file
                    else {"plaintext": PLAINTEXT_CONSENT}
                ),
            }
            for name, server in servers.items()
        ],
        "credentials": [
            {
                "id": f"proof/{kind}",
                "strategy": KINDS[kind][0],
                "username": f"proof_{kind}",
                "databases": list(KINDS[kind][1]),
                "interval": f"{INTERVAL_SECONDS // 60}m",
                "secrets": {"app_user": f"proof/{kind}", "connection_blob": f"proof/{kind}-connection_blob"},
            }
            for kind in kinds
        ],
    }


def _hand_over(
    credential: Credential, servers: Mapping[str, DatabaseServer], aws: AwsSandbox, console: "_OciConsole"
) -> None:
    login = Login(credential.usernames[0], SecretStr(secrets.token_urlsafe(24)))
    for server in credential.servers:
        set_password(servers[server.name], login)
    names = credential.secret_names
    client = aws.client("secretsmanager")
    client.create_secret(Name=names.app_user, SecretString=_login_text(login))
    client.create_secret(Name=names.connection_blob, SecretString=PLACEHOLDER)
    for i in range(RING):
        console.create_secret(oci_vault.slot_name(names.app_user, i), _login_text(login))
        console.create_secret(oci_vault.slot_name(names.connection_blob, i), PLACEHOLDER)


def _login_text(login: Login) -> str:
    return json.dumps({"username": login.username, "password": login.password.reveal()})


_AWS_KEY_TEXT = json.dumps({"access_key_id": "sandbox", "secret_access_key": "sandbox"})


def _oci_key(sandbox: OciSandbox) -> str:
    config = sandbox.new_api_key("administrator")
    return json.dumps(
        {
            "tenancy": config["tenancy"],
            "user": config["user"],
            "fingerprint": config["fingerprint"],
            "private_key": config["key_content"],
            "region": config["region"],
        }
    )


class _OciConsole:
    """What Terraform makes."""

    def __init__(self, sandbox: OciSandbox) -> None:
        self._sandbox = sandbox
        self._vaults: Any = sandbox.client(oci.vault.VaultsClient)
        self._objects: Any = sandbox.client(oci.object_storage.ObjectStorageClient)

    def create_secret(self, name: str, text: str) -> None:
        content = oci.vault.models.Base64SecretContentDetails(
            content=base64.b64encode(text.encode()).decode()
        )
        self._vaults.create_secret(
            oci.vault.models.CreateSecretDetails(
                compartment_id=self._sandbox.compartment_id,
                vault_id=self._sandbox.vault_id,
                key_id=self._sandbox.key_id,
                secret_name=name,
                secret_content=content,
            )
        )

    def create_bucket(self, name: str) -> None:
        self._objects.create_bucket(
            self._sandbox.namespace,
            oci.object_storage.models.CreateBucketDetails(
                name=name,
                compartment_id=self._sandbox.compartment_id,
                storage_tier="Archive",
                versioning="Enabled",
            ),
        )
