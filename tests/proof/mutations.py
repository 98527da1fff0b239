"""What somebody may do to the evidence, each thing small and with a name, in every place.

Most act on the objects without a trace among the versions, as who may delete versions can: what is then seen is seen by
the chains alone. Those that leave a trace say so by their name. What does not differ by the stream is done to AWS's;
what is done to entries, and entries that are put beside them, also to OCI's, whose bodies are archived then.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import rfc8785

from lockstep.audit.append import Operator, record_order
from lockstep.audit.entry import CHAIN, MAC, NO_PREVIOUS, ORDER, stored
from lockstep.audit.verify import NOT_RESTORED
from lockstep.protocol import errors
from lockstep.protocol.model import ChainHead
from tests.proof.tampered import NEXT_RUN, OTHER, STREAMS, Mutation, Scene, of_elsewhere, of_other
from tests.support.audit_story import chain_of
from tests.support.evidence import FOLDER
from tests.support.memory import MemorySigner, MemoryWorld
from tests.support.seals import resigned
from tests.support.world import rotate_again, strike, struck

# What verification cannot see by design, in the words of docs/threat-model.md.
THIEF_APPENDS = "entries that a thief of the signing right adds at the end"
HEAD_FORGED = "a head or a generation that somebody has forged there"
METADATA_ALONE = "metadata of an entry whose body can be read"
ARCHIVED_BODY = "body of an archived entry"
NO_VERSIONS = "for a reader who may not list versions"
NOT_CONFIRMED = "no digest names that the other cloud has confirmed"

Act = Callable[[Scene], object]
Body = Callable[[bytes], bytes]
Metadata = Callable[[Mapping[str, str]], Mapping[str, str]]
Place = Callable[[list[int]], int]
PLACES: dict[str, Place] = {
    "first": lambda n: n[0],
    "middle": lambda n: n[len(n) // 2],
    "last-but-one": lambda n: n[-2],
    "last": lambda n: n[-1],
}
AFTER_LAST: dict[str, Place] = {"after the last": lambda n: n[-1] + 1}
KEEPS: dict[str, Place] = {"half": lambda n: n[-1] // 2, "the last": lambda n: n[-1] - 1}
"""How much of a stream stays."""


def mutation(
    name: str, act: Callable[..., object], *args: object, by_design: str = "", **more: object
) -> Mutation:
    """One thing that is done to a scene."""
    return Mutation(name, lambda scene: act(scene, *args, **more), by_design)


def one_after_another(*acts: Act) -> Act:
    """Several things."""
    return lambda scene: [act(scene) for act in acts]


def rolled_back(scene: Scene, *streams: str) -> None:
    """Make the lock record agree with what the logs hold now."""
    for stream in streams:
        scene.head(stream, scene.last(stream).head if scene.numbers(stream) else None)


def no_head(scene: Scene, stream: str) -> None:
    """Remove the stream's head from the lock record."""
    scene.head(stream, None)


# Bodies and metadata


def changed(
    scene: Scene, stream: str, place: Place, body: Body | None, metadata: Metadata | None = None
) -> None:
    """Another body, or other metadata, of an entry."""
    number = place(scene.numbers(stream))
    was, of = scene.log(stream).entries[number]
    scene.log(stream).entries[number] = (body(was) if body else was, metadata(of) if metadata else of)


def _flipped(at: float, bit: int) -> Body:
    def flip(body: bytes) -> bytes:
        place = int(at * len(body))
        return body[:place] + bytes([body[place] ^ 1 << bit]) + body[place + 1 :]

    return flip


