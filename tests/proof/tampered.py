"""Real chains that are then tampered with, and what is seen of it.

A `Scene` is one credential with both streams, after a life with rotations of both clouds, a failed run,
a pause and a replaced key. It is made once, and copied for each mutation.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from lockstep.audit.confirmed import Verdict
from lockstep.audit.entry import Seal, Stored, is_signed, stored
from lockstep.protocol.errors import DatabaseUnreachableError, LockstepError
from lockstep.protocol.model import ChainHead
from lockstep.protocol.orders import Pause, Resume
from tests.support.audit_story import AuditStory
from tests.support.evidence import FOLDER, EvidenceWorld
from tests.support.memory import EntryObjects, MemoryAuditLog, MemorySigner, MemoryWorld
from tests.support.world import INTERVAL_SECONDS, make_world, rotate, rotate_again, undisturbed

STREAMS = ("aws", "oci")
CREDENTIAL, OTHER = "multi-cloud/app_user", "multi-cloud/other"
A_TURN = 1 / 72
"""In days."""
ALARMS = {Verdict.NOT_VERIFIED, Verdict.UNREADABLE}
NEXT_RUN = "next-run"


class Scene(EvidenceWorld):
    """A credential whose chains may be tampered with."""

    def log(self, stream: str) -> MemoryAuditLog:
        """The objects of its chain."""
        return self.world.audit_logs[stream]

    def numbers(self, stream: str) -> list[int]:
        """All numbers that have an object, ascending."""
        return sorted(self.log(stream).entries)

    def erase(self, stream: str, *numbers: int) -> None:
        """Delete objects with all their versions: no trace is left."""
        for number in numbers:
            self.log(stream).entries.pop(number, None)
            self.log(stream).dates.pop(number, None)

    def head(self, stream: str, head: ChainHead | None) -> None:
        """Write a head into the lock record."""
        heads = {k: h for k, h in {**self.world.lock.record.heads, stream: head}.items() if h}
        self.world.lock.record = replace(self.world.lock.record, heads=heads)

    def at(self, stream: str, number: int) -> Stored:
        """The object under a number, by its metadata."""
        return stored(number, self.log(stream).entries[number][1])

    def last(self, stream: str) -> Stored:
        """The object with the highest number."""
        return self.at(stream, self.numbers(stream)[-1])

    def genuine(self) -> list[Seal]:
        """The seals of entries whose MAC is valid."""
        found = [(self.at(s, n), self.world.signers[s]) for s in STREAMS for n in self.numbers(s)]
        return [one.seal for one, signer in found if one.seal and is_signed(signer, one)]

    def alarm(self) -> tuple[bool, list[str]]:
        """Whether verification raises one, and what it says."""
        found = self.verifier().chain(FOLDER)
        seen = [str(p) for v in found for p in (*v.problems, v.unreadable) if str(p)]
        return any(v.verdict in ALARMS for v in found), seen


def _lived(credential_id: str, *, wait: float = 0, longer: int = 0) -> MemoryWorld:
    world = make_world(id=credential_id)
    world.clock.sleep(wait)
    for stream in STREAMS:
        world.audit_logs[stream].objects = EntryObjects(stream, credential_id)
    story = AuditStory(world)
    story.run(trigger="cli", force=True)
    story.days(2 * A_TURN)
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
        story.days(A_TURN)
        story.run("oci", force=True)
    story.days(2 * A_TURN, oci=lambda _: False)
    undisturbed(world)
    for run in range(longer):
        for stream in STREAMS:
            world.clock.sleep(INTERVAL_SECONDS)
            rotate(world, f"longer-{run}-{stream}", runner=stream, force=True)
    return world


@cache
def _past() -> Scene:
    """The credential's, with a digest of each cloud that names all that is there."""
    scene = Scene(world=_lived(CREDENTIAL))
    for stream in ("oci", "aws"):
        log = scene.log(stream)
        log.dates = {number: log.at(number) for number in log.entries}
        scene.make(stream)
    return scene


@cache
def of_other() -> MemoryWorld:
    """Another credential of the same plan, with the same keys."""
    return _lived(OTHER, longer=2)


@cache
def of_elsewhere() -> MemoryWorld:
    """The same credential in another deployment, with the same keys and other buckets."""
    return _lived(CREDENTIAL, wait=61, longer=2)


def new_scene(*, digests: bool = True) -> Scene:
    """A new scene; without digests only the chains are looked at."""
    scene = _past().copied()
    if not digests:
        for folder in scene.digests.values():
            folder.objects.clear()
    return scene


class Mutation(NamedTuple):
    """Something that somebody does to the evidence.

    Attributes:
        act: Does it.
        by_design: The words of the threat model that say why it is not seen; empty if it must be.
    """

    name: str
    act: Callable[[Scene], object]
    by_design: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a mutation.

    Attributes:
        at_once: Whether verification raises an alarm at once.
        stated: Whether the next entries say that something is missing or foreign.
        later: Whether verification raises an alarm after the next runs of both clouds.
        recorded: Whether the next run of AWS is on record, by its own signed entry.
        seen: What verification says.
        is_brief: Whether no run has followed.
    """

    at_once: bool
    stated: bool = False
    later: bool = False
    recorded: bool = False
    seen: list[str]
    is_brief: bool = False

    @property
    def caught(self) -> bool:
        """Whether the mutation is seen, by whatever."""
        return self.at_once or self.stated or self.later


def outcome_of(mutation: Mutation, scene: Scene, *, briefly: bool = False) -> Outcome:
    """Do it to a new scene, and look; `briefly` lets no run follow where verification raises an alarm at once."""
    mutation.act(scene)
    at_once, seen = scene.alarm()
    if briefly and at_once:
        return Outcome(at_once=True, seen=seen, is_brief=True)
    for _ in range(2):
        with suppress(LockstepError):
            rotate_again(scene.world, NEXT_RUN)
        scene.world.clock.sleep(INTERVAL_SECONDS)
        with suppress(LockstepError):
            rotate(scene.world, "next-of-oci", runner="oci", force=True)
        genuine = scene.genuine()
        recorded = any((s.rotation_id, s.stream) == (NEXT_RUN, "aws") for s in genuine)
        if recorded:
            break
    later, seen_later = scene.alarm()
    stated = any(s.differs or s.stepped_over for s in genuine)
    return Outcome(at_once=at_once, stated=stated, later=later, recorded=recorded, seen=seen or seen_later)
