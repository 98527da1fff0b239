"""Every audit log takes each entry once (protocol E6), its lists say all, and no signer takes another's MAC.

Published plans are in the same kind of bucket: what is written, refused, and gone on with.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from itertools import count, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, call, patch

import pytest

from lockstep.audit.verify import findings
from lockstep.aws.kms import KmsSigner
from lockstep.oci.vault import VaultSigner
from lockstep.plan import published
from lockstep.plan.file import load_plan
from lockstep.protocol import errors
from lockstep.protocol.ports import MAX_ENTRY_BYTES, AuditLog, EntryLog, Mac, Signer
from lockstep.protocol.schedule import run_key
from lockstep.protocol.workers import one_after_the_other
from sandbox.digests import StoresClock
from sandbox.emulators.aws.resources import create_mac_key
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.clock import SandboxClock, real_time
from sandbox.oci_resources import create_secret
from tests.contract.clouds import MemoryBucket, OciBucket, S3Bucket, sandbox_client, sandbox_vault
from tests.support.memory import MAX_METADATA_BYTES, EntryObjects, MemorySigner

CLOCK, NUMBERS = SandboxClock.fixed(real_time()), count(1)
SECOND = timedelta(seconds=1)
"""To which S3's lists are exact."""
Bucket = MemoryBucket | S3Bucket | OciBucket
BUCKETS: Mapping[str, Callable[[ExitStack], Bucket]] = {
    "memory": lambda _: MemoryBucket(),
    "aws": lambda clouds: S3Bucket(clouds.enter_context(AwsSandbox(wall_clock=StoresClock(CLOCK).timestamp))),
    "oci": lambda clouds: OciBucket(clouds.enter_context(OciSandbox(CLOCK))),
}
of_clouds = pytest.mark.parametrize("bucket", ["aws", "oci"], indirect=True)


