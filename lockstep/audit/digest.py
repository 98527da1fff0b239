"""A digest of a cloud's audit log, one an hour: what stands in its bucket, signed by a key of its own (protocol E15).

    digest     {began, chains, hour, kind, other, previous, problems, stream}
    signature  RSASSA-PKCS1-v1_5 with SHA-256, over one line: kind, deployment, cloud, hour, and the SHA-256 of `digest`

A digest names the newest genuine entry of every chain that the bucket has, in the plan or not, the digest before it,
and the newest digest of the other cloud. So whoever rewrites a log must rewrite its digests too, and what the other
cloud has seen of those cannot be rewritten. It is made by the clock, whatever the lock record says, by who writes no
entry.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from logging import ERROR, INFO
from typing import Annotated, Any, Final, Literal, Protocol

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import asdict

from lockstep.audit.chain import Ends
from lockstep.audit.entry import Hash, milliseconds, read_json
from lockstep.protocol.errors import AuditLogUnreachableError, LockstepError, line_of
from lockstep.protocol.federation import rsa_key
from lockstep.protocol.ports import AuditLog, Clock, Folder, Listed, Mac, Signer
from lockstep.protocol.strict_json import Message, matching, read, write
from lockstep.protocol.workers import SideBySide, run_all

KIND: Final = "lockstep digest"
MAX_BYTES = 16 * 1024 * 1024
"""Of a digest: more than 50,000 chains have."""
TOLERANCE = timedelta(minutes=15)
"""How far the clock of a writer may be off that of a store: S3 takes no request of a clock that is further off."""
UNSEEN = timedelta(hours=3)
"""For so long a cloud may have no digest that the other one has confirmed."""
MAX_PROBLEMS, MAX_LOGGED = 1_000, 20
_WINDOW = 256
"""Objects in the place of digests that are read before the next ones are asked for."""
_NAME = re.compile(r"(?P<hour>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2})(-[0-9a-f]{16})?\.json", re.ASCII)
_HOUR = "%Y-%m-%dT%H"
Hour = Annotated[str, matching("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}")]


class DigestKey(Protocol):
    """The key that signs a cloud's digests. Errors: AuditLog*."""

    def sign(self, digest: bytes) -> bytes:
        """The signature of a SHA-256 digest, by RSASSA-PKCS1-v1_5."""

    def public_key(self) -> str:
        """Its public half: PEM, or the base64 of its DER."""


class Head(Message):
    """The newest genuine entry of a chain.

    Attributes:
        at: When its object was written, by the store's clock, in milliseconds since the epoch.
    """

    seq: int
    hash: Hash
    at: int


class Named(Message, order=True):
    """A digest, as another one names it: by its hour and the SHA-256 of its canonical text; a signature binds both."""

    hour: Hour
    hash: Hash

    def __str__(self) -> str:
        """As people write it."""
        return f"{self.hour}:{self.hash[:16]}"


class Confirmed(Message):
    """A digest of the other cloud, with its signature: whoever knows that cloud's key can tell that it was there."""

    digest: Named
    signature: str


class Document(Message, kw_only=True):
    """What a digest says.

    Attributes:
        hour: When it was made, in UTC.
        began: The time before the bucket was first listed, in milliseconds since the epoch.
        previous: The digest before it; None for the first one.
        chains: Of every chain, by its folder, the newest entry.
        other: The newest digest of the other cloud; None if there was none yet, or there is no other cloud.
        problems: What the digest before it names and is gone.
    """

    kind: Literal["lockstep digest"] = KIND
    format: Literal[1] = 1
    stream: str
    hour: Hour
    began: int
    previous: Named | None
    chains: Mapping[str, Head]
    other: Confirmed | None
    problems: Sequence[str]


