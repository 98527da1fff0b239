import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from lockstep.contents import encode_app_user, encode_connection_blob
from lockstep.errors import LockstepError
from lockstep.model import Credential, CredentialValue, Login, SecretStr
from lockstep.oci.clients import OciClients
from lockstep.oci.object_storage_audit import ObjectStorageAuditLog
from lockstep.oci.vault_ring import VaultRing
from lockstep.oci.vault_signer import VaultSigner
from lockstep.plan import Plan
from lockstep.plan_admins import names_in_oci
from lockstep.plan_file import parse_plan
from lockstep.ports import EntrySummary
from lockstep.store_kinds import oci_vault
from lockstep.stores import CredentialStore
from lockstep.system import SystemClock
from lockstep.version_names import VersionNames
from sandbox.estate import AWS_RUNNER_MAY, FUNCTION_MAY
from sandbox.oci import OciSandbox
from sandbox.oci.resources import create_audit_bucket, create_secret
from tests.contract.oci_fixtures import OciConsole, sandbox_clients, sandbox_vault
from tests.infrastructure.terraform.policies import Statement, matching_rules, statements
from tests.infrastructure.terraform.stack import ROOT, Deployment, Stack, needs_tools
from tests.support.fence import fence_held

pytestmark = needs_tools

SLOTS = 4
ROUNDS = 5
"""Generations that each slot has held, so that it has superseded versions to delete."""


@pytest.fixture(scope="module")
def policy(stack: Stack, deployed: Deployment) -> list[Statement]:
    return statements(stack, deployed)


@dataclass(frozen=True, kw_only=True)
class World:
    """The sandbox with the secrets and the bucket that Terraform makes, after some rotations."""

    sandbox: OciSandbox
    plan: Plan
    ids: dict[str, str]
    """The sandbox's OCID for each OCID of Terraform."""

    def permit(self, principal: str, granted: Sequence[Statement], *, without: str = "") -> OciClients:
        """Clients of a principal with the statements' permissions, except one."""
        config = self.sandbox.new_api_key(principal)
        grants = set().union(*(s.grants(self.ids) for s in granted))
        self.sandbox.identity.principal(principal).grants = {g for g in grants if g.permission != without}
        return sandbox_clients(self.sandbox, config)


@pytest.fixture
def world(stack: Stack, deployed: Deployment) -> Iterator[World]:
    plan = parse_plan(json.dumps(stack.plan), base=Path())
    assert plan.audit.oci
    with OciSandbox() as sandbox:
        create_audit_bucket(sandbox, plan.audit.oci.bucket)
        names = {s["id"]: s["secret_name"] for s in deployed.all("oci_vault_secret").values()}
        # Long enough for a signing key.
        content = json.dumps({"placeholder": "x" * 64}).encode()
        ids = {ocid: create_secret(sandbox, name, content) for ocid, name in names.items()}
        by_name = {names[ocid]: own for ocid, own in ids.items()}
        for credential in plan.credentials:
            _age(OciConsole(sandbox), credential, by_name)
        yield World(sandbox=sandbox, plan=plan, ids=ids)


def _age(console: OciConsole, credential: Credential, ids: dict[str, str]) -> None:
    names = credential.secret_names
    for generation in range(1, SLOTS * ROUNDS + 1):
        value = _value(credential, generation)
        texts = {
            names.app_user: encode_app_user(value, credential),
            names.connection_blob: encode_connection_blob(generation, credential),
        }
        for secret, text in texts.items():
            version = VersionNames(credential_id=credential.id, secret=secret).name_of(generation)
            console.edit(ids[oci_vault.slot_name(secret, generation % SLOTS)], text, name=version)


def _value(credential: Credential, generation: int) -> CredentialValue:
    return CredentialValue(generation, Login(credential.usernames[0], SecretStr(f"value-{generation}")))


def of(subject: str, policy: Sequence[Statement], deployed: Deployment) -> list[Statement]:
    """The statements about a group or a dynamic group, by its name."""
    groups = {**deployed.all("oci_identity_group"), **deployed.all("oci_identity_dynamic_group")}
    (ocid,) = [g["id"] for g in groups.values() if g["name"] == subject]
    return [s for s in policy if s.subject == ocid]


def permissions(granted: Sequence[Statement]) -> set[str]:
    return set().union(*(s.permissions for s in granted))


# ---- what the policies grant


def test_everything_is_granted_in_the_plans_compartment(policy: list[Statement], stack: Stack) -> None:
    (vault,) = [s for s in stack.plan["stores"] if s["kind"] == "oci-vault"]
    assert {s.compartment for s in policy} == {vault["compartment_id"]}


def test_the_runners_have_the_same_permissions_as_in_the_sandbox(
    policy: list[Statement], deployed: Deployment
) -> None:
    function = permissions(of("lockstep-oci-runner", policy, deployed))
    assert function == {*FUNCTION_MAY, "ONS_TOPIC_PUBLISH"}
    assert permissions(of("lockstep-aws-runner", policy, deployed)) == set(AWS_RUNNER_MAY)


