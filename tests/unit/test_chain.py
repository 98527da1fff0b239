"""The audit chain: how entries are sealed and parsed (protocol E2, E3), and what attacks cost (protocol E6, E7, E11).

That every attack is found, and stops no rotation: tests/proof/mutations.py.
"""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
import rfc8785

from lockstep.audit import chain
from lockstep.audit.append import MAX_LOOK_BACK
from lockstep.audit.chain import FARTHEST, MAX_FOREIGN, MAX_TAKEN_IN, Entry, Sealed, parse, seal
from lockstep.audit.confirmed import Verdict
from lockstep.audit.entry import NO_PREVIOUS, ChainEnd, Differs, Stored, stored
from lockstep.protocol import errors
from lockstep.protocol.model import ChainHead
from lockstep.protocol.ports import Mac
from tests.support import seals
from tests.support.memory import MAX_METADATA_BYTES, MemorySigner
from tests.support.world import at_every_boundary, quiet, rotate, rotate_again, strike, undisturbed
from tests.unit import audit_case
from tests.unit.audit_case import at, begun, extend, head, heads, problems, verified

CREDENTIAL = "multi-cloud/app_user"
SIGNER = MemorySigner("aws-key")
ODD: list[Any] = [None, True, -(2**53) + 1, "\u2028\0\U0001f511", {"": []}]
EVENT = {"status": "Success", "time": 1767225600000, "\ufb33 odd": ODD}


def _sealed() -> Sealed:
    return seals.sealed(EVENT, signer=SIGNER)


def _parsed(body: bytes, seq: int = 1, *, stream: str = "aws", credential_id: str = CREDENTIAL) -> Entry:
    return parse(body, credential_id=credential_id, stream=stream, seq=seq)


BODY = _sealed().body
CHAIN, MAC = _sealed().metadata["chain"], _sealed().metadata["mac"]


def test_the_metadata_say_what_the_body_says() -> None:
    first = _sealed()
    entry, found = _parsed(first.body), stored(1, first.metadata)
    assert found == first.stored
    assert found.seal
    assert (found.hash, found.digest, found.mac) == (entry.hash, entry.digest, entry.mac)
    assert SIGNER.verify(entry.digest, entry.mac)
    assert entry.event == EVENT
    assert found.is_at(CREDENTIAL, "aws")
    assert not stored(2, first.metadata).is_at(CREDENTIAL, "aws")


def test_mac_and_hash_can_be_checked_without_lockstep() -> None:
    document = json.loads(BODY)
    key = hashlib.sha256(b"aws-key").digest()
    expected = hmac.digest(key, hashlib.sha256(rfc8785.dumps(document["chain"])).digest(), "sha256")
    assert base64.b64decode(document["mac"]["value"]) == expected
    assert document["mac"]["algorithm"] == "HMAC-SHA-256"
    assert document["chain"]["event"] == hashlib.sha256(rfc8785.dumps(document["event"])).hexdigest()
    both = rfc8785.dumps({"chain": document["chain"], "mac": document["mac"]})
    assert _parsed(BODY).hash == hashlib.sha256(both).hexdigest()


def test_the_metadata_of_the_largest_entry_fit() -> None:
    """S3 takes 2,048 bytes of metadata."""
    differs = Differs(seq=10**12 - 1, hash="f" * 64, found="f" * 64)
    after = Stored(number=10**12 - 2, hash="f" * 64)
    end = ChainEnd(after=after, seq=10**12 - 1, stepped_over=(10**12 - 9, 10**12 - 2), differs=differs)
    key = MemorySigner("arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/mrk-" + "f" * 32)
    largest = seal(EVENT, end, credential_id="c" * 200, stream="aws", signer=key, rotation_id="r" * 208)
    assert sum(len(k) + len(v) for k, v in largest.metadata.items()) < MAX_METADATA_BYTES
    assert stored(10**12 - 1, largest.metadata) == largest.stored


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"chain": "[" * 100_000, "mac": "{}"},
        {"chain": '{"format":99}', "mac": "{}"},
        {"chain": CHAIN, "mac": MAC + " "},
        {"chain": CHAIN.replace('"seq":1', '"seq":true'), "mac": MAC},
        {"chain": CHAIN.replace('"seq":1', '"seq":1,"x":1'), "mac": MAC},
        {"chain": CHAIN},
    ],
    ids=range(7),
)
@pytest.mark.usefixtures("deep")
def test_metadata_that_are_no_seal_are_no_error(metadata: dict[str, str]) -> None:
    assert stored(1, metadata).seal is None


