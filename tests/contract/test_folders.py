"""Folders of both clouds' buckets: what is listed by pages of two; and published plans, which are written to them."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from lockstep.aws.clients import aws_client
from lockstep.aws.s3 import S3Folder
from lockstep.oci.clients import OciClients, OciIdentity
from lockstep.oci.object_storage import ObjectStorageFolder
from lockstep.plan.file import load_plan
from lockstep.plan.published import (
    CALL_POLICY,
    INDEX,
    PlanBucket,
    PublishedPlan,
    State,
    compile_plan,
    credential_name,
    folder_of,
    state_of,
    write_plan,
)
from lockstep.protocol.errors import (
    AuditLogUnreachableError,
    PlanDocumentMissingError,
    PlanDocumentRefusedError,
    PlanUnreachableError,
)
from lockstep.protocol.ports import EntryLog
from lockstep.protocol.schedule import run_key
from lockstep.protocol.workers import one_after_the_other
from lockstep.runtime.system import SystemClock
from sandbox.digests import StoresClock
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.clock import SandboxClock, real_time
from tests.contract.aws_fixtures import SESSIONS, sandbox_client
from tests.contract.oci_fixtures import OciConsole, sandbox_clients
from tests.support.peer import peer

PLAN_FILE = Path(__file__).parents[1] / "infrastructure/plan/lockstep.yaml"
PLAN = load_plan(PLAN_FILE)
PUBLISHED = compile_plan(PLAN.compiled, PLAN.shards, PLAN_FILE.parent)
BUCKET = "lockstep-audit"
SECOND = timedelta(seconds=1)
"""To which S3's lists are exact."""
JUNK = ("", " ", "%2E%2e", "a+b", "a&b=c", "ä€", "~", "'\"", "x" * 200)
"""Names of folders that somebody has made."""


class Waits(SystemClock):
    """A clock on which nobody waits."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Write it down."""
        self.slept.append(seconds)


@dataclass
class World:
    """A bucket whose clock goes on by orders.

    Attributes:
        put: Writes an object, as somebody with all rights does.
        open: Gives a folder, of the audit log if its stream is named; by default of published plans.
        stick: From the next call on, each page of a list names itself as the next one.
    """

    stream: str
    clock: SandboxClock
    put: Callable[[str, bytes], object]
    open: Callable[..., S3Folder | ObjectStorageFolder]
    stick: Callable[[], object]

    @property
    def chain(self) -> str:
        return f"{self.stream}/multi-cloud.app_user"

    @property
    def log(self) -> EntryLog:
        """The audit log of a credential."""
        return EntryLog(self.open(self.chain, stream=self.stream))


@pytest.fixture(params=["aws", "oci"], name="world")
def _world(request: pytest.FixtureRequest) -> Iterator[World]:
    clock = SandboxClock.fixed(real_time())
    if request.param == "aws":
        with AwsSandbox(wall_clock=StoresClock(clock).timestamp) as aws:
            yield _aws(aws, clock)
    else:
        with OciSandbox(clock) as in_oci:
            yield _oci(in_oci, clock)


def _aws(sandbox: AwsSandbox, clock: SandboxClock) -> World:
    console, client = sandbox.client("s3"), sandbox_client(sandbox, "s3")
    console.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": sandbox.region})
    console.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    stuck = {"IsTruncated": True, "NextContinuationToken": "again", "Contents": [], "CommonPrefixes": []}
    return World(
        stream="aws",
        clock=clock,
        put=lambda name, body: console.put_object(Bucket=BUCKET, Key=name, Body=body),
        open=lambda folder, *, page=2, stream="": S3Folder(
            client, BUCKET, folder, page_size=page, stream=stream
        ),
        stick=lambda: client.meta.events.register(
            "after-call.s3.ListObjectsV2", lambda parsed, **_: parsed.update(stuck)
        ),
    )


def _oci(sandbox: OciSandbox, clock: SandboxClock) -> World:
    console, clients = OciConsole(sandbox), sandbox_clients(sandbox)
    console.create_bucket(BUCKET)
    objects, listing = clients.objects, clients.objects.list_objects

    def stuck(*where: str, start: str, **options: object) -> oci.response.Response:
        found = listing(*where, start=start, **options)
        found.data.next_start_with = start
        return found

    return World(
        stream="oci",
        clock=clock,
        put=lambda name, body: console.storage.put_object(sandbox.namespace, BUCKET, name, body),
        open=lambda folder, *, page=2, stream="": ObjectStorageFolder(
            clients, namespace=sandbox.namespace, bucket=BUCKET, folder=folder, page_size=page, stream=stream
        ),
        stick=lambda: setattr(objects, "list_objects", stuck),
    )


