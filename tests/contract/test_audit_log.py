"""Every audit log takes each entry once (protocol E6), and every signer verifies only its own MACs."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from hashlib import sha256
from threading import Barrier

import pytest

from lockstep.audit.verify import findings
from lockstep.protocol.errors import AuditLogUnreachableError
from lockstep.protocol.ports import MAX_ENTRY_BYTES, AuditLog
from tests.contract.aws_fixtures import aws_audit_log, aws_signer
from tests.contract.harness import AuditLogHarness, SignerHarness
from tests.contract.memory_fixtures import memory_audit_log, memory_signer
from tests.contract.oci_fixtures import oci_audit_log, oci_signer
from tests.support.memory import MAX_METADATA_BYTES

LOGS: Mapping[str, Callable[[], AbstractContextManager[AuditLogHarness]]] = {
    "memory": memory_audit_log,
    "aws": aws_audit_log,
    "oci": oci_audit_log,
}
SIGNERS: Mapping[str, Callable[[], AbstractContextManager[SignerHarness]]] = {
    "memory": memory_signer,
    "aws": aws_signer,
    "oci": oci_signer,
}


@pytest.fixture(params=LOGS)
def world(request: pytest.FixtureRequest) -> Iterator[AuditLogHarness]:
    with LOGS[request.param]() as harness:
        yield harness


@pytest.fixture
def log(world: AuditLogHarness) -> AuditLog:
    return world.log


@pytest.fixture(params=SIGNERS)
def signers(request: pytest.FixtureRequest) -> Iterator[SignerHarness]:
    with SIGNERS[request.param]() as harness:
        yield harness


def body(seq: int, *, by: str = "aws-1") -> bytes:
    return f'{{"seq":{seq},"by":"{by}"}}'.encode()


def metadata(seq: int, *, by: str = "aws-1") -> dict[str, str]:
    return {"chain": f'{{"seq":{seq},"by":"{by}: \\u00e9"}}', "mac": "{}"}


def put(log: AuditLog, seq: int, *, by: str = "aws-1") -> bool:
    return log.put(seq, body(seq, by=by), metadata(seq, by=by))


def test_an_empty_log_has_no_entries(log: AuditLog) -> None:
    assert list(log.numbers()) == []
    assert log.look(1) is None
    assert log.read(1) is None


def test_an_entry_is_read_back_as_it_was_put(log: AuditLog) -> None:
    assert put(log, 1)
    assert put(log, 2)
    assert (log.read(1), log.read(2)) == (body(1), body(2))
    assert (log.look(1), log.look(2)) == (metadata(1), metadata(2))
    assert log.look(3) is None
    assert list(log.numbers()) == [1, 2]


def test_an_entry_is_never_overwritten(log: AuditLog) -> None:
    put(log, 1)
    assert not put(log, 1, by="oci-1")
    assert not put(log, 1)
    assert (log.read(1), log.look(1)) == (body(1), metadata(1))


def test_only_one_of_two_concurrent_puts_succeeds(log: AuditLog) -> None:
    barrier = Barrier(2, timeout=60)

    def race(by: str) -> bool:
        barrier.wait()
        return put(log, 1, by=by)

    runs = ["aws-1", "aws-2"]
    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(race, runs))
    assert sorted(won) == [False, True]
    winner = runs[won.index(True)]
    assert (log.read(1), log.look(1)) == (body(1, by=winner), metadata(1, by=winner))


def test_a_put_after_a_lost_reply_finds_its_own_entry(world: AuditLogHarness, log: AuditLog) -> None:
    with pytest.raises(AuditLogUnreachableError), world.lose_reply(1):
        put(log, 1)
    assert not put(log, 1)
    assert log.look(1) == metadata(1)


def test_the_metadata_of_the_largest_seal_are_kept(log: AuditLog) -> None:
    largest = {"chain": "x" * (MAX_METADATA_BYTES - 400 - len("chainmac")), "mac": "y" * 400}
    assert log.put(1, b"{}", largest)
    assert log.look(1) == largest


@pytest.mark.parametrize("gap", [(), (1,), (1, 2, 5)])
@pytest.mark.parametrize("after", [0, 3, 7])
def test_numbers_ascend_above_one_even_if_entries_are_missing(
    log: AuditLog, gap: tuple[int, ...], after: int
) -> None:
    present = [seq for seq in range(1, 8) if seq not in gap]
    for seq in reversed(present):
        put(log, seq)
    assert list(log.numbers(after=after)) == [seq for seq in present if seq > after]


def test_names_of_others_end_no_list_however_many(world: AuditLogHarness, log: AuditLog) -> None:
    for junk in range(5):
        world.plant(f"000000000000.{junk}")
        world.plant(f"000000000001.json.{junk}")
    for seq in (1, 2):
        put(log, seq)
    assert (list(log.numbers()), list(log.numbers(after=1))) == ([1, 2], [2])


def test_a_body_is_read_as_far_as_an_entry_can_be_long(log: AuditLog) -> None:
    log.put(1, b"x" * (MAX_ENTRY_BYTES + 1_000), metadata(1))
    body = log.read(1)
    assert body is not None
    assert len(body) > MAX_ENTRY_BYTES


def seen(log: AuditLog) -> list[tuple[int, bool, bool, int]]:
    """The latest of each name before the others, whose order is open."""
    versions = sorted(log.history(), key=lambda v: (v.key, not v.is_latest, v.is_delete_marker))
    assert [v.key for v in versions if v.is_latest] == [v.key for v in log.history() if v.is_latest]
    return [(v.seq, v.is_delete_marker, v.is_latest, v.size) for v in versions]


def test_a_log_that_was_only_appended_to_has_one_version_of_each_entry(log: AuditLog) -> None:
    assert seen(log) == []
    for seq in range(1, 6):
        put(log, seq)
        put(log, seq)
    versions = list(log.history())
    assert [v.seq for v in versions] == [1, 2, 3, 4, 5]
    assert all(v.is_latest and not v.is_delete_marker and v.size == len(body(v.seq)) for v in versions)
    assert len({v.version_id for v in versions} | {v.key for v in versions}) >= 5
    assert not list(findings(versions))


def test_deleting_overwriting_and_strangers_show_in_the_history(
    world: AuditLogHarness, log: AuditLog
) -> None:
    for seq in range(1, 5):
        put(log, seq)
    world.delete(2)
    world.delete(3)
    log.put(3, b"{}", metadata(3))
    world.overwrite(4, b"longer than it was before, by far")
    world.plant("notes.txt")
    size = len(body(1))
    assert seen(log) == [
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
    name = f"{log.stream}/multi-cloud.app_user/notes.txt"
    assert [str(finding) for finding in findings(log.history())] == [
        "entry 2: hidden by a delete marker",
        "entry 3: deleted and written again",
        "entry 4: written more than once",
        f"{name!r} is not an entry",
    ]


def test_an_outage_in_the_middle_of_a_history_is_an_error(world: AuditLogHarness, log: AuditLog) -> None:
    for seq in range(1, 5):
        put(log, seq)
    with pytest.raises(AuditLogUnreachableError), world.lose_reply(1):
        list(log.history())
    assert len(list(log.history())) == 4


def test_each_key_makes_its_own_mac(signers: SignerHarness) -> None:
    digest = sha256(b"entry").digest()
    mac = signers.signer.sign(digest)
    assert len(mac.value) == 32
    assert signers.signer.sign(digest) == mac
    assert signers.signer.verify(digest, mac)
    assert signers.other.sign(digest) != mac
    assert not signers.other.verify(digest, mac)
    assert mac.key_id != signers.other.sign(digest).key_id


@pytest.mark.parametrize("at", [0, 31])
def test_a_changed_mac_or_digest_does_not_verify(signers: SignerHarness, at: int) -> None:
    digest = sha256(b"entry").digest()
    mac = signers.signer.sign(digest)
    changed = bytearray(mac.value)
    changed[at] ^= 1
    assert not signers.signer.verify(digest, replace(mac, value=bytes(changed)))
    assert not signers.signer.verify(sha256(b"another entry").digest(), signers.signer.sign(digest))


def test_a_mac_of_another_length_does_not_verify(signers: SignerHarness) -> None:
    digest = sha256(b"entry").digest()
    mac = signers.signer.sign(digest)
    for value in (mac.value[:16], b"", mac.value * 2):
        assert not signers.signer.verify(digest, replace(mac, value=value))


@pytest.mark.parametrize(
    "key_id", ["another-key", "", "lockstep.mac:999", f"lockstep.mac:{'9' * 5_000}", "\u00e9" * 9]
)
def test_a_mac_of_a_key_that_is_not_one_of_these_does_not_verify(signers: SignerHarness, key_id: str) -> None:
    digest = sha256(b"entry").digest()
    assert not signers.signer.verify(digest, replace(signers.signer.sign(digest), key_id=key_id))
