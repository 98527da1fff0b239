"""Both clouds' audit logs with their digests, in memory: who makes and who verifies them, and what happens to them."""

import base64
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from itertools import count
from typing import Self

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lockstep.audit.chain import Ends, seal
from lockstep.audit.confirmed import Since, Verdict
from lockstep.audit.digest import Evidence, Made, Maker
from lockstep.audit.entry import milliseconds
from lockstep.audit.verify import Verifier
from lockstep.protocol.errors import AuditLogAccessDeniedError, AuditLogUnreachableError
from lockstep.protocol.ports import Clock, Listed
from lockstep.protocol.workers import one_after_the_other
from tests.support.faults import Faults
from tests.support.memory import MemoryAuditLog, MemorySigner, MemoryWorld
from tests.support.world import make_world, rotate

MINUTE = {"oci": 5, "aws": 15}
"""Of the hour, at which each cloud makes its digest."""
AUDITOR = "auditor"
FOLDER = "multi-cloud.app_user"


@cache
def _private(name: str) -> rsa.RSAPrivateKey:
    del name
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class MemoryDigestKey:
    """An RSA key, which follows from its name as long as the process lives."""

    def __init__(self, name: str) -> None:
        self.name = name

    def sign(self, digest: bytes) -> bytes:
        return _private(self.name).sign(digest, padding.PKCS1v15(), Prehashed(SHA256()))

    def public_key(self) -> str:
        der = _private(self.name).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(der).decode()


def _no_keys() -> MemorySigner:
    """The keys of entries as who has no right to them sees them."""

    def denied(_operation: str) -> None:
        raise AuditLogAccessDeniedError(code="AccessDenied")

    signer = MemorySigner("none")
    signer.faults.before = denied
    return signer


@dataclass
class MemoryFolder:
    """The port `Folder`.

    Attributes:
        within: The folders in it, which are chains.
    """

    clock: Clock
    within: Mapping[str, MemoryAuditLog] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    objects: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)

    def read(self, name: str, limit: int) -> bytes | None:
        with self.faults.around("read"):
            return self.objects[name][0][: limit + 1] if name in self.objects else None

    def create(self, name: str, file: bytes) -> bool:
        with self.faults.around("create"):
            if name in self.objects:
                return False
            self.objects[name] = (file, self.clock.now())
            return True

    def listed(self, *, after: str = "") -> Iterator[Listed]:
        with self.faults.around("listed"):
            return iter(
                [
                    Listed(name=name, size=len(file), tag="", at=at)
                    for name, (file, at) in sorted(self.objects.items())
                    if name > after
                ]
            )

    def folders(self) -> Iterator[str]:
        with self.faults.around("folders"):
            return iter(sorted(name for name, log in self.within.items() if log.entries or log.past))