class Digest(Document, kw_only=True):
    """A digest, as it was read.

    Attributes:
        hash: The SHA-256 of its canonical text.
        signature: In base64.
        at: When its object was written, by the store's clock.
    """

    hash: str
    signature: str
    at: datetime

    @property
    def named(self) -> Named:
        """As another digest names it."""
        return Named(hour=self.hour, hash=self.hash)

    @property
    def moment(self) -> datetime:
        """When it was begun."""
        return _moment(self.began)

    @property
    def is_misdated(self) -> bool:
        """Whether it says another time than its object's."""
        return abs(self.moment - self.at) > TOLERANCE


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The audit log of one cloud.

    Attributes:
        stream: `aws` or `oci`.
        digests: The folder of its digests.
        chains: The folder that has a folder for each chain.
        log: Opens a chain by its folder.
        signer: The keys of entries.
        keys: The public keys of its digests, as the plan has them.
        deployment: What else a signature names, beside the digest.
        retention: How long nobody may delete an object.
    """

    stream: str
    digests: Folder
    chains: Folder
    log: Callable[[str], AuditLog]
    signer: Signer
    keys: Sequence[str]
    deployment: str
    retention: timedelta

    @cached_property
    def _rsa_keys(self) -> list[RSAPublicKey]:
        return [rsa_key(key) for key in self.keys]

    @property
    def fingerprints(self) -> list[str]:
        """Of the keys: the SHA-256 of their DER."""
        ders = (k.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for k in self._rsa_keys)
        return [f"SHA256:{_base64(hashlib.sha256(der).digest()).rstrip('=')}" for der in ders]

    def signed_text(self, named: Named) -> bytes:
        """What is signed of a digest."""
        return f"{KIND} of {self.deployment}, {self.stream}, {named.hour}: {named.hash}\n".encode()

    def is_signed(self, named: Named, signature: str) -> bool:
        """Whether one of the keys has signed a digest."""
        for key in self._rsa_keys:
            with suppress(InvalidSignature, ValueError):  # The second where it is no base64.
                signed = base64.b64decode(signature, validate=True)
                key.verify(signed, self.signed_text(named), PKCS1v15(), SHA256())
                return True
        return False

    def read(self, listed: Listed) -> Digest | str:
        """A digest, whose signature is still to be verified; or what is wrong with the object.

        Raises:
            AuditLogUnreachableError, AuditLogAccessDeniedError: It cannot be read.
        """
        body = self.digests.read(listed.name, MAX_BYTES) if listed.size <= MAX_BYTES else b""
        if body is None:
            return "is gone: it was deleted meanwhile"
        try:
            found = _parse(body, listed)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return "is no digest"
        if (found.stream, found.hour) != (self.stream, hour_of(listed.name)):
            return "is the digest of another hour or cloud"
        return found

    def genuine(self, listed: Sequence[Listed], side_by_side: SideBySide) -> Iterator[Digest]:
        """The digests among objects that one of the keys has signed at about the object's time."""
        for first in [0, *range(1, len(listed), _WINDOW)]:  # As a rule the first one is it.
            window = listed[first : first + _WINDOW if first else 1]
            for found in side_by_side([partial(self.read, item) for item in window]):
                if isinstance(found, str) or found.is_misdated:
                    continue
                if self.is_signed(found.named, found.signature):
                    yield found

    def listed(self, *, until: str) -> list[Listed]:
        """The objects with the name of a digest up to an hour, the newest first."""
        found = [item for item in self.digests.listed() if "" < hour_of(item.name) <= until]
        return sorted(found, key=lambda item: (hour_of(item.name), item.name), reverse=True)


def hour_of(name: str) -> str:
    """The hour in the name of a digest's object; empty if it is no such name."""
    match = _NAME.fullmatch(name)
    return match["hour"] if match else ""


def hour_at(moment: datetime) -> str:
    """The hour of a time, as digests have it."""
    return moment.astimezone(UTC).strftime(_HOUR)


def _parse(body: bytes, listed: Listed) -> Digest:
    envelope = read_json(body)
    canonical, signature = rfc8785.dumps(envelope["digest"]), envelope["signature"]
    says: Document = read(Document, envelope["digest"])
    if body != _body(canonical, signature) or hour_at(_moment(says.began)) != says.hour:
        raise ValueError
    if (says.previous and says.previous.hour >= says.hour) or (
        says.other and says.other.digest.hour > says.hour
    ):
        raise ValueError
    hashed = hashlib.sha256(canonical).hexdigest()
    return Digest(**asdict(says), hash=hashed, signature=signature, at=listed.at)


