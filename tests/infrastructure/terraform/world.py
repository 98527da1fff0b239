"""The sandbox as Terraform leaves a tenancy, and the calls that the runners make there.

A test runs them as a principal with exactly the permissions of some policy statements.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from lockstep.oci.clients import OciClients
from lockstep.oci.functions import OwnFunction
from lockstep.oci.kms import VaultDigestKey
from lockstep.oci.object_storage import ObjectStorageAuditLog, ObjectStorageFolder
from lockstep.oci.vault import Vault, VaultSigner
from lockstep.plan.admins import names_in_oci
from lockstep.plan.model import Plan
from lockstep.plan.published import INDEX, folder_of
from lockstep.protocol.model import Credential, CredentialValue, Login, SecretStr
from lockstep.protocol.names import VersionNames, oci_name, plan_bucket_name, slot_name
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
from tests.infrastructure.terraform.case import DIGESTS, LOG, PLAN_DIGEST, Deployment, Stack, Statement
from tests.support.fence import fence_held

SLOTS = 4
ROUNDS = 5
"""Generations that each slot has held, so that it has superseded versions to delete."""
FULL_SLOT = (SLOTS * ROUNDS + 1) % SLOTS
"""The slot of the first credential that has no room: the next value takes the place of a superseded one there."""
MISSING = 999
"""A generation that no slot holds."""
FUNCTION_ID, OTHERS_FUNCTION_ID = "ocid1.fnfunc.oc1..rotate", "ocid1.fnfunc.oc1..other"
FIRST_DIGEST, NEXT_DIGEST = "2026-11-29T18.json", "2026-11-29T19.json"
"""A digest that is there, and one that is made."""
ENTRY = {"chain": "{}", "mac": "{}"}


@dataclass(frozen=True, kw_only=True)
class World:
    """The sandbox with the secrets and the buckets that Terraform makes, after some rotations.

    Attributes:
        ids: The sandbox's OCID for each OCID of Terraform, of secrets, keys and compartments.
        digest_key: What signs digests.
    """

    sandbox: OciSandbox
    plan: Plan
    ids: dict[str, str]
    digest_key: Key

    def permit(self, principal: str, granted: Sequence[Statement]) -> OciClients:
        """Clients of a principal with the statements' permissions."""
        config = self.sandbox.new_api_key(principal)
        grants = set().union(*(s.grants(self.ids) for s in granted))
        self.sandbox.identity.principal(principal).grants = grants
        return sandbox_clients(self.sandbox, config)

    @property
    def all(self) -> OciClients:
        """Those of an administrator."""
        return sandbox_clients(self.sandbox)


@contextmanager
def running_world(stack: Stack, deployed: Deployment) -> Iterator[World]:
    """Run it."""
    with OciSandbox() as sandbox:
        # Not the Archive tier, so that what may be read can be read at once.
        for bucket in (LOG, plan_bucket_name(LOG)):
            create_audit_bucket(sandbox, bucket, tier="Standard")
        create_audit_bucket(sandbox, DIGESTS, tier="Standard", retention_days=400)
        key = create_signing_key(sandbox, name="lockstep-digests")
        ids = {
            deployed.all("oci_kms_key")["digests[0]"]["id"]: key.ocid,
            stack.store["compartment_id"]: sandbox.compartment_id,
            stack.store["own_compartment_id"]: sandbox.own_compartment_id,
            deployed.all("oci_functions_function")["rotate"]["id"]: FUNCTION_ID,
        }
        here = {"compartmentId": sandbox.own_compartment_id, "invokeEndpoint": sandbox.endpoint}
        functions = (FUNCTION_ID, OTHERS_FUNCTION_ID)
        sandbox.deployment.functions = [{"id": one, **here} for one in functions]
        sandbox.functions.code.update(dict.fromkeys(functions, lambda _: (200, b"{}")))
        # Long enough for a signing key.
        content = json.dumps({"placeholder": "x" * 64}).encode()
        secrets: dict[str, str] = {}
        for secret in deployed.secrets.values():
            name, compartment = secret["secret_name"], ids[secret["compartment_id"]]
            secrets[name] = ids[secret["id"]] = create_secret(sandbox, name, content, compartment=compartment)
        for name, ocid in deployed.outputs["slots"].items():
            secrets[name] = ids[ocid] = create_secret(sandbox, name, content)
        console, plan = OciConsole(sandbox), stack.parsed
        for bucket, name in (
            (plan_bucket_name(LOG), f"{folder_of(PLAN_DIGEST)}/{INDEX}"),
            (DIGESTS, f"digests/{FIRST_DIGEST}"),
        ):
            console.storage.put_object(sandbox.namespace, bucket, name, b"{}")
        full = secrets[slot_name(plan.credentials[0].id, FULL_SLOT)]
        for number in range(MAX_IN_USE - ROUNDS - 1):
            console.edit(full, f'{{"by hand": "{number}"}}')
        for credential in plan.credentials:
            _age(console, credential, secrets)
        yield World(sandbox=sandbox, plan=plan, ids=ids, digest_key=key)


