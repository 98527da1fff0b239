"""Real chains that are then tampered with, and what is seen of it.

A `Scene` is one credential with both streams, after a life with rotations of both clouds, a failed run,
a pause and a replaced key. It is made once, and put into new buckets for each mutation.
"""

import copy
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache

from lockstep.audit.confirmed import Verdict
from lockstep.audit.digest import Evidence, Maker
from lockstep.audit.entry import Seal, Stored, is_signed, stored
from lockstep.audit.verify import Verification, Verifier
from lockstep.protocol.errors import DatabaseUnreachableError, LockstepError
from lockstep.protocol.model import ChainHead
from lockstep.protocol.orders import Pause, Resume
from lockstep.protocol.ports import AuditLog, chain_folder
from lockstep.protocol.workers import one_after_the_other
from tests.proof.raw_logs import Backend, MemoryRawLog, Object, RawLog
from tests.support.audit_story import AuditStory
from tests.support.evidence import MemoryDigestKey, MemoryFolder
from tests.support.memory import MemorySigner, MemoryWorld
from tests.support.world import INTERVAL_SECONDS, make_world, rotate, rotate_again, undisturbed

STREAMS = ("aws", "oci")
CREDENTIAL, OTHER = "multi-cloud/app_user", "multi-cloud/other"
FOLDER = chain_folder(CREDENTIAL)
INTERVALS_PER_DAY = 72
ALARMS = {Verdict.NOT_VERIFIED, Verdict.UNREADABLE}


@dataclass(frozen=True, kw_only=True)
class Past:
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
        other: Another credential of the same plan, with the same keys.
        elsewhere: The same credential in another deployment, with the same keys and other buckets.
    """

    world: MemoryWorld
    raw: dict[str, RawLog]
    digests: dict[str, MemoryFolder]
    other: Past
    elsewhere: Past

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

    def verify(self, *streams: str) -> list[Verification]:
        """What verification says."""
        logs = {s: self.raw[s].log for s in streams or STREAMS}
        evidence = [_evidence(self.world, log, self.digests[s]) for s, log in logs.items()]
        verifier = Verifier(evidence, now=self.world.clock.now(), side_by_side=one_after_the_other)
        return verifier.chain(FOLDER)


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
    for stream, other in (("oci", "aws"), ("aws", "oci")):
        Maker(
            own=evidence[stream],
            other=evidence[other],
            key=MemoryDigestKey(stream),
            clock=world.clock,
            side_by_side=one_after_the_other,
        ).make()
    return made


def _life(credential_id: str, *, wait: float) -> MemoryWorld:
    world = make_world(id=credential_id)
    world.clock.sleep(wait)
    for stream in STREAMS:
        world.audit_logs[stream].objects = MemoryRawLog(stream, credential_id).double.objects
    story = AuditStory(world)
    story.run(trigger="cli", force=True)
    story.days(4 / INTERVALS_PER_DAY)
    story.run("oci", force=True)
    story.order(Pause())
    story.order(Resume())
    story.days(1 / INTERVALS_PER_DAY)
    world.signers = {
        "aws": MemorySigner("aws-new-key", retired=["aws-key"], orders="aws-orders"),
        "oci": MemorySigner("oci-new-key", retired=["oci-key"]),
    }
    story.failing(DatabaseUnreachableError, 1 / INTERVALS_PER_DAY, of="db-2")
    for _ in range(3):
        story.days(3 / INTERVALS_PER_DAY)
        story.run("oci", force=True)
    story.days(2 / INTERVALS_PER_DAY, oci=lambda _: False)
    undisturbed(world)
    return world


def _past(credential_id: str, *, wait: float = 0, longer: int = 0) -> Past:
    world = _life(credential_id, wait=wait)
    for run in range(longer):
        for stream in STREAMS:
            world.clock.sleep(INTERVAL_SECONDS)
            rotate(world, f"longer-{run}-{stream}", runner=stream, force=True)
    return Past(
        world=world,
        objects={s: dict(world.audit_logs[s].entries) for s in STREAMS},
        digests=_digests(world),
    )


@cache
def pasts() -> tuple[Past, Past, Past]:
    """The credential, another one, and the same one in another deployment."""
    return _past(CREDENTIAL), _past(OTHER, longer=2), _past(CREDENTIAL, wait=61, longer=2)


def _copied(world: MemoryWorld) -> MemoryWorld:
    """The world as it is, without its past's locks and hooks."""
    shared = [world.credential, *(d._advisory for d in world.databases.values())]
    return copy.deepcopy(world, {id(one): one for one in shared})


def scene(backend: Backend, *, digests: bool = True) -> Scene:
    """A new scene in new buckets; without digests only the chains are looked at."""
    past, other, elsewhere = pasts()
    world = _copied(past.world)
    raw = {stream: backend(stream, CREDENTIAL) for stream in STREAMS}
    for stream, objects in past.objects.items():
        for number, (body, metadata) in objects.items():
            raw[stream].put(number, body, metadata)
            raw[stream].dates[number] = past.world.audit_logs[stream].at(number)
    world.audit_logs = {s: raw[s].log for s in STREAMS}  # type: ignore[misc]  # either adapter serves the port
    made = {s: dict(past.digests[s].objects) if digests else {} for s in STREAMS}
    folders = {s: MemoryFolder(world.clock, objects=made[s]) for s in STREAMS}
    return Scene(world=world, raw=raw, digests=folders, other=other, elsewhere=elsewhere)


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """Something that somebody does to the evidence.

    Attributes:
        act: Does it.
        by_design: The words of the threat model that say why it is not seen; empty if it must be.
        streams: Those that verification reads; the reader's, if somebody may not read all.
        heavy: Takes long over an emulator.
    """

    name: str
    act: Callable[[Scene], None]
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
    """Do it, and look.

    Args:
        mutation: What to do.
        at: A new scene.
        briefly: Let no run follow where verification raises an alarm at once.
    """
    mutation.act(at)
    found = at.verify()
    at_once = _alarm(found)
    seen = tuple(str(p) for v in found for p in (*v.problems, v.unreadable) if str(p))
    if briefly and at_once:
        return Outcome(at_once=True, seen=seen)
    for _ in range(2):
        with suppress(LockstepError):
            rotate_again(at.world, NEXT_RUN)
        at.world.clock.sleep(INTERVAL_SECONDS)
        with suppress(LockstepError):
            rotate(at.world, "next-of-oci", runner="oci", force=True)
        if _is_recorded(at):
            break
    found = at.verify()
    return Outcome(
        at_once=at_once,
        stated=any(s.differs or s.stepped_over for s in _genuine(at)),
        later=_alarm(found),
        recorded=_is_recorded(at),
        seen=seen or tuple(str(p) for v in found for p in (*v.problems, v.unreadable) if str(p)),
    )


NEXT_RUN = "next-run"


def _alarm(found: Iterable[Verification]) -> bool:
    return any(v.verdict in ALARMS for v in found)


def _genuine(at: Scene) -> list[Seal]:
    """The seals of entries whose MAC is valid."""
    found = []
    for stream in STREAMS:
        for number in at.raw[stream].numbers():
            one = stored(number, at.raw[stream].log.look(number) or {})
            if one.seal and is_signed(at.world.signers[stream], one):
                found.append(one.seal)
    return found


def _is_recorded(at: Scene) -> bool:
    return any(s.rotation_id == NEXT_RUN and s.stream == "aws" for s in _genuine(at))
