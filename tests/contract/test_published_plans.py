"""The buckets of published plans in both clouds: what is read, written, refused, and gone on with."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Literal

import pytest
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError

from lockstep.aws.clients import aws_client
from lockstep.aws.s3 import S3Folder
from lockstep.oci.clients import OciClients, OciIdentity
from lockstep.oci.object_storage import ObjectStorageFolder
from lockstep.plan.file import load_plan
from lockstep.plan.model import Plan
from lockstep.plan.published import (
    INDEX,
    TRIES,
    PlanBucket,
    Published,
    PublishedPlan,
    State,
    compile_plan,
    credential_name,
    folder_of,
    state_of,
    write_plan,
)
from lockstep.protocol.errors import (
    PlanAccessDeniedError,
    PlanDocumentMissingError,
    PlanDocumentRefusedError,
    PlanUnreachableError,
)
from lockstep.protocol.schedule import run_key
from lockstep.protocol.workers import one_after_the_other
from lockstep.runtime.system import SystemClock
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from tests.contract.aws_fixtures import KEYS, sandbox_client
from tests.contract.oci_fixtures import OciConsole, sandbox_clients

PLAN_FILE = Path(__file__).parents[1] / "infrastructure/plan/lockstep.yaml"
BUCKET = "acme-audit-plans"
Operation = Literal["create", "read", "list"]


class Waits(SystemClock):
    """A clock on which nobody waits."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Write it down."""
        self.slept.append(seconds)


@dataclass
class World:
    """A bucket, with faults on order.

    Attributes:
        open: Gives the folder of a plan in a bucket of that name.
        throttle: The next calls of an operation are throttled, so many times.
        lose_reply: The next writing takes effect, and its reply is lost.
        forge: Puts something in the place of a document, as another writer.
        versions: How many versions of a document there are.
    """

    open: Callable[..., PlanBucket]
    throttle: Callable[[Operation, int], object]
    lose_reply: Callable[[], object]
    forge: Callable[[str, bytes], object]
    versions: Callable[[str], int]
    clock: Waits = field(default_factory=Waits)


@pytest.fixture(scope="module", name="plan")
def _plan() -> Plan:
    return load_plan(PLAN_FILE)


@pytest.fixture(scope="module", name="published")
def _published(plan: Plan) -> Published:
    return compile_plan(plan.compiled, plan.shards, PLAN_FILE.parent)


def _aws(sandbox: AwsSandbox, folder: str) -> World:
    console = sandbox.client("s3")
    console.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    console.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    client = sandbox_client(sandbox, "s3")
    names = {"create": "PutObject", "read": "GetObject", "list": "ListObjectsV2"}
    counting = Lock()

    def throttle(operation: Operation, times: int) -> None:
        left = [times]

        def refuse(**_: object) -> None:
            with counting:
                left[0] -= 1
                if left[0] < 0:
                    return
            raise EndpointConnectionError(endpoint_url="throttled")

        client.meta.events.register(f"before-call.s3.{names[operation]}", refuse)

    def lose_reply() -> None:
        left = [1]

        def close(**_: object) -> None:
            if left.pop() if left else 0:
                raise ConnectionClosedError(endpoint_url="lost")

        client.meta.events.register("after-call.s3.PutObject", close)

    def versions(name: str) -> int:
        found = console.list_object_versions(Bucket=BUCKET, Prefix=f"{folder}/{name}")
        return len(found.get("Versions", []))

    return World(
        open=lambda bucket=BUCKET, page=1000: S3Folder(client, bucket, folder, page_size=page),
        throttle=throttle,
        lose_reply=lose_reply,
        forge=lambda name, file: (
            console.put_object(Bucket=BUCKET, Key=f"{folder}/{name}", Body=file) and None
        ),
        versions=versions,
    )


def _oci(sandbox: OciSandbox, folder: str) -> World:
    console = OciConsole(sandbox)
    console.create_bucket(BUCKET)
    clients = sandbox_clients(sandbox)
    names = {"create": "put_object", "read": "get_object", "list": "list_objects"}

    def opened(bucket: str = BUCKET, page: int = 1000) -> PlanBucket:
        return ObjectStorageFolder(
            clients, namespace=sandbox.namespace, bucket=bucket, folder=folder, page_size=page
        )

    def throttle(operation: Operation, times: int) -> None:
        sandbox.faults.refuse(names[operation], status=429, code="TooManyRequests", times=times)

    def versions(name: str) -> int:
        found = console.storage.list_object_versions(sandbox.namespace, BUCKET, prefix=f"{folder}/{name}")
        return len([item for item in found.data.items if not item.is_delete_marker])

    return World(
        open=opened,
        throttle=throttle,
        lose_reply=lambda: sandbox.faults.drop_reply("put_object"),
        forge=lambda name, file: (
            console.storage.put_object(sandbox.namespace, BUCKET, f"{folder}/{name}", file) and None
        ),
        versions=versions,
    )


@pytest.fixture(params=["aws", "oci"], name="world")
def _world(request: pytest.FixtureRequest, published: Published) -> Iterator[World]:
    folder = folder_of(published.digest)
    if request.param == "aws":
        with AwsSandbox() as aws:
            yield _aws(aws, folder)
    else:
        with OciSandbox() as oci:
            yield _oci(oci, folder)


def publish(world: World, published: Published, **more: Any) -> frozenset[str]:  # noqa: ANN401 - as `write`
    bucket = world.open()
    state = state_of(bucket, published)
    return write_plan(bucket, published, state.missing, clock=world.clock, done=lambda _: None, **more)


