"""Both clouds' audit logs with their digests, in memory: what makes them, what verifies them, and what an attacker does."""

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lockstep.audit.confirmed import Since
from lockstep.audit.digest import Evidence, Made, Maker
from lockstep.audit.verify import Verdict, Verifier
from lockstep.protocol.errors import AuditLogUnreachableError
from lockstep.protocol.ports import Clock, Listed, chain_folder
from lockstep.protocol.workers import one_after_the_other
from tests.support.faults import Faults
from tests.support.memory import MemoryAuditLog, MemoryWorld

MINUTE = {"oci": 5, "aws": 15}
"""Of the hour, at which each cloud makes its digest."""
RETENTION = timedelta(days=400)


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


@dataclass
class MemoryFolder:
    """The port `Folder`."""

    clock: Clock
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

    def listed(self) -> Iterator[Listed]:
        with self.faults.around("listed"):
            return iter(
                [
                    Listed(name=name, size=len(file), tag="", at=at)
                    for name, (file, at) in sorted(self.objects.items())
                ]
            )

    def folders(self) -> Iterator[str]:
        raise NotImplementedError


@dataclass
class Chains:
    """The folder of a cloud's chains."""

    logs: Mapping[str, MemoryAuditLog]
    faults: Faults = field(default_factory=Faults)

    def folders(self) -> Iterator[str]:
        with self.faults.around("folders"):
            return iter(sorted(folder for folder, log in self.logs.items() if log.entries or log.past))

    def read(self, name: str, limit: int) -> bytes | None:
        raise NotImplementedError

    def create(self, name: str, file: bytes) -> bool:
        raise NotImplementedError

    def listed(self) -> Iterator[Listed]:
        raise NotImplementedError


@dataclass
class EvidenceWorld:
    """A world that rotates, and its digests.

    Attributes:
        streams: The clouds that make digests.
        logs: By cloud and folder.
        keys: What signs each cloud's digests now.
        public: What the plan knows of each cloud's keys.
    """

    world: MemoryWorld
    streams: tuple[str, ...] = ("aws", "oci")
    keys: dict[str, MemoryDigestKey] = field(default_factory=dict)
    public: dict[str, list[str]] = field(default_factory=dict)
    logs: dict[str, dict[str, MemoryAuditLog]] = field(default_factory=dict)
    digests: dict[str, MemoryFolder] = field(default_factory=dict)

    def __post_init__(self) -> None:
        folder = chain_folder(self.world.credential.id)
        for stream in ("aws", "oci"):
            self.keys[stream] = MemoryDigestKey(stream)
            self.public[stream] = [self.keys[stream].public_key()]
            self.logs[stream] = {folder: self.world.audit_logs[stream]}
            self.digests[stream] = MemoryFolder(self.world.clock)

    def evidence(self, stream: str) -> Evidence:
        logs = self.logs[stream]
        return Evidence(
            stream=stream,
            digests=self.digests[stream],
            chains=Chains(logs),
            log=lambda folder: logs[folder],
            signer=self.world.signers[stream],
            keys=self.public[stream],
            deployment="eu-central-1/locks",
        )

    def maker(self, stream: str) -> Maker:
        other = next((s for s in self.streams if s != stream), None)
        return Maker(
            own=self.evidence(stream),
            other=self.evidence(other) if other else None,
            key=self.keys[stream],
            clock=self.world.clock,
            side_by_side=one_after_the_other,
        )

    def make(self, stream: str) -> Made:
        return self.maker(stream).make()

    def until(self, minute: int) -> None:
        """Let the time pass until a minute of an hour."""
        now = self.world.clock.now()
        minutes = (minute - now.minute) % 60 or 60
        self.world.clock.sleep(minutes * 60 - now.second)

    def hours(self, number: int, work: Callable[[], object] = lambda: None, *, but: str = "") -> None:
        """So many hours, in each of which something is done first and then each cloud makes its digest, but one."""
        for _ in range(number):
            self.until(0)
            work()
            for stream, minute in MINUTE.items():
                self.until(minute)
                if stream in self.streams and stream != but:
                    try:
                        self.make(stream)
                    except AuditLogUnreachableError:
                        continue

    def verifier(self, since: Since | None = None) -> Verifier:
        return Verifier(
            [self.evidence(stream) for stream in self.streams],
            now=self.world.clock.now(),
            retention=RETENTION,
            since=since,
            side_by_side=one_after_the_other,
        )

    def verified(self, since: Since | None = None) -> tuple[Verdict, list[str]]:
        """The verdict, and every problem."""
        verifier = self.verifier(since)
        chains = [v for folder in verifier.folders() for v in verifier.chain(folder)]
        told = [
            f"digests {s}: {p}" for s, d in verifier.digests.items() for p in (*d.problems, d.unreadable) if p
        ]
        told += [f"{v.stream}: {p}" for v in chains for p in (*v.problems, v.unreadable) if p]
        return verifier.verdict(chains), told