def _changed(part: str, **values: Any) -> bytes:  # noqa: ANN401 - any JSON
    document = json.loads(BODY)
    document[part] |= values
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("code", "body"),
    [
        *[
            ("malformed", body)
            for body in (
                b"\xff",
                b"{}",
                b'{"chain":{},"event":{},"mac":{}}',
                _changed("chain", seq="1"),
                _changed("chain", differs={"seq": float("inf"), "hash": "x", "found": None}),
                _changed("chain", more=1),
                _changed("chain", event="f" * 64),
                _changed("event", x=2**60),
                _changed("mac", value="not base64!"),
                _changed("mac", value=json.loads(MAC)["value"].rstrip("=") + "=="),
            )
        ],
        ("not-canonical", BODY + b" "),
        ("not-canonical", json.dumps(json.loads(BODY)).encode()),
        ("not-canonical", BODY[:-1] + b',"more":1}'),
    ],
)
@pytest.mark.usefixtures("deep")
def test_a_text_that_is_not_an_entry_in_canonical_form_is_refused(code: str, body: bytes) -> None:
    with pytest.raises(errors.AuditVerificationError) as caught:
        _parsed(body)
    assert caught.value.where == {"stream": "aws", "seq": "1", "code": code}


def test_a_second_chain_before_the_signed_one_is_not_covered_by_the_mac() -> None:
    entry = _parsed(BODY.replace(b'"chain":', b'"chain":{},"chain":', 1))
    assert not SIGNER.verify(entry.digest, entry.mac)


@pytest.mark.parametrize("where", [{"seq": 2}, {"stream": "oci"}, {"credential_id": "multi-cloud/other"}])
def test_an_entry_at_another_place_is_misplaced(where: Any) -> None:  # noqa: ANN401 - keywords of different types
    with pytest.raises(errors.AuditVerificationError) as caught:
        _parsed(BODY, **where)
    assert caught.value.where["code"] == "misplaced"


# What somebody who writes the lock record or the log costs a run


@pytest.mark.parametrize("ahead", [0, 1, FARTHEST + 1])
def test_a_head_that_the_log_does_not_hold_costs_a_word_and_no_numbers(ahead: int) -> None:
    world = begun()
    last = head(world)
    for run in range(3):
        before = at(world, max(world.audit_logs["aws"].entries))
        forged = ChainHead(seq=before.number + ahead, hash="f" * 64)
        heads(world, aws=forged)
        rotate_again(world, f"again-{run}")
        told = at(world, max(world.audit_logs["aws"].entries)).seal
        assert told
        assert told.differs == Differs(seq=forged.seq, hash=forged.hash, found=None if ahead else before.hash)
        assert told.previous_hash == before.hash
    assert head(world).seq <= last.seq + 3 * (FARTHEST + 1)
    assert last.seq in {p.first for p in verified(world)["aws"].problems} or ahead


@pytest.mark.parametrize("behind", [MAX_TAKEN_IN - 1, 3 * MAX_TAKEN_IN])
def test_a_head_of_long_ago_stops_no_rotation(behind: int) -> None:
    """Orders do not move it, and a lock table can be restored from a backup, or written by who may write it."""
    world = begun(2)
    extend(world, behind)
    last = max(world.audit_logs["aws"].entries)
    looks = list[str]()
    world.audit_logs["aws"].faults.before = looks.append
    rotate_again(world, "run-9")
    assert head(world).seq == last + 1
    assert looks.count("look") < MAX_TAKEN_IN + MAX_LOOK_BACK + 20
    assert verified(world)["aws"].verdict is Verdict.VERIFIED


