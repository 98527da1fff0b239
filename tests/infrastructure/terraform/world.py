"""The sandbox as Terraform leaves a tenancy, and the calls that the runners make there.

A test runs them as a principal with exactly the permissions of some policy statements.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lockstep.oci.clients import OciClients
from lockstep.oci.functions import OwnFunction
from lockstep.oci.kms import VaultDigestKey
from lockstep.oci.object_storage import ObjectStorageAuditLog, ObjectStorageFolder
from lockstep.oci.vault import Vault, VaultSigner
from lockstep.plan.admins import names_in_oci
from lockstep.plan.file import parse_plan
from lockstep.plan.model import Plan
from lockstep.plan.published import INDEX, folder_of, place_in_oci
from lockstep.protocol import names as oci_names
from lockstep.protocol.model import Credential, CredentialValue, Login, SecretStr
from lockstep.protocol.names import VersionNames, digest_bucket_name, plan_bucket_name
from lockstep.protocol.ports import Mac
from lockstep.protocol.ring import MAX_IN_USE
from lockstep.runtime.system import SystemClock
from lockstep.stores.contents import encode_app_user, encode_connection_blob
from lockstep.stores.credential import CredentialStore
from lockstep.stores.ring import VaultRing
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.keys import Key
from sandbox.oci_resources import create_audit_bucket, create_secret, create_signing_key
from tests.contract.oci_fixtures import OciConsole, sandbox_clients, sandbox_vault
from tests.infrastructure.terraform.policies import Statement
from tests.infrastructure.terraform.stack import PLAN_DIGEST, Deployment, Stack
from tests.support.fence import fence_held

SLOTS = 4
ROUNDS = 5
"""Generations that each slot has held, so that it has superseded versions to delete."""
FULL_SLOT = (SLOTS * ROUNDS + 1) % SLOTS
"""The slot of the first credential that has no room: the next value takes the place of a superseded one there."""

FUNCTION_ID, OTHERS_FUNCTION_ID = "ocid1.fnfunc.oc1..rotate", "ocid1.fnfunc.oc1..other"
PLAN_MAY = "OBJECT_READ"
"""What the function may in the bucket of the published plan."""
FIRST_DIGEST, NEXT_DIGEST = "2026-11-29T18.json", "2026-11-29T19.json"
"""A digest that is there, and one that is made."""


@dataclass(frozen=True, kw_only=True)
class World:
    """The sandbox with the secrets and the bucket that Terraform makes, after some rotations."""

    sandbox: OciSandbox
    plan: Plan
    ids: dict[str, str]
    """The sandbox's OCID for each OCID of Terraform, of secrets, keys and compartments."""
    digest_key: Key
    """What signs digests."""

    def permit(
        self, principal: str, granted: Sequence[Statement], *, without: tuple[str, str] | None = None
    ) -> OciClients:
        """Clients of a principal with the statements' permissions, except one in one compartment."""
        config = self.sandbox.new_api_key(principal)
        grants = set().union(*(s.grants(self.ids) for s in granted))
        self.sandbox.identity.principal(principal).grants = {
            g for g in grants if (g.permission, g.compartment) != without
        }
        return sandbox_clients(self.sandbox, config)


