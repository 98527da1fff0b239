"""The chain: how an entry is written and read back.

An entry is one JSON object in its canonical form (RFC 8785): `chain` and `mac`, which are its seal
(`lockstep.audit.entry`), and `event`, whose hash the seal names.

Each credential has its own chain in each stream, because its heads are in its own lock record (protocol E3, E2).
`previous_hash` is the previous entry's hash, so entries cannot be changed, swapped or left out.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import rfc8785
from msgspec import convert, field, to_builtins
from msgspec.structs import asdict

from lockstep.audit.entry import (
    CHAIN,
    MAC,
    NO_PREVIOUS,
    ChainEnd,
    Differs,
    Seal,
    Stored,
    Whole,
    hash_of,
    is_of_a_run,
    is_signed,
    look,
    mac_text,
    read_json,
    read_mac,
    read_seal,
    signer_of,
)
from lockstep.protocol import model
from lockstep.protocol.errors import (
    AuditLogAccessDeniedError,
    AuditVerificationError,
    NewerFormatError,
)
from lockstep.protocol.model import ChainHead
from lockstep.protocol.ports import MAX_ENTRY_BYTES, AuditLog, Mac, Signer, chain_folder

_HASH = re.compile("[0-9a-f]{64}")
_PARTS = ["chain", "event", "mac"]
_BEGIN, _EVENT, _MAC, _END = b'{"chain":{', b',"event":{', b',"mac":{', b"}}"
"""Of the text of an entry. Hashes and MAC bind the very bytes between these."""


class Entry(Seal):
    """A parsed entry: its seal, and its event, which is empty for one that is archived.

    Attributes:
        digest: What the MAC covers.
        hash: What the next entry names.
    """

    event: Mapping[str, Any] = field(name="body")
    mac: Mac
    digest: bytes
    hash: str

    @property
    def promoted(self) -> int | None:
        """The generation that it records as promoted; None for what is no run's success."""
        generation = self.details.get("generation")
        is_success = self.event.get("status") == "Success" and is_of_a_run(self.rotation_id)
        return generation if is_success and type(generation) is int else None

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
) -> Sealed:
    """Chain and sign an event.

    Args:
        event: The OCSF event; its `time` is the entry's.
        end: Where the chain ends.
        credential_id: The credential whose chain it is.
        stream: The stream to which it is appended.
        signer: The stream's keys.
        rotation_id: The id of the run or the order.
    """
    event_text = rfc8785.dumps(dict(event))
    place = Seal(
        credential=credential_id,
        stream=stream,
        seq=end.seq,
        previous_hash=end.after.hash if end.after else NO_PREVIOUS,
        rotation_id=rotation_id,
        time=event["time"],
        event_hash=hashlib.sha256(event_text).hexdigest(),
        stepped_over=end.stepped_over,
        differs=end.differs,
        format=model.FORMAT,
    )
    chain_text = rfc8785.dumps(to_builtins(place))
    digest = hashlib.sha256(chain_text).digest()
    mac = signer_of(signer, rotation_id).sign(digest)
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
        NewerFormatError: A newer build wrote it, so nothing can be said about it (protocol E11, R10).
    """
    try:
        document = read_json(body[: MAX_ENTRY_BYTES + 1])
        model.require_known(convert(document["chain"]["format"], Whole), stream=stream, seq=seq)
        is_whole = list(document) == _PARTS and body.startswith(_BEGIN) and body.endswith(_END)
        entry = _sealed(document, body) if is_whole else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise AuditVerificationError(stream=stream, seq=seq, code="malformed") from None
    if entry is None:
        raise AuditVerificationError(stream=stream, seq=seq, code="not-canonical")
    place = (chain_folder(entry.credential), entry.stream, entry.seq)
    if place != (chain_folder(credential_id), stream, seq):
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
    if hashlib.sha256(event).hexdigest() != place.event_hash or not isinstance(document["event"], dict):
        raise ValueError
    return entry_of(
        place,
        document["event"],
        mac=read_mac(document["mac"], mac),
        digest=hashlib.sha256(chain).digest(),
        entry_hash=hash_of(chain, mac),
    )


def entry_of(place: Seal, event: Mapping[str, Any], *, mac: Mac, digest: bytes, entry_hash: str) -> Entry:
    """The entry that a seal belongs to."""
    return Entry(**asdict(place), event=event, mac=mac, digest=digest, hash=entry_hash)


# Where a chain ends, as its log shows it (protocol E6, E7).
#
# The lock record's head is a hint: who writes the record is not who writes the log. Where the log holds the entry
# that the head names, the chain goes on from there. An entry above it that continues the chain is taken in: it is an
# order's, or of a run that could not move the head. Anything else above it is foreign and is stepped over, and the
# next entry says so. What the head vouches for and the log does not hold is never stepped over: its number stays free,
# and the next entry says what is missing.

MAX_FOREIGN = 1_000
"""Objects that are looked at one by one from the top, before the end is looked for between them."""
LAST = 10**12 - 1
"""The highest number that a name can have."""
MAX_TAKEN_IN = 100
"""Objects right above the head that are looked at one by one; from a head that is further behind, the end is looked for
from the top, as where the lock table was restored from a backup."""
FARTHEST = 1_000_000
"""How far a head may be above what the log holds, and keep its numbers free: 38 years at 20 minutes. Numbers have 12
digits, so whoever forges heads would need centuries to use them up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Finds the end of a chain.

    Attributes:
        takes_newer: Whether an entry of a newer build's format counts, by its MAC, for who appends nothing to it.
        after: The hash of an entry that was there; what goes on from it goes on from something.
    """

    credential_id: str
    log: AuditLog
    signer: Signer
    takes_newer: bool = False
    after: str = ""

    def find(self, head: ChainHead | None, *, taken: bool = False, seen: Stored | None = None) -> ChainEnd:
        """The end of the chain.

        Args:
            head: That of the lock record.
            taken: Whether the number after the head turned out to be taken.
            seen: An object that was looked at while the record was read. It counts if the head names it.

        Raises:
            NewerFormatError: A newer build has written the entry.
        """
        differs = None
        if head:
            is_seen = seen is not None and (seen.number, seen.hash) == (head.seq, head.hash)
            at = seen if seen and is_seen else self.look(head.seq)
            if at.seal and at.hash == head.hash:
                return self._beyond(at) if taken else ChainEnd(after=at, seq=at.number + 1)
            differs = _differs(head, at)
        # Without a head the record was lost (protocol E6).
        return self._above(self.newest_genuine(list(self.log.numbers())), differs=differs)

    def look(self, number: int) -> Stored:
        """The object under a number, by its metadata; where there is none, what is no entry."""
        return look(self.log, number)

    def is_genuine(self, found: Stored) -> bool:
        """Whether an object is an entry of this chain, by its MAC.

        One whose key is out of use, or signs no such entry, is none.

        Raises:
            NewerFormatError: It is one of a newer build, and those do not count.
        """
        try:
            if not is_signed(self.signer, found):
                return False
        except AuditLogAccessDeniedError:
            # Anybody can name a retired key. Without the key of runs nothing can be signed either; without that of
            # orders one is stepped over, which the next entry says and verification finds.
            return False
        if found.is_newer and self.takes_newer:
            return True
        if found.is_newer:
            raise NewerFormatError(stream=self.log.stream, seq=found.number)
        return found.is_at(self.credential_id, self.log.stream)

    def _beyond(self, last: Stored) -> ChainEnd:
        """The end above the entry that the head names: what continues the chain is taken in."""
        foreign: list[int] = []
        head, expected = last, last.number + 1
        for number in self.log.numbers(after=last.number):
            if number != expected:
                break
            if number > head.number + MAX_TAKEN_IN:
                above = range(head.number + 1, self._first_free(head.number))
                return self._above(self.newest_genuine(above) or head)
            found = self.look(number)
            if found.seal and found.seal.previous_hash == last.hash and self.is_genuine(found):
                last, foreign = found, []
            else:
                foreign.append(number)
            expected += 1
        if not foreign:
            return ChainEnd(after=last, seq=last.number + 1)
        return self._above(last)

    def newest_genuine(self, numbers: Sequence[int]) -> Stored | None:
        """The highest entry; None if there is none. Where the upper ones are foreign, one that has none above it."""
        for number in islice(reversed(numbers), MAX_FOREIGN):
            if found := self._genuine(number):
                return found
        newest, low, high = None, 0, max(0, len(numbers) - MAX_FOREIGN)
        while low < high:
            middle = (low + high) // 2
            if found := self._genuine(numbers[middle]):
                newest, low = found, middle + 1
            else:
                high = middle
        return newest

    def _genuine(self, number: int) -> Stored | None:
        found = self.look(number)
        return found if self.is_genuine(found) and self._continues_something(found) else None

    def _continues_something(self, found: Stored) -> bool:
        """Whether the entry before it is there: an entry of another log with this key is alone."""
        seal: Seal | None = found.seal
        if seal is None or seal.previous_hash == NO_PREVIOUS:
            return seal is not None or found.is_newer
        if seal.stepped_over or seal.differs or seal.previous_hash == self.after:
            return True
        return self.look(seal.seq - 1).hash == seal.previous_hash

    def _above(self, last: Stored | None, *, differs: Differs | None = None) -> ChainEnd:
        """The end where numbers above the last entry are taken or vouched for."""
        known = last.number if last else 0
        vouched = differs.seq if differs and known < differs.seq <= known + FARTHEST else known
        seq = self._first_free(vouched)
        # The objects between were looked at earlier: what another run has appended since is not foreign.
        if seq > vouched + 1 and (newer := self._genuine(seq - 1)):
            return self._above(newer, differs=differs)
        return ChainEnd(
            after=last,
            seq=seq,
            stepped_over=(vouched + 1, seq - 1) if seq > vouched + 1 else None,
            differs=differs,
        )

    def _first_free(self, after: int) -> int:
        """The lowest number above one that has no object: by one list for a thousand that have."""
        free = after + 1
        for number in self.log.numbers(after=after):
            if number != free:
                break
            free += 1
        return free


def _differs(head: ChainHead, at: Stored) -> Differs:
    """What the head names, as far as an entry can say it: somebody may have written anything."""
    return Differs(
        seq=min(head.seq, LAST),
        hash=head.hash if _HASH.fullmatch(head.hash) else "",
        found=at.hash or None,
    )


def newest_numbers(log: AuditLog, head: ChainHead | None, count: int) -> list[int]:
    """The numbers of the newest objects of a log, the newest first, without listing all of it."""
    start = max(0, (head.seq if head else 0) - count)
    numbers = [*log.numbers(after=start)]
    if len(numbers) < count and start:
        numbers = [*log.numbers()]
    return numbers[: -count - 1 : -1]
