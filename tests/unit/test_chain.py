"""The audit chain: how entries are sealed and parsed, and that every change is found (protocol E2, E3)."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from lockstep.audit.chain import Entry, Sealed, parse, seal
from lockstep.audit.entry import ChainEnd, Differs, Stored, stored
from lockstep.protocol.errors import AuditVerificationError
from tests.support import seals
from tests.support.memory import MAX_METADATA_BYTES, MemorySigner

CREDENTIAL = "multi-cloud/app_user"
SIGNER = MemorySigner("aws-key")
EVENT = {"status": "Success", "time": 1767225600000}


def _sealed(after: Stored | None = None, event: Any = None) -> Sealed:  # noqa: ANN401 - any JSON
    told = {**EVENT, **(event or {}), "time": EVENT["time"]}
    return seals.sealed(told, after, signer=SIGNER)


def _parsed(body: bytes, seq: int = 1, *, stream: str = "aws", credential_id: str = CREDENTIAL) -> Entry:
    return parse(body, credential_id=credential_id, stream=stream, seq=seq)


def test_the_metadata_say_what_the_body_says() -> None:
    first = _sealed()
    entry, found = _parsed(first.body), stored(1, first.metadata)
    assert found == first.stored
    assert found.seal
    assert (found.hash, found.digest, found.mac) == (entry.hash, entry.digest, entry.mac)
    assert found.is_at(CREDENTIAL, "aws")
    assert not stored(2, first.metadata).is_at(CREDENTIAL, "aws")


def test_mac_and_hash_can_be_checked_without_lockstep() -> None:
    first = _sealed()
    document = json.loads(first.body)
    key = hashlib.sha256(b"aws-key").digest()
    expected = hmac.digest(key, hashlib.sha256(rfc8785.dumps(document["chain"])).digest(), "sha256")
    assert base64.b64decode(document["mac"]["value"]) == expected
    assert document["mac"]["algorithm"] == "HMAC-SHA-256"
    assert document["chain"]["event"] == hashlib.sha256(rfc8785.dumps(document["event"])).hexdigest()
    both = rfc8785.dumps({"chain": document["chain"], "mac": document["mac"]})
    assert _parsed(first.body).hash == hashlib.sha256(both).hexdigest()


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
        {**_sealed().metadata, "mac": _sealed().metadata["mac"] + " "},
        {**_sealed().metadata, "chain": _sealed().metadata["chain"].replace('"seq":1', '"seq":true')},
        {**_sealed().metadata, "chain": _sealed().metadata["chain"].replace('"seq":1', '"seq":1,"x":1')},
        {"chain": _sealed().metadata["chain"]},
    ],
)
@pytest.mark.usefixtures("deep")
def test_metadata_that_are_no_seal_are_no_error(metadata: dict[str, str]) -> None:
    assert stored(1, metadata).seal is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=4))
def test_any_event_is_read_back_unchanged_and_its_mac_verifies(event: dict[str, Any]) -> None:
    entry = _parsed(_sealed(event=event).body)
    assert entry.event == {**EVENT, **event, "time": EVENT["time"]}
    assert SIGNER.verify(entry.digest, entry.mac)


def _changed(**paths: Any) -> bytes:  # noqa: ANN401 - any JSON
    document = json.loads(_sealed().body)
    for path, value in paths.items():
        part, key = path.split("__")
        document[part][key] = value
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"null",
        b"{}",
        b'{"chain":{},"event":{},"mac":{}}',
        _changed(chain__seq="1"),
        _changed(chain__differs=3),
        _changed(chain__differs={"seq": float("inf"), "hash": "x", "found": None}),
        _changed(mac__value="not base64!"),
        _changed(
            mac__value=_sealed().body.decode().split('"value":"')[1].split('"')[0].replace("=", "") + "=="
        ),
        _changed(mac__more=1),
        _changed(mac__algorithm="none"),
        _changed(chain__more=1),
        _changed(chain__event="f" * 64),
        b'{"chain":{},"event":[],"mac":{}}',
        _changed(event__x=2**60),
    ],
)
@pytest.mark.usefixtures("deep")
def test_a_text_that_is_not_an_entry_is_malformed(body: bytes) -> None:
    with pytest.raises(AuditVerificationError) as caught:
        _parsed(body)
    assert caught.value.where == {"stream": "aws", "seq": "1", "code": "malformed"}


@pytest.mark.parametrize(
    "body",
    [
        _sealed().body + b" ",
        json.dumps(json.loads(_sealed().body)).encode(),
        _sealed().body[:-1] + b',"more":1}',
    ],
)
def test_an_entry_must_be_in_canonical_form(body: bytes) -> None:
    with pytest.raises(AuditVerificationError) as caught:
        _parsed(body)
    assert caught.value.where["code"] == "not-canonical"


def test_a_second_chain_before_the_signed_one_is_not_covered_by_the_mac() -> None:
    entry = _parsed(_sealed().body.replace(b'"chain":', b'"chain":{},"chain":', 1))
    assert not SIGNER.verify(entry.digest, entry.mac)


@pytest.mark.parametrize(
    "where",
    [{"seq": 2}, {"stream": "oci"}, {"credential_id": "multi-cloud/other"}],
    ids=lambda w: next(iter(w)),
)
def test_an_entry_at_another_place_is_misplaced(where: Any) -> None:  # noqa: ANN401 - keywords of different types
    with pytest.raises(AuditVerificationError) as caught:
        _parsed(_sealed().body, **where)
    assert caught.value.where["code"] == "misplaced"
