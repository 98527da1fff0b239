"""The world with its second cloud: a plan with both stores and both runners, and the OCI function behind the fdk."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from secrets import token_bytes, token_urlsafe
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
from ruamel.yaml import YAML

from lockstep import wiring
from lockstep.audit.verify import Verification, verify
from lockstep.identity import AWS_RUNNER, OCI_ENDPOINT_VARIABLE, OCI_RUNNER
from lockstep.model import Credential, Login, SecretStr
from lockstep.plan import Plan
from lockstep.plan_file import load_plan
from lockstep.version_names import VersionNames
from lockstep.wiring import Runner, endpoints_from_environment
from sandbox.databases import DatabaseServer
from sandbox.fn import FunctionProcess, running_function
from sandbox.oci import OciSandbox, write_config_file
from sandbox.oci.resources import create_audit_bucket, create_ring, create_secret, restore_audit_objects
from sandbox.world import AUDIT_BUCKET, PLACEHOLDER, CredentialSpec, World, environment, running_world

SLOTS = 4
MAC_SECRET = "lockstep/mac"
OCI_KEY_SECRET = "lockstep/oci-key"
AWS_KEY_SECRET = "lockstep/aws-key"
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
    """Both clouds, running.

    Attributes:
        world: AWS and the databases; its own plan has no OCI.
        plan: The plan with both clouds, which this process and the function run with.
        rings: The OCIDs of the slots, by the secret's name in the plan.
        function: The OCI function.
        confidential: What must never be shown anywhere, besides the values of the credentials.
    """

    world: World
    sandbox: OciSandbox
    plan: Plan
    plan_file: Path
    rings: Mapping[str, list[str]]
    function: FunctionProcess
    function_environment: Mapping[str, str]
    confidential: Sequence[str]

    def ring_login(self, credential: Credential) -> Login | None:
        """What an application gets from the ring in OCI at this moment."""
        secret = credential.secret_names.app_user
        secrets: Any = self.sandbox.client(oci.secrets.SecretsClient)
        bundles = [secrets.get_secret_bundle(secret_id).data for secret_id in self.rings[secret]]
        versions = VersionNames(credential_id=credential.id, secret=secret)
        newest = max(bundles, key=lambda b: versions.generation_of(b.version_name))
        document = json.loads(base64.b64decode(newest.secret_bundle_content.content))
        return (
            Login(document["username"], SecretStr(document["password"])) if "username" in document else None
        )

    def locked_out(self, credential: Credential) -> list[str]:
        """Where what a store serves does not log in: empty, or invariant I1 is broken."""
        databases = (
            Runner(self.plan, AWS_RUNNER, endpoints=endpoints_from_environment())
            .ports(credential.id)
            .databases
        )
        logins = {"aws": self.world.stored_login(credential), "oci": self.ring_login(credential)}
        return [
            f"{store} at {name}"
            for store, login in logins.items()
            for name, database in databases.items()
            if login and not database.accepts(login)
        ]

    def verify(self) -> dict[str, list[Verification]]:
        """Verify every credential's chains, as an auditor does: archived objects are restored first."""
        restore_audit_objects(self.sandbox, AUDIT_BUCKET)
        self.sandbox.clock.advance(timedelta(hours=1, minutes=1))
        return {c.id: self.verify_now(c) for c in self.plan.credentials}

    def verify_now(self, credential: Credential) -> list[Verification]:
        """Verify one credential's chains; in OCI only what is not archived can be read."""
        aws = Runner(self.plan, AWS_RUNNER, endpoints=endpoints_from_environment()).ports(credential.id)
        own = Runner(self.plan, OCI_RUNNER, endpoints=endpoints_from_environment()).ports(credential.id)
        logs = [(p.audit_log, p.signer) for p in (aws, own)]
        return verify(credential.id, logs, aws.lock.read().heads)


