"""`sandbox deploy`: what `make deploy-oci`, `make deploy-aws` and a person leave behind, in the sandbox's clouds.

The steps are the shipped ones: the handlers behind `statemachine.asl.json`, and the OCI function in its own process.
What exists already stays as it is, so it can be run again with a changed plan.
"""

import base64
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lockstep.operate.secrets import wanted
from lockstep.plan.file import PlanProblemsError, load_source
from lockstep.plan.model import Plan
from lockstep.plan.published import WholePlan
from lockstep.plan.stores import OciVault
from lockstep.protocol.deadlines import check_scope
from lockstep.protocol.model import ROTATION_USER, AdminSecret, Login, SecretStr
from lockstep.protocol.names import DEFAULT_STACK, oci_name, slot_name
from lockstep.runtime import wiring
from sandbox import oci_resources as in_oci
from sandbox.emulators.aws.resources import create_audit_bucket, create_lock_table, create_mac_key
from sandbox.emulators.oci import write_config_file
from sandbox.first_day import create_secrets
from sandbox.fn import function_variables, running_function
from sandbox.identities import Identities, make_log
from sandbox.outside import Value, lets_in
from sandbox.plans import AWS_KEY_SECRET, OCI_KEY_SECRET
from sandbox.playground.control import Answer
from sandbox.playground.world import World
from sandbox.servers import login_text, set_password
from sandbox.steps import deploy_state_machine, register_functions

DEPLOYED = "deployed.yaml"
"""The plan that the runners have, beside the one that the person edits."""


def deploy(world: World, plan_file: Path) -> Iterator[str]:
    """Deploy a plan to both clouds; a line for each thing that is new.

    Raises:
        PlanProblemsError: The plan is not valid.
    """
    source = load_source(plan_file)
    plan = source.plan
    (plan_file.parent / DEPLOYED).write_text(source.text, encoding="utf-8")
    yield from _admins(world, plan)
    yield from _aws(world, plan)
    if plan.store(OciVault):
        yield from _oci(world, plan)
    yield from _of_credentials(world, plan)
    _runners(world, plan, plan_file.parent / DEPLOYED)
    yield f"both clouds run {plan_file.name}" if plan.runners.oci else f"AWS runs {plan_file.name}"


def _aws(world: World, plan: Plan) -> Iterator[str]:
    if plan.lock.table not in world.aws.client("dynamodb").list_tables()["TableNames"]:
        create_lock_table(world.aws.client("dynamodb"), plan.lock.table)
        yield f"AWS: lock table {plan.lock.table}"
    audit, s3 = plan.audit.aws, world.aws.client("s3")
    if audit.bucket not in [b["Name"] for b in s3.list_buckets()["Buckets"]]:
        create_audit_bucket(s3, audit.bucket, region=world.aws.region)
        yield f"AWS: audit bucket {audit.bucket}"
    kms = world.aws.client("kms")
    there = [a["AliasName"] for a in kms.list_aliases()["Aliases"]]
    for alias in (audit.mac_key, audit.order_key):
        if alias not in there:
            create_mac_key(kms, alias)
            yield f"AWS: key {alias}"
    proofs = {OCI_KEY_SECRET: world.keys.in_aws[OCI_KEY_SECRET], **world.sessions.in_aws}
    for name in plan.runners.aws.secrets.values():
        yield from _secret_in_aws(world, plan, name, proofs.get(name, proofs[OCI_KEY_SECRET]))


def _oci(world: World, plan: Plan) -> Iterator[str]:
    if not _in_vault(world, slot_name(plan.credentials[0].secret_names.app_user, 0)) and plan.audit.oci:
        # Entries can be read at once; in a tenancy they are archived.
        make_log(world.oci, plan.audit.oci.bucket)
        yield f"OCI: audit bucket {plan.audit.oci.bucket}"
    if plan.audit.oci:
        mac_key = base64.b64encode(secrets.token_bytes(48)).decode()
        yield from _secret_in_oci(world, plan.audit.oci.mac_secret, mac_key)
    for name in plan.runners.oci.secrets.values() if plan.runners.oci else ():
        yield from _secret_in_oci(world, name, world.keys.in_oci[AWS_KEY_SECRET])


