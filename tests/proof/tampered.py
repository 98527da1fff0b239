"""Real chains that are then tampered with, and what is seen of it.

A `Scene` is one credential with both streams, after a life with rotations of both clouds, a failed run,
a pause and a replaced key. It is made once, and put into new buckets for each mutation.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from typing import NamedTuple

from lockstep.audit.confirmed import Verdict
from lockstep.audit.digest import Evidence, Maker
from lockstep.audit.entry import Seal, Stored, is_signed, stored
from lockstep.audit.verify import Verification, Verifier
from lockstep.protocol.errors import DatabaseUnreachableError, LockstepError
from lockstep.protocol.model import ChainHead
from lockstep.protocol.orders import Pause, Resume
from lockstep.protocol.ports import AuditLog, chain_folder
from lockstep.protocol.workers import one_after_the_other
from tests.proof.raw_logs import Backend, Object, RawLog
from tests.support.audit_story import AuditStory
from tests.support.evidence import MemoryDigestKey, MemoryFolder
from tests.support.memory import EntryObjects, MemorySigner, MemoryWorld
from tests.support.world import INTERVAL_SECONDS, make_world, rotate, rotate_again, undisturbed

STREAMS = ("aws", "oci")
CREDENTIAL, OTHER = "multi-cloud/app_user", "multi-cloud/other"
FOLDER = chain_folder(CREDENTIAL)
A_TURN = 1 / 72
"""In days."""
ALARMS = {Verdict.NOT_VERIFIED, Verdict.UNREADABLE}
NEXT_RUN = "next-run"


class Past(NamedTuple):
    """What a life has left: the world without its logs, and of each stream the objects and the digests."""

    world: MemoryWorld
    objects: dict[str, dict[int, Object]]
    digests: dict[str, MemoryFolder]


@dataclass(kw_only=True)
class Scene:
    """A credential whose chains may be tampered with.

    Attributes:
        raw: Each stream's objects.
        digests: Each stream's digests, the newest of which names all that is there.
    """

    world: MemoryWorld
    raw: dict[str, RawLog]
    digests: dict[str, MemoryFolder]

    def head(self, stream: str, head: ChainHead | None) -> None:
        """Write a head into the lock record."""
        heads = {k: h for k, h in {**self.world.lock.record.heads, stream: head}.items() if h}
        self.world.lock.record = replace(self.world.lock.record, heads=heads)

    def at(self, stream: str, number: int) -> Stored:
        """The object under a number, by its metadata."""
        return stored(number, self.raw[stream].get(number)[1])

    def last(self, stream: str) -> Stored:
        """The object with the highest number."""
        return self.at(stream, self.raw[stream].numbers()[-1])

    def verify(self) -> list[Verification]:
        """What verification says."""
        evidence = [_evidence(self.world, self.raw[s].log, self.digests[s]) for s in STREAMS]
        verifier = Verifier(evidence, now=self.world.clock.now(), side_by_side=one_after_the_other)
        return verifier.chain(FOLDER)

    def genuine(self) -> list[Seal]:
        """The seals of entries whose MAC is valid."""
        logs = ((stream, number) for stream in STREAMS for number in self.raw[stream].numbers())
        found = [(stored(n, self.raw[s].log.look(n) or {}), self.world.signers[s]) for s, n in logs]
        return [one.seal for one, signer in found if one.seal and is_signed(signer, one)]


def _evidence(world: MemoryWorld, log: AuditLog, digests: MemoryFolder) -> Evidence:
    return Evidence(
        stream=log.stream,
        digests=digests,
        chains=MemoryFolder(world.clock, lambda: [FOLDER]),
        log=lambda _folder: log,
        signer=world.signers[log.stream],
        keys=[MemoryDigestKey(log.stream).public_key()],
        deployment="eu-central-1/locks",
        retention=timedelta(days=400),
    )


def _digests(world: MemoryWorld) -> dict[str, MemoryFolder]:
    """The digests of both clouds, made now."""
    made = {stream: MemoryFolder(world.clock) for stream in STREAMS}
    evidence = {s: _evidence(world, world.audit_logs[s], made[s]) for s in STREAMS}
    for own, other in (("oci", "aws"), ("aws", "oci")):
        Maker(
            own=evidence[own],
            other=evidence[other],
            key=MemoryDigestKey(own),
            clock=world.clock,
            side_by_side=one_after_the_other,
        ).make()
    return made


def _past(credential_id: str, *, wait: float = 0, longer: int = 0) -> Past:
    world = make_world(id=credential_id)
    world.clock.sleep(wait)
    for stream in STREAMS:
        world.audit_logs[stream].objects = EntryObjects(stream, credential_id)
    story = AuditStory(world)
    story.run(trigger="cli", force=True)
    story.days(4 * A_TURN)
    story.run("oci", force=True)
    story.order(Pause())
    story.order(Resume())
    story.days(A_TURN)
    world.signers = {
        "aws": MemorySigner("aws-new-key", retired=["aws-key"], orders="aws-orders"),
        "oci": MemorySigner("oci-new-key", retired=["oci-key"]),
    }
    story.failing(DatabaseUnreachableError, A_TURN, of="db-2")
    for _ in range(3):
        story.days(3 * A_TURN)
        story.run("oci", force=True)
    story.days(2 * A_TURN, oci=lambda _: False)
    undisturbed(world)
    for run in range(longer):
        for stream in STREAMS:
            world.clock.sleep(INTERVAL_SECONDS)
            rotate(world, f"longer-{run}-{stream}", runner=stream, force=True)
    return Past(world, {s: dict(world.audit_logs[s].entries) for s in STREAMS}, _digests(world))


@cache
def past() -> Past:
    """The credential's."""
    return _past(CREDENTIAL)