def _age(console: OciConsole, credential: Credential, ids: dict[str, str]) -> None:
    names = credential.secret_names
    for generation in range(1, SLOTS * ROUNDS + 1):
        texts = {
            names.app_user: encode_app_user(value_of(credential, generation), credential),
            names.connection_blob: encode_connection_blob(generation, credential),
        }
        for secret, text in texts.items():
            version = VersionNames(credential_id=credential.id, secret=secret).name_of(generation)
            console.edit(ids[slot_name(secret, generation % SLOTS)], text, name=version)


def value_of(credential: Credential, generation: int) -> CredentialValue:
    """A value of the credential."""
    return CredentialValue(generation, Login(credential.usernames[0], SecretStr(f"value-{generation}")))


def rings(world: World, clients: OciClients) -> Iterator[tuple[Credential, CredentialStore]]:
    """Each credential with its store in OCI."""
    vault = sandbox_vault(world.sandbox, clients)
    for credential in world.plan.credentials:
        ring = partial(VaultRing, vault, slots=SLOTS, clock=SystemClock())
        yield credential, CredentialStore("oci", credential, ring)


def read(world: World, clients: OciClients) -> None:
    """Read values by their generation and version."""
    for _, store in rings(world, clients):
        base = store.read_current()
        assert store.read_version(base.version)
        assert store.read_generation(base.generation)
        assert store.read_generation(MISSING) is None


def stage(world: World, clients: OciClients) -> None:
    """Read, and stage; of the first credential in a slot that is full."""
    read(world, clients)
    for credential, store in rings(world, clients):
        value = value_of(credential, store.read_current().generation + 1)
        assert store.stage(value).value == value


def promote(world: World, clients: OciClients) -> None:
    """Promote what somebody has staged, and prune."""
    for (credential, staged), (_, store) in zip(rings(world, world.all), rings(world, clients), strict=True):
        value = value_of(credential, staged.read_current().generation + 1)
        seen = staged.stage(value).seen
        promoted = store.prepare_promotion(value.generation, seen=seen)(fence_held)
        assert store.shows(promoted)
        # At least one superseded version of each secret.
        assert store.prune() >= 2