def _of_credentials(world: World, plan: Plan) -> Iterator[str]:
    """Make the secrets of credentials, with placeholders, as both deployments do."""
    kms = world.aws.client("kms")
    alias = f"alias/{DEFAULT_STACK}"
    if alias not in [a["AliasName"] for a in kms.list_aliases()["Aliases"]]:
        kms.create_alias(AliasName=alias, TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
    key = kms.describe_key(KeyId=alias)["KeyMetadata"]["Arn"]
    oci_key = world.oci.key_id if plan.store(OciVault) else None
    for room in create_secrets(plan, key=key, oci_key=oci_key):
        made = {decision.name for decision in room.seen.values() if decision.is_done}
        names = [c.secret_names for c in plan.credentials]
        for name in (name for pair in names for name in (pair.app_user, pair.connection_blob)):
            if name in made:
                yield f"AWS: secret {name}, with a placeholder"
            elif slots := made & {slot_name(name, i) for i in range(len(made))}:
                yield f"OCI: {len(slots)} secrets for {name}, with placeholders"


def _admins(world: World, plan: Plan) -> Iterator[str]:
    """Give each rotation user a password, on its server and in both clouds, as its DBA does.

    Raises:
        LookupError: It has no account yet. Nothing of it was written, so deploying again goes on from there.
    """
    there = [s["Name"] for s in world.aws.client("secretsmanager").list_secrets()["SecretList"]]
    for section in plan.databases:
        admin, server = section.admin, world.servers.get(section.name)
        if not isinstance(admin, AdminSecret) or server is None or admin.aws in there:
            continue
        login = Login(ROTATION_USER, SecretStr(secrets.token_urlsafe(24)))
        try:
            set_password(server, login)
        except Exception as error:
            raise LookupError(f"{section.name} has no {ROTATION_USER}: first `lockstep plan sql`") from error
        yield from _secret_in_aws(world, plan, admin.aws, login_text(login))
        if plan.store(OciVault):
            yield from _secret_in_oci(world, admin.oci, login_text(login))
        yield f"{section.name}: {ROTATION_USER} has a password"


def _secret_in_aws(world: World, plan: Plan, name: str, text: str) -> Iterator[str]:
    """Make a secret, with the tags by which the functions may use it."""
    client = world.aws.client("secretsmanager")
    tags = {
        key: value
        for one in wanted(plan)
        if one.name == name
        for key, value in one.tags(DEFAULT_STACK).items()
    }
    try:
        client.create_secret(
            Name=name, SecretString=text, Tags=[{"Key": key, "Value": value} for key, value in tags.items()]
        )
    except client.exceptions.ResourceExistsException:
        return
    yield f"AWS: secret {name}"


def _secret_in_oci(world: World, name: str, text: str) -> Iterator[str]:
    if not _in_vault(world, name):
        in_oci.create_secret(world.oci, name, text.encode(), compartment=world.oci.own_compartment_id)
        yield f"OCI: secret {oci_name(name)}"


def _in_vault(world: World, name: str) -> bool:
    return world.oci.vault.named(oci_name(name), world.oci.vault_id) is not None


def _runners(world: World, plan: Plan, deployed: Path) -> None:
    world.deployed.close()
    world.deployed = ExitStack()
    if not world.aws.client("stepfunctions").list_state_machines()["stateMachines"]:
        deploy_state_machine(world.aws, lock_table=plan.lock.table)
    _serve(world, plan)
    world.function = None
    if plan.runners.oci:
        config = write_config_file(world.files.folder, "oci-function", _identities(world, plan).function_key)
        variables = function_variables(
            aws=world.aws.url, oci=world.oci.endpoint, plan=deployed, config=config
        )
        world.function = world.deployed.enter_context(running_function(variables))


def _serve(world: World, plan: Plan) -> None:
    """Let the functions of AWS run under a plan."""
    runners = {
        function: wiring.Runner(WholePlan(plan.compiled), identity, deadline_guard=check_scope)
        for function, identity in _identities(world, plan).of_functions.items()
    }
    register_functions(world.aws, lambda function, credential_id: runners[function].ports(credential_id))


def _identities(world: World, plan: Plan) -> Identities:
    return world.sessions if plan.runners.aws.federation else world.keys


class Orders:
    """Takes commands, one at a time.

    Args:
        world: What runs.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._commands: Mapping[str, Callable[..., Answer]] = {
            "ping": lambda: Answer(0, ""),
            "deploy": self._deploy,
            "standby": self._standby,
            "value": self._value,
            "edit": self._edit,
            "login": self._login,
        }

    def take(self, words: Sequence[str]) -> Answer:
        """Do a command; whatever goes wrong is told, and the sandbox goes on."""
        command, *rest = words
        try:
            return self._commands[command](*rest)
        except PlanProblemsError as error:
            return Answer(2, "\n".join(error.lines))
        except Exception as error:  # noqa: BLE001 - told to the person, whose sandbox must not end
            return Answer(3, f"{type(error).__name__}: {error}")

    def _deploy(self, plan: str) -> Answer:
        return Answer(0, "\n".join(deploy(self._world, Path(plan))))

    def _standby(self, credential: str, *more: str) -> Answer:
        if self._world.function is None:
            return Answer(2, "the deployed plan has no runner in OCI, or none is deployed: sandbox deploy")
        asked = {"credential_id": credential, "trigger": "manual", "force": "--force" in more}
        answer = self._world.function.call(asked)
        found = answer.body
        return Answer(
            0 if answer.status == OK else 1, "\n".join(_describe(r) for r in found.get("results", [found]))
        )

    def _value(self, secret: str) -> Answer:
        client = self._world.aws.client("secretsmanager")
        return Answer(0, str(client.get_secret_value(SecretId=secret)["SecretString"]))

    def _edit(self, secret: str, text: str) -> Answer:
        self._world.aws.client("secretsmanager").put_secret_value(SecretId=secret, SecretString=text.strip())
        return Answer(0, f"{secret} has a new version, which is current")

    def _login(self, database: str, text: str) -> Answer:
        found = json.loads(text)
        value = Value(found["username"], found["password"])
        if database not in self._world.servers:
            return Answer(2, f"no {database} here; there are {', '.join(self._world.servers)}")
        return ACCEPTED if lets_in(self._world.as_planned(database), value) else REFUSED


OK = 200
ACCEPTED, REFUSED = Answer(0, "accepted"), Answer(1, "refused")


def _describe(result: Mapping[str, Any]) -> str:
    """What the OCI function answers about a run, in words."""
    if "error" in result:
        return f"failed: {result['error']}: {result['message']}"
    generation = f", generation {result['generation']} is current" if result["generation"] else ""
    return f"{result['outcome']}{generation}"