def source(world: World, published: Published) -> PublishedPlan:
    return PublishedPlan(published.digest, world.open(), ca_folder=PLAN_FILE.parent)


def test_what_is_published_is_read_and_verified(world: World, plan: Plan, published: Published) -> None:
    assert publish(world, published) == frozenset()
    found = source(world, published)
    assert [found.of(c.id).credentials for c in plan.credentials] == [(c,) for c in plan.credentials]
    assert [c.id for c in found.index.credentials] == [c.id for c in plan.credentials]
    with pytest.raises(PlanDocumentMissingError):
        found.of("multi-cloud/other")


def test_a_second_publication_writes_nothing(world: World, published: Published) -> None:
    publish(world, published)
    world.throttle("create", 100)
    world.throttle("read", 100)
    state = state_of(world.open(page=2), published)
    assert state == State(same=frozenset(published.files), missing=frozenset(), different=frozenset())
    assert publish(world, published) == frozenset()


def test_a_publication_that_broke_off_goes_on_and_the_index_comes_last(
    world: World, published: Published
) -> None:
    bucket, written = world.open(), list[str]()

    def done(name: str) -> None:
        written.append(name)
        if len(written) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_plan(
            bucket, published, published.files, clock=world.clock, done=done, side_by_side=one_after_the_other
        )
    state = state_of(bucket, published)
    assert INDEX in state.missing
    assert set(written) <= state.same
    rest = list[str]()
    write_plan(bucket, published, state.missing, clock=world.clock, done=rest.append)
    assert set(rest) == state.missing
    assert rest[-1] == INDEX
    assert not state_of(bucket, published).missing
    assert all(world.versions(name) == 1 for name in published.files)


def test_throttled_calls_are_tried_again_and_not_for_ever(world: World, published: Published) -> None:
    world.throttle("create", 3)
    publish(world, published, side_by_side=one_after_the_other)
    assert world.clock.slept == [0.5, 1.0, 2.0]
    assert not state_of(world.open(), published).missing


def test_a_bucket_that_only_throttles_is_unreachable(world: World, published: Published) -> None:
    world.throttle("create", 10_000)
    with pytest.raises(PlanUnreachableError):
        publish(world, published, side_by_side=one_after_the_other)
    # Those that were begun beside it end, too.
    assert len(world.clock.slept) == (TRIES - 1) * (len(published.files) - 1)


def test_a_write_whose_reply_was_lost_is_known_to_have_come(world: World, published: Published) -> None:
    world.lose_reply()
    assert publish(world, published, side_by_side=one_after_the_other) == frozenset()
    assert len(world.clock.slept) == 1
    assert all(world.versions(name) == 1 for name in published.files)


def test_what_somebody_else_wrote_is_refused_named_and_never_replaced(
    world: World, plan: Plan, published: Published
) -> None:
    publish(world, published)
    name = credential_name(run_key(plan.credentials[0].id))
    forged = published.files[name].replace(b'"port":3306', b'"port":3307')
    world.forge(name, forged)
    with pytest.raises(PlanDocumentRefusedError) as error:
        source(world, published).of(plan.credentials[0].id)
    assert error.value.where == {"path": name, "code": "not-of-this-plan"}
    bucket = world.open()
    state = state_of(bucket, published)
    assert state.different == {name}
    assert not state.missing
    assert publish(world, published) == frozenset()
    assert bucket.read(name, len(forged)) == forged


def test_a_document_that_comes_in_between_is_told_and_no_index_is_written(
    world: World, published: Published
) -> None:
    name = next(n for n in published.files if n != INDEX)
    state = state_of(world.open(), published)
    world.forge(name, b"{}")
    different = write_plan(world.open(), published, state.missing, clock=world.clock, done=lambda _: None)
    assert different == {name}
    assert state_of(world.open(), published).missing == {INDEX}


def test_a_missing_bucket_is_named_with_the_next_command(world: World, published: Published) -> None:
    with pytest.raises(PlanAccessDeniedError, match="make deploy-aws"):
        state_of(world.open("another-bucket"), published)
    with pytest.raises(PlanAccessDeniedError):
        world.open("another-bucket").read(INDEX, 10)
    with pytest.raises(PlanAccessDeniedError):
        world.open("another-bucket").create(INDEX, b"{}")


def test_no_more_is_read_than_a_document_may_have(world: World) -> None:
    world.forge("huge", b"x" * 10_000)
    assert len(world.open().read("huge", 100) or b"") == 101


def _s3(endpoint: str) -> PlanBucket:
    return S3Folder(aws_client("s3", "eu-central-1", keys=KEYS, endpoint=endpoint), BUCKET, "plans/x")


def _object_storage(endpoint: str) -> PlanBucket:
    identity = OciIdentity(config=OciSandbox().config())
    clients = OciClients(lambda: identity, "eu-frankfurt-1", endpoint=endpoint)
    return ObjectStorageFolder(clients, namespace="acme", bucket=BUCKET, folder="plans/x")


@pytest.mark.parametrize("opened", [_s3, _object_storage])
def test_a_reply_that_is_cut_is_an_outage_and_no_document(opened: Callable[[str], PlanBucket]) -> None:
    """Its beginning alone would be refused for good."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{"document":')

        Thread(target=serve, daemon=True).start()
        with pytest.raises(PlanUnreachableError):
            opened(f"http://127.0.0.1:{server.getsockname()[1]}").read(INDEX, 10_000)
