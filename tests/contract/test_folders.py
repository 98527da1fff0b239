"""Folders of both clouds' buckets, by pages of two: what is listed, by which names and dates, and what is not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from lockstep.aws.s3 import AUDIT_ERRORS, S3AuditLog, S3Folder
from lockstep.oci.object_storage import AUDIT_ERRORS as OCI_ERRORS
from lockstep.oci.object_storage import ObjectStorageAuditLog, ObjectStorageFolder
from lockstep.protocol.errors import AuditLogAccessDeniedError, AuditLogUnreachableError
from lockstep.protocol.ports import AuditLog, Folder
from sandbox.digests import StoresClock
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.clock import SandboxClock, real_time
from tests.contract.aws_fixtures import sandbox_client
from tests.contract.oci_fixtures import OciConsole, sandbox_clients

BUCKET = "lockstep-audit"
CREDENTIAL = "multi-cloud/app_user"
SECOND = timedelta(seconds=1)
"""To which S3's lists are exact."""
JUNK = ("", " ", "%2E%2e", "a+b", "a&b=c", "ä€", "~", "'\"", "x" * 200)
"""Names of folders that somebody has made."""


@dataclass
class World:
    """A bucket, with a clock that goes on by orders.

    Attributes:
        put: Writes an object, as somebody with all rights does.
        open: Gives a folder of a bucket of that name.
        log: The audit log of the credential.
        stick: From the next call on, each page of a list names itself as the next one.
    """

    clock: SandboxClock
    put: Callable[[str, bytes], object]
    open: Callable[..., Folder]
    log: AuditLog
    stick: Callable[[], object]


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
    stuck = {"IsTruncated": True, "NextContinuationToken": "again", "Contents": [], "CommonPrefixes": []}
    return World(
        clock=clock,
        put=lambda name, body: console.put_object(Bucket=BUCKET, Key=name, Body=body),
        open=lambda folder, bucket=BUCKET: S3Folder(client, bucket, folder, errors=AUDIT_ERRORS, page_size=2),
        log=S3AuditLog(client, BUCKET, "aws", CREDENTIAL, page_size=2),
        stick=lambda: client.meta.events.register(
            "after-call.s3.ListObjectsV2", lambda parsed, **_: parsed.update(stuck)
        ),
    )


def _oci(sandbox: OciSandbox, clock: SandboxClock) -> World:
    console, clients = OciConsole(sandbox), sandbox_clients(sandbox)
    console.create_bucket(BUCKET)

    def opened(folder: str, bucket: str = BUCKET) -> Folder:
        return ObjectStorageFolder(
            clients,
            namespace=sandbox.namespace,
            bucket=bucket,
            folder=folder,
            errors=OCI_ERRORS,
            page_size=2,
        )

    def stick() -> None:
        objects = clients.objects
        listing = objects.list_objects

        def stuck(*where: str, start: str, **options: object) -> oci.response.Response:
            found = listing(*where, start=start, **options)
            found.data.next_start_with = start
            return found

        objects.list_objects = stuck

    return World(
        clock=clock,
        put=lambda name, body: console.storage.put_object(sandbox.namespace, BUCKET, name, body),
        open=opened,
        log=ObjectStorageAuditLog(
            clients,
            namespace=sandbox.namespace,
            bucket=BUCKET,
            stream="oci",
            credential_id=CREDENTIAL,
            page_size=2,
        ),
        stick=stick,
    )


def test_an_empty_folder_has_nothing(world: World) -> None:
    world.put("chain/a.json", b"{}")
    folder = world.open("chains")
    assert (list(folder.folders()), list(folder.listed())) == ([], [])


def test_each_folder_is_listed_once_by_its_name_and_what_lies_beside_is_not(world: World) -> None:
    chains = [f"multi-cloud.app-{n}" for n in range(5)]
    for chain in chains:
        for number in range(1, 6):
            world.put(f"aws/{chain}/{number:012d}.json", b"{}")
    world.put("aws/multi-cloud.app-2/deeper/still.json", b"{}")
    for beside in ("aws/notes.txt", "aws/zz.txt", "aws.txt", "awsome/x/1.json", "digests/2026-11-29T19.json"):
        world.put(beside, b"{}")
    assert list(world.open("aws").folders()) == chains


def test_folders_of_any_name_are_listed_however_many(world: World) -> None:
    for name in JUNK:
        world.put(f"aws/{name}/1.json", b"{}")
    world.put("aws/multi-cloud.app/1.json", b"{}")
    assert sorted(world.open("aws").folders()) == sorted([*JUNK, "multi-cloud.app"])


def test_objects_are_listed_with_size_and_the_time_of_the_store(world: World) -> None:
    names = [*(f"2026-11-29T{hour:02d}.json" for hour in range(5)), "a+b %2E.json", "in/another.json"]
    begun = world.clock.now()
    for number, name in enumerate(names):
        world.put(f"digests/{name}", b"x" * number)
        world.clock.advance(timedelta(hours=1))
    found = list(world.open("digests").listed())
    assert [(item.name, item.size) for item in found] == [(n, i) for i, n in enumerate(names)]
    for number, item in enumerate(found):
        assert abs(item.at - begun - number * timedelta(hours=1)) < SECOND


def test_each_number_of_a_chain_has_the_time_of_its_object(world: World) -> None:
    begun = world.clock.now()
    for number in range(1, 6):
        assert world.log.put(number, b"{}", {"chain": "{}", "mac": "{}"})
        world.clock.advance(timedelta(minutes=20))
    world.put(f"{world.log.stream}/multi-cloud.app_user/000000000003.junk", b"{}")
    world.put(f"{world.log.stream}/multi-cloud.app_user/000000000004.json", b"written again")
    found = dict(world.log.dated())
    assert list(found) == [1, 2, 3, 4, 5]
    for number, after in ((1, 0), (2, 20), (3, 40), (4, 100), (5, 80)):
        assert abs(found[number] - begun - timedelta(minutes=after)) < SECOND
    assert list(world.log.dated(after=3)) == [(4, found[4]), (5, found[5])]


def test_a_page_that_names_itself_as_the_next_one_is_an_outage_and_no_end(world: World) -> None:
    """What is listed would look whole."""
    for number in range(1, 6):
        world.put(f"{world.log.stream}/multi-cloud.app_user/{number:012d}.json", b"{}")
    world.stick()
    folder = world.open(world.log.stream)
    for listing in (folder.folders, folder.listed, world.log.dated, world.log.numbers):
        with pytest.raises(AuditLogUnreachableError):
            list(listing())


def test_a_missing_bucket_is_no_empty_one(world: World) -> None:
    for listing in (world.open("aws", "another-bucket").folders, world.open("aws", "another-bucket").listed):
        with pytest.raises((AuditLogAccessDeniedError, AuditLogUnreachableError)):
            list(listing())