class EvidenceWorld:
    """A world that rotates, and its digests.

    Args:
        streams: The clouds that run rotations, and so make digests.
        world: One that has rotated already.

    Attributes:
        logs: By cloud and folder.
        keys: What signs each cloud's digests now.
        known: By whose plan, which is a cloud's or the auditor's, and by cloud: the public keys.
        retention: How long nobody may delete an object.
        runs: The number of each run.
    """

    def __init__(self, *streams: str, world: MemoryWorld | None = None) -> None:
        self.world = world or make_world()
        self.streams = streams or ("aws", "oci")
        self.keys = {stream: MemoryDigestKey(stream) for stream in MINUTE}
        self.known = {
            who: {stream: [key.public_key()] for stream, key in self.keys.items()}
            for who in (*MINUTE, AUDITOR)
        }
        self.logs = {stream: {FOLDER: self.world.audit_logs[stream]} for stream in MINUTE}
        self.digests = {stream: MemoryFolder(self.world.clock) for stream in MINUTE}
        self.chains = {stream: MemoryFolder(self.world.clock, logs) for stream, logs in self.logs.items()}
        self.retention = timedelta(days=400)
        self.runs = count()
        self._others = count()

    def copied(self) -> Self:
        """Another one, in which nothing has happened yet that is not here."""
        # The plan stays what it is, and locks cannot be copied.
        shared = [self.world.credential, *(d._advisory for d in self.world.databases.values())]
        return copy.deepcopy(self, {id(one): one for one in shared})

    def evidence(self, stream: str, *, to: str = AUDITOR, macs: bool = True) -> Evidence:
        """A cloud's audit log as somebody sees it."""
        logs = self.logs[stream]
        return Evidence(
            stream=stream,
            digests=self.digests[stream],
            chains=self.chains[stream],
            log=lambda folder: logs[folder] if folder in logs else MemoryAuditLog(stream),
            signer=self.world.signers[stream] if macs else _no_keys(),
            keys=self.known[to][stream],
            deployment="eu-central-1/locks",
            retention=self.retention,
        )

    def make(self, stream: str) -> Made:
        """Make a cloud's digest now."""
        other = next((s for s in self.streams if s != stream), None)
        return Maker(
            own=self.evidence(stream, to=stream),
            other=self.evidence(other, to=stream) if other else None,
            key=self.keys[stream],
            clock=self.world.clock,
            side_by_side=one_after_the_other,
        ).make()

    def rotate(self, stream: str = "aws") -> None:
        """A run of the schedule."""
        rotate(self.world, f"run-{next(self.runs)}", runner=stream)

    def append(
        self,
        stream: str,
        folder: str,
        *,
        at: datetime | None = None,
        signer: MemorySigner | None = None,
        entry_id: str = "",
        sealed_for: str = "",
        skipping: int = 0,
        **event_fields: object,
    ) -> int:
        """Write an entry that never happened, by default with the stream's keys, for its chain and as of now.

        Returns:
            Its number, before which so many are skipped.
        """
        log = self.logs[stream].setdefault(folder, MemoryAuditLog(stream, folder))
        own, number = self.world.signers[stream], next(self._others)
        entry_id = entry_id or f"other-{number}"
        event = {
            "time": milliseconds(at or self.world.clock.now()),
            "metadata": {"uid": entry_id},
            "unmapped": {"lockstep": {"order": "pause"} if entry_id.startswith("order-") else {}},
            **event_fields,
        }
        end = Ends(credential_id=folder, log=log, signer=own).find(None)
        made = seal(
            event,
            replace(end, seq=end.seq + skipping),
            credential_id=sealed_for or folder,
            stream=stream,
            signer=signer or own,
            rotation_id=entry_id,
        )
        log.put(made.stored.number, made.body, made.metadata)
        log.dates[made.stored.number] = self.world.clock.now()
        return made.stored.number

    def until(self, minute: int) -> None:
        """Let the time pass until a minute of an hour."""
        now = self.world.clock.now()
        self.world.clock.sleep(((minute - now.minute) % 60 or 60) * 60 - now.second)

    def hours(self, number: int = 1, *, rotating: bool = True, but: str = "") -> None:
        """So many hours, in each of which a run comes first and then each cloud makes its digest, but one."""
        for _ in range(number):
            self.until(0)
            if rotating:
                self.rotate()
            for stream, minute in MINUTE.items():
                self.until(minute)
                if stream in self.streams and stream != but:
                    try:
                        self.make(stream)
                    except AuditLogUnreachableError:
                        continue

    def verifier(self, since: Since | None = None, *, macs: bool = True) -> Verifier:
        """A verification whose digests are verified."""
        return Verifier(
            [self.evidence(stream, macs=macs) for stream in self.streams],
            now=self.world.clock.now(),
            since=since,
            side_by_side=one_after_the_other,
        )

    def verified(self, since: Since | None = None, *, macs: bool = True) -> tuple[Verdict, list[str]]:
        """The verdict, and every problem with the stream that has it."""
        verifier = self.verifier(since, macs=macs)
        chains = [v for folder in verifier.folders() for v in verifier.chain(folder)]
        told = [
            f"digests {s}: {p}" for s, d in verifier.digests.items() for p in (*d.problems, d.unreadable) if p
        ]
        told += [f"{v.stream}: {p}" for v in chains for p in (*v.problems, v.unreadable) if p]
        return verifier.verdict(chains), told

    def newest_confirmed(self, stream: str = "aws") -> Since:
        """The digest from which on a later verification begins."""
        found = self.verifier().digests[stream].confirmed
        assert found
        return Since(stream, found.hour, found.hash[:16])
