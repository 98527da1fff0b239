"""Every audit log takes each entry once (protocol E6), and every signer verifies only its own MACs."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from hashlib import sha256
from threading import Barrier

import pytest

from lockstep.audit.deletions import findings
from lockstep.errors import AuditLogAccessDeniedError, AuditLogUnreachableError
from lockstep.ports import AuditLog, EntrySummary
from tests.contract.aws_fixtures import aws_audit_log, aws_signer
from tests.contract.harness import AuditLogHarness, SignerHarness
from tests.contract.memory_fixtures import memory_audit_log, memory_signer
from tests.contract.oci_fixtures import oci_audit_log, oci_signer

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


def summary(seq: int, *, by: str = "aws-1") -> EntrySummary:
    return EntrySummary(
        seq=seq,
        hash=sha256(body(seq, by=by)).hexdigest(),
        previous_hash=sha256(body(seq - 1)).hexdigest() if seq > 1 else "",
        rotation_id=by,
    )


def test_an_empty_log_has_no_entries(log: AuditLog) -> None:
    assert log.last_seq() == 0
    assert log.summary(1) is None
    assert log.read(1) is None


def test_an_entry_is_read_back_as_it_was_put(log: AuditLog) -> None:
    assert log.put(body(1), summary(1))
    assert log.put(body(2), summary(2))
    assert (log.read(1), log.read(2)) == (body(1), body(2))
    assert (log.summary(1), log.summary(2)) == (summary(1), summary(2))
    assert log.summary(3) is None
    assert log.last_seq() == 2


def test_an_entry_is_never_overwritten(log: AuditLog) -> None:
    log.put(body(1), summary(1))
    assert not log.put(body(1, by="oci-1"), summary(1, by="oci-1"))
    assert not log.put(body(1), summary(1))
    assert (log.read(1), log.summary(1)) == (body(1), summary(1))


def test_only_one_of_two_concurrent_puts_succeeds(log: AuditLog) -> None:
    barrier = Barrier(2, timeout=10)

    def race(by: str) -> bool:
        barrier.wait()
        return log.put(body(1, by=by), summary(1, by=by))

    runs = ["aws-1", "aws-2"]
    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(race, runs))
    assert sorted(won) == [False, True]
    winner = runs[won.index(True)]
    assert (log.read(1), log.summary(1)) == (body(1, by=winner), summary(1, by=winner))


def test_a_put_after_a_lost_reply_finds_its_own_entry(world: AuditLogHarness, log: AuditLog) -> None:
    with pytest.raises(AuditLogUnreachableError), world.lose_reply(1):
        log.put(body(1), summary(1))
    assert not log.put(body(1), summary(1))
    assert log.summary(1) == summary(1)


@pytest.mark.parametrize("gap", [(), (1,), (1, 2, 5)])
def test_the_last_seq_is_the_highest_even_if_entries_are_missing(log: AuditLog, gap: tuple[int, ...]) -> None:
    for seq in range(1, 8):
        if seq not in gap:
            log.put(body(seq), summary(seq))
    assert log.last_seq() == 7


def seen(log: AuditLog) -> list[tuple[int, bool, bool, int]]:
    """The latest of each name before the others, whose order is open."""
    versions = sorted(log.history(), key=lambda v: (v.key, not v.is_latest, v.is_delete_marker))
    assert [v.key for v in versions if v.is_latest] == [v.key for v in log.history() if v.is_latest]
    return [(v.seq, v.is_delete_marker, v.is_latest, v.size) for v in versions]


def test_a_log_that_was_only_appended_to_has_one_version_of_each_entry(log: AuditLog) -> None:
    assert seen(log) == []
    for seq in range(1, 6):
        log.put(body(seq), summary(seq))
        log.put(body(seq), summary(seq))
    versions = list(log.history())
    assert [v.seq for v in versions] == [1, 2, 3, 4, 5]
    assert all(v.is_latest and not v.is_delete_marker and v.size == len(body(v.seq)) for v in versions)
    assert len({v.version_id for v in versions} | {v.key for v in versions}) >= 5
    assert not list(findings(versions))


def test_deleting_overwriting_and_strangers_show_in_the_history(
    world: AuditLogHarness, log: AuditLog
) -> None:
    for seq in range(1, 5):
        log.put(body(seq), summary(seq))
    world.delete(2)
    world.delete(3)
    log.put(b"{}", summary(3))
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
    assert log.last_seq() == 4
    assert log.read(2) is None
    name = f"{log.stream}/multi-cloud.app_user/notes.txt"
    assert [str(finding) for finding in findings(log.history())] == [
        "entry 2 was hidden by a delete marker",
        "entry 3 was deleted and written again",
        "entry 4 was written more than once",
        f"{name!r} is not an entry",
    ]


def test_an_outage_in_the_middle_of_a_history_is_an_error(world: AuditLogHarness, log: AuditLog) -> None:
    for seq in range(1, 5):
        log.put(body(seq), summary(seq))
    with pytest.raises(AuditLogUnreachableError), world.lose_reply(1):
        list(log.history())
    assert len(list(log.history())) == 4


def test_each_key_makes_its_own_mac(signers: SignerHarness) -> None:
    digest = sha256(b"entry").digest()
    mac = signers.signer.sign(digest)
    assert len(mac) == 32
    assert signers.signer.sign(digest) == mac
    assert signers.signer.verify(digest, mac)
    assert signers.other.sign(digest) != mac
    assert not signers.other.verify(digest, mac)
    assert signers.signer.key_id != signers.other.key_id


@pytest.mark.parametrize("at", [0, 31])
def test_a_changed_mac_or_digest_does_not_verify(signers: SignerHarness, at: int) -> None:
    digest = sha256(b"entry").digest()
    mac = bytearray(signers.signer.sign(digest))
    mac[at] ^= 1
    assert not signers.signer.verify(digest, bytes(mac))
    assert not signers.signer.verify(sha256(b"another entry").digest(), signers.signer.sign(digest))


def test_a_mac_of_another_length_does_not_verify(signers: SignerHarness) -> None:
    digest = sha256(b"entry").digest()
    assert not signers.signer.verify(digest, signers.signer.sign(digest)[:16])


def test_a_signer_finds_its_own_key_and_no_other(signers: SignerHarness) -> None:
    signer, digest = signers.signer, sha256(b"entry").digest()
    assert signer.of(signer.key_id).verify(digest, signer.sign(digest))
    with pytest.raises(AuditLogAccessDeniedError):
        signer.of("another-key")
