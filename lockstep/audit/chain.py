"""The chain: how an entry is sealed, hashed and read back.

An entry is one JSON object in its canonical form (RFC 8785):

    {
      "chain": {credential, format, stream, seq, previous_hash, witness},
      "event": {…},
      "mac": {algorithm, key_id, value}
    }

Each credential has its own chain in each stream, because its heads are in its own lock record (protocol E1, E2, E3).
`previous_hash` is the SHA-256 of the previous entry's bytes, so entries cannot be changed, swapped or left out.
`witness` is the newest entry of every *other* stream: if one cloud's log is cut short, the other's contradicts it.
The MAC is HMAC-SHA-256 over the SHA-256 of the canonical form of event and chain. It covers the digest, because KMS
takes messages of at most 4,096 bytes (https://docs.aws.amazon.com/kms/latest/APIReference/API_GenerateMac.html).
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import rfc8785

from lockstep import formats
from lockstep.errors import AuditVerificationError
from lockstep.model import ChainHead, Login
from lockstep.ports import EntrySummary, Signer

NO_PREVIOUS = "0" * 64
MAC_ALGORITHM = "HMAC-SHA-256"
MAX_ENTRY_BYTES = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A parsed entry. The MAC covers `digest`; the next entry names `hash`."""

    event: Mapping[str, Any]
    credential: str
    stream: str
    seq: int
    previous_hash: str
    witness: Mapping[str, tuple[int, str]]
    key_id: str
    mac: bytes
    digest: bytes
    hash: str


def seal(
    event: Mapping[str, Any],
    *,
    credential_id: str,
    stream: str,
    after: ChainHead | None,
    others: Mapping[str, ChainHead],
    signer: Signer,
    rotation_id: str,
) -> tuple[bytes, EntrySummary]:
    """Chain and sign an event.

    Args:
        event: The OCSF event.
        credential_id: The credential whose chain it is.
        stream: The stream to which it is appended.
        after: The stream's head; None for the first entry.
        others: The heads of the other streams, for the witness.
        signer: The key.
        rotation_id: For the summary.
    """
    seq, previous_hash = (after.seq + 1, after.hash) if after else (1, NO_PREVIOUS)
    chain: dict[str, Any] = {
        "credential": credential_id,
        "format": formats.FORMAT,
        "stream": stream,
        "seq": seq,
        "previous_hash": previous_hash,
        "witness": {name: {"seq": head.seq, "hash": head.hash} for name, head in others.items()},
    }
    digest = _digest(event, chain)
    mac = {
        "algorithm": MAC_ALGORITHM,
        "key_id": signer.key_id,
        "value": base64.b64encode(signer.sign(digest)).decode(),
    }
    body = rfc8785.dumps({"chain": chain, "event": dict(event), "mac": mac})
    summary = EntrySummary(
        seq=seq,
        hash=hashlib.sha256(body).hexdigest(),
        previous_hash=previous_hash,
        rotation_id=rotation_id,
    )
    return body, summary


def parse(body: bytes, *, credential_id: str, stream: str, seq: int) -> Entry:
    """Parse an entry, and check that its place in the log is the one that it names.

    Raises:
        AuditVerificationError: It is not an entry, or not this one. The code says what is wrong.
        NewerFormatError: A newer build wrote it, so nothing can be said about it (protocol E12, R10).
    """
    try:
        document: Any = json.loads(body[: MAX_ENTRY_BYTES + 1])
        chain = document["chain"]
        formats.require_known(_whole(chain.get("format", formats.UNNAMED)), stream=stream, seq=seq)
        event, mac = document["event"], document["mac"]
        entry = Entry(
            event=dict(event),
            credential=str(chain["credential"]),
            stream=str(chain["stream"]),
            seq=_whole(chain["seq"]),
            previous_hash=str(chain["previous_hash"]),
            witness={str(k): (_whole(v["seq"]), str(v["hash"])) for k, v in chain["witness"].items()},
            key_id=str(mac["key_id"]),
            mac=base64.b64decode(mac["value"], validate=True),
            digest=_digest(event, chain),
            hash=hashlib.sha256(body).hexdigest(),
        )
        is_canonical = rfc8785.dumps(document) == body and document.keys() == {"event", "chain", "mac"}
        is_signed = mac["algorithm"] == MAC_ALGORITHM
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise AuditVerificationError(stream=stream, seq=seq, code="malformed") from None
    if not (is_canonical and is_signed):
        raise AuditVerificationError(stream=stream, seq=seq, code="not-canonical")
    if (entry.credential, entry.stream, entry.seq) != (credential_id, stream, seq):
        raise AuditVerificationError(stream=stream, seq=seq, code="misplaced")
    return entry


def _whole(value: object) -> int:
    # Not a boolean, a fraction or infinity, which Python's JSON parser also returns as numbers.
    if type(value) is not int:
        raise TypeError
    return value


def fingerprint(login: Login, *, credential_id: str, generation: int, signer: Signer) -> str:
    """A keyed, truncated fingerprint of a value: it distinguishes values and reveals nothing about a password."""
    message = "\0".join(
        ("lockstep fingerprint", credential_id, str(generation), login.username, login.password.reveal())
    )
    return signer.sign(hashlib.sha256(message.encode()).digest()).hex()[:16]


def _digest(event: Mapping[str, Any], chain: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(rfc8785.dumps({"chain": dict(chain), "event": dict(event)})).digest()
