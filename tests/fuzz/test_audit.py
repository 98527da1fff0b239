"""Fuzzed audit entries: a log is verified only if no byte of it was changed."""

import json
from contextlib import suppress

import pytest
import rfc8785
from hypothesis import given
from msgspec import structs

from lockstep.audit.chain import Sealed, parse
from lockstep.audit.confirmed import Verdict
from lockstep.audit.entry import event_of
from lockstep.audit.verify import verify
from lockstep.cli.audit import _line
from lockstep.protocol.errors import AuditVerificationError, NewerFormatError
from lockstep.protocol.messages import RotatedRun
from lockstep.protocol.ports import MAX_ENTRY_BYTES
from lockstep.protocol.strict_json import read
from lockstep.protocol.workers import one_after_the_other
from tests.fuzz.harness import CANARY, Json, documents, inputs, judged, mangled, mutated, spelled
from tests.fuzz.test_inputs import EVENTS
from tests.support.memory import EPOCH, MemoryAuditLog, MemorySigner
from tests.support.seals import sealed

CREDENTIAL = "multi-cloud/app_user"
SIGNER = MemorySigner("key-1")


def chained() -> list[Sealed]:
    """A chain of three entries."""
    request = read(RotatedRun, EVENTS["audit"][0])
    chain: list[Sealed] = []
    for name in ("run-0", "run-1", "run-2"):
        run = structs.replace(request, rotation=structs.replace(request.rotation, rotation_id=name))
        event = event_of(run, usernames=("app",), now=EPOCH)
        last = chain[-1].stored if chain else None
        chain.append(sealed(event, last, signer=SIGNER, credential_id=CREDENTIAL, rotation_id=name))
    return chain


CHAIN = chained()
BODY = CHAIN[1].body


def judge(body: bytes) -> None:
    """Parse the entry alone, then verify a log with it as entry 2."""
    with judged("audit entry", AuditVerificationError), suppress(NewerFormatError):
        _line(parse(body, credential_id=CREDENTIAL, stream="aws", seq=2))
    log = MemoryAuditLog("aws")
    for seq, entry in enumerate(CHAIN, 1):
        log.put(seq, body if seq == 2 else entry.body, entry.metadata)
    with judged("audit log"):
        [found] = verify(CREDENTIAL, [(log, SIGNER)], side_by_side=one_after_the_other)
        assert (found.verdict is Verdict.VERIFIED) == (body == BODY)
        assert CANARY not in " ".join(map(str, found.problems))


def test_the_unchanged_chain_is_verified() -> None:
    judge(BODY)


@inputs(220)
@given(mutated(json.loads(BODY)) | documents)
def test_any_document(document: Json) -> None:
    bodies = [spelled(document).encode()]
    with suppress(ValueError, RecursionError):
        bodies.append(rfc8785.dumps(document))
    for body in bodies:
        judge(body)


@inputs(200)
@given(mangled(BODY))
def test_a_mangled_entry(data: bytes) -> None:
    judge(data)


ID = b'"activity_id":3'
SPECIAL = {
    "deeper": b"[" * 20_000,
    "a deep event": BODY.replace(ID, b'"activity_id":' + b"[" * 900 + b"]" * 900),
    "a huge entry": BODY.replace(ID, b'"activity_id":"' + b"x" * (2 * MAX_ENTRY_BYTES) + b'"'),
    "trailing spaces": BODY + b" " * MAX_ENTRY_BYTES,
    "a secret": BODY.replace(b'"aws"', f'"{CANARY}"'.encode()),
}


@pytest.mark.parametrize("body", SPECIAL.values(), ids=SPECIAL)
def test_special_entries(body: bytes) -> None:
    judge(body)