# What is listed, by which names and dates


def test_each_folder_is_listed_once_by_its_name_and_what_lies_beside_is_not(world: World) -> None:
    chains = sorted([*JUNK, *(f"multi-cloud.app-{n}" for n in range(5))])
    for chain in chains:
        for number in range(1, 4):
            world.put(f"aws/{chain}/{number:012d}.json", b"{}")
    world.put("aws/multi-cloud.app-2/deeper/still.json", b"{}")
    for beside in ("aws/notes.txt", "aws/zz.txt", "aws.txt", "awsome/x/1.json", "digests/2026-11-29T19.json"):
        world.put(beside, b"{}")
    assert sorted(world.open("aws", stream=world.stream).folders()) == chains
    empty = world.open("aw", stream=world.stream)
    assert (list(empty.folders()), list(empty.listed())) == ([], [])


def test_objects_are_listed_with_size_and_the_time_of_the_store(world: World) -> None:
    names = [*(f"2026-11-29T{hour:02d}.json" for hour in range(5)), "a+b %2E.json", "in/another.json"]
    begun = world.clock.now()
    for number, name in enumerate(names):
        world.put(f"digests/{name}", b"x" * number)
        world.clock.advance(timedelta(hours=1))
    found = list(world.open("digests", stream=world.stream).listed())
    assert [(item.name, item.size) for item in found] == [(n, i) for i, n in enumerate(names)]
    for number, item in enumerate(found):
        assert abs(item.at - begun - number * timedelta(hours=1)) < SECOND


def test_each_number_of_a_chain_has_the_time_of_its_object(world: World) -> None:
    begun = world.clock.now()
    for number in range(1, 6):
        assert world.log.put(number, b"{}", {"chain": "{}", "mac": "{}"})
        world.clock.advance(timedelta(minutes=20))
    world.put(f"{world.chain}/000000000003.junk", b"{}")
    world.put(f"{world.chain}/000000000004.json", b"written again")
    found = dict(world.log.dated())
    assert list(found) == [1, 2, 3, 4, 5]
    for at, after in zip(found.values(), (0, 20, 40, 100, 80), strict=True):
        assert abs(at - begun - timedelta(minutes=after)) < SECOND
    assert list(world.log.dated(after=3)) == [(4, found[4]), (5, found[5])]


def test_a_page_that_names_itself_as_the_next_one_is_an_outage_and_no_end(world: World) -> None:
    """What is listed would look whole."""
    for number in range(1, 6):
        world.put(f"{world.chain}/{number:012d}.json", b"{}")
    world.stick()
    folder = world.open(world.stream, stream=world.stream)
    for listing in (folder.folders, folder.listed, world.log.dated, world.log.numbers):
        with pytest.raises(AuditLogUnreachableError):
            list(listing())


# Published plans: what is written, read, refused, and gone on with


@pytest.fixture(name="bucket")
def _bucket(world: World, monkeypatch: pytest.MonkeyPatch) -> PlanBucket:
    monkeypatch.setattr("lockstep.plan.published.CA_FOLDER", PLAN_FILE.parent)
    return world.open(folder_of(PUBLISHED.digest), page=1000)


class Troubled:
    """A bucket whose first writings are throttled, and then lose their reply."""

    def __init__(self, bucket: PlanBucket, *, throttled: int = 0, lost: int = 0) -> None:
        self.tag, self.listed, self.read = bucket.tag, bucket.listed, bucket.read
        self.created: list[str] = []
        self._bucket, self._throttled, self._lost = bucket, throttled, lost

    def create(self, name: str, file: bytes) -> bool:
        self._throttled -= 1
        if self._throttled >= 0:
            raise PlanUnreachableError
        is_created = self._bucket.create(name, file)
        self.created += [name] if is_created else []
        self._lost -= 1
        if self._lost >= 0:
            raise PlanUnreachableError
        return is_created

    def folders(self) -> Iterator[str]:
        raise NotImplementedError