def test_only_listing_and_publishing_are_granted_without_a_target(
    policy: list[Statement], deployed: Deployment
) -> None:
    runners = of("lockstep-oci-runner", policy, deployed) + of("lockstep-aws-runner", policy, deployed)
    assert permissions([s for s in runners if not s.targets]) == {"SECRET_INSPECT", "ONS_TOPIC_PUBLISH"}
    assert not any(s.verb for s in runners)


def test_each_statement_about_a_ring_names_the_credentials_slots(
    policy: list[Statement], deployed: Deployment
) -> None:
    slots = set(deployed.outputs["slots"].values())
    for runner in ("lockstep-aws-runner", "lockstep-oci-runner"):
        rings = [s for s in of(runner, policy, deployed) if "SECRET_UPDATE" in s.permissions]
        assert sorted(len(s.targets["target.secret.id"]) for s in rings) == [2 * SLOTS, 2 * SLOTS]
        assert frozenset().union(*(s.targets["target.secret.id"] for s in rings)) == slots


def test_only_creating_and_listing_entries_is_granted_on_the_audit_log(
    policy: list[Statement], deployed: Deployment
) -> None:
    (granted,) = [s for s in policy if any(p.startswith("OBJECT") for p in s.permissions)]
    assert granted in of("lockstep-oci-runner", policy, deployed)
    assert granted.permissions == {"OBJECT_CREATE", "OBJECT_INSPECT"}
    assert granted.targets == {"target.bucket.name": {"lockstep-audit"}}


def test_object_storage_may_use_only_the_audit_key(policy: list[Statement], deployed: Deployment) -> None:
    (granted,) = [s for s in policy if s.subject == "objectstorage-eu-frankfurt-1"]
    assert (granted.verb, granted.resource_type) == ("use", "keys")
    assert granted.targets == {"target.key.id": {deployed.all("oci_kms_key")["audit[0]"]["id"]}}


def test_schedules_find_the_function_and_call_it(policy: list[Statement], deployed: Deployment) -> None:
    granted = of("lockstep-standby-schedules", policy, deployed)
    assert {(s.verb, s.resource_type) for s in granted} == {
        ("read", "fn-app"),
        ("read", "fn-function"),
        ("use", "fn-invocation"),
    }
    (calls,) = [s for s in granted if s.resource_type == "fn-invocation"]
    assert calls.targets == {"target.function.id": {deployed.one("oci_functions_function")["id"]}}


def test_dynamic_groups_name_the_function_and_the_schedules_by_ocid(
    stack: Stack, deployed: Deployment
) -> None:
    groups = deployed.all("oci_identity_dynamic_group")
    function, schedules = matching_rules(
        stack, [groups["function"]["matching_rule"], groups["schedules"]["matching_rule"]]
    )
    assert _clauses(function) == [
        ("resource.type", "fnfunc"),
        ("resource.id", deployed.one("oci_functions_function")["id"]),
    ]
    assert (function["mode"], schedules["mode"]) == ("all", "any")
    ids = [s["id"] for s in deployed.all("oci_resource_scheduler_schedule").values()]
    assert sorted(_clauses(schedules)) == sorted(("resource.id", ocid) for ocid in ids)


def _clauses(rule: dict[str, list[dict[str, dict[str, dict[str, str]]]]]) -> list[tuple[str, str]]:
    nodes = [item["node"] for item in rule["items"]]
    return [(str(node["lhs"]), node["rhs"]["value"]) for node in nodes]


def test_the_aws_runner_can_only_use_api_keys(deployed: Deployment) -> None:
    capabilities = deployed.one("oci_identity_user_capabilities_management")
    allowed = [name for name, value in capabilities.items() if name.startswith("can_use_") and value]
    assert allowed == ["can_use_api_keys"]


def test_the_documentation_lists_exactly_the_granted_permissions(
    policy: list[Statement], deployed: Deployment
) -> None:
    text = (ROOT / "docs/iam-oci.md").read_text()
    for heading, group in (
        ("The AWS runner", "lockstep-aws-runner"),
        ("The OCI runner", "lockstep-oci-runner"),
    ):
        section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        rows = [line for line in section.splitlines() if line.startswith("| `")]
        listed = [name for row in rows for name in re.findall(r"`([A-Z_]+)`", row.split("|")[1])]
        assert sorted(listed) == sorted(permissions(of(group, policy, deployed))), heading


# ---- the permissions are enough, and each is needed


def rotate_rings(world: World, clients: OciClients) -> None:
    """Make the calls on the rings that a rotation makes."""
    for credential in world.plan.credentials:
        vault = sandbox_vault(world.sandbox, clients)
        store = CredentialStore(
            "oci", credential, partial(VaultRing, vault, slots=SLOTS, clock=SystemClock())
        )
        base = store.read_current()
        value = _value(credential, base.generation + 1)
        assert store.stage(value) == value
        store.promote(value.generation, fence_held)
        assert store.serves(value.generation)
        assert store.read_version(base.version)
        assert store.read_generation(value.generation)
        # At least one superseded version of each secret.
        assert store.prune() >= 2