@pytest.fixture(scope="module", params=BUCKETS)
def bucket(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """A bucket for all tests, each of which has names of its own, and whose clock goes on by their orders."""
    with ExitStack() as clouds:
        yield BUCKETS[request.param](clouds)


@pytest.fixture
def chain() -> str:
    return f"multi-cloud/app_user-{next(NUMBERS)}"


@pytest.fixture
def log(bucket: Bucket, chain: str) -> AuditLog:
    return bucket.log(chain)


@pytest.fixture
def objects(bucket: Bucket, chain: str) -> EntryObjects:
    return EntryObjects(bucket.stream, chain)


def body(seq: int, *, by: str = "aws-1") -> bytes:
    return f'{{"seq":{seq},"by":"{by}"}}'.encode()


def metadata(seq: int, *, by: str = "aws-1") -> dict[str, str]:
    return {"chain": f'{{"seq":{seq},"by":"{by}: \\u00e9"}}', "mac": "{}"}


def put(log: AuditLog, seq: int, *, by: str = "aws-1") -> bool:
    return log.put(seq, body(seq, by=by), metadata(seq, by=by))


def test_an_entry_is_read_back_as_it_was_put_first(bucket: Bucket, log: AuditLog) -> None:
    """Also after a lost reply."""
    assert (list(log.numbers()), log.look(1), log.read(1)) == ([], None, None)
    with pytest.raises(errors.AuditLogUnreachableError), bucket.lose_reply(1):
        put(log, 1)
    assert put(log, 2)
    assert not put(log, 1, by="oci-1")
    assert not put(log, 1)
    assert [log.read(seq) for seq in (1, 2, 3)] == [body(1), body(2), None]
    assert [log.look(seq) for seq in (1, 2, 3)] == [metadata(1), metadata(2), None]
    assert list(log.numbers()) == [1, 2]


def test_the_largest_seal_is_kept_and_a_body_is_read_as_far_as_one_can_be_long(log: AuditLog) -> None:
    largest = {"chain": "x" * (MAX_METADATA_BYTES - 400 - len("chainmac")), "mac": "y" * 400}
    assert log.put(1, b"x" * (MAX_ENTRY_BYTES + 1_000), largest)
    assert log.look(1) == largest
    assert len(log.read(1) or b"") > MAX_ENTRY_BYTES


def test_numbers_ascend_above_one_even_if_entries_are_missing_and_others_have_names_there(
    bucket: Bucket, log: AuditLog, objects: EntryObjects
) -> None:
    for junk in range(5):
        bucket.put(f"{objects.prefix}000000000000.{junk}", b"{}")
        bucket.put(f"{objects.prefix}000000000001.json.{junk}", b"{}")
    for present in ([3, 4, 6, 7], [1, 2, 3, 4, 5, 6, 7]):
        for seq in reversed(present):
            put(log, seq)
        for after in (0, 1, 3, 7):
            assert list(log.numbers(after=after)) == [seq for seq in present if seq > after]


def test_deletions_overwriting_and_strangers_show_in_history(
    bucket: Bucket, log: AuditLog, objects: EntryObjects
) -> None:
    assert list(log.history()) == []
    for seq in (1, 2, 3, 4, 4):
        put(log, seq)
    with pytest.raises(errors.AuditLogUnreachableError), bucket.lose_reply(1):
        list(log.history())
    grown, size = list(log.history()), len(body(1))
    assert [(v.seq, v.is_delete_marker, v.is_latest, v.size) for v in grown] == [
        (seq, False, True, size) for seq in range(1, 5)
    ]
    assert not list(findings(grown))
    CLOCK.advance(SECOND)
    bucket.delete(objects.key(2))
    bucket.delete(objects.key(3))
    CLOCK.advance(SECOND)
    log.put(3, b"{}", metadata(3))
    bucket.put(objects.key(4), b"longer than it was before, by far")
    bucket.put(f"{objects.prefix}notes.txt", b"{}")
    # The latest of each name before the others, whose order is open.
    versions = sorted(log.history(), key=lambda v: (v.key, not v.is_latest, v.is_delete_marker))
    assert [v.key for v in versions if v.is_latest] == [v.key for v in log.history() if v.is_latest]
    assert len({(v.key, v.version_id) for v in versions}) == len(versions)
    assert [(v.seq, v.is_delete_marker, v.is_latest, v.size) for v in versions] == [
        (1, False, True, size),
        (2, True, True, 0),
        (2, False, False, size),
        (3, False, True, 2),
        (3, False, False, size),
        (3, True, False, 0),
        (4, False, True, 33),
        (4, False, False, size),
        (0, False, True, 2),
    ]
    assert list(log.numbers()) == [1, 3, 4]
    assert log.read(2) is None
    assert [str(finding) for finding in findings(log.history())] == [
        "entry 2: hidden by a delete marker",
        "entry 3: deleted and written again",
        "entry 4: written more than once",
        f"{versions[-1].key!r} is not an entry",
    ]


# What is listed by pages of two, by which names and dates

JUNK = ("", " ", "%2E%2e", "a+b", "a&b=c", "ä€", "~", "'\"", "x" * 200)
"""Names of folders that somebody has made."""


@of_clouds
def test_each_folder_is_listed_once_by_its_name_and_what_lies_beside_is_not(
    bucket: S3Bucket | OciBucket,
) -> None:
    chains = sorted([*JUNK, *(f"multi-cloud.app-{n}" for n in range(5))])
    for chain in chains:
        for number in range(1, 4):
            bucket.put(f"in/{chain}/{number:012d}.json", b"{}")
    for beside in ("in/multi-cloud.app-2/deeper/still.json", "in/zz.txt", "in.txt", "inside/x/1.json"):
        bucket.put(beside, b"{}")
    assert sorted(bucket.open("in", stream=bucket.stream).folders()) == chains
    empty = bucket.open("i", stream=bucket.stream)
    assert (list(empty.folders()), list(empty.listed())) == ([], [])


@of_clouds
def test_objects_are_listed_with_size_and_the_time_of_the_store(
    bucket: S3Bucket | OciBucket, log: EntryLog, objects: EntryObjects
) -> None:
    names = [*(f"2026-11-29T{hour:02d}.json" for hour in range(5)), "a+b %2E.json", "in/another.json"]
    begun = CLOCK.now()
    for number, name in enumerate(names):
        bucket.put(f"digests/{name}", b"x" * number)
        CLOCK.advance(timedelta(hours=1))
    found = list(bucket.open("digests", stream=bucket.stream).listed())
    assert [(item.name, item.size) for item in found] == [(n, i) for i, n in enumerate(names)]
    for number, item in enumerate(found):
        assert abs(item.at - begun - number * timedelta(hours=1)) < SECOND
    # Each number of a chain has the time of its object.
    begun = CLOCK.now()
    for number in range(1, 6):
        assert put(log, number)
        CLOCK.advance(timedelta(minutes=20))
    bucket.put(f"{objects.prefix}000000000003.junk", b"{}")
    bucket.put(objects.key(4), b"written again")
    dates = dict(log.dated())
    assert list(dates) == [1, 2, 3, 4, 5]
    for at, after in zip(dates.values(), (0, 20, 40, 100, 80), strict=True):
        assert abs(at - begun - timedelta(minutes=after)) < SECOND
    assert list(log.dated(after=3)) == [(4, dates[4]), (5, dates[5])]


def stuck(bucket: S3Bucket | OciBucket) -> AbstractContextManager[object]:
    """Each page of a list names itself as the next one."""
    following = {"NextContinuationToken": "2", "NextKeyMarker": "aws/1", "NextVersionIdMarker": "1"}

    def again(*_: str, start: str = "", **_more: object) -> Any:  # noqa: ANN401 - as the SDK's
        if isinstance(bucket, S3Bucket):
            return {"IsTruncated": True, **following}
        data = SimpleNamespace(objects=[], items=[], prefixes=[], next_start_with=start)
        return SimpleNamespace(data=data, headers={"opc-next-page": "2"})

    if isinstance(bucket, S3Bucket):
        return patch.multiple(bucket.client, list_objects_v2=again, list_object_versions=again)
    return patch.multiple(bucket.clients.objects, list_objects=again, list_object_versions=again)


@of_clouds
def test_a_page_that_names_itself_as_the_next_one_is_an_outage_and_no_end(
    bucket: S3Bucket | OciBucket, log: EntryLog
) -> None:
    """What is listed would look whole, or never end."""
    folder = bucket.open(bucket.stream, stream=bucket.stream)
    for listing in (folder.folders, folder.listed, log.dated, log.numbers, log.history):
        with stuck(bucket), pytest.raises(errors.AuditLogUnreachableError):
            list(listing())


# Published plans

PLAN_FILE = Path(__file__).parents[1] / "infrastructure/plan/lockstep.yaml"
PLAN = load_plan(PLAN_FILE)
PUBLISHED = published.compile_plan(PLAN.compiled, PLAN.shards, PLAN_FILE.parent)


@pytest.fixture
def folder(bucket: S3Bucket | OciBucket, monkeypatch: pytest.MonkeyPatch) -> published.PlanBucket:
    monkeypatch.setattr("lockstep.plan.published.CA_FOLDER", PLAN_FILE.parent)
    return bucket.open(f"plans/{next(NUMBERS)}", page=1000)


def publish(
    bucket: published.PlanBucket, clock: Mock, done: Callable[[str], None] = lambda _: None
) -> frozenset[str]:
    missing = published.state_of(bucket, PUBLISHED).missing
    return published.write_plan(
        bucket, PUBLISHED, missing, clock=clock, done=done, side_by_side=one_after_the_other
    )


@of_clouds
def test_a_publication_that_broke_off_goes_on_and_what_is_there_is_not_written_again(
    folder: published.PlanBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Throttled calls and lost replies are tried again, and not for ever."""
    written, create = list[str](), folder.create

    def troubled(name: str, file: bytes) -> bool:
        trouble = next(troubles, "")
        if trouble == "throttled":
            raise errors.PlanUnreachableError
        assert create(name, file) == (name not in written)
        written.append(name)
        if trouble:
            raise errors.PlanUnreachableError if trouble == "lost" else KeyboardInterrupt
        return True

    monkeypatch.setattr(folder, "create", troubled)
    troubles: Iterator[str] = repeat("throttled")
    clock = Mock()
    with pytest.raises(errors.PlanUnreachableError):
        publish(folder, clock)
    # Those that were begun beside it end, too.
    assert clock.sleep.call_count == published.CALL_POLICY.attempts * (len(PUBLISHED.files) - 1)
    troubles = iter(["", "ends"])
    with pytest.raises(KeyboardInterrupt):
        publish(folder, Mock())
    state = published.state_of(folder, PUBLISHED)
    assert (state.same, published.INDEX in state.missing) == (frozenset(written), True)
    clock, troubles = Mock(), iter(["throttled", "throttled", "lost"])
    rest = list[str]()
    assert publish(folder, clock, rest.append) == frozenset()
    assert clock.sleep.mock_calls == [call(0.5), call(1.0), call(2.0)]
    assert (frozenset(rest), rest[-1]) == (state.missing, published.INDEX)
    monkeypatch.setattr(folder, "read", lambda *_: pytest.fail("the list says all"))
    state = published.state_of(folder, PUBLISHED)
    assert state == published.State(
        same=frozenset(PUBLISHED.files), missing=frozenset(), different=frozenset()
    )


@of_clouds
def test_what_somebody_else_wrote_is_refused_named_and_never_replaced(folder: published.PlanBucket) -> None:
    name = published.credential_name(run_key(PLAN.credentials[0].id))
    forged = PUBLISHED.files[name].replace(b'"port":3306', b'"port":3307')
    assert folder.create(name, forged)
    # It came after the list was made, so no index is written.
    names = PUBLISHED.files.keys()
    assert published.write_plan(folder, PUBLISHED, names, clock=Mock(), done=lambda _: None) == {name}
    state = published.state_of(folder, PUBLISHED)
    assert (state.different, state.missing) == (frozenset({name}), frozenset())
    assert folder.read(published.INDEX, 10) is None
    with pytest.raises(errors.PlanDocumentRefusedError) as error:
        published.PublishedPlan(PUBLISHED.digest, folder).of(PLAN.credentials[0].id)
    assert error.value.where == {"path": name, "code": "not-of-this-plan"}
    assert folder.read(name, len(forged)) == forged
    assert len(folder.read(name, 100) or b"") == 101, "no more is read than a document may have"


# Signers

DIGEST = sha256(b"entry").digest()
Signers = tuple[Signer, Signer]


def aws_signers(sandbox: AwsSandbox) -> Signers:
    kms, client = sandbox.client("kms"), sandbox_client(sandbox, "kms")
    return KmsSigner(client, create_mac_key(kms)), KmsSigner(client, create_mac_key(kms))


def oci_signers(sandbox: OciSandbox) -> Signers:
    names = "lockstep.mac", "lockstep.other-mac"
    for name in names:
        create_secret(sandbox, name, f"a key of more than 32 bytes, for {name}".encode())
    mac, other = (VaultSigner(sandbox_vault(sandbox), name) for name in names)
    return mac, other


SIGNERS: Mapping[str, Callable[[ExitStack], Signers]] = {
    "memory": lambda _: (MemorySigner("key"), MemorySigner("other-key")),
    "aws": lambda clouds: aws_signers(clouds.enter_context(AwsSandbox())),
    "oci": lambda clouds: oci_signers(clouds.enter_context(OciSandbox())),
}


FORGED: Mapping[str, Callable[[Mac], Mac]] = {
    "its first byte is changed": lambda mac: replace(mac, value=bytes([mac.value[0] ^ 1]) + mac.value[1:]),
    "its last byte is changed": lambda mac: replace(mac, value=mac.value[:-1] + bytes([mac.value[-1] ^ 1])),
    "it is half as long": lambda mac: replace(mac, value=mac.value[:16]),
    "it is empty": lambda mac: replace(mac, value=b""),
    "it is twice as long": lambda mac: replace(mac, value=mac.value * 2),
    "of another key": lambda mac: replace(mac, key_id="another-key"),
    "of no key": lambda mac: replace(mac, key_id=""),
    "of a version that is not there": lambda mac: replace(mac, key_id="lockstep.mac:999"),
    "of a long number": lambda mac: replace(mac, key_id=f"lockstep.mac:{'9' * 5_000}"),
    "of a key with an accent": lambda mac: replace(mac, key_id="\u00e9" * 9),
}


@pytest.mark.parametrize("opened", SIGNERS.values(), ids=SIGNERS)
def test_each_key_makes_its_own_mac_and_no_other_verifies(opened: Callable[[ExitStack], Signers]) -> None:
    with ExitStack() as clouds:
        signer, another = opened(clouds)
        mac, other = signer.sign(DIGEST), another.sign(DIGEST)
        assert len(mac.value) == 32
        assert signer.sign(DIGEST) == mac
        assert [one.verify(DIGEST, mac) for one in (signer, another)] == [True, False]
        assert (mac.value == other.value, mac.key_id == other.key_id) == (False, False)
        assert not signer.verify(sha256(b"another entry").digest(), mac)
        for how, forge in FORGED.items():
            assert not signer.verify(DIGEST, forge(mac)), how
