"""Every audit log takes each entry once (protocol E6), and every signer verifies only its own MACs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256

import pytest

from lockstep.audit.verify import findings
from lockstep.protocol.errors import AuditLogUnreachableError
from lockstep.protocol.ports import MAX_ENTRY_BYTES, AuditLog, Mac
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from tests.contract.aws_fixtures import S3Harness, aws_signers
from tests.contract.harness import Signers
from tests.contract.memory_fixtures import MemoryAuditLogHarness
from tests.contract.oci_fixtures import ObjectStorageHarness, oci_signers
from tests.support.memory import MAX_METADATA_BYTES, MemorySigner

AuditLogHarness = MemoryAuditLogHarness | S3Harness | ObjectStorageHarness
LOGS: Mapping[str, Callable[[ExitStack], AuditLogHarness]] = {
    "memory": lambda _: MemoryAuditLogHarness(),
    "aws": lambda clouds: S3Harness(clouds.enter_context(AwsSandbox())),
    "oci": lambda clouds: ObjectStorageHarness(clouds.enter_context(OciSandbox())),
}
SIGNERS: Mapping[str, Callable[[ExitStack], Signers]] = {
    "memory": lambda _: Signers(MemorySigner("key"), MemorySigner("other-key")),
    "aws": lambda clouds: aws_signers(clouds.enter_context(AwsSandbox())),
    "oci": lambda clouds: oci_signers(clouds.enter_context(OciSandbox())),
}


@pytest.fixture(scope="module", params=LOGS)
def shared(request: pytest.FixtureRequest) -> Iterator[AuditLogHarness]:
    with ExitStack() as clouds:
        yield LOGS[request.param](clouds)


@pytest.fixture
def world(shared: AuditLogHarness) -> AuditLogHarness:
    return shared.anew()


@pytest.fixture
def log(world: AuditLogHarness) -> AuditLog:
    return world.log


def body(seq: int, *, by: str = "aws-1") -> bytes:
    return f'{{"seq":{seq},"by":"{by}"}}'.encode()


def metadata(seq: int, *, by: str = "aws-1") -> dict[str, str]:
    return {"chain": f'{{"seq":{seq},"by":"{by}: \\u00e9"}}', "mac": "{}"}


def put(log: AuditLog, seq: int, *, by: str = "aws-1") -> bool:
    return log.put(seq, body(seq, by=by), metadata(seq, by=by))


def test_an_entry_is_read_back_as_it_was_put_first(log: AuditLog) -> None:
    assert (list(log.numbers()), log.look(1), log.read(1)) == ([], None, None)
    assert put(log, 1)
    assert put(log, 2)
    assert not put(log, 1, by="oci-1")
    assert not put(log, 1)
    assert [log.read(seq) for seq in (1, 2, 3)] == [body(1), body(2), None]
    assert [log.look(seq) for seq in (1, 2, 3)] == [metadata(1), metadata(2), None]
    assert list(log.numbers()) == [1, 2]


def test_a_put_after_a_lost_reply_finds_its_own_entry(world: AuditLogHarness, log: AuditLog) -> None:
    with pytest.raises(AuditLogUnreachableError), world.lose_reply(1):
        put(log, 1)
    assert not put(log, 1)
    assert log.look(1) == metadata(1)


def test_the_largest_seal_is_kept_and_a_body_is_read_as_far_as_one_can_be_long(log: AuditLog) -> None:
    largest = {"chain": "x" * (MAX_METADATA_BYTES - 400 - len("chainmac")), "mac": "y" * 400}
    assert log.put(1, b"x" * (MAX_ENTRY_BYTES + 1_000), largest)
    assert log.look(1) == largest
    assert len(log.read(1) or b"") > MAX_ENTRY_BYTES


def test_numbers_ascend_above_one_even_if_entries_are_missing_and_others_have_names_there(
    world: AuditLogHarness, log: AuditLog
) -> None:
    for junk in range(5):
        world.plant(f"000000000000.{junk}")
        world.plant(f"000000000001.json.{junk}")
    for present in ([3, 4, 6, 7], [1, 2, 3, 4, 5, 6, 7]):
        for seq in reversed(present):
            put(log, seq)
        for after in (0, 1, 3, 7):
            assert list(log.numbers(after=after)) == [seq for seq in present if seq > after]


def test_a_log_that_only_grew_has_one_version_of_each_entry(world: AuditLogHarness, log: AuditLog) -> None:
    assert list(log.history()) == []
    for seq in range(1, 6):
        put(log, seq)
        put(log, seq)
    with pytest.raises(AuditLogUnreachableError), world.lose_reply(1):
        list(log.history())
    versions = list(log.history())
    assert [v.seq for v in versions] == [1, 2, 3, 4, 5]
    assert all(v.is_latest and not v.is_delete_marker and v.size == len(body(v.seq)) for v in versions)
    assert len({v.version_id for v in versions} | {v.key for v in versions}) >= 5
    assert not list(findings(versions))


def test_deletions_overwriting_and_strangers_show_in_history(world: AuditLogHarness, log: AuditLog) -> None:
    for seq in range(1, 5):
        put(log, seq)
    world.delete(2)
    world.delete(3)
    log.put(3, b"{}", metadata(3))
    world.overwrite(4, b"longer than it was before, by far")
    world.plant("notes.txt")
    # The latest of each name before the others, whose order is open.
    versions = sorted(log.history(), key=lambda v: (v.key, not v.is_latest, v.is_delete_marker))
    assert [v.key for v in versions if v.is_latest] == [v.key for v in log.history() if v.is_latest]
    size = len(body(1))
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


# Signers

DIGEST = sha256(b"entry").digest()


@pytest.fixture(scope="module", params=SIGNERS)
def signers(request: pytest.FixtureRequest) -> Iterator[Signers]:
    with ExitStack() as clouds:
        yield SIGNERS[request.param](clouds)


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


def test_each_key_makes_its_own_mac_and_no_other_verifies(signers: Signers) -> None:
    mac, other = signers.signer.sign(DIGEST), signers.other.sign(DIGEST)
    assert len(mac.value) == 32
    assert signers.signer.sign(DIGEST) == mac
    assert [signer.verify(DIGEST, mac) for signer in (signers.signer, signers.other)] == [True, False]
    assert (mac.value == other.value, mac.key_id == other.key_id) == (False, False)
    assert not signers.signer.verify(sha256(b"another entry").digest(), mac)
    for how, forge in FORGED.items():
        assert not signers.signer.verify(DIGEST, forge(mac)), how