def rotate(world: World, clients: OciClients) -> None:
    """Make the other calls of the OCI runner, besides those on the rings."""
    stage(world, clients)
    promote(world, clients)
    vault = own_vault(world, clients)
    for secret in (*runner_secrets(world), *names_in_oci(world.plan)):
        assert vault.read_named(oci_name(secret)).data
    VaultSigner(vault, "lockstep.mac").sign(b"digest")
    OwnFunction(clients, FUNCTION_ID).call({"credential_ids": ["multi-cloud/app_user"]})
    [called] = world.sandbox.functions.finish(seconds=10)
    assert json.loads(called.body) == {"credential_ids": ["multi-cloud/app_user"]}
    log = log_of(world, clients)
    assert log.put(1, b"{}", ENTRY)
    assert not log.put(1, b"{}", ENTRY)
    assert log.look(1) == ENTRY
    assert list(log.numbers()) == [1]
    assert plans_of(world, clients).read(INDEX, 100) == b"{}"
    assert plans_of(world, clients).read("credentials/none.json", 100) is None


def look_at_digest(world: World, clients: OciClients) -> None:
    """Find and read the newest digest of OCI."""
    bucket = digests_of(world, clients)
    assert [listed.name for listed in bucket.listed()] == [FIRST_DIGEST]
    assert bucket.read(FIRST_DIGEST, 100) == b"{}"


def make_digest(world: World, clients: OciClients) -> None:
    """Make the calls in OCI that a digest makes, where the log has an entry."""
    assert log_of(world, world.all).put(1, b"{}", ENTRY)
    assert plans_of(world, clients).read(INDEX, 100) == b"{}"
    log, vault = log_of(world, clients), own_vault(world, clients)
    assert list(log.numbers()) == [1]
    assert log.look(1)
    assert not VaultSigner(vault, "lockstep.mac").verify(b"digest", Mac(key_id="lockstep.mac:1", value=b""))
    for secret in runner_secrets(world):
        assert vault.read_named(oci_name(secret)).data
    look_at_digest(world, clients)
    assert digests_of(world, clients).create(NEXT_DIGEST, sign_digest(world, clients))


def work_of_aws(world: World, clients: OciClients) -> None:
    """What the functions in AWS do, with one key."""
    for one in (stage, promote, look_at_digest):
        one(world, clients)


WORK: Mapping[str, Callable[[World, OciClients], None]] = {
    "lockstep-aws-runner": work_of_aws,
    "lockstep-oci-runner": rotate,
    "lockstep-oci-digest": make_digest,
    "generate": stage,
    "apply_db": read,
    "update_secrets": promote,
    "digest": look_at_digest,
}
"""What each principal does in OCI: in the usual run, and where a value is missing or a slot is full."""


def runner_secrets(world: World) -> list[str]:
    """The secrets by which the OCI runner is somebody in AWS."""
    assert world.plan.runners.oci
    return list(world.plan.runners.oci.secrets.values())


def plans_of(world: World, clients: OciClients) -> ObjectStorageFolder:
    """The bucket of the published plan."""
    return _folder(world, clients, plan_bucket_name(LOG), folder_of(PLAN_DIGEST))


def digests_of(world: World, clients: OciClients) -> ObjectStorageFolder:
    """The bucket of the digests."""
    return _folder(world, clients, DIGESTS, "digests")


def _folder(world: World, clients: OciClients, bucket: str, folder: str) -> ObjectStorageFolder:
    return ObjectStorageFolder(clients, namespace=world.sandbox.namespace, bucket=bucket, folder=folder)


def sign_digest(world: World, clients: OciClients) -> bytes:
    """Sign with the key of the digests, after its public half was read."""
    key = VaultDigestKey(clients, f"{world.digest_key.ocid}@{world.sandbox.endpoint}")
    assert key.public_key()
    return key.sign(bytes(32))


def own_vault(world: World, clients: OciClients) -> Vault:
    """The vault, with Lockstep's own compartment."""
    return sandbox_vault(world.sandbox, clients, compartment=world.sandbox.own_compartment_id)


def log_of(world: World, clients: OciClients) -> ObjectStorageAuditLog:
    """The audit log in OCI of the first credential."""
    return ObjectStorageAuditLog(
        clients,
        namespace=world.sandbox.namespace,
        bucket=LOG,
        stream="oci",
        credential_id=world.plan.credentials[0].id,
    )