@cache
def of_other() -> Past:
    """Another credential of the same plan, with the same keys."""
    return _past(OTHER, longer=2)


@cache
def of_elsewhere() -> Past:
    """The same credential in another deployment, with the same keys and other buckets."""
    return _past(CREDENTIAL, wait=61, longer=2)


def scene(backend: Backend, *, digests: bool = True) -> Scene:
    """A new scene in new buckets; without digests only the chains are looked at."""
    before = past()
    # The world as it is, without its past's locks and hooks.
    shared = [before.world.credential, *(d._advisory for d in before.world.databases.values())]
    world = copy.deepcopy(before.world, {id(one): one for one in shared})
    raw = {stream: backend(stream, CREDENTIAL) for stream in STREAMS}
    for stream, objects in before.objects.items():
        for number, (body, metadata) in objects.items():
            raw[stream].put(number, body, metadata)
            raw[stream].dates[number] = before.world.audit_logs[stream].at(number)
    world.audit_logs = {s: raw[s].log for s in STREAMS}  # type: ignore[misc]  # either adapter serves the port
    made = {s: dict(before.digests[s].objects) if digests else {} for s in STREAMS}
    return Scene(
        world=world, raw=raw, digests={s: MemoryFolder(world.clock, objects=made[s]) for s in STREAMS}
    )


class Mutation(NamedTuple):
    """Something that somebody does to the evidence.

    Attributes:
        act: Does it.
        by_design: The words of the threat model that say why it is not seen; empty if it must be.
        heavy: Takes long over an emulator.
    """

    name: str
    act: Callable[[Scene], object]
    by_design: str = ""
    heavy: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a mutation.

    Attributes:
        at_once: Whether verification raises an alarm at once.
        stated: Whether the next entries say that something is missing or foreign.
        later: Whether verification raises an alarm after the next runs of both clouds.
        recorded: Whether the next run of AWS is on record, by its own signed entry.
        seen: What verification says, for a report.
    """

    at_once: bool
    stated: bool = False
    later: bool = False
    recorded: bool = False
    seen: tuple[str, ...] = field(default=(), compare=False)

    @property
    def caught(self) -> bool:
        """Whether the mutation is seen, by whatever."""
        return self.at_once or self.stated or self.later


def outcome_of(mutation: Mutation, at: Scene, *, briefly: bool = False) -> Outcome:
    """Do it to a new scene, and look; `briefly` lets no run follow where verification raises an alarm at once."""
    mutation.act(at)
    at_once, seen = _alarm(at.verify())
    if briefly and at_once:
        return Outcome(at_once=True, seen=seen)
    for _ in range(2):
        with suppress(LockstepError):
            rotate_again(at.world, NEXT_RUN)
        at.world.clock.sleep(INTERVAL_SECONDS)
        with suppress(LockstepError):
            rotate(at.world, "next-of-oci", runner="oci", force=True)
        genuine = at.genuine()
        recorded = any((s.rotation_id, s.stream) == (NEXT_RUN, "aws") for s in genuine)
        if recorded:
            break
    later, seen_later = _alarm(at.verify())
    stated = any(s.differs or s.stepped_over for s in genuine)
    return Outcome(at_once=at_once, stated=stated, later=later, recorded=recorded, seen=seen or seen_later)


def _alarm(found: Sequence[Verification]) -> tuple[bool, tuple[str, ...]]:
    """Whether there is one, and what verification says."""
    seen = [str(p) for v in found for p in (*v.problems, v.unreadable) if str(p)]
    return any(v.verdict in ALARMS for v in found), tuple(seen)