@contextmanager
def running_world(stack: Stack, deployed: Deployment) -> Iterator[World]:
    """Run it."""
    plan = parse_plan(json.dumps(stack.plan), base=Path())
    assert plan.audit.oci
    with OciSandbox() as sandbox:
        # Not the Archive tier, so that what may be read can be read at once.
        create_audit_bucket(sandbox, plan.audit.oci.bucket, tier="Standard")
        create_audit_bucket(sandbox, plan_bucket_name(plan.audit.oci.bucket), tier="Standard")
        create_audit_bucket(
            sandbox, digest_bucket_name(plan.audit.oci.bucket), tier="Standard", retention_days=400
        )
        key = create_signing_key(sandbox, name="lockstep-digests")
        ids = {
            deployed.all("oci_kms_key")["digests[0]"]["id"]: key.ocid,
            stack.store["compartment_id"]: sandbox.compartment_id,
            stack.store["own_compartment_id"]: sandbox.own_compartment_id,
            deployed.all("oci_functions_function")["rotate"]["id"]: FUNCTION_ID,
        }
        here = {"compartmentId": sandbox.own_compartment_id, "invokeEndpoint": sandbox.endpoint}
        sandbox.deployment.functions = [{"id": one, **here} for one in (FUNCTION_ID, OTHERS_FUNCTION_ID)]
        sandbox.functions.code.update(
            dict.fromkeys((FUNCTION_ID, OTHERS_FUNCTION_ID), lambda _: (200, b"{}"))
        )
        # Long enough for a signing key.
        content = json.dumps({"placeholder": "x" * 64}).encode()
        secrets: dict[str, str] = {}
        for secret in deployed.secrets.values():
            name, compartment = secret["secret_name"], ids[secret["compartment_id"]]
            secrets[name] = ids[secret["id"]] = create_secret(sandbox, name, content, compartment=compartment)
        for name, ocid in deployed.outputs["slots"].items():
            secrets[name] = ids[ocid] = create_secret(sandbox, name, content)
        OciConsole(sandbox).storage.put_object(
            sandbox.namespace,
            plan_bucket_name(plan.audit.oci.bucket),
            f"{folder_of(PLAN_DIGEST)}/{INDEX}",
            b"{}",
        )
        OciConsole(sandbox).storage.put_object(
            sandbox.namespace,
            digest_bucket_name(plan.audit.oci.bucket),
            f"{DIGESTS}/{FIRST_DIGEST}",
            b"{}",
        )
        _fill(OciConsole(sandbox), secrets[oci_names.slot_name(plan.credentials[0].id, FULL_SLOT)])
        for credential in plan.credentials:
            _age(OciConsole(sandbox), credential, secrets)
        yield World(sandbox=sandbox, plan=plan, ids=ids, digest_key=key)


def _fill(console: OciConsole, slot: str) -> None:
    for number in range(MAX_IN_USE - ROUNDS - 1):
        console.edit(slot, f'{{"by hand": "{number}"}}')


def _age(console: OciConsole, credential: Credential, ids: dict[str, str]) -> None:
    names = credential.secret_names
    for generation in range(1, SLOTS * ROUNDS + 1):
        value = value_of(credential, generation)
        texts = {
            names.app_user: encode_app_user(value, credential),
            names.connection_blob: encode_connection_blob(generation, credential),
        }
        for secret, text in texts.items():
            version = VersionNames(credential_id=credential.id, secret=secret).name_of(generation)
            console.edit(ids[oci_names.slot_name(secret, generation % SLOTS)], text, name=version)


def value_of(credential: Credential, generation: int) -> CredentialValue:
    """A value of the credential."""
    return CredentialValue(generation, Login(credential.usernames[0], SecretStr(f"value-{generation}")))


def of(subject: str, policy: Sequence[Statement], deployed: Deployment) -> list[Statement]:
    """The statements about a group or a dynamic group, by its name."""
    groups = {**deployed.all("oci_identity_group"), **deployed.all("oci_identity_dynamic_group")}
    (ocid,) = [g["id"] for g in groups.values() if g["name"] == subject]
    return [s for s in policy if s.subject == ocid]


def permissions(granted: Sequence[Statement]) -> set[str]:
    """All that they allow."""
    return set().union(*(s.permissions for s in granted))


def in_compartment(granted: Sequence[Statement], compartment: str) -> list[Statement]:
    """Those for a compartment."""
    return [s for s in granted if s.compartment == compartment]


def ring_of(world: World, clients: OciClients, credential: Credential) -> CredentialStore:
    """A credential's store in OCI."""
    vault = sandbox_vault(world.sandbox, clients)
    return CredentialStore("oci", credential, partial(VaultRing, vault, slots=SLOTS, clock=SystemClock()))