def keep_record(world: World, clients: OciClients) -> None:
    """Make the other calls of the OCI runner."""
    vault, audit, runner = sandbox_vault(world.sandbox, clients), world.plan.audit.oci, world.plan.runners.oci
    assert audit
    assert runner
    VaultSigner(vault, audit.mac_secret).sign(b"digest")
    for secret in (runner.aws_key_secret, *names_in_oci(world.plan)):
        assert vault.read_named(oci_vault.oci_name(secret)).data
    log = _log(world, clients)
    entry = EntrySummary(seq=1, hash="h1", previous_hash="h0", rotation_id="r1")
    assert log.put(b"{}", entry)
    assert not log.put(b"{}", entry)
    assert log.summary(1) == entry
    assert log.last_seq() == 1


def _log(world: World, clients: OciClients) -> ObjectStorageAuditLog:
    audit = world.plan.audit.oci
    assert audit
    return ObjectStorageAuditLog(
        clients,
        namespace=world.sandbox.namespace,
        bucket=audit.bucket,
        stream="oci",
        credential_id=world.plan.credentials[0].id,
    )


def work_of(runner: str, world: World, clients: OciClients) -> None:
    rotate_rings(world, clients)
    if runner == "lockstep-oci-runner":
        keep_record(world, clients)


@pytest.mark.parametrize("runner", ["lockstep-aws-runner", "lockstep-oci-runner"])
def test_a_runner_can_do_its_work(
    runner: str, world: World, policy: list[Statement], deployed: Deployment
) -> None:
    work_of(runner, world, world.permit(runner, of(runner, policy, deployed)))


@pytest.mark.parametrize(
    ("runner", "permission"),
    [
        *(("lockstep-aws-runner", p) for p in AWS_RUNNER_MAY),
        *(("lockstep-oci-runner", p) for p in FUNCTION_MAY),
    ],
)
def test_a_runner_needs_each_of_its_permissions(
    runner: str, permission: str, world: World, policy: list[Statement], deployed: Deployment
) -> None:
    clients = world.permit(runner, of(runner, policy, deployed), without=permission)
    with pytest.raises((LockstepError, AssertionError)):
        work_of(runner, world, clients)


def test_the_aws_runner_reads_only_the_rings(
    world: World, policy: list[Statement], deployed: Deployment
) -> None:
    clients = world.permit("lockstep-aws-runner", of("lockstep-aws-runner", policy, deployed))
    vault = sandbox_vault(world.sandbox, clients)
    for name in (*deployed.outputs["secrets_to_fill_in"], "lockstep.mac"):
        with pytest.raises(LockstepError):
            vault.read_named(name)


def test_the_oci_runner_cannot_change_or_read_an_entry(
    world: World, policy: list[Statement], deployed: Deployment
) -> None:
    clients = world.permit("lockstep-oci-runner", of("lockstep-oci-runner", policy, deployed))
    keep_record(world, clients)
    assert world.plan.audit.oci
    where = (
        world.sandbox.namespace,
        world.plan.audit.oci.bucket,
        "oci/multi-cloud.app_user/000000000001.json",
    )
    objects = clients.objects
    for call, body in (
        (objects.put_object, [b"forged"]),
        (objects.delete_object, []),
        (objects.get_object, []),
    ):
        with pytest.raises(oci.exceptions.ServiceError) as refused:
            call(*where, *body)
        assert refused.value.status == 404


def test_the_oci_runner_cannot_replace_its_keys(
    world: World, policy: list[Statement], deployed: Deployment
) -> None:
    clients = world.permit("lockstep-oci-runner", of("lockstep-oci-runner", policy, deployed))
    vault = sandbox_vault(world.sandbox, clients)
    secret_id = vault.secret_id("lockstep.mac")
    assert secret_id
    with pytest.raises(LockstepError):
        vault.stage("lockstep.mac", secret_id, name="forged", text="x" * 64)


def test_an_application_reads_only_its_own_credential(
    world: World, stack: Stack, deployed: Deployment
) -> None:
    grants = deployed.outputs["application_grants"]["multi-cloud/app_user"]
    policy = [f"Allow dynamic-group id ocid1.dynamicgroup.oc1..app {grant}" for grant in grants]
    given = statements(stack, Deployment(resources=(_policy(policy),), outputs={}))
    vault = sandbox_vault(world.sandbox, world.permit("application", given))
    assert vault.read_named("multi-cloud.app_user.0").data
    assert vault.read_named("multi-cloud.connection_blob.3").data
    for name in ("batch.0", "lockstep.mac"):
        with pytest.raises(LockstepError):
            vault.read_named(name)


def _policy(texts: Sequence[str]) -> dict[str, object]:
    address = "oci_identity_policy.application"
    return {"type": "oci_identity_policy", "address": address, "values": {"statements": list(texts)}}
