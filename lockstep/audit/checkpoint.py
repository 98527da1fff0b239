"""Problems that a verification finds, with what people acknowledged of them; and checkpoints, up to where it went.

What a verification finds: problems, and what people have acknowledged of them.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import rfc8785

from lockstep.audit.append import is_of_a_run
from lockstep.audit.chain import Entry
from lockstep.audit.entry import mac_text, read_json, read_mac, text, whole
from lockstep.protocol.errors import AuditVerificationError
from lockstep.protocol.ports import Signer

if TYPE_CHECKING:
    from lockstep.audit.verify import Verification


ACKNOWLEDGE = "acknowledge"
"""The name of the order that acknowledges problems."""
ACKNOWLEDGED_IN: Final = "aws"
"""The stream whose entries acknowledge: an entry that is archived shows no event."""
STEPPED_OVER = "; entry {} has stepped over it"
"""The end of what is said of a foreign object, once there is an entry after it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a stream.

    Attributes:
        what: What is wrong: of entries without a subject, else a sentence.
        first: The number of the entry, or the first of them; 0 for objects that are no entries; None if it is about
            no object.
        last: The last of several.
    """

    what: str
    first: int | None = None
    last: int | None = None

    @property
    def end(self) -> int | None:
        """The number of the last entry."""
        return self.first if self.last is None else self.last

    def is_part_of(self, whole: "Problem") -> bool:
        """Whether another one, or a part of it, is this one; that an entry has stepped over it changes nothing."""
        if self.first is None or self.end is None or whole.first is None or whole.end is None:
            return False
        is_inside = whole.first <= self.first and self.end <= whole.end
        return is_inside and _kind(self) == _kind(whole)

    def __str__(self) -> str:
        """As a sentence."""
        if not self.first:
            return self.what
        if self.first == self.end:
            return f"entry {self.first}: {self.what}"
        return f"entries {self.first} to {self.end}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """An acknowledgement, and the problem that it is about.

    Attributes:
        stream: Whose problems.
        problems: What was found when it was given: nothing that came later.
        by: Who gave it.
        at: When, in milliseconds since the epoch.
        reason: In the operator's words.
    """

    stream: str
    problems: tuple[Problem, ...]
    by: str
    at: int
    reason: str
    problem: Problem | None = None

    def covers(self, stream: str, problem: Problem) -> bool:
        """Whether it is about a problem of a stream."""
        return self.stream == stream and any(problem.is_part_of(known) for known in self.problems)

    def __str__(self) -> str:
        """As a sentence."""
        return f"{self.problem} (acknowledged by {self.by}: {self.reason})"


def collapsed(problems: Iterable[Problem]) -> list[Problem]:
    """The problems by number, with the same problem of neighbours as one."""
    found: list[Problem] = []
    for problem in sorted(set(problems), key=lambda p: (p.first or 0, p.what)):
        before = found[-1] if found else None
        if (
            before
            and before.what == problem.what
            and before.end is not None
            and problem.first == before.end + 1
        ):
            found[-1] = Problem(problem.what, before.first, problem.end)
        else:
            found.append(problem)
    return found


def details_of(stream: str, problems: Sequence[Problem], reason: str) -> dict[str, Any]:
    """What the entry of an acknowledgement says."""
    return {"stream": stream, "problems": [[p.what, p.first, p.end] for p in problems], "reason": reason}


def acknowledged_in(entries: Iterable[Entry], problems: Sequence[Problem]) -> Iterator[Acknowledged]:
    """The acknowledgements among the entries of a stream that have no problem themselves.

    Args:
        entries: Those whose MAC is valid.
        problems: Those of the stream, acknowledged or not.
    """
    for entry in entries:
        details = entry.details
        if details.get("order") != ACKNOWLEDGE or any(_is_about(p, entry.seq) for p in problems):
            continue
        actor = entry.event.get("actor")
        user = actor.get("user") if isinstance(actor, dict) else None
        yield Acknowledged(
            stream=str(details.get("stream")),
            problems=tuple(_problems(details)),
            by=str(user.get("name")) if isinstance(user, dict) else "nobody",
            at=entry.time,
            reason=str(details.get("reason")),
        )


def _problems(details: Mapping[str, Any]) -> Iterator[Problem]:
    found = details.get("problems")
    for given in found if isinstance(found, list) else []:
        match given:
            case [str(what), int(first), int(last)]:
                yield Problem(what, first, last)


def _is_about(problem: Problem, seq: int) -> bool:
    return problem.first is not None and problem.end is not None and problem.first <= seq <= problem.end


def _kind(problem: Problem) -> str:
    """What stays the same when the next entry steps over it. The name of an object that is no entry is foreign text."""
    return problem.what.partition(STEPPED_OVER.partition("{")[0])[0] if problem.first else problem.what


# A checkpoint: up to where the chains were verified, signed, so that a year need not be read again (protocol
# E11).
#
# A verification that goes on from a checkpoint still lists every object and its versions, and reads the entry
# that the checkpoint ends with. It does not read the bodies before that one again. The signature is made with the
# key of the AWS stream; no other text that this key signs begins like it.

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
