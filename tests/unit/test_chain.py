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

from lockstep.audit.chain import MAX_ENTRY_BYTES, NO_PREVIOUS, Entry, fingerprint, parse, seal
from lockstep.errors import AuditVerificationError
from lockstep.model import ChainHead, Login, SecretStr
from lockstep.ports import EntrySummary
from tests.support.memory import MemorySigner

CREDENTIAL = "multi-cloud/app_user"
SIGNER = MemorySigner("aws-key")
EVENT = {"status": "Success", "time": 1767225600000}
OTHER = ChainHead(seq=3, hash="b" * 64, rotation_id="theirs")


def _sealed(after: ChainHead | None = None, event: Any = None) -> tuple[bytes, EntrySummary]:  # noqa: ANN401 - any JSON
    return seal(
        EVENT if event is None else event,
        credential_id=CREDENTIAL,
        stream="aws",
        after=after,
        others={"oci": OTHER},
        signer=SIGNER,
        rotation_id="run-1",
    )


def _parsed(body: bytes, seq: int = 1, *, stream: str = "aws", credential_id: str = CREDENTIAL) -> Entry:
    return parse(body, credential_id=credential_id, stream=stream, seq=seq)


def test_the_first_entry_has_no_predecessor_and_a_witness() -> None:
    body, summary = _sealed()
    entry = _parsed(body)
    assert (entry.seq, entry.previous_hash) == (1, "0" * 64)
    assert entry.witness == {"oci": (3, "b" * 64)}
    assert (entry.credential, entry.stream, entry.key_id) == (CREDENTIAL, "aws", "aws-key")
    assert entry.event == EVENT
    assert summary == EntrySummary(seq=1, hash=entry.hash, previous_hash=NO_PREVIOUS, rotation_id="run-1")


def test_an_entry_names_the_hash_of_its_predecessor() -> None:
    first, summary = _sealed()
    after = ChainHead(seq=summary.seq, hash=summary.hash, rotation_id=summary.rotation_id)
    second, _ = _sealed(after)
    entry = _parsed(second, 2)
    assert entry.previous_hash == hashlib.sha256(first).hexdigest()


def test_the_mac_can_be_checked_without_lockstep() -> None:
    body, _ = _sealed()
    document = json.loads(body)
    signed = rfc8785.dumps({"chain": document["chain"], "event": document["event"]})
    key = hashlib.sha256(b"aws-key").digest()
    expected = hmac.digest(key, hashlib.sha256(signed).digest(), "sha256")
    assert base64.b64decode(document["mac"]["value"]) == expected
    assert document["mac"]["algorithm"] == "HMAC-SHA-256"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=4))
def test_any_event_is_read_back_unchanged_and_its_mac_verifies(event: dict[str, Any]) -> None:
    body, _ = _sealed(event=event)
    entry = _parsed(body)
    assert entry.event == event
    assert SIGNER.verify(entry.digest, entry.mac)


@given(st.data())
def test_a_change_of_any_byte_is_found(data: st.DataObject) -> None:
    body, summary = _sealed()
    at = data.draw(st.integers(0, len(body) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != body[at]))
    forged = body[:at] + bytes([other]) + body[at + 1 :]
    try:
        entry = _parsed(forged)
    except AuditVerificationError:
        return
    assert entry.hash != summary.hash
    assert not (SIGNER.verify(entry.digest, entry.mac) and entry.key_id == "aws-key")


def _changed(**paths: Any) -> bytes:  # noqa: ANN401 - any JSON
    document = json.loads(_sealed()[0])
    for path, value in paths.items():
        part, key = path.split("__")
        document[part][key] = value
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b"9" * 5_000,
        b"[" * 100_000,
        b'{"chain":{},"event":{},"mac":{}}',
        _changed(chain__seq="1"),
        _changed(chain__seq=True),
        _changed(chain__seq=1.5),
        _changed(chain__seq=float("inf")),
        _changed(chain__seq=None),
        _changed(chain__witness=[]),
        _changed(chain__witness={"oci": 3}),
        _changed(chain__witness={"oci": {"seq": float("inf"), "hash": "x"}}),
        _changed(mac__value="not base64!"),
        _changed(mac__value=None),
        _changed(event__x=float("nan")),
        _changed(event__x=2**60),
        b'{"chain":' + b"x" * MAX_ENTRY_BYTES,
    ],
)
def test_a_text_that_is_not_an_entry_is_malformed(body: bytes) -> None:
    with pytest.raises(AuditVerificationError) as caught:
        _parsed(body)
    assert caught.value.where == {"stream": "aws", "seq": "1", "code": "malformed"}


@pytest.mark.parametrize(
    "body",
    [
        _sealed()[0] + b" ",
        json.dumps(json.loads(_sealed()[0])).encode(),
        _changed(mac__algorithm="none"),
        _sealed()[0].replace(b'"chain":', b'"chain":{},"chain":', 1),
        _sealed()[0][:-1] + b',"more":1}',
    ],
)
def test_an_entry_must_be_in_canonical_form(body: bytes) -> None:
    with pytest.raises(AuditVerificationError) as caught:
        _parsed(body)
    assert caught.value.where["code"] == "not-canonical"


@pytest.mark.parametrize(
    "where",
    [{"seq": 2}, {"stream": "oci"}, {"credential_id": "multi-cloud/other"}],
    ids=lambda w: next(iter(w)),
)
def test_an_entry_at_another_place_is_misplaced(where: Any) -> None:  # noqa: ANN401 - keywords of different types
    with pytest.raises(AuditVerificationError) as caught:
        _parsed(_sealed()[0], **where)
    assert caught.value.where["code"] == "misplaced"


def test_fingerprints_differ_for_different_values_and_are_short() -> None:
    def mark(password: str, *, generation: int = 1, username: str = "app", key: str = "aws-key") -> str:
        login = Login(username, SecretStr(password))
        return fingerprint(login, credential_id=CREDENTIAL, generation=generation, signer=MemorySigner(key))

    marks = {
        mark("one"),
        mark("two"),
        mark("one", generation=2),
        mark("one", username="app_b"),
        mark("one", key="oci-key"),
    }
    assert len(marks) == 5
    assert mark("one") == mark("one")
    assert all(len(m) == 16 and int(m, 16) >= 0 for m in marks)