class _RetiredKeyIsDisabled(MemorySigner):
    def verify(self, digest: bytes, mac: Mac) -> bool:
        if mac.key_id == "retired":
            raise errors.AuditLogAccessDeniedError(code="DisabledException")
        return super().verify(digest, mac)


@pytest.mark.parametrize("with_head", [True, False])
def test_a_foreign_object_that_names_a_disabled_key_stops_no_rotation(*, with_head: bool) -> None:
    world = begun(2)
    world.signers = {**world.signers, "aws": _RetiredKeyIsDisabled("aws-key", retired=["retired"])}
    last = head(world)
    made = seals.sealed(audit_case.EVENT, at(world, last.seq), signer=MemorySigner("retired"))
    world.audit_logs["aws"].entries[last.seq + 1] = made.body, made.metadata
    heads(world, aws=last if with_head else None)
    rotate_again(world, "run-9")
    assert head(world).seq == last.seq + 2


@pytest.mark.parametrize(("runs", "is_head_lost"), [(0, True), (3, False), (3, True)])
@pytest.mark.parametrize("count", [1, 2, MAX_TAKEN_IN, MAX_TAKEN_IN + 1, MAX_FOREIGN, MAX_FOREIGN + 1])
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


def test_what_is_appended_while_the_end_is_looked_for_is_not_foreign() -> None:
    world = begun(2)
    heads(world, aws=None)

    def order(boundary: str) -> None:
        if boundary == "before aws log look":
            undisturbed(world)
            extend(world, 1)

    at_every_boundary(world, order)
    rotate_again(world, "run-9")
    assert (head(world).seq, problems(world)) == (4, [])


def test_the_newest_are_found_wherever_the_head_points() -> None:
    log = begun(5).audit_logs["aws"]
    found = [chain.newest_numbers(log, ChainHead(seq=n, hash="0" * 64), 3) for n in (2, 5, 99)]
    assert found == [[5, 4, 3]] * 3


# A verdict for everything


def test_each_stream_has_its_verdict_whatever_is_wrong_with_the_other_one() -> None:
    world = begun(1)
    assert [v.verdict for v in verified(world).values()] == [Verdict.VERIFIED, Verdict.EMPTY]
    rotate_again(world, "run-1")
    rotate_again(world, "oci-1", runner="oci")
    rotate_again(world, "aws-1")
    for stream in ("aws", "oci"):
        found = verified(world, stream)[stream]
        assert (found.verdict, found.problems) == (Verdict.VERIFIED, [])
        assert "that every rotation is on record was not checked" in found.notes[-1]
    log = world.audit_logs["aws"]
    kept, log.entries[1] = log.entries[1], (b"\xff", {})
    assert [v.verdict for v in verified(world).values()] == [Verdict.NOT_VERIFIED, Verdict.VERIFIED]
    log.entries[1] = kept
    signers, world.signers = world.signers, {**world.signers, "aws": MemorySigner("new-key")}
    told = "entries 1 to 3: has a MAC that does not match, of key 'aws-key'"
    assert told in problems(world), "a key that the plan has no more is named"
    world.signers = signers

    def down(_operation: str) -> None:
        raise errors.AuditLogUnreachableError(stream="aws")

    log.faults.before = down
    assert [v.verdict for v in verified(world).values()] == [Verdict.UNREADABLE, Verdict.VERIFIED]


def test_a_run_that_appends_while_it_is_verified_is_no_problem() -> None:
    """At every boundary of a rotation (protocol E11). Whatever it dies of: tests/proof/test_tampering.py."""
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


def test_what_archived_rotations_recorded_is_no_false_alarm_and_accounts_for_nothing_later() -> None:
    """The runs of OCI do not switch the check off for good: their seals say when they were."""
    world = begun(2)
    rotate_again(world, "oci-1", runner="oci")
    rotate_again(world, "aws-1")
    strike(world, {"before oci log read": errors.AuditLogUnreachableError(stream="oci", code="NotRestored")})
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