# One of each kind: what an entry's text may be is of `tests/unit/test_chain.py`.
REENCODINGS: dict[str, Body] = {
    "pretty": lambda b: json.dumps(json.loads(b), indent=2).encode(),
    "a megabyte of spaces": lambda b: b + b" " * 2**20,
    "duplicate key": lambda b: b'{"event":{},' + b[1:],
    "empty": lambda _: b"",
    "half": lambda b: b[: len(b) // 2],
    "another event": lambda b: b.replace(b'"activity_id":', b'"activity_id":1'),
    "a newer format": lambda b: b.replace(b'"format":1', b'"format":99'),
    "an older format": lambda b: b.replace(b'"format":1', b'"format":0'),
    "a mac with another key": lambda b: b.replace(b'"mac":{', b'"mac":{"a":1,'),
    "a mac of another algorithm": lambda b: b.replace(b"HMAC-SHA-256", b"HMAC-SHA-255"),
    "no mac": lambda b: b[: b.rindex(b',"mac"')] + b"}",
}
METADATA: dict[str, Metadata] = {
    "none": lambda _: {},
    "no mac": lambda m: {CHAIN: m[CHAIN]},
    "another number": lambda m: {**m, CHAIN: m[CHAIN].replace('"seq":', '"seq":9')},
    "another run": lambda m: {**m, CHAIN: m[CHAIN].replace('"rotation_id":"', f'"rotation_id":"{NEXT_RUN}')},
    "pretty": lambda m: {**m, CHAIN: m[CHAIN].replace(",", ", ")},
    "a mac with another key": lambda m: {**m, MAC: m[MAC].replace("{", '{"a":1,', 1)},
    "another mac": lambda m: {**m, MAC: m[MAC].replace('"value":"', '"value":"AAAA')},
}


def _bodies(flips: int) -> Iterator[Mutation]:
    """Among them so many bit flips, spread over an entry and over the entries."""
    for n in range(flips):
        at, bit, (place, where) = n / flips, n % 8, list(PLACES.items())[n % len(PLACES)]
        yield mutation(f"bit {bit} at {at:.3f} of {place}", changed, "aws", where, _flipped(at, bit))
    for place in ("middle", "last"):
        where, by_design = PLACES[place], "" if place == "last" else METADATA_ALONE
        for name, edit in REENCODINGS.items():
            yield mutation(f"{name}: {place}", changed, "aws", where, edit)
        for name, of in METADATA.items():
            act = partial(changed, place=where, body=None, metadata=of)
            yield mutation(f"metadata with {name}: {place}", act, "aws", by_design=by_design)
            of_archived = one_after_another(partial(act, stream="oci"), archived)
            yield mutation(f"archived, metadata with {name}: {place}", of_archived)
        half = partial(changed, stream="oci", place=where, body=REENCODINGS["half"])
        unread = one_after_another(half, archived)
        yield mutation(f"archived, another body: {place}", unread, by_design=ARCHIVED_BODY)
    yield mutation("the last mac with another key, and its head", mac_key_added)


def mac_key_added(scene: Scene) -> None:
    """A MAC with one more key, which no MAC covers, in the last entry; and the head that belongs to it."""
    log, last = scene.log("aws"), scene.last("aws").number
    body, metadata = log.entries[last]
    mac = rfc8785.dumps({**json.loads(metadata[MAC]), "note": "x"})
    body = body[: body.rindex(b',"mac":') + 7] + mac + b"}"
    log.entries[last] = (body, {**metadata, MAC: mac.decode()})
    text = b'{"chain":' + metadata[CHAIN].encode() + b',"mac":' + mac + b"}"
    scene.head("aws", ChainHead(seq=last, hash=hashlib.sha256(text).hexdigest()))


# Places


def _places() -> Iterator[Mutation]:
    for place, where in PLACES.items():
        alone = "" if place in ("last", "last-but-one") else METADATA_ALONE
        yield mutation(f"neighbours swapped: {place}", swapped, where, bodies=True, metadata=True)
        yield mutation(f"neighbours' bodies swapped: {place}", swapped, where, bodies=True, metadata=False)
        metadata = partial(swapped, bodies=False, metadata=True)
        yield mutation(f"neighbours' metadata swapped: {place}", metadata, where, by_design=alone)
        for act in (deleted, marked, marked_and_written_again, overwritten):
            yield mutation(f"{act.__name__.replace('_', ' ')}: {place}", act, where)
    tail = one_after_another(partial(marked, place=PLACES["last"]), lambda scene: rolled_back(scene, "aws"))
    yield mutation("last marked, and the lock record rolled back", tail)
    yield mutation("dated 16 minutes later: last", dated_later)
    yield mutation("a number left out", appended, "aws", skipping=1)
    unseen = one_after_another(
        partial(marked_and_written_again, place=PLACES["middle"]),
        lambda scene: strike(
            scene.world, {"before aws log history": errors.AuditLogAccessDeniedError(stream="aws")}
        ),
    )
    name = "marked and written again, seen without the right to list versions"
    yield mutation(name, unseen, by_design=NO_VERSIONS)


def swapped(scene: Scene, place: Place, *, bodies: bool, metadata: bool) -> None:
    """Two neighbours' bodies, metadata, or both."""
    entries, numbers = scene.log("aws").entries, scene.numbers("aws")
    low = min(place(numbers), numbers[-2])
    (body, of_low), (other, of_high) = entries[low], entries[low + 1]
    entries[low] = (other if bodies else body, of_high if metadata else of_low)
    entries[low + 1] = (body if bodies else other, of_low if metadata else of_high)


def deleted(scene: Scene, place: Place) -> None:
    """Delete an entry with all versions."""
    scene.erase("aws", place(scene.numbers("aws")))


def marked(scene: Scene, place: Place) -> None:
    """Put a delete marker on an entry."""
    scene.log("aws").delete(place(scene.numbers("aws")))


def marked_and_written_again(scene: Scene, place: Place) -> None:
    """Put a delete marker on an entry, and the same entry over it."""
    number, entries = place(scene.numbers("aws")), scene.log("aws").entries
    kept = entries[number]
    marked(scene, place)
    entries[number] = kept


def overwritten(scene: Scene, place: Place) -> None:
    """Put the same object once more, so that its versions show two."""
    number = place(scene.numbers("aws"))
    scene.log("aws").overwrite(number, scene.log("aws").entries[number][0])


def dated_later(scene: Scene) -> None:
    """The last entry, written once more so long after its own time."""
    log, last = scene.log("aws"), scene.last("aws").number
    log.dates[last] = log.at(last) + timedelta(minutes=16)


def _cuts() -> Iterator[Mutation]:
    for streams in (("aws",), ("oci",), STREAMS):
        for name, keep in {**KEEPS, "all": lambda _: 0}.items():
            for heads in (False, True):
                what = "all deleted" if name == "all" else f"cut {name}"
                of = f"{', and the heads' * heads}: {' and '.join(streams)}"
                yield mutation(f"{what}{of}", cut, *streams, keep=keep, heads=heads)


def cut(scene: Scene, *streams: str, keep: Place, heads: bool) -> None:
    """Delete the newest entries of streams, from a number on; perhaps the heads in the lock record are rolled back."""
    for stream in streams:
        numbers = scene.numbers(stream)
        scene.erase(stream, *(n for n in numbers if n > keep(numbers)))
    if heads:
        rolled_back(scene, *streams)


def _after_the_digests() -> Iterator[Mutation]:
    """What no digest names yet: the next rotation says from what it began, and a failure nothing says."""
    name, last = "cut undigested, with its head", KEEPS["the last"]
    end = partial(cut, keep=last, heads=True)
    rotation = one_after_another(run, lambda scene: end(scene, "aws"))
    yield mutation(f"a rotation {name}", rotation)
    yield mutation(f"a rotation {name}, and recorded by an order", one_after_another(rotation, recorded))
    failing = partial(run, strikes="before db-2 stage")
    yield mutation(f"a rotation {name}, which a failure began", one_after_another(failing, rotation))
    failure = one_after_another(failing, lambda scene: end(scene, "aws"))
    yield mutation(f"a failure {name}", failure, by_design=NOT_CONFIRMED)


def run(scene: Scene, *, strikes: str = "") -> None:
    """A run of AWS rotates; or fails at a boundary."""
    with (
        struck(scene.world, {strikes: errors.StoreUnreachableError()} if strikes else {}),
        suppress(errors.LockstepError),
    ):
        rotate_again(scene.world, f"unrecorded{len(scene.numbers('aws'))}")


def recorded(scene: Scene) -> None:
    """An order with what a run records of its rotation."""
    by = Operator(who="arn:of/operator", new_id=lambda: "1", now=scene.world.clock.now)
    generation = scene.world.lock.record.current_generation
    chain = chain_of(scene.world.ports())
    record_order("pause", {"generation": generation, "kind": "new"}, by=by, chain=chain)


# Forgeries

RETIRED, WRONG = "retired", "wrong"


def _forgeries(stream: str) -> Iterator[Mutation]:
    mine, append = "with an own key that names itself as the stream's", partial(appended, stream=stream)
    for head in (True, False):
        tail = f"{', and its head' * head}: {stream}"
        yield mutation(f"appended {mine}{tail}", append, key="mine", head=head)
        yield mutation(
            f"the next run's entry forged{tail}", append, key="mine", head=head, rotation_id=NEXT_RUN
        )
        yield mutation(f"appended with a retired key{tail}", append, key=RETIRED, head=head)
        yield mutation(f"appended with the stream's key{tail}", append, head=head, by_design=THIEF_APPENDS)
        yield mutation(f"sealed for another credential{tail}", append, head=head, sealed_for=OTHER)
    headless = one_after_another(partial(append, key="mine"), partial(no_head, stream=stream))
    yield mutation(f"appended {mine}, and no head: {stream}", headless)
    for place, where in PLACES.items():
        own = partial(resigned_at, stream=stream, place=where)
        yield mutation(f"signed again by its own key: {place} of {stream}", own)
        name = f"signed again by another key that names itself so: {place} of {stream}"
        yield mutation(name, own, key="mine")
        yield mutation(f"its event at another time, signed again: {place} of {stream}", own, field="time")
    for name, after in {"1": lambda _: 0, **KEEPS}.items():
        for how, key in {
            "the stream's keys": "",
            "another key that names itself so": "mine",
            "the retired key": RETIRED,
        }.items():
            of = f"written anew ({name}) with {how}: {stream}"
            yield mutation(of, forked, stream, after=after, key=key)


def _unlike_their_events() -> Iterator[Mutation]:
    """The keys are right, but in AWS one key signs runs and another one orders; and an event is of its entry."""
    run, order = "invented", f"{ORDER}invented"
    invented = {"lockstep": {"order": "pause"}}
    no_text = {"lockstep": {"order": 1, "generation": 9}}
    for head in (True, False):
        tail, append = ", and its head" * head, partial(appended, stream="aws", head=head)
        yield mutation(f"order key signs a run{tail}", append, key=WRONG, rotation_id=run)
        yield mutation(f"order key signs a run as an order{tail}", append, rotation_id=order, unmapped={})
        yield mutation(
            f"order key signs an order that is no text{tail}", append, rotation_id=order, unmapped=no_text
        )
        yield mutation(f"run key signs an order{tail}", append, key=WRONG, rotation_id=order)
        yield mutation(f"run key signs an order as a run{tail}", append, rotation_id=run, unmapped=invented)
    yield mutation("signed, with the event of another run", appended, "aws", metadata={"uid": "another"})
    yield mutation("signed, with an event of another time", appended, "aws", start_time=0)
    unread = one_after_another(partial(appended, stream="oci", metadata={"uid": "another"}), archived)
    yield mutation("archived, signed, with the event of another run", unread, by_design=ARCHIVED_BODY)


class Stolen(MemorySigner):
    """A key that gives itself the name of another one; what it really is is `real`."""

    def __init__(self, key_id: str, real: str) -> None:
        super().__init__(key_id)
        self._real = real

    def key(self, key_id: str) -> bytes:  # type: ignore[override]  # it needs itself
        """Its own key, whatever it is called."""
        del key_id
        return MemorySigner.key(self._real)


def appended(
    scene: Scene,
    stream: str,
    *,
    key: str = "",
    head: bool = True,
    rotation_id: str = "invented",
    **more: Any,  # noqa: ANN401 - of different types
) -> None:
    """An invented entry at the end.

    Args:
        scene: The scene.
        stream: The stream.
        key: The attacker's own key, which names itself as the stream's; `RETIRED` for the stream's retired one,
            `WRONG` for the one that signs orders and no runs, or the reverse. By default it is the right one.
        head: Whether the lock record is made to name it.
        rotation_id: Whose it is.
        more: As of `EvidenceWorld.append`.
    """
    own = scene.world.signers[stream]
    wrong = own if rotation_id.startswith(ORDER) else own.orders
    named = {"": own, RETIRED: MemorySigner(f"{stream}-key"), WRONG: MemorySigner(wrong.key_id)}
    signer = named.get(key) or Stolen(own.key_id, key)
    number = scene.append(stream, FOLDER, signer=signer, entry_id=rotation_id, **more)
    if head:
        scene.head(stream, scene.at(stream, number).head)


def resigned_at(scene: Scene, stream: str, place: Place, *, key: str = "", field: str = "message") -> None:
    """Another event in an entry, signed again with the stream's key or an older one; nothing after it is changed."""
    number = place(scene.numbers(stream))
    document = json.loads(scene.log(stream).entries[number][0])
    document["event"][field] = "something else"
    _replace_signed(scene, stream, number, document, key)


def _replace_signed(
    scene: Scene, stream: str, number: int, document: dict[str, dict[str, object]], key: str = ""
) -> None:
    own = str(document["mac"]["key_id"])
    body = resigned(document, Stolen(own, key) if key else MemorySigner(own))
    parts = json.loads(body)
    metadata = {name: rfc8785.dumps(parts[name]).decode() for name in (CHAIN, MAC)}
    scene.log(stream).entries[number] = (body, metadata)


def forked(scene: Scene, stream: str, *, after: Place, key: str) -> None:
    """Write a stream anew from an entry on: other events, chained and signed; and the head."""
    start = after(scene.numbers(stream))
    last = scene.at(stream, start) if start else None
    for number in [n for n in scene.numbers(stream) if n > start]:
        document = json.loads(scene.log(stream).entries[number][0])
        document["event"]["message"] = "something else"
        document["chain"]["previous_hash"] = last.hash if last else NO_PREVIOUS
        if key == RETIRED:
            document["mac"]["key_id"] = f"{stream}-key"
        _replace_signed(scene, stream, number, document, "" if key == RETIRED else key)
        last = scene.at(stream, number)
    scene.head(stream, last.head if last else None)


# Replays


def _replays(stream: str) -> Iterator[Mutation]:
    for what, past in {"another credential": of_other, "another deployment": of_elsewhere}.items():
        for place, where in (PLACES | AFTER_LAST).items():
            yield mutation(f"of {what}: {place} of {stream}", replayed, stream, past, where)
        after = partial(replayed, stream=stream, past=past, place=AFTER_LAST["after the last"])
        yield mutation(f"of {what}, and its head: after the last of {stream}", after, head=True)
        headless = one_after_another(after, partial(no_head, stream=stream))
        yield mutation(f"of {what}, and no head: after the last of {stream}", headless)
        for streams in ((stream,), STREAMS):
            name = f"all of {what}, and the heads: {' and '.join(streams)} beside {stream}"
            yield mutation(name, stream_replaced, past, *streams)
    for place, where in (PLACES | AFTER_LAST).items():
        yield mutation(f"of the other stream: {place} of {stream}", crossed, stream, where)
    yield mutation(f"the last once more: {stream}", repeated, stream)


def replayed(
    scene: Scene, stream: str, past: Callable[[], MemoryWorld], place: Place, *, head: bool = False
) -> None:
    """An entry of another chain, in the place of one, or after the last one."""
    number, theirs = place(scene.numbers(stream)), past().audit_logs[stream].entries
    one = theirs.get(number) or theirs[max(theirs)]
    scene.log(stream).entries[number] = one
    if head:
        scene.head(stream, stored(number, one[1]).head)


def stream_replaced(scene: Scene, past: Callable[[], MemoryWorld], *streams: str) -> None:
    """Whole streams of another chain, and what the lock record says of them."""
    theirs = past()
    for stream in streams:
        scene.erase(stream, *scene.numbers(stream))
        scene.log(stream).entries.update(theirs.audit_logs[stream].entries)
        scene.head(stream, theirs.lock.record.heads[stream])


def crossed(scene: Scene, stream: str, place: Place) -> None:
    """An entry of the other stream."""
    (other,) = (s for s in STREAMS if s != stream)
    number = place(scene.numbers(stream))
    theirs = scene.log(other).entries[min(number, scene.last(other).number)]
    scene.log(stream).entries[number] = theirs


def repeated(scene: Scene, stream: str) -> None:
    """The last entry once more, after itself."""
    entries = scene.log(stream).entries
    entries[max(entries) + 1] = entries[max(entries)]


# Foreign objects

NAMES = {
    "c1": "\x85\x9b31mred.json",
    "bidi": "\u202egnp.\u2066exe",
    "almost": "00000000001.json",
    "zero": "000000000000.json",
    "a folder": "000000000001.json/000000000001.json",
    "long": "x" * 900,
}
FARTHEST_NUMBER = 10**12 - 1
"""The highest number that a name can have."""


def _foreign() -> Iterator[Mutation]:
    for name, offsets in {
        "the next number": (1,),
        "three numbers out of order": (3, 1, 2),
        "a number after a gap": (7,),
    }.items():
        for head in (False, True):
            what = f"junk under {name}{', and the head there' * head}"
            yield mutation(what, junk, *offsets, head=head)
    highest = {FARTHEST_NUMBER: (b"{}", dict[str, str]())}
    yield mutation("junk under the highest number", lambda scene: scene.log("aws").entries.update(highest))
    yield mutation("a huge body", junk, 1, body=b"[" * 300_000)
    tail = partial(cut, keep=lambda n: n[-1] - 3, heads=True)
    in_place = one_after_another(lambda scene: tail(scene, "aws"), lambda scene: junk(scene, 1))
    yield mutation("junk in the place of a cut tail, the record rolled back", in_place)
    for name, text in NAMES.items():
        yield mutation(f"a name: {name}", lambda scene, text=text: scene.log("aws").plant(text))


def junk(scene: Scene, *offsets: int, body: bytes = b"{}", head: bool = False) -> None:
    """Objects without metadata, so far above the last entry."""
    last = scene.last("aws").number
    scene.log("aws").entries.update({last + offset: (body, {}) for offset in offsets})
    if head:
        scene.head("aws", ChainHead(seq=last + 1, hash="f" * 64))


# Archived bodies


UNREAD = {"before oci log read": errors.AuditLogUnreachableError(stream="oci", code=NOT_RESTORED)}


def archived(scene: Scene) -> None:
    """From now on no body of OCI's stream can be read."""
    strike(scene.world, UNREAD)


def _archived() -> Iterator[Mutation]:
    for one in (*_replays("oci"), *_forgeries("oci"), *_cuts()):
        yield one._replace(name=f"archived, {one.name}", act=one_after_another(one.act, archived))


# The lock record


def _lock_record() -> Iterator[Mutation]:
    for by in (0, 1, 50, 1_000_001, 10**12 - 50, 10**12 - 18, 10**20):
        yield mutation(f"a head {by} ahead", head_forged, ahead=by)
    for what, text in {"long": "x" * 3_000, "of no ASCII": "\u00e9", "empty": ""}.items():
        yield mutation(f"a head whose hash is {what}", head_forged, text=text)
    for place in ("first", "middle", "last-but-one"):
        where = PLACES[place]
        yield mutation(f"a head that names the {place}", head_behind, where, by_design=HEAD_FORGED)
    yield mutation("no head", no_head, "aws", by_design=HEAD_FORGED)


def head_forged(scene: Scene, *, ahead: int = 0, text: str = "f" * 64) -> None:
    """A head with another hash, or above the last entry."""
    scene.head("aws", ChainHead(seq=scene.last("aws").number + ahead, hash=text))


def head_behind(scene: Scene, place: Place) -> None:
    """A head that names an older entry, as it is."""
    scene.head("aws", scene.at("aws", place(scene.numbers("aws"))).head)


def catalogue(flips: int) -> dict[str, Mutation]:
    """All mutations by their names, with so many bit flips."""
    of_aws = (*_bodies(flips), *_places(), *_forgeries("aws"), *_replays("aws"), *_foreign(), *_lock_record())
    found = [*of_aws, *_cuts(), *_after_the_digests(), *_unlike_their_events(), *_archived()]
    by_name = {one.name: one for one in found}
    assert len(by_name) == len(found)
    return by_name
