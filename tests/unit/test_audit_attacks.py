"""Attacks on the evidence: no rotation stops, no run goes unrecorded, every trace is found (protocol E6, E7, E11)."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from lockstep.audit.append import MAX_LOOK_BACK, Operator, record_order
from lockstep.audit.chain import FARTHEST, MAX_FOREIGN, MAX_TAKEN_IN
from lockstep.audit.confirmed import Verdict
from lockstep.audit.entry import NO_PREVIOUS, Differs, Stored
from lockstep.protocol.errors import AuditLogAccessDeniedError, AuditLogUnreachableError
from lockstep.protocol.model import ChainHead
from lockstep.protocol.ports import Mac
from tests.support.audit_story import chain_of
from tests.support.builds import NEWER, build
from tests.support.memory import MemorySigner, MemoryWorld
from tests.support.seals import sealed
from tests.support.world import at_every_boundary, make_world, quiet, rotate, rotate_again, strike
from tests.unit.audit_case import EVENT, at, begun, extend, head, heads, problems, verified

# The head is a hint


def test_a_wrong_hash_in_the_head_costs_one_word_in_the_next_entry() -> None:
    world = begun()
    last = head(world)
    heads(world, aws=replace(last, hash="0" * 64))
    rotate_again(world, "run-9")
    seal = at(world, last.seq + 1).seal
    assert seal
    assert seal.differs == Differs(seq=last.seq, hash="0" * 64, found=last.hash)
    assert seal.previous_hash == last.hash
    assert [p.first for p in verified(world)["aws"].problems] == [last.seq]
    rotate_again(world, "run-10")
    assert verified(world)["aws"].verdict is Verdict.NOT_VERIFIED


@pytest.mark.parametrize("ahead", [1, 50, FARTHEST + 1, 10**12 - 5])
def test_a_head_beyond_the_log_ends_no_chain(ahead: int) -> None:
    world = begun()
    last = head(world)
    for run in range(3):
        heads(world, aws=ChainHead(seq=last.seq + ahead, hash="f" * 64))
        rotate_again(world, f"again-{run}")
    assert head(world).seq <= last.seq + 3 * (FARTHEST + 1)
    found = verified(world)["aws"]
    assert [e.rotation_id for e in found.entries[-3:]] == ["again-0", "again-1", "again-2"]
    assert found.verdict is Verdict.NOT_VERIFIED


@pytest.mark.parametrize("is_removed", [False, True], ids=["rolled back", "removed"])
def test_a_head_that_names_too_little_is_moved_on(*, is_removed: bool) -> None:
    world = begun(7)
    heads(world, aws=None if is_removed else at(world, 1).head)
    rotate_again(world, "run-9")
    found = verified(world)["aws"]
    assert (found.verdict, found.entries[-1].rotation_id) == (Verdict.VERIFIED, "run-9")
    assert head(world) == at(world, 8).head


@pytest.mark.parametrize("seq", [2, 5, 10**12, 10**20])
@pytest.mark.parametrize("hash_", ["x" * 3_000, "\u00e9", ""])
def test_whatever_the_head_says_the_next_entry_can_be_written(seq: int, hash_: str) -> None:
    """Metadata have 2,048 bytes of ASCII, and a number 12 digits."""
    world = begun(2)
    heads(world, aws=ChainHead(seq=seq, hash=hash_))
    assert rotate_again(world, "run-9").outcome == "rotated"
    assert verified(world)["aws"].entries[-1].rotation_id == "run-9"


@pytest.mark.parametrize("behind", [MAX_TAKEN_IN - 1, MAX_TAKEN_IN + 1, MAX_FOREIGN + 1])
def test_a_head_of_long_ago_stops_no_rotation(behind: int) -> None:
    """Orders do not move it, and a lock table can be restored from a backup, or written by who may write it."""
    world = begun(2)
    extend(world, behind)
    last = max(world.audit_logs["aws"].entries)
    looks = list[str]()
    world.audit_logs["aws"].faults.before = looks.append
    assert rotate_again(world, "run-9").outcome == "rotated"
    assert head(world).seq == last + 1
    assert looks.count("look") < MAX_TAKEN_IN + MAX_LOOK_BACK + 20
    assert verified(world)["aws"].verdict is Verdict.VERIFIED


# Deletion


@pytest.mark.parametrize("gone", [(1,), (2,), (3,), (1, 2, 3)], ids=str)
def test_a_deleted_entry_is_missing(gone: tuple[int, ...]) -> None:
    world = begun(3)
    for number in gone:
        world.audit_logs["aws"].delete(number)
    found = verified(world)["aws"]
    assert found.verdict is Verdict.NOT_VERIFIED
    assert {n for p in found.problems if p.first for n in range(p.first, (p.end or 0) + 1)} >= set(gone)
    rotate_again(world, "run-9")
    assert verified(world)["aws"].verdict is Verdict.NOT_VERIFIED


def test_an_entry_that_was_deleted_and_written_again_is_found_by_its_versions() -> None:
    """A reader who may not list versions is told so."""
    world = begun(3)
    log = world.audit_logs["aws"]
    kept = log.entries[2]
    log.delete(2)
    log.put(2, *kept)
    assert problems(world) == ["entry 2: deleted and written again"]
    strike(world, {"before aws log history": AuditLogAccessDeniedError(stream="aws")})
    found = verified(world, "aws")["aws"]
    assert found.verdict is Verdict.VERIFIED
    assert "older versions were not looked for" in found.notes[0]


# A verdict for everything


def test_one_bad_stream_leaves_the_other_its_verdict() -> None:
    world = begun(3)
    rotate_again(world, "oci-1", runner="oci")
    world.audit_logs["aws"].entries[2] = b"\xff", {}
    found = verified(world)
    assert (found["aws"].verdict, found["oci"].verdict) == (Verdict.NOT_VERIFIED, Verdict.VERIFIED)

    def down(_operation: str) -> None:
        raise AuditLogUnreachableError(stream="aws")

    world.audit_logs["aws"].faults.before = down
    found = verified(world)
    assert (found["aws"].verdict, found["oci"].verdict) == (Verdict.UNREADABLE, Verdict.VERIFIED)


def test_an_older_key_does_not_sign_after_a_newer_one() -> None:
    """And without its retired key an old entry does not verify, and its key is named."""
    world = begun(2)
    both = MemorySigner("new-key", retired=["aws-key"])
    world.signers = {**world.signers, "aws": both}
    rotate_again(world, "with-the-new")
    assert verified(world)["aws"].verdict is Verdict.VERIFIED
    world.signers = {**world.signers, "aws": MemorySigner("new-key")}
    assert "entries 1 to 2: has a MAC that does not match, of key 'aws-key'" in problems(world)
    world.signers = {**world.signers, "aws": MemorySigner("aws-key")}
    rotate_again(world, "with-the-old")
    world.signers = {**world.signers, "aws": both}
    assert problems(world) == ["entry 4: is signed with a key that was retired before"]


def test_an_order_records_no_generation() -> None:
    """Whoever may give orders cannot put a rotation on record."""
    world = begun(3)
    before = head(world)
    rotate_again(world, "run-9")
    del world.audit_logs["aws"].entries[before.seq + 1]
    heads(world, aws=before)
    by = Operator(who="arn:of/operator", new_id=lambda: "1", now=world.clock.now)
    record_order("pause", {"generation": 4, "kind": "new"}, by=by, chain=chain_of(world.ports()))
    rotate_again(world, "run-10")
    assert problems(world) == ["entry 5: began from generation 4, which no entry records"]


# Honest states


def test_a_healthy_system_verifies_on_its_first_day() -> None:
    world = begun(1)
    found = verified(world)
    assert (found["aws"].verdict, found["oci"].verdict) == (Verdict.VERIFIED, Verdict.EMPTY)
    assert found["aws"].problems == []
    assert verified(world, "oci")["oci"].verdict is Verdict.EMPTY


def test_a_run_that_appends_while_it_is_verified_is_no_problem() -> None:
    """At every boundary of a rotation (protocol E11). Whatever it dies of: tests/proof/honest.py."""
    seen = list[str]()

    def look(boundary: str) -> None:
        seen.append(boundary)
        with quiet(world):
            found = verified(world)
        assert [v.problems for v in found.values()] == [[], []], boundary

    world = begun(4)
    at_every_boundary(world, look)
    rotate_again(world, "aws")
    rotate_again(world, "oci", runner="oci")
    rotate(world, "skipped", runner="oci")
    assert len(seen) > 50


# Foreign objects

Object = tuple[bytes, Mapping[str, str]]


def _of_the_run(world: MemoryWorld) -> Object:
    event = {"time": 0, "metadata": {"uid": "run-9"}}
    return _put(event, at(world, head(world).seq), signer=MemorySigner("stolen"), rotation_id="run-9")


def _put(event: Mapping[str, object], after: Stored, **fields: object) -> Object:
    made = sealed(event, after, **fields)  # type: ignore[arg-type]  # the row names the fields
    return made.body, made.metadata


def _with_the_key_named(world: MemoryWorld) -> Object:
    body, metadata = _of_the_run(world)
    key_id = world.signers["aws"].key_id
    named = metadata["mac"].replace("stolen", key_id)
    return body.replace(b"stolen", key_id.encode()), {**metadata, "mac": named}


def _from_another_stream(world: MemoryWorld) -> Object:
    rotate_again(world, "of-oci", runner="oci")
    return world.audit_logs["oci"].entries[1]


def _from_another_deployment(world: MemoryWorld) -> Object:
    other = make_world()
    other.clock.sleep(1)
    for run in range(6):
        rotate_again(other, f"run-{run}")
    return other.audit_logs["aws"].entries[head(world).seq + 1]


def _of_a_newer_format(world: MemoryWorld) -> Object:
    with build(NEWER):
        return _of_the_run(world)


def _with_a_seal_of_another_number(world: MemoryWorld) -> Object:
    body, metadata = _of_the_run(world)
    return body, {**metadata, "chain": metadata["chain"].replace('"seq":4', '"seq":999999999999')}


FOREIGN: dict[str, Callable[[MemoryWorld], Object]] = {
    "without metadata": lambda _: (b"{}", {}),
    "of the run": _of_the_run,
    "with the key named": _with_the_key_named,
    "with another predecessor": lambda w: _put(
        EVENT, replace(at(w, head(w).seq), hash="e" * 64), signer=MemorySigner("stolen")
    ),
    "from another stream": _from_another_stream,
    "again": lambda w: w.audit_logs["aws"].entries[2],
    "from another credential": lambda w: _put(
        EVENT, at(w, head(w).seq), signer=w.signers["aws"], credential_id="multi-cloud/other"
    ),
    "from another deployment": _from_another_deployment,
    "of a newer format": _of_a_newer_format,
    "with a seal of another number": _with_a_seal_of_another_number,
}


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("head_is", ["true", "forged"])
def test_a_foreign_object_after_the_end_costs_one_number(foreign: str, head_is: str) -> None:
    world = begun()
    last = head(world)
    world.audit_logs["aws"].entries[last.seq + 1] = FOREIGN[foreign](world)
    if head_is == "forged":
        heads(world, aws=ChainHead(seq=last.seq + 1, hash=at(world, last.seq + 1).hash or "f" * 64))
    assert rotate_again(world, "run-9").outcome == "rotated"
    assert rotate_again(world, "run-10").outcome == "rotated"
    found = verified(world)["aws"]
    assert [e.rotation_id for e in found.entries[-2:]] == ["run-9", "run-10"]
    assert found.verdict is Verdict.NOT_VERIFIED
    assert last.seq + 1 in {p.first for p in found.problems}


class _RetiredKeyIsDisabled(MemorySigner):
    def verify(self, digest: bytes, mac: Mac) -> bool:
        if mac.key_id == "retired":
            raise AuditLogAccessDeniedError(code="DisabledException")
        return super().verify(digest, mac)


@pytest.mark.parametrize("with_head", [True, False])
def test_a_foreign_object_that_names_a_disabled_key_stops_no_rotation(*, with_head: bool) -> None:
    world = begun(2)
    world.signers = {**world.signers, "aws": _RetiredKeyIsDisabled("aws-key", retired=["retired"])}
    last = head(world)
    made = _put(EVENT, at(world, last.seq), signer=MemorySigner("retired"))
    world.audit_logs["aws"].entries[last.seq + 1] = made
    heads(world, aws=last if with_head else None)
    assert rotate_again(world, "run-9").outcome == "rotated"
    assert head(world).seq == last.seq + 2


@pytest.mark.parametrize("runs", [0, 3])
@pytest.mark.parametrize("is_head_lost", [False, True])
@pytest.mark.parametrize("count", [1, 2, 100, 101, MAX_FOREIGN, MAX_FOREIGN + 1, 5 * MAX_FOREIGN])
def test_foreign_objects_are_stepped_over_however_many(count: int, runs: int, *, is_head_lost: bool) -> None:
    world = begun(runs)
    for number in range(count):
        world.audit_logs["aws"].entries[runs + 1 + number] = b"{}", {}
    if is_head_lost:
        heads(world, aws=None)
    rotate_again(world, "run-9")
    over = at(world, runs + count + 1).seal
    assert over
    assert over.stepped_over == (runs + 1, runs + count)
    assert over.previous_hash == (at(world, runs).hash if runs else NO_PREVIOUS)
    named = f"entries {runs + 1} to {runs + count}" if count > 1 else f"entry {runs + 1}"
    assert problems(world) == [f"{named}: is malformed; entry {runs + count + 1} has stepped over it"]


def test_a_foreign_object_far_away_is_no_obstacle() -> None:
    world = begun(1)
    world.audit_logs["aws"].entries[10**12 - 1] = b"{}", {}
    rotate_again(world, "run-9")
    assert head(world).seq == 2
    assert problems(world) == [f"entry {10**12 - 1}: is malformed"]


# What of the streams was not read


def archive(world: MemoryWorld) -> None:
    strike(world, {"before oci log read": AuditLogUnreachableError(stream="oci", code="NotRestored")})


def test_one_stream_alone_has_no_rotations_of_the_other_and_no_false_alarm() -> None:
    world = begun(2)
    rotate_again(world, "oci-1", runner="oci")
    rotate_again(world, "aws-1")
    for stream in ("aws", "oci"):
        found = verified(world, stream)[stream]
        assert (found.verdict, found.problems) == (Verdict.VERIFIED, [])
    assert "was not checked: the stream oci was not read" in verified(world, "aws")["aws"].notes[-1]


def test_what_archived_rotations_recorded_is_no_false_alarm_and_accounts_for_nothing_later() -> None:
    """The runs of OCI do not switch the check off for good: their seals say when they were."""
    world = begun(2)
    rotate_again(world, "oci-1", runner="oci")
    rotate_again(world, "aws-1")
    archive(world)
    found = verified(world)
    assert {v.verdict for v in found.values()} == {Verdict.VERIFIED}
    assert "what 1 archived entries of runs record was not read" in found["aws"].notes[-1]
    rotate_again(world, "aws-2")
    assert problems(world) == []
    del world.audit_logs["aws"].entries[head(world).seq]
    heads(world, aws=at(world, head(world).seq - 1).head)
    with quiet(world):
        rotate_again(world, "aws-3")
    assert [p for p in problems(world) if "began from generation 5, which no entry records" in p]