def rotate_rings(world: World, clients: OciClients) -> None:
    """Make the calls on the rings that a rotation makes."""
    for credential in world.plan.credentials:
        store = ring_of(world, clients, credential)
        base = store.read_current()
        value = value_of(credential, base.generation + 1)
        assert store.stage(value).value == value
        store.promote(value.generation, fence_held)
        assert store.serves(value.generation)
        assert store.read_version(base.version)
        assert store.read_generation(value.generation)
        # At least one superseded version of each secret.
        assert store.prune() >= 2


def keep_record(world: World, clients: OciClients) -> None:
    """Make the other calls of the OCI runner."""
    vault = own_vault(world, clients)
    audit, runner = world.plan.audit.oci, world.plan.runners.oci
    assert audit
    assert runner
    VaultSigner(vault, audit.mac_secret).sign(b"digest")
    for secret in (*runner.secrets.values(), *names_in_oci(world.plan)):
        assert vault.read_named(oci_names.oci_name(secret)).data
    OwnFunction(clients, FUNCTION_ID).call({"credential_ids": ["multi-cloud/app_user"]})
    [called] = world.sandbox.functions.finish(seconds=10)
    assert json.loads(called.body) == {"credential_ids": ["multi-cloud/app_user"]}
    log = log_of(world, clients)
    entry = {"chain": "{}", "mac": "{}"}
    assert log.put(1, b"{}", entry)
    assert not log.put(1, b"{}", entry)
    assert log.look(1) == entry
    assert list(log.numbers()) == [1]
    assert plan_bucket(world, clients).read(INDEX, 100) == b"{}"
    assert plan_bucket(world, clients).read("credentials/none.json", 100) is None


def plan_bucket(world: World, clients: OciClients) -> ObjectStorageFolder:
    """The bucket of the published plan."""
    place = place_in_oci(world.plan.compiled, PLAN_DIGEST)
    return ObjectStorageFolder(
        clients, namespace=world.sandbox.namespace, bucket=place.bucket, folder=folder_of(place.digest)
    )


DIGESTS = "digests"
"""The folder of the digests."""


def digest_bucket(world: World, clients: OciClients) -> ObjectStorageFolder:
    """The bucket of the digests."""
    audit = world.plan.audit.oci
    assert audit
    return ObjectStorageFolder(
        clients, namespace=world.sandbox.namespace, bucket=digest_bucket_name(audit.bucket), folder=DIGESTS
    )


def sign_digest(world: World, clients: OciClients) -> bytes:
    """Sign with the key of the digests, after its public half was read."""
    key = VaultDigestKey(clients, f"{world.digest_key.ocid}@{world.sandbox.endpoint}")
    assert key.public_key()
    return key.sign(bytes(32))


def make_digest(world: World, clients: OciClients) -> None:
    """Make the calls in OCI that a digest makes, where the log has an entry."""
    audit, runner = world.plan.audit.oci, world.plan.runners.oci
    assert audit
    assert runner
    assert plan_bucket(world, clients).read(INDEX, 100) == b"{}"
    log, vault = log_of(world, clients), own_vault(world, clients)
    assert list(log.numbers()) == [1]
    assert log.look(1)
    assert not VaultSigner(vault, audit.mac_secret).verify(b"digest", Mac(key_id="lockstep.mac:1", value=b""))
    for secret in runner.secrets.values():
        assert vault.read_named(oci_names.oci_name(secret)).data
    digests = digest_bucket(world, clients)
    assert digests.read(FIRST_DIGEST, 100) == b"{}"
    assert digests.create(NEXT_DIGEST, sign_digest(world, clients))
    assert [listed.name for listed in digests.listed()] == [FIRST_DIGEST, NEXT_DIGEST]


def own_vault(world: World, clients: OciClients) -> Vault:
    """The vault, with Lockstep's own compartment."""
    return sandbox_vault(world.sandbox, clients, compartment=world.sandbox.own_compartment_id)


def log_of(world: World, clients: OciClients) -> ObjectStorageAuditLog:
    """The audit log in OCI of the first credential."""
    audit = world.plan.audit.oci
    assert audit
    return ObjectStorageAuditLog(
        clients,
        namespace=world.sandbox.namespace,
        bucket=audit.bucket,
        stream="oci",
        credential_id=world.plan.credentials[0].id,
    )
