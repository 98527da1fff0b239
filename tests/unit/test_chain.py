"""The audit chain: how entries are sealed and parsed, and that every change is found (protocol E2, E3)."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
import rfc8785

from lockstep.audit.chain import Entry, Sealed, parse, seal
from lockstep.audit.entry import ChainEnd, Differs, Stored, stored
from lockstep.protocol.errors import AuditVerificationError
from tests.support import seals
from tests.support.memory import MAX_METADATA_BYTES, MemorySigner

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
        {"chain": "", "mac": ""},
        {"chain": "{}", "mac": "{}"},
        {"chain": "[]", "mac": "[]"},
        {"chain": "[" * 100_000, "mac": "{}"},
        {"chain": "9" * 5_000, "mac": "9"},
        {"chain": '{"format":99}', "mac": "{}"},
        {"chain": CHAIN, "mac": MAC + " "},
        {"chain": CHAIN.replace('"seq":1', '"seq":true'), "mac": MAC},
        {"chain": CHAIN.replace('"seq":1', '"seq":1,"x":1'), "mac": MAC},
        {"chain": CHAIN},
    ],
    ids=range(11),
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
                b"null",
                b"{}",
                b'{"chain":{},"event":{},"mac":{}}',
                b'{"chain":{},"event":[],"mac":{}}',
                _changed("chain", seq="1"),
                _changed("chain", differs=3),
                _changed("chain", differs={"seq": float("inf"), "hash": "x", "found": None}),
                _changed("chain", more=1),
                _changed("chain", event="f" * 64),
                _changed("event", x=2**60),
                _changed("mac", value="not base64!"),
                _changed("mac", value=json.loads(MAC)["value"].rstrip("=") + "=="),
                _changed("mac", more=1),
                _changed("mac", algorithm="none"),
            )
        ],
        ("not-canonical", BODY + b" "),
        ("not-canonical", json.dumps(json.loads(BODY)).encode()),
        ("not-canonical", BODY[:-1] + b',"more":1}'),
    ],
)
@pytest.mark.usefixtures("deep")
def test_a_text_that_is_not_an_entry_in_canonical_form_is_refused(code: str, body: bytes) -> None:
    with pytest.raises(AuditVerificationError) as caught:
        _parsed(body)
    assert caught.value.where == {"stream": "aws", "seq": "1", "code": code}


def test_a_second_chain_before_the_signed_one_is_not_covered_by_the_mac() -> None:
    entry = _parsed(BODY.replace(b'"chain":', b'"chain":{},"chain":', 1))
    assert not SIGNER.verify(entry.digest, entry.mac)


@pytest.mark.parametrize("where", [{"seq": 2}, {"stream": "oci"}, {"credential_id": "multi-cloud/other"}])
def test_an_entry_at_another_place_is_misplaced(where: Any) -> None:  # noqa: ANN401 - keywords of different types
    with pytest.raises(AuditVerificationError) as caught:
        _parsed(BODY, **where)
    assert caught.value.where["code"] == "misplaced"