def publish(bucket: PlanBucket, clock: Waits, done: Callable[[str], None] = lambda _: None) -> frozenset[str]:
    missing = state_of(bucket, PUBLISHED).missing
    return write_plan(bucket, PUBLISHED, missing, clock=clock, done=done, side_by_side=one_after_the_other)


def test_a_publication_that_broke_off_goes_on_and_what_is_there_is_not_written_again(
    world: World, bucket: PlanBucket
) -> None:
    written, rest = list[str](), list[str]()

    def done(name: str) -> None:
        written.append(name)
        if len(written) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(bucket, Waits(), done)
    state = state_of(bucket, PUBLISHED)
    assert INDEX in state.missing
    assert set(written) <= state.same
    publish(bucket, Waits(), rest.append)
    assert (frozenset(rest), rest[-1]) == (state.missing, INDEX)
    found = PublishedPlan(PUBLISHED.digest, bucket)
    assert [found.of(c.id).credentials for c in PLAN.credentials] == [(c,) for c in PLAN.credentials]
    assert [c.id for c in found.index.credentials] == [c.id for c in PLAN.credentials]
    with pytest.raises(PlanDocumentMissingError):
        found.of("multi-cloud/other")
    listed = world.open(folder_of(PUBLISHED.digest))
    listed.read = lambda *_: pytest.fail("the list says all")  # type: ignore[method-assign]
    state = state_of(listed, PUBLISHED)
    assert state == State(same=frozenset(PUBLISHED.files), missing=frozenset(), different=frozenset())


def test_throttled_calls_and_lost_replies_are_tried_again_and_not_for_ever(
    world: World, bucket: PlanBucket
) -> None:
    clock, troubled = Waits(), Troubled(bucket, throttled=2, lost=1)
    assert publish(troubled, clock) == frozenset()
    assert clock.slept == [0.5, 1.0, 2.0]
    assert sorted(troubled.created) == sorted(PUBLISHED.files)
    assert not state_of(bucket, PUBLISHED).missing
    clock, elsewhere = Waits(), Troubled(world.open("plans/elsewhere"), throttled=10_000)
    with pytest.raises(PlanUnreachableError):
        publish(elsewhere, clock)
    # Those that were begun beside it end, too.
    assert len(clock.slept) == CALL_POLICY.attempts * (len(PUBLISHED.files) - 1)


def test_what_somebody_else_wrote_is_refused_named_and_never_replaced(bucket: PlanBucket) -> None:
    name = credential_name(run_key(PLAN.credentials[0].id))
    forged = PUBLISHED.files[name].replace(b'"port":3306', b'"port":3307')
    assert bucket.create(name, forged)
    # It came after the list was made, so no index is written.
    names = PUBLISHED.files.keys()
    assert write_plan(bucket, PUBLISHED, names, clock=Waits(), done=lambda _: None) == {name}
    state = state_of(bucket, PUBLISHED)
    assert (state.different, state.missing) == (frozenset({name}), frozenset())
    assert bucket.read(INDEX, 10) is None
    with pytest.raises(PlanDocumentRefusedError) as error:
        PublishedPlan(PUBLISHED.digest, bucket).of(PLAN.credentials[0].id)
    assert error.value.where == {"path": name, "code": "not-of-this-plan"}
    assert bucket.read(name, len(forged)) == forged
    assert len(bucket.read(name, 100) or b"") == 101, "no more is read than a document may have"


def _s3(endpoint: str) -> PlanBucket:
    return S3Folder(aws_client("s3", "eu-central-1", keys=SESSIONS, endpoint=endpoint), BUCKET, "plans/x")


def _object_storage(endpoint: str) -> PlanBucket:
    identity = OciIdentity(config=OciSandbox().config())
    clients = OciClients(lambda: identity, "eu-frankfurt-1", endpoint=endpoint)
    return ObjectStorageFolder(clients, namespace="acme", bucket=BUCKET, folder="plans/x")


@pytest.mark.parametrize("opened", [_s3, _object_storage])
def test_a_reply_that_is_cut_is_an_outage_and_no_document(opened: Callable[[str], PlanBucket]) -> None:
    """Its beginning alone would be refused for good."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{"document":')

    with peer(serve) as port, pytest.raises(PlanUnreachableError):
        opened(f"http://127.0.0.1:{port}").read(INDEX, 10_000)