@contextmanager
def running_two_clouds(
    credentials: Sequence[CredentialSpec],
    servers: Mapping[str, DatabaseServer],
    *,
    folder: Path,
    audit_tier: str = "Archive",
) -> Iterator[TwoClouds]:
    """Start both clouds, the databases and the function; see `sandbox.world.running_world`.

    Args:
        credentials: The plan's credentials.
        servers: Database servers by their name in the plan, not started yet.
        folder: For the plan.
        audit_tier: Of the OCI audit bucket; in `Standard` entries can be read at once.
    """
    with ExitStack() as stack:
        world = stack.enter_context(running_world(credentials, servers, folder=folder))
        sandbox = stack.enter_context(OciSandbox())
        function_key = sandbox.new_api_key("lockstep-function", *FUNCTION_MAY)
        aws_runner_key = sandbox.new_api_key("lockstep-aws", *AWS_RUNNER_MAY)
        plan_file = _plan_file(world, sandbox, folder)
        plan = load_plan(plan_file)
        create_audit_bucket(sandbox, AUDIT_BUCKET, tier=audit_tier)
        confidential = _fill_secrets(world, sandbox, plan, aws_runner_key)
        variables = {
            wiring.PLAN_VARIABLE: str(plan_file),
            OCI_ENDPOINT_VARIABLE: sandbox.endpoint,
            "AWS_ENDPOINT_URL": world.aws.url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        function_environment = {
            **variables,
            "OCI_CONFIG_FILE": str(write_config_file(folder, "function", function_key)),
        }
        # This process is the AWS runner, and an auditor who may read everything in OCI.
        stack.enter_context(
            environment(
                {**variables, "OCI_CONFIG_FILE": str(write_config_file(folder, "auditor", sandbox.config()))}
            )
        )
        yield TwoClouds(
            world=world,
            sandbox=sandbox,
            plan=plan,
            plan_file=plan_file,
            rings=_make_rings(world, sandbox, plan),
            function=stack.enter_context(running_function(function_environment)),
            function_environment=function_environment,
            confidential=[
                *confidential,
                *(key["key_content"].splitlines()[5] for key in (function_key, aws_runner_key)),
            ],
        )


def _fill_secrets(
    world: World, sandbox: OciSandbox, plan: Plan, aws_runner_key: Mapping[str, str]
) -> list[str]:
    aws = world.aws.client("secretsmanager")
    aws.create_secret(Name=OCI_KEY_SECRET, SecretString=_oci_key_text(aws_runner_key))
    secret_access_key = token_urlsafe(30)
    access_key = {"access_key_id": "AKIALOCKSTEP", "secret_access_key": secret_access_key}
    create_secret(sandbox, AWS_KEY_SECRET, json.dumps(access_key).encode())
    mac_key = token_bytes(48)
    create_secret(sandbox, MAC_SECRET, base64.b64encode(mac_key))
    passwords = []
    for name in {d.admin_secret for d in plan.databases}:
        text = aws.get_secret_value(SecretId=name)["SecretString"]
        passwords.append(json.loads(text)["password"])
        create_secret(sandbox, name, text.encode())
    return [secret_access_key, base64.b64encode(mac_key).decode(), *passwords]


def _make_rings(world: World, sandbox: OciSandbox, plan: Plan) -> dict[str, list[str]]:
    aws = world.aws.client("secretsmanager")
    rings = {}
    for credential in plan.credentials:
        names = credential.secret_names
        # What is taken over stands in AWS and in the ring alike.
        taken_over = aws.get_secret_value(SecretId=names.app_user)["SecretString"]
        rings[names.app_user] = create_ring(sandbox, names.app_user, taken_over, slots=SLOTS)
        rings[names.connection_blob] = create_ring(sandbox, names.connection_blob, PLACEHOLDER, slots=SLOTS)
    return rings


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
        "bucket": AUDIT_BUCKET,
        "namespace": sandbox.namespace,
        "region": "eu-frankfurt-1",
        "mac_secret": MAC_SECRET,
    }
    document["runners"] = {
        "aws": {"oci_key_secret": OCI_KEY_SECRET},
        "oci": {"aws_key_secret": AWS_KEY_SECRET},
    }
    file = folder / "two-clouds.yaml"
    with file.open("w") as output:
        yaml.dump(document, output)
    return file


def _oci_key_text(config: Mapping[str, str]) -> str:
    fields = {name: config[name] for name in ("tenancy", "user", "fingerprint", "region")}
    return json.dumps({**fields, "private_key": config["key_content"]})
