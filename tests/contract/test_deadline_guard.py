"""Every adapter asks before each request, connect and statement, and sends nothing that is refused (protocol F11)."""

import socket
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from lockstep.aws.clients import aws_client
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.aws.kms import KmsSigner
from lockstep.aws.s3 import S3Folder
from lockstep.aws.secrets_manager import read_secret
from lockstep.oci.clients import OciClients, OciIdentity
from lockstep.oci.kms import sign
from lockstep.oci.object_storage import ObjectStorageFolder
from lockstep.protocol.deadlines import DeadlineGuard
from lockstep.protocol.errors import DeadlineExceededError
from lockstep.protocol.federation import IssuerKey
from sandbox.emulators.oci import OciSandbox
from tests.contract.aws_fixtures import SESSIONS
from tests.contract.database_harness import SqlHarness, every_server
from tests.contract.oci_fixtures import sandbox_vault
from tests.support.logs import object_storage_log

pytest_plugins = ["tests.contract.database_fixtures"]


def _refuse() -> None:
    raise DeadlineExceededError


class Permits:
    """A `DeadlineGuard` that permits some calls, and refuses all further ones."""

    def __init__(self, permitted: int) -> None:
        self.asked = 0
        self._permitted = permitted

    def __call__(self) -> None:
        """Count, permit or refuse."""
        self.asked += 1
        if self.asked > self._permitted:
            raise DeadlineExceededError


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that nothing may connect to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def _nothing_came(listener: socket.socket) -> bool:
    try:
        listener.accept()
    except BlockingIOError:
        return True
    return False


def test_a_request_to_aws(listener: socket.socket) -> None:
    """Every service has its client from here."""
    endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    make = partial(
        aws_client, region="eu-central-1", keys=SESSIONS, endpoint=endpoint, deadline_guard=_refuse
    )
    calls: list[Callable[[], object]] = [
        DynamoDbLock(make("dynamodb"), "table", "id").read,
        partial(KmsSigner(make("kms"), "key").sign, bytes(32)),
        partial(S3Folder(make("s3"), "bucket", "plans/digest").read, "index.json", 1),
        partial(read_secret, make("secretsmanager"), "aws", "name"),
    ]
    for call in calls:
        with pytest.raises(DeadlineExceededError):
            call()
    assert _nothing_came(listener)


def _oci(config: dict[str, str], endpoint: str, deadline_guard: DeadlineGuard) -> OciClients:
    identity = OciIdentity(config=config)
    return OciClients(lambda: identity, "eu-frankfurt-1", endpoint=endpoint, deadline_guard=deadline_guard)


@pytest.fixture(scope="module")
def oci_sandbox() -> Iterator[OciSandbox]:
    """The services."""
    with OciSandbox() as sandbox:
        yield sandbox


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_request_to_oci(scheme: str, oci_sandbox: OciSandbox, listener: socket.socket) -> None:
    endpoint = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
    clients = _oci(oci_sandbox.config(), endpoint, _refuse)
    log = object_storage_log(clients, "n", "b", "id")
    folder = ObjectStorageFolder(clients, namespace="n", bucket="b", folder="plans/digest")
    key = IssuerKey(id="ocid1.key.oc1..one", version="ocid1.keyversion.oc1..one", endpoint=endpoint)
    calls: list[Callable[[], object]] = [
        lambda: list(log.numbers()),
        lambda: folder.read("index.json", 1),
        lambda: sandbox_vault(oci_sandbox, clients).read_named("name"),
        lambda: sign(clients, key, bytes(32)),  # for a session
    ]
    for call in calls:
        with pytest.raises(DeadlineExceededError):
            call()
    assert _nothing_came(listener)


@every_server
def test_each_login_and_statement_on_a_database(world: SqlHarness) -> None:
    """However far a staging has come, the next statement is refused."""
    with pytest.raises(DeadlineExceededError):
        world.open(deadline_guard=_refuse).accepts(world.login(1))
    counts = Permits(1000)
    world.stage(None, 1, world.open(deadline_guard=counts))
    assert counts.asked >= 3
    username = world.login(1).username
    verifier, changed = world.verifier_of(username), []
    for permitted in range(counts.asked):
        with pytest.raises(DeadlineExceededError):
            world.stage(None, 3, world.open(deadline_guard=Permits(permitted)))
        changed.append(world.verifier_of(username) != verifier)
    # It connects, bounds its waits and takes the lock before it changes anything.
    assert not any(changed[:3])
    assert changed == sorted(changed)