def _moment(milliseconds_: int) -> datetime:
    return datetime.fromtimestamp(milliseconds_ / 1000, UTC)


def _body(canonical: bytes, signature: str) -> bytes:
    return b'{"digest":' + canonical + b',"signature":"' + signature.encode() + b'"}'


def require_macs(signer: Signer) -> None:
    """Whether entries can be verified by their MACs.

    Raises:
        AuditLogUnreachableError, AuditLogAccessDeniedError: They cannot.
    """
    for keys in (signer, signer.orders):
        keys.prepare()  # The key in OCI is read here, and not for a MAC that names none of its versions.
        keys.verify(bytes(32), Mac(key_id="", value=bytes(32)))


# Making a digest.


class Made(Message):
    """What became of a call that was to make a digest.

    Attributes:
        hour: Of the digest.
        chains: How many it names.
        problems: What it tells.
        confirms: Whether the other cloud's newest digest is less than `UNSEEN` old; True where there is no other cloud.
        unread: Why the other cloud's could not be read this time; empty if they were.
    """

    stream: str
    hour: str
    chains: int
    problems: Sequence[str]
    confirms: bool
    unread: str

    @property
    def lines(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """What a function logs of it: levels, and fields that alarms count by `message`, `examine` and `confirms`."""
        told = {**asdict(self), "problems": self.problems[:MAX_LOGGED]}  # A line has a greatest length.
        if self.problems:
            yield ERROR, {"message": "the audit log must be examined", "examine": "audit-log", **told}
        yield INFO, {"message": "digest made", **told}


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Makes the digests of one cloud.

    Attributes:
        own: Its audit log.
        other: That of the other cloud; None where one cloud alone rotates.
        key: What signs.
        side_by_side: Makes reads at the same time.
    """

    own: Evidence
    other: Evidence | None
    key: DigestKey
    clock: Clock
    side_by_side: SideBySide

    def make(self) -> Made:
        """Make the digest of this hour, if there is none.

        Raises:
            AuditLogUnreachableError, AuditLogAccessDeniedError: The log, or a key, cannot be asked; there is no digest.
        """
        require_macs(self.own.signer)
        # Where another call has written it meanwhile, the second look finds it.
        if made := self._made() or self._made():
            return made
        raise AuditLogUnreachableError(stream=self.own.stream, code="name-taken")

    def _made(self) -> Made | None:
        """None where another call was faster."""
        now = self.clock.now()
        hour = hour_at(now)
        # The key that signs may not be in the plan yet.
        own = replace(self.own, keys=(*self.own.keys, self.key.public_key()))
        names = own.listed(until=hour)
        taken = [item for item in names if hour_of(item.name) == hour]
        there, previous, (other, unread) = run_all(
            self.side_by_side,
            partial(next, own.genuine(taken, self.side_by_side), None),
            partial(next, own.genuine(names[len(taken) :], self.side_by_side), None),
            partial(self._newest_of_other, hour),
        )
        if there:
            confirmed, _ = self._confirmed(there, other)
            return self._told(there, confirmed, now, unread)
        link, lost = self._goes_on_from(own, previous, other)
        confirmed, broken = self._confirmed(previous, other)
        chains, gone = self._chains(previous.chains if previous else {})
        news = [item for item in taken if previous is None or item.at >= previous.moment]
        squatted = [f"the name of the digest of {hour} was taken by what is none"] if news else []
        says = Document(
            stream=self.own.stream,
            hour=hour,
            began=milliseconds(now),
            previous=link,
            chains=chains,
            other=confirmed,
            problems=[*squatted, *lost, *broken, *gone][:MAX_PROBLEMS],
        )
        canonical = rfc8785.dumps(write(says))
        named = Named(hour=hour, hash=hashlib.sha256(canonical).hexdigest())
        signature = self.key.sign(hashlib.sha256(self.own.signed_text(named)).digest())
        body = _body(canonical, _base64(signature))
        # The longer name cannot be known before, so nobody has taken it.
        name = f"{hour}-{named.hash[:16]}.json" if taken else f"{hour}.json"
        return self._told(says, confirmed, now, unread) if self.own.digests.create(name, body) else None

    def _told(self, says: Document, confirmed: Confirmed | None, now: datetime, unread: str) -> Made:
        is_seen = confirmed is not None and confirmed.digest.hour > hour_at(now - UNSEEN)
        return Made(
            stream=says.stream,
            hour=says.hour,
            chains=len(says.chains),
            problems=says.problems,
            confirms=self.other is None or is_seen,
            unread=unread,
        )

    def _newest_of_other(self, hour: str) -> tuple[Digest | None, str]:
        """None also where the other cloud does not answer, and why: this cloud's digest does not wait for it."""
        if self.other is None:
            return None, ""
        try:
            found = self.other.genuine(self.other.listed(until=hour), self.side_by_side)
            return next(found, None), ""
        except LockstepError as error:
            return None, line_of(error)

    def _confirmed(self, previous: Digest | None, other: Digest | None) -> tuple[Confirmed | None, list[str]]:
        """The newest digest of the other cloud, or what the digest before has named, if that is newer."""
        known = previous.other if previous and self.other else None
        if other is None or (known and known.digest.hour >= other.hour):
            return known, []
        broken = known and not self._goes_on(other, known.digest)
        told = f"the other cloud's digest {other.named} does not go on from {known.digest}" if known else ""
        return Confirmed(digest=other.named, signature=other.signature), [told] if broken else []

    def _goes_on(self, newest: Digest, known: Named) -> bool:
        """Whether the digests before one of the other cloud lead back to one that was named before."""
        if self.other is None or newest.previous == known:
            return True
        names = [item for item in self.other.listed(until=newest.hour) if hour_of(item.name) > known.hour]
        genuine = self.other.genuine(names, self.side_by_side)
        found = {digest.named: digest.previous for digest in genuine}
        at: Named | None = newest.named
        while at in found:
            at = found.pop(at)
        return at == known

    def _goes_on_from(
        self, keys: Evidence, previous: Digest | None, other: Digest | None
    ) -> tuple[Named | None, list[str]]:
        """The digest before the next one: what the other cloud has confirmed, if that is more than is left."""
        own, confirmed = previous.named if previous else None, other.other if other else None
        if confirmed is None or not keys.is_signed(confirmed.digest, confirmed.signature):
            return own, []
        seen = confirmed.digest
        if (own and own.hour > seen.hour) or own == seen:
            return own, []
        if own and own.hour == seen.hour:
            return own, [f"the digest {own} is not {seen}, which the other cloud has confirmed"]
        told = f"the digest {seen} is gone, which the other cloud has confirmed"
        return seen, [told] if seen.hour > hour_at(self.clock.now() - self.own.retention) else []

    def _chains(self, known: Mapping[str, Head]) -> tuple[dict[str, Head], list[str]]:
        """Of every chain the newest genuine entry, and what was there before and is not."""
        folders = sorted(self.own.chains.folders())
        looks = self.side_by_side([partial(self._head, folder, known.get(folder)) for folder in folders])
        lost = sorted(known.keys() - set(folders))
        gone = [f"chain {folder} is gone" for folder in lost if self._is_kept(known[folder])]
        heads = {folder: head for folder, (head, _) in zip(folders, looks, strict=True) if head}
        return heads, [*gone, *(told for _, told in looks if told)]

    def _is_kept(self, head: Head) -> bool:
        return self.own.retention > self.clock.now() - _moment(head.at)

    def _head(self, folder: str, known: Head | None) -> tuple[Head | None, str]:
        """The newest genuine entry of a chain; None where the folder has none."""
        log, told, after = self.own.log(folder), "", known.hash if known else ""
        ends = Ends(credential_id=folder, log=log, signer=self.own.signer, takes_newer=True, after=after)
        dates = {number: milliseconds(at) for number, at in log.dated(after=known.seq - 1 if known else 0)}
        if known and dates.pop(known.seq, None) != known.at:
            if self._is_kept(known):
                told = f"chain {folder}: entry {known.seq} is gone, or was written again"
            known, dates = None, {number: milliseconds(at) for number, at in log.dated()}
        newest = ends.newest_genuine(sorted(dates))
        if newest is None:
            return known, told
        return Head(seq=newest.number, hash=newest.hash, at=dates[newest.number]), told


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
