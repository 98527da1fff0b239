"""A checkpoint: up to where the chains were verified, signed, so that a year need not be read again (protocol E11).

A verification that goes on from a checkpoint still lists every object and its versions, and reads the entry that the
checkpoint ends with. It does not read the bodies before that one again. The signature is made with the key of the AWS
stream; no other text that this key signs begins like it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import rfc8785

from lockstep.audit.append import is_of_a_run
from lockstep.audit.findings import Problem
from lockstep.audit.seal import mac_text, read_json, read_mac, text, whole
from lockstep.errors import AuditVerificationError
from lockstep.ports import Signer

if TYPE_CHECKING:
    from lockstep.audit.verify import Verification

VERSION = 1
KEPT_GENERATIONS = 1_000
"""The newest generations on record that a checkpoint names: what comes after it begins from one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """Up to where one stream of a credential was verified.

    Attributes:
        seq: The number of its last entry; 0 for nothing.
        hash: Its hash.
        objects: How many objects there were.
        generations: The newest generations on record.
        unread: The time of an archived entry of a run, if no later entry says what was rotated; else 0.
        known: Problems that were acknowledged.
    """

    seq: int = 0
    hash: str = ""
    objects: int = 0
    generations: tuple[int, ...] = ()
    unread: int = 0
    known: tuple[Problem, ...] = ()


BEGINNING = Base()
NOTHING: Mapping[str, Base] = MappingProxyType({})
Bases = Mapping[str, Mapping[str, Base]]
"""By credential and stream."""


def bases(found: Iterable["Verification"], before: Mapping[str, Base]) -> dict[str, Base]:
    """What a verification of a credential's streams has reached, going on from an earlier one."""
    found, reached = list(found), {}
    latest = max((e.time for v in found for e in v.entries if "generation" in e.details), default=0)
    for v in found:
        if not v.entries:
            continue
        last, old = v.entries[-1], before.get(v.stream, BEGINNING)
        generations = {
            *old.generations,
            *(g for e in v.entries if type(g := e.details.get("generation")) is int),
        }
        unread = max([old.unread, *(e.time for e in v.entries if not e.event and is_of_a_run(e.rotation_id))])
        known = {*old.known, *(a.problem for a in v.acknowledged if a.problem)}
        reached[v.stream] = Base(
            seq=last.seq,
            hash=last.hash,
            objects=v.objects,
            generations=tuple(sorted(generations)[-KEPT_GENERATIONS:]),
            unread=unread if unread > latest else 0,
            known=tuple(sorted(known, key=str)),
        )
    return reached


def sealed(reached: Bases, signer: Signer, *, at: int) -> str:
    """The text of a checkpoint.

    Args:
        reached: What was verified.
        signer: The key of the AWS stream.
        at: When, in milliseconds since the epoch.
    """
    document = {
        "version": VERSION,
        "at": at,
        "credentials": {
            credential: {stream: _document(base) for stream, base in streams.items()}
            for credential, streams in reached.items()
        },
    }
    mac = signer.sign(_digest(document))
    return json.dumps({"checkpoint": document, "mac": json.loads(mac_text(mac))}, indent=1) + "\n"


def opened(given: bytes, signer: Signer) -> Bases:
    """What a checkpoint says.

    Raises:
        AuditVerificationError: It is none, or was changed, or another key signed it.
    """
    try:
        document = read_json(given)
        checkpoint = document["checkpoint"]
        mac = read_mac(document["mac"], rfc8785.dumps(document["mac"]))
        found = {
            text(credential): {text(stream): _base(base) for stream, base in streams.items()}
            for credential, streams in checkpoint["credentials"].items()
        }
        is_ours = whole(checkpoint["version"]) == VERSION and signer.verify(_digest(checkpoint), mac)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise AuditVerificationError(code="no-checkpoint") from None
    if not is_ours:
        raise AuditVerificationError(code="not-signed-by-the-plans-key")
    return found


def _digest(document: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(b"lockstep checkpoint\0" + rfc8785.dumps(dict(document))).digest()


def _document(base: Base) -> dict[str, Any]:
    return {
        "seq": base.seq,
        "hash": base.hash,
        "objects": base.objects,
        "generations": list(base.generations),
        "unread": base.unread,
        "known": [[p.what, p.first, p.last] for p in base.known],
    }


def _base(document: Mapping[str, Any]) -> Base:
    known: Sequence[Any] = document["known"]
    return Base(
        seq=whole(document["seq"]),
        hash=text(document["hash"]),
        objects=whole(document["objects"]),
        generations=tuple(whole(g) for g in document["generations"]),
        unread=whole(document["unread"]),
        known=tuple(
            Problem(
                text(what),
                None if first is None else whole(first),
                None if last is None else whole(last),
            )
            for what, first, last in known
        ),
    )
