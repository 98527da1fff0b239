"""How fast a chain is verified: `python -m tests.proof.evidence_speed` prints one line of JSON.

`ratio` compares verification with the least that reading the same entries takes: JSON, one SHA-256 and one HMAC-SHA-256
over each. Both run in memory, on entries of a real chain. `seconds` is the whole verification of a year of one
credential where each read takes 20 ms.
"""

import hashlib
import hmac
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from lockstep.audit.entry import stored
from lockstep.audit.verify import READS_AT_ONCE, Verdict, verify
from lockstep.protocol.ports import Mac
from lockstep.protocol.workers import one_after_the_other
from tests.support.memory import MemoryAuditLog, MemorySigner, MemoryWorld
from tests.support.seals import sealed
from tests.unit.harness import rotate_again

YEAR = 26_280
"""Entries of a year at 20 minutes."""
READ_SECONDS = 0.02
_BEST_OF = 7


def world_of(entries: int) -> MemoryWorld:
    """A world whose AWS log has so many entries: those of a real rotation, with runs and generations of their own."""
    world = MemoryWorld.create()
    rotate_again(world, "run-1")
    rotate_again(world, "run-2")
    log, signer = world.audit_logs["aws"], world.signers["aws"]
    text, last = json.dumps(json.loads(log.entries[2][0])["event"]), stored(2, log.entries[2][1])
    for number in range(3, entries + 1):
        event = json.loads(text)
        event["metadata"]["uid"] = f"run-{number}"
        event["unmapped"]["lockstep"] |= {"generation": number, "base_generation": number - 1}
        made = sealed(event, last, signer=signer, rotation_id=f"run-{number}")
        log.put(number, made.body, made.metadata)
        last = made.stored
    world.lock.record = replace(world.lock.record, current_generation=entries, heads={"aws": last.head})
    return world


def microseconds(act: Callable[[], object], entries: int) -> float:
    """Of the fastest run, for one entry."""
    best = float("inf")
    for _ in range(_BEST_OF):
        began = time.process_time()  # Other work on the machine does not count.
        act()
        best = min(best, time.process_time() - began)
    return best / entries * 1e6


def measure(entries: int) -> Mapping[str, float]:
    """Microseconds an entry, by verification and by the raw loop, and their ratio."""
    world = world_of(entries)
    log, signer = Bodies("aws"), Keys("aws-key")
    log.entries = world.audit_logs["aws"].entries
    bodies = [body for body, _ in log.entries.values()]

    def raw() -> None:
        for body in bodies:
            json.loads(body)
            hmac.digest(KEY, hashlib.sha256(body).digest(), "sha256")

    def whole() -> None:
        [found] = verify(
            world.credential.id, [(log, signer)], world.lock.record, side_by_side=one_after_the_other
        )
        if found.verdict is not Verdict.NOT_WITNESSED:
            raise SystemExit(f"{found.verdict}: {found.problems}")

    ours, least = microseconds(whole, entries), microseconds(raw, entries)
    return {"verify": round(ours, 1), "raw": round(least, 1), "ratio": round(ours / least, 2)}


class Bodies(MemoryAuditLog):
    """A log that is only read, without the faults of the test's own."""

    read_seconds = 0.0

    def read(self, number: int) -> bytes | None:
        if self.read_seconds:
            time.sleep(self.read_seconds)
        return self.entries[number][0]


class Keys(MemorySigner):
    """The same for the key."""

    def verify(self, digest: bytes, mac: Mac) -> bool:
        return hmac.compare_digest(hmac.digest(KEY, digest, "sha256"), mac.value)


KEY = MemorySigner.key("aws-key")


def year() -> float:
    """Seconds for a year's entries with slow reads."""
    world = world_of(YEAR)
    slow = Bodies("aws")
    slow.entries, slow.read_seconds = world.audit_logs["aws"].entries, READ_SECONDS
    began = time.perf_counter()
    [found] = verify(world.credential.id, [(slow, Keys("aws-key"))], world.lock.record)
    if found.problems or len(found.entries) != YEAR:
        raise SystemExit(f"{found.verdict}: {found.problems[:3]}")
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    whole_year = {"entries": YEAR, "read_seconds": READ_SECONDS, "seconds": round(year(), 1)}
    figures = {"microseconds_an_entry": measure(1_000), "reads_in_flight": READS_AT_ONCE, "year": whole_year}
    sys.stdout.write(f"{json.dumps(figures)}\n")


if __name__ == "__main__":
    main()
