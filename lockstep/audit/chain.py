"""The chain: how an entry is written and read back.

An entry is one JSON object in its canonical form (RFC 8785): `chain` and `mac`, which are its seal
(`lockstep.audit.seal`), and `event`, whose hash the seal names.

Each credential has its own chain in each stream, because its heads are in its own lock record (protocol E1, E2, E3).
`previous_hash` is the previous entry's hash, so entries cannot be changed, swapped or left out. `witness` is the newest
entry of every *other* stream: if one cloud's log is cut short, the other's contradicts it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import rfc8785

from lockstep import formats
from lockstep.audit.objects import MAX_ENTRY_BYTES
from lockstep.audit.seal import (
    CHAIN,
    MAC,
    NO_PREVIOUS,
    ChainEnd,
    Differs,
    Seal,
    Stored,
    Witnessed,
    hash_of,
    mac_text,
    read_json,
    read_mac,
    read_seal,
    whole,
)
from lockstep.errors import AuditVerificationError
from lockstep.ports import Mac, Signer

_PARTS = ["chain", "event", "mac"]
_BEGIN, _EVENT, _MAC, _END = b'{"chain":{', b',"event":{', b',"mac":{', b"}}"
"""Of the text of an entry. Hashes and MAC bind the very bytes between these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A parsed entry. The MAC covers `digest`; the next entry names `hash`.

    Attributes:
        rotation_id: The id of the run, the order or the witness, as the event says it.
        time: In milliseconds since the epoch.
    """

    event: Mapping[str, Any]
    credential: str
    stream: str
    seq: int
    previous_hash: str
    rotation_id: str
    time: int
    witness: Mapping[str, Witnessed]
    stepped_over: tuple[int, int] | None = None
    differs: tuple[Differs, ...] = ()
    mac: Mac
    digest: bytes
    hash: str

    @property
    def details(self) -> Mapping[str, Any]:
        """What Lockstep says of the event; empty for a foreign one."""
        unmapped = self.event.get("unmapped")
        details = unmapped.get("lockstep") if isinstance(unmapped, dict) else None
        return details if isinstance(details, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """An entry to be put: its body, and its object's metadata."""

    body: bytes
    metadata: Mapping[str, str]
    stored: Stored


def seal(
    event: Mapping[str, Any],
    end: ChainEnd,
    *,
    credential_id: str,
    stream: str,
    signer: Signer,
    rotation_id: str,
    witness: Mapping[str, Witnessed],
) -> Sealed:
    """Chain and sign an event.

    Args:
        event: The OCSF event; its `time` is the entry's.
        end: Where the chain ends.
        credential_id: The credential whose chain it is.
        stream: The stream to which it is appended.
        signer: The key.
        rotation_id: The id of the run, the order or the witness.
        witness: What is known of the other streams.
    """
    event_text = rfc8785.dumps(dict(event))
    place = Seal(
        credential=credential_id,
        stream=stream,
        seq=end.seq,
        previous_hash=end.after.hash if end.after else NO_PREVIOUS,
        rotation_id=rotation_id,
        time=event["time"],
        event=hashlib.sha256(event_text).hexdigest(),
        witness=witness,
        stepped_over=end.stepped_over,
        differs=end.differs,
    )
    chain_text = rfc8785.dumps(place.document())
    digest = hashlib.sha256(chain_text).digest()
    mac = signer.sign(digest)
    signed = mac_text(mac)
    return Sealed(
        body=_BEGIN[:-1] + chain_text + _EVENT[:-1] + event_text + _MAC[:-1] + signed + b"}",
        metadata={CHAIN: chain_text.decode(), MAC: signed.decode()},
        stored=Stored(number=end.seq, hash=hash_of(chain_text, signed), seal=place, digest=digest, mac=mac),
    )


def parse(body: bytes, *, credential_id: str, stream: str, seq: int) -> Entry:
    """Parse an entry, and check that its place in the log is the one that it names.

    Raises:
        AuditVerificationError: It is not an entry, or not this one. The code says what is wrong.
        NewerFormatError: A newer build wrote it, so nothing can be said about it (protocol E12, R10).
    """
    try:
        document = read_json(body[: MAX_ENTRY_BYTES + 1])
        formats.require_known(whole(document["chain"]["format"]), stream=stream, seq=seq)
        is_whole = list(document) == _PARTS and body.startswith(_BEGIN) and body.endswith(_END)
        entry = _sealed(document, body) if is_whole else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise AuditVerificationError(stream=stream, seq=seq, code="malformed") from None
    if entry is None:
        raise AuditVerificationError(stream=stream, seq=seq, code="not-canonical")
    if (entry.credential, entry.stream, entry.seq) != (credential_id, stream, seq):
        raise AuditVerificationError(stream=stream, seq=seq, code="misplaced")
    return entry


def _sealed(document: Any, body: bytes) -> Entry:  # noqa: ANN401 - any JSON
    place = read_seal(document["chain"])
    # No text contains an unescaped quote, and neither chain nor MAC holds an object under these names.
    before, after = body.index(_EVENT), body.rindex(_MAC)
    chain, event, mac = (
        body[len(_BEGIN) - 1 : before],
        body[before + len(_EVENT) - 1 : after],
        body[after + len(_MAC) - 1 : -1],
    )
    if hashlib.sha256(event).hexdigest() != place.event or not isinstance(document["event"], dict):
        raise ValueError
    return entry_of(
        place,
        document["event"],
        mac=read_mac(document["mac"], mac),
        digest=hashlib.sha256(chain).digest(),
        entry_hash=hash_of(chain, mac),
    )


def entry_of(place: Seal, event: Mapping[str, Any], *, mac: Mac, digest: bytes, entry_hash: str) -> Entry:
    """The entry that a seal belongs to; of one that is archived the event is empty."""
    return Entry(
        event=event,
        credential=place.credential,
        stream=place.stream,
        seq=place.seq,
        previous_hash=place.previous_hash,
        rotation_id=place.rotation_id,
        time=place.time,
        witness=place.witness,
        stepped_over=place.stepped_over,
        differs=place.differs,
        mac=mac,
        digest=digest,
        hash=entry_hash,
    )
