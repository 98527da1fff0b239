"""Every adapter asks before each request, connect and statement, and sends nothing that is refused (protocol F11).

A call belongs to the invocation that began it, and is not sent when that has ended (protocol F9, F11). That a process
ends itself whose work does not end is in tests/frozen, for both runtimes.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
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
from lockstep.oci.vault import Vault
from lockstep.protocol.deadlines import LAST_CALL_SECONDS, DeadlineGuard, Scope, always, check_scope
from lockstep.protocol.errors import DeadlineExceededError
from lockstep.protocol.federation import IssuerKey
from lockstep.protocol.workers import at_the_same_time, one_after_the_other
from sandbox.emulators.oci import OciSandbox
from tests.contract.clouds import SESSIONS
from tests.contract.database_harness import SqlHarness, each_engine
from tests.proof.clock import JumpingClock
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


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_request_to_a_cloud(scheme: str) -> None:
    """Every service has its client from here."""
    with nothing_connects() as port:
        endpoint, identity = f"{scheme}://127.0.0.1:{port}", OciIdentity(config=OciSandbox().config())
        make = partial(
            aws_client, region="eu-central-1", keys=SESSIONS, endpoint=endpoint, deadline_guard=_refuse
        )
        clients = OciClients(lambda: identity, "eu-frankfurt-1", endpoint=endpoint, deadline_guard=_refuse)
        vault = Vault(clients, compartment_id="c", vault_id="v", store="oci")
        key = IssuerKey(id="ocid1.key.oc1..one", version="ocid1.keyversion.oc1..one", endpoint=endpoint)
        calls: list[Callable[[], object]] = [
            DynamoDbLock(make("dynamodb"), "table", "id").read,
            partial(KmsSigner(make("kms"), "key").sign, bytes(32)),
            partial(S3Folder(make("s3"), "bucket", "plans/digest").read, "index.json", 1),
            partial(read_secret, make("secretsmanager"), "aws", "name"),
            lambda: list(object_storage_log(clients, "n", "b", "id").numbers()),
            lambda: vault.read_named("name"),
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


# The scope of an invocation

BOUND_SECONDS = 30.0


def _never() -> None:
    raise AssertionError("the process must not end")


def _scope(clock: JumpingClock, *, seconds: float = 60.0) -> Scope:
    return Scope(clock, ends_at=clock.monotonic() + seconds, leave=_never)


def test_a_call_is_sent_while_its_scope_is_open_and_without_one_never() -> None:
    scope = _scope(JumpingClock())
    with scope.open(), ThreadPoolExecutor() as pool:
        check_scope()
        at_the_same_time([check_scope, check_scope])
        one_after_the_other([check_scope])
        # A thread that no step waits for sends nothing.
        with pytest.raises(DeadlineExceededError):
            pool.submit(check_scope).result(BOUND_SECONDS)
    for check in (scope.check, check_scope):
        with pytest.raises(DeadlineExceededError):
            check()
    always()


def test_a_worker_keeps_the_scope_of_its_own_invocation() -> None:
    """What it begins is not sent inside a later invocation, although that one is open."""
    clock = JumpingClock()
    later_is_open, began = threading.Event(), threading.Event()
    refused: list[type[Exception]] = []

    def outlives() -> None:
        began.set()
        assert later_is_open.wait(BOUND_SECONDS)
        try:
            check_scope()
        except DeadlineExceededError as error:
            refused.append(type(error))

    with _scope(clock).open():
        step = threading.Thread(target=copy_context().run, args=(at_the_same_time, [outlives]))
        step.start()
        assert began.wait(BOUND_SECONDS)
    with _scope(clock).open():
        check_scope()
        later_is_open.set()
        step.join(BOUND_SECONDS)
    assert refused == [DeadlineExceededError]


def test_no_call_begins_when_its_answer_would_come_too_late() -> None:
    clock = JumpingClock()
    with _scope(clock).open():
        clock.jump(60 - LAST_CALL_SECONDS - 1)
        check_scope()
        clock.jump(1)
        with pytest.raises(DeadlineExceededError):
            check_scope()
    with pytest.raises(DeadlineExceededError), _scope(clock, seconds=LAST_CALL_SECONDS).open():
        pytest.fail("the scope must not open")
