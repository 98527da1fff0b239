"""Every adapter asks before each request, connect and statement, and sends nothing that is refused (protocol F11)."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count

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
from tests.contract.database_harness import SqlHarness, each_engine
from tests.contract.oci_fixtures import sandbox_vault
from tests.support.logs import object_storage_log

pytest_plugins = ["tests.contract.database_harness"]


def _refuse() -> None:
    raise DeadlineExceededError


@contextmanager
def nothing_connects() -> Iterator[int]:
    """A port to which nothing may connect, and where each call inside the block must be refused."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server.getsockname()[1]
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_request_to_aws() -> None:
    """Every service has its client from here."""
    with nothing_connects() as port:
        endpoint = f"http://127.0.0.1:{port}"
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


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_request_to_oci(scheme: str) -> None:
    with OciSandbox() as sandbox, nothing_connects() as port:
        endpoint, identity = f"{scheme}://127.0.0.1:{port}", OciIdentity(config=sandbox.config())
        clients = OciClients(lambda: identity, "eu-frankfurt-1", endpoint=endpoint, deadline_guard=_refuse)
        log = object_storage_log(clients, "n", "b", "id")
        folder = ObjectStorageFolder(clients, namespace="n", bucket="b", folder="plans/digest")
        key = IssuerKey(id="ocid1.key.oc1..one", version="ocid1.keyversion.oc1..one", endpoint=endpoint)
        calls: list[Callable[[], object]] = [
            lambda: list(log.numbers()),
            lambda: folder.read("index.json", 1),
            lambda: sandbox_vault(sandbox, clients).read_named("name"),
            lambda: sign(clients, key, bytes(32)),  # for a session
        ]
        for call in calls:
            with pytest.raises(DeadlineExceededError):
                call()


@each_engine
def test_each_login_and_statement_on_a_database(world: SqlHarness) -> None:
    """However far a staging has come, the next statement is refused."""

    def permits(permitted: int) -> DeadlineGuard:
        left = iter(range(permitted))

        def ask() -> None:
            if next(left, None) is None:
                raise DeadlineExceededError

        return ask

    with pytest.raises(DeadlineExceededError):
        world.open(deadline_guard=_refuse).accepts(world.login(1))
    asked = count()
    world.stage(None, 1, world.open(deadline_guard=partial(next, asked)))
    username = world.login(1).username
    verifier, changed = world.verifier_of(username), []
    for permitted in range(next(asked)):
        with pytest.raises(DeadlineExceededError):
            world.stage(None, 3, world.open(deadline_guard=permits(permitted)))
        changed.append(world.verifier_of(username) != verifier)
    # It connects, bounds its waits and takes the lock before it changes anything.
    assert len(changed) >= 3
    assert not any(changed[:3])
    assert changed == sorted(changed)
