"""What somebody may do to the evidence, each thing small and with a name, in every place.

Most act on the objects without a trace among the versions (`RawLog.replace`), as who may delete versions can: what is
then seen is seen by the chains alone. Those that leave a trace say so by their name.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import rfc8785

from lockstep.audit.chain import Sealed, seal
from lockstep.audit.entry import CHAIN, MAC, NO_PREVIOUS, ORDER, ChainEnd, milliseconds, stored
from lockstep.audit.verify import NOT_RESTORED
from lockstep.protocol.errors import (
    AuditLogAccessDeniedError,
    AuditLogUnreachableError,
    DatabaseUnreachableError,
    LockstepError,
)
from lockstep.protocol.model import ChainHead
from tests.proof.planting import Behind, Foreign
from tests.proof.tampered import (
    CREDENTIAL,
    NEXT_RUN,
    OTHER,
    STREAMS,
    Mutation,
    Past,
    Scene,
    of_elsewhere,
    of_other,
)
from tests.support.memory import MemorySigner
from tests.support.seals import resigned
from tests.support.world import rotate_again

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
        scene.head(stream, scene.last(stream).head if scene.raw[stream].numbers() else None)


def no_head(scene: Scene, stream: str) -> None:
    """Remove the stream's head from the lock record."""
    scene.head(stream, None)


# Bodies and metadata


def changed(
    scene: Scene, stream: str, place: Place, body: Body | None, metadata: Metadata | None = None
) -> None:
    """Another body, or other metadata, of an entry."""
    raw = scene.raw[stream]
    number = place(raw.numbers())
    was, of = raw.get(number)
    raw.replace(number, body(was) if body else was, metadata(of) if metadata else of)


def _flipped(at: float, bit: int) -> Body:
    def flip(body: bytes) -> bytes:
        place = int(at * len(body))
        return body[:place] + bytes([body[place] ^ 1 << bit]) + body[place + 1 :]

    return flip


def _differently(edit: Body) -> Body:
    """A re-encoding; where it changes nothing (no success to turn into a failure), a space."""
    return lambda body: edit(body) if edit(body) != body else body[:-1] + b" }"


def _reversed(value: object) -> object:
    if isinstance(value, dict):
        return {k: _reversed(value[k]) for k in reversed(value)}
    return [_reversed(v) for v in value] if isinstance(value, list) else value


REENCODINGS: dict[str, Body] = {
    "pretty": lambda b: json.dumps(json.loads(b), indent=2).encode(),
    "spaces": lambda b: json.dumps(json.loads(b)).encode(),
    "key order": lambda b: json.dumps(_reversed(json.loads(b)), separators=(",", ":")).encode(),
    "escapes": lambda b: b.replace(b"chain", b"ch\\u0061in", 1),
    "trailing newline": lambda b: b + b"\n",
    "trailing zero": lambda b: b + b"\0",
    "trailing object": lambda b: b + b"{}",
    "a megabyte of spaces": lambda b: b + b" " * 2**20,
    "leading space": lambda b: b" " + b,
    "byte order mark": lambda b: b"\xef\xbb\xbf" + b,
    "utf-16": lambda b: b.decode().encode("utf-16"),
    "duplicate key": lambda b: b'{"event":{},' + b[1:],
    "duplicate key at the end": lambda b: b[:-1] + b',"event":{}}',
    "another key": lambda b: b[:-1] + b',"note":1}',
    "a fraction": lambda b: b.replace(b'"format":1', b'"format":1.0'),
    "a number as a text": lambda b: b.replace(b'"format":1', b'"format":"1"'),
    "truncated": lambda b: b[:-1],
    "empty": lambda _: b"",
    "half": lambda b: b[: len(b) // 2],
    "another event": lambda b: b.replace(b'"activity_id":', b'"activity_id":1'),
    "another status": lambda b: b.replace(b'"status":"Success"', b'"status":"Failure"').replace(
        b'"product":', b'"Product":'
    ),
    "a newer format": lambda b: b.replace(b'"format":1', b'"format":99'),
    "an older format": lambda b: b.replace(b'"format":1', b'"format":0'),
    "a mac with another key": lambda b: b.replace(b'"mac":{', b'"mac":{"a":1,'),
    "a mac in other base64": lambda b: b.replace(b'="}}', b'=\\n"}}'),
    "a mac of another algorithm": lambda b: b.replace(b"HMAC-SHA-256", b"HMAC-SHA-255"),
    "no mac": lambda b: b[: b.rindex(b',"mac"')] + b"}",
}
METADATA: dict[str, Metadata] = {
    "none": lambda _: {},
    "no mac": lambda m: {CHAIN: m[CHAIN]},
    "no json": lambda m: {**m, CHAIN: "x"},
    "another number": lambda m: {**m, CHAIN: m[CHAIN].replace('"seq":', '"seq":9')},
    "another run": lambda m: {**m, CHAIN: m[CHAIN].replace('"rotation_id":"', f'"rotation_id":"{NEXT_RUN}')},
    "pretty": lambda m: {**m, CHAIN: m[CHAIN].replace(",", ", ")},
    "a mac with another key": lambda m: {**m, MAC: m[MAC].replace("{", '{"a":1,', 1)},
    "another mac": lambda m: {**m, MAC: m[MAC].replace('"value":"', '"value":"AAAA')},
}


def flips(stream: str, much: int) -> Iterator[Mutation]:
    """Bit flips, spread over an entry and over the entries."""
    for n in range(much):
        at, bit, (place, where) = n / much, n % 8, list(PLACES.items())[n % len(PLACES)]
        yield mutation(
            f"bit {bit} at {at:.3f} of {place} of {stream}", changed, stream, where, _flipped(at, bit)
        )


def _bodies(stream: str) -> Iterator[Mutation]:
    for place, where in PLACES.items():
        for name, edit in REENCODINGS.items():
            yield mutation(f"{name}: {place} of {stream}", changed, stream, where, _differently(edit))
        yield mutation(f"overwritten by itself: {place} of {stream}", overwritten, stream, where)
        for name, of in METADATA.items():
            act = partial(changed, stream=stream, place=where, body=None, metadata=of)
            by_design = "" if place == "last" else METADATA_ALONE
            yield mutation(f"metadata with {name}: {place} of {stream}", act, by_design=by_design)
            if stream == "oci":
                yield mutation(
                    f"archived, metadata with {name}: {place} of {stream}", one_after_another(act, archived)
                )
    yield mutation(f"the last mac with another key, and its head: {stream}", mac_key_added, stream)


def overwritten(scene: Scene, stream: str, place: Place) -> None:
    """Put the same object once more, so that its versions show two."""
    raw = scene.raw[stream]
    number = place(raw.numbers())
    raw.put(number, *raw.get(number))


def mac_key_added(scene: Scene, stream: str) -> None:
    """A MAC with one more key, which no MAC covers, in the last entry; and the head that belongs to it."""
    last = scene.last(stream).number
    body, metadata = scene.raw[stream].get(last)
    mac = rfc8785.dumps({**json.loads(metadata[MAC]), "note": "x"})
    body = body[: body.rindex(b',"mac":') + 7] + mac + b"}"
    scene.raw[stream].replace(last, body, {**metadata, MAC: mac.decode()})
    text = b'{"chain":' + metadata[CHAIN].encode() + b',"mac":' + mac + b"}"
    scene.head(stream, ChainHead(seq=last, hash=hashlib.sha256(text).hexdigest()))


# Places


def _places(stream: str) -> Iterator[Mutation]:
    for place, where in PLACES.items():
        alone = "" if place in ("last", "last-but-one") else METADATA_ALONE
        of = f"{place} of {stream}"
        yield mutation(f"neighbours swapped: {of}", swapped, stream, where, bodies=True, metadata=True)
        yield mutation(
            f"neighbours' bodies swapped: {of}", swapped, stream, where, bodies=True, metadata=False
        )
        yield mutation(
            f"neighbours' metadata swapped: {of}",
            partial(swapped, bodies=False, metadata=True),
            stream,
            where,
            by_design=alone,
        )
        for act in (deleted, marked, marked_and_written_again):
            yield mutation(f"{act.__name__.replace('_', ' ')}: {of}", act, stream, where)
    tail = one_after_another(
        partial(marked, stream=stream, place=PLACES["last"]), lambda scene: rolled_back(scene, stream)
    )
    yield mutation(f"last marked, and the lock record rolled back: {stream}", tail)
    yield mutation(f"dated 16 minutes later: last of {stream}", dated_later, stream)
    yield mutation(f"a number left out: {stream}", number_left_out, stream)


def swapped(scene: Scene, stream: str, place: Place, *, bodies: bool, metadata: bool) -> None:
    """Two neighbours' bodies, metadata, or both."""
    raw = scene.raw[stream]
    numbers = raw.numbers()
    low = min(place(numbers), numbers[-2])
    (body, of_low), (other, of_high) = raw.get(low), raw.get(low + 1)
    raw.replace(low, other if bodies else body, of_high if metadata else of_low)
    raw.replace(low + 1, body if bodies else other, of_low if metadata else of_high)


def deleted(scene: Scene, stream: str, place: Place) -> None:
    """Delete an entry with all versions."""
    scene.raw[stream].erase(place(scene.raw[stream].numbers()))


def marked(scene: Scene, stream: str, place: Place) -> None:
    """Put a delete marker on an entry."""
    scene.raw[stream].mark(place(scene.raw[stream].numbers()))


def marked_and_written_again(scene: Scene, stream: str, place: Place) -> None:
    """Put a delete marker on an entry, and the same entry over it."""
    raw = scene.raw[stream]
    number = place(raw.numbers())
    kept = raw.get(number)
    raw.mark(number)
    raw.put(number, *kept)


def dated_later(scene: Scene, stream: str) -> None:
    """The last entry, written once more so long after its own time."""
    last = scene.last(stream)
    assert last.seal
    written = datetime.fromtimestamp(last.seal.time / 1000, UTC)
    scene.raw[stream].dates[last.number] = written + timedelta(minutes=16)


def number_left_out(scene: Scene, stream: str) -> None:
    """The signer gives an entry the number after the next one."""
    made = _made(scene, stream, number=scene.last(stream).number + 2)
    scene.raw[stream].put(made.stored.number, made.body, made.metadata)
    scene.head(stream, made.stored.head)


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
        numbers = scene.raw[stream].numbers()
        scene.raw[stream].erase(*(n for n in numbers if n > keep(numbers)))
    if heads:
        rolled_back(scene, *streams)


def _after_the_digests() -> Iterator[Mutation]:
    """What no digest names yet: the next rotation says from what it began, and a failure nothing says."""
    yield mutation("a rotation cut before the next digest, with its head", run_and_cut)
    yield mutation(
        "a failure cut before the next digest, with its head",
        partial(run_and_cut, fails=True),
        by_design=NOT_CONFIRMED,
    )


def run_and_cut(scene: Scene, *, fails: bool = False) -> None:
    """A run of AWS rotates, or fails; its entry and its head are removed before the next digest."""

    def strike(operation: str) -> None:
        if fails and operation == "stage":
            raise DatabaseUnreachableError

    faults = scene.world.databases["db-1"].faults
    faults.before = strike
    with suppress(LockstepError):
        rotate_again(scene.world, "unrecorded")
    faults.before = lambda _operation: None
    cut(scene, "aws", keep=KEEPS["the last"], heads=True)


# Forgeries

RETIRED, WRONG = "retired", "wrong"


def _forgeries(stream: str) -> Iterator[Mutation]:
    mine = "with an own key that names itself as the stream's"
    for head in (True, False):
        tail = f"{', and its head' * head}: {stream}"
        append = partial(appended, stream=stream, head=head)
        yield mutation(f"appended {mine}{tail}", append, key="mine")
        yield mutation(f"the next run's entry forged{tail}", append, key="mine", rotation_id=NEXT_RUN)
        yield mutation(f"appended with a retired key{tail}", append, key=RETIRED)
        yield mutation(f"appended with the stream's key{tail}", append, by_design=THIEF_APPENDS)
        yield mutation(f"sealed for another credential{tail}", append, credential_id=OTHER)
    headless = one_after_another(
        partial(appended, stream=stream, key="mine"), partial(no_head, stream=stream)
    )
    yield mutation(f"appended {mine}, and no head: {stream}", headless)
    yield mutation(f"signed, with the event of another run: {stream}", appended, stream, event_of="another")
    for place, where in PLACES.items():
        yield mutation(f"signed again by its own key: {place} of {stream}", resigned_at, stream, where)
        yield mutation(
            f"signed again by another key that names itself so: {place} of {stream}",
            resigned_at,
            stream,
            where,
            key="mine",
        )
    for name, after in {"1": lambda _: 0, **KEEPS}.items():
        for how, key in {
            "the stream's keys": "",
            "another key that names itself so": "mine",
            "the retired key": RETIRED,
        }.items():
            yield mutation(
                f"written anew ({name}) with {how}: {stream}", forked, stream, after=after, key=key
            )


def _purposes() -> Iterator[Mutation]:
    """In AWS one key signs runs and another one orders: an operator forges no run, and Audit acquits nobody."""
    run, order = "invented", f"{ORDER}invented"
    for head in (True, False):
        tail, posing = ", and its head" * head, partial(disguised, stream="aws", head=head)
        wrong = partial(appended, stream="aws", head=head, key=WRONG)
        yield mutation(f"order key signs a run{tail}", wrong, rotation_id=run)
        yield mutation(f"order key signs a run as an order{tail}", posing, rotation_id=order)
        yield mutation(f"run key signs an order{tail}", wrong, rotation_id=order)
        yield mutation(f"run key signs an order as a run{tail}", posing, rotation_id=run)


class Stolen(MemorySigner):
    """A key that gives itself the name of another one; what it really is is `real`."""

    def __init__(self, key_id: str, real: str) -> None:
        super().__init__(key_id)
        self._real = real

    def key(self, key_id: str) -> bytes:  # type: ignore[override]  # it needs itself
        """Its own key, whatever it is called."""
        del key_id
        return MemorySigner.key(self._real)


def _made(
    scene: Scene,
    stream: str,
    *,
    number: int = 0,
    signer: MemorySigner | None = None,
    credential_id: str = CREDENTIAL,
    rotation_id: str = "invented",
    event_of: str = "",
) -> Sealed:
    """An entry that never happened, by default the next one, signed by the stream's key."""
    last = scene.last(stream)
    event = {
        "time": milliseconds(scene.world.clock.now()),
        "metadata": {"uid": event_of or rotation_id},
        "unmapped": {"lockstep": {"order": "invented"} if rotation_id.startswith(ORDER) else {}},
    }
    return seal(
        event,
        ChainEnd(after=last, seq=number or last.number + 1),
        credential_id=credential_id,
        stream=stream,
        signer=signer or scene.world.signers[stream],
        rotation_id=rotation_id,
    )


def appended(
    scene: Scene,
    stream: str,
    *,
    key: str = "",
    head: bool = True,
    rotation_id: str = "invented",
    event_of: str = "",
    credential_id: str = CREDENTIAL,
) -> None:
    """An invented entry at the end.

    Args:
        scene: The scene.
        stream: The stream.
        key: The attacker's own key, which names itself as the stream's; `RETIRED` for the stream's retired one,
            `WRONG` for the one that signs orders and no runs, or the reverse. By default it is the stream's.
        head: Whether the lock record is made to name it.
        rotation_id: Whose it is.
        event_of: Another run, which the event names.
        credential_id: For which credential it is sealed.
    """
    own = scene.world.signers[stream]
    wrong = own if rotation_id.startswith(ORDER) else own.orders
    named = {"": own, RETIRED: MemorySigner(f"{stream}-key"), WRONG: MemorySigner(wrong.key_id)}
    made = _made(
        scene,
        stream,
        signer=named.get(key) or Stolen(own.key_id, key),
        rotation_id=rotation_id,
        event_of=event_of,
        credential_id=credential_id,
    )
    scene.raw[stream].put(made.stored.number, made.body, made.metadata)
    if head:
        scene.head(stream, made.stored.head)


def disguised(scene: Scene, *, stream: str, rotation_id: str, head: bool) -> None:
    """A run at the end under the id of an order, or an order under that of a run."""
    appended(scene, stream, rotation_id=rotation_id, head=False)
    number = scene.last(stream).number
    document = json.loads(scene.raw[stream].get(number)[0])
    document["event"]["unmapped"]["lockstep"] = {} if rotation_id.startswith(ORDER) else {"order": "invented"}
    _replace_signed(scene, stream, number, document)
    if head:
        scene.head(stream, scene.last(stream).head)


def resigned_at(scene: Scene, stream: str, place: Place, *, key: str = "") -> None:
    """Another event in an entry, signed again with the stream's key or an older one; nothing after it is changed."""
    raw = scene.raw[stream]
    number = place(raw.numbers())
    document = json.loads(raw.get(number)[0])
    document["event"]["message"] = "something else"
    _replace_signed(scene, stream, number, document, key)


def _replace_signed(
    scene: Scene, stream: str, number: int, document: dict[str, dict[str, object]], key: str = ""
) -> None:
    own = str(document["mac"]["key_id"])
    body = resigned(document, Stolen(own, key) if key else MemorySigner(own))
    parts = json.loads(body)
    scene.raw[stream].replace(
        number, body, {name: rfc8785.dumps(parts[name]).decode() for name in (CHAIN, MAC)}
    )


def forked(scene: Scene, stream: str, *, after: Place, key: str) -> None:
    """Write a stream anew from an entry on: other events, chained and signed; and the head."""
    raw = scene.raw[stream]
    start = after(raw.numbers())
    last = scene.at(stream, start) if start else None
    for number in [n for n in raw.numbers() if n > start]:
        document = json.loads(raw.get(number)[0])
        document["event"]["message"] = "something else"
        document["chain"]["previous_hash"] = last.hash if last else NO_PREVIOUS
        if key == RETIRED:
            document["mac"]["key_id"] = f"{stream}-key"
        _replace_signed(scene, stream, number, document, "" if key == RETIRED else key)
        last = scene.at(stream, number)
    scene.head(stream, last.head if last else None)


# Replays

OTHERS = {"another credential": of_other, "another deployment": of_elsewhere}


def _replays(stream: str) -> Iterator[Mutation]:
    after_last: dict[str, Place] = {"after the last": lambda n: n[-1] + 1}
    for what, past in OTHERS.items():
        after = partial(replayed, stream=stream, past=past, place=after_last["after the last"])
        for place, where in (PLACES | after_last).items():
            colon = f"of {what}: {place} of {stream}"
            yield mutation(colon, replayed, stream, past, where)
        yield mutation(f"of {what}, and its head: after the last of {stream}", after, head=True)
        yield mutation(
            f"of {what}, and no head: after the last of {stream}",
            one_after_another(after, partial(no_head, stream=stream)),
        )
        yield mutation(f"the whole stream of {what}, and its head: {stream}", stream_replaced, past, stream)
    for place, where in (PLACES | after_last).items():
        yield mutation(f"of the other stream: {place} of {stream}", crossed, stream, where)
    yield mutation(f"the last once more: {stream}", repeated, stream)


def _whole_replays() -> Iterator[Mutation]:
    for what, past in OTHERS.items():
        yield mutation(f"both streams of {what}, and the lock record", stream_replaced, past, *STREAMS)


def replayed(
    scene: Scene, stream: str, past: Callable[[], Past], place: Place, *, head: bool = False
) -> None:
    """An entry of another chain, in the place of one, or after the last one."""
    raw = scene.raw[stream]
    number, theirs = place(raw.numbers()), past().objects[stream]
    body, metadata = theirs.get(number) or theirs[max(theirs)]
    raw.replace(number, body, metadata)
    if head:
        scene.head(stream, stored(number, metadata).head)


def stream_replaced(scene: Scene, past: Callable[[], Past], *streams: str) -> None:
    """Whole streams of another chain, and what the lock record says of them."""
    theirs = past()
    for stream in streams:
        raw = scene.raw[stream]
        raw.erase(*raw.numbers())
        for number, one in theirs.objects[stream].items():
            raw.put(number, *one)
        scene.head(stream, theirs.world.lock.record.heads[stream])


def crossed(scene: Scene, stream: str, place: Place) -> None:
    """An entry of the other stream."""
    (other,) = (s for s in STREAMS if s != stream)
    number = place(scene.raw[stream].numbers())
    theirs = scene.raw[other].get(min(number, scene.last(other).number))
    scene.raw[stream].replace(number, *theirs)


def repeated(scene: Scene, stream: str) -> None:
    """The last entry once more, after itself."""
    last = scene.last(stream).number
    scene.raw[stream].put(last + 1, *scene.raw[stream].get(last))


# Foreign objects

NAMES = {
    "text": "notes.txt",
    "c1": "\x85\x9b31mred.json",
    "bidi": "\u202egnp.\u2066exe",
    "almost": "00000000001.json",
    "more digits": "0000000000001.json",
    "zero": "000000000000.json",
    "a folder": "000000000001.json/000000000001.json",
    "long": "x" * 900,
}
FARTHEST_NUMBER = 10**12 - 1
"""The highest number that a name can have."""


def _junk(stream: str) -> Iterator[Mutation]:
    for name, offsets in {
        "the next number": (1,),
        "three numbers out of order": (3, 1, 2),
        "a number after a gap": (7,),
        "a thousand numbers": tuple(range(1, 1_001)),
        "more than a thousand": tuple(range(1, 1_003)),
    }.items():
        for head in (False, True):
            made = mutation(
                f"junk under {name}{', and the head there' * head}: {stream}",
                junk,
                stream,
                *offsets,
                head=head,
            )
            yield made._replace(heavy=len(offsets) > 3)
    yield mutation(
        f"junk under the highest number: {stream}",
        lambda scene: scene.raw[stream].put(FARTHEST_NUMBER, b"{}", {}),
    )
    yield mutation(f"a huge body: {stream}", junk, stream, 1, body=b"[" * 300_000)
    name = f"junk in the place of a cut tail, the record rolled back: {stream}"
    tail = partial(cut, keep=lambda n: n[-1] - 3, heads=True)
    yield mutation(
        name, one_after_another(lambda scene: tail(scene, stream), lambda scene: junk(scene, stream, 1))
    )
    for place, where in PLACES.items():
        name = f"junk in the place of {place} of {stream}"
        yield mutation(name, changed, stream, where, lambda _: b"\xff\x00", lambda _: {})
    for name, text in NAMES.items():
        yield mutation(f"a name: {name}: {stream}", lambda scene, text=text: scene.raw[stream].plant(text))
    for head in (False, True):
        name = f"of a newer format{', and the head there' * head}: {stream}"
        yield mutation(name, of_another_format, stream, head=head)


def junk(scene: Scene, stream: str, *offsets: int, body: bytes = b"{}", head: bool = False) -> None:
    """Objects without metadata, so far above the last entry."""
    last = scene.last(stream).number
    for offset in offsets:
        scene.raw[stream].put(last + offset, body, {})
    if head:
        scene.head(stream, ChainHead(seq=last + 1, hash="f" * 64))


def of_another_format(scene: Scene, stream: str, *, head: bool) -> None:
    """An object of a newer build, as it says, without a valid MAC."""
    made = _made(scene, stream, signer=MemorySigner("mine"))
    number, newer = made.stored.number, ('"format":1', '"format":99')
    metadata = {**made.metadata, CHAIN: made.metadata[CHAIN].replace(*newer)}
    scene.raw[stream].put(number, made.body.replace(newer[0].encode(), newer[1].encode()), metadata)
    if head:
        scene.head(stream, ChainHead(seq=number, hash=stored(number, metadata).hash))


# Archived bodies, and readers with less rights


def archived(scene: Scene) -> None:
    """From now on no body of OCI's stream can be read."""
    _refused(scene, "oci", read=AuditLogUnreachableError(stream="oci", code=NOT_RESTORED))


def _refused(scene: Scene, stream: str, **refused: LockstepError) -> None:
    """Something may not, or cannot, be done with a log."""

    def refuse(error: LockstepError, *_: object, **__: object) -> None:
        raise error

    limited: Foreign = Behind(
        scene.raw[stream].log, **{name: partial(refuse, error) for name, error in refused.items()}
    )
    scene.raw[stream].log = limited
    scene.world.audit_logs = {**scene.world.audit_logs, stream: limited}


def _archived() -> Iterator[Mutation]:
    for place, where in PLACES.items():
        half = partial(changed, stream="oci", place=where, body=REENCODINGS["half"])
        yield mutation(
            f"archived, another body: {place} of oci",
            one_after_another(half, archived),
            by_design=ARCHIVED_BODY,
        )
    for one in (*_replays("oci"), *_forgeries("oci"), *_cuts()):
        unread = ARCHIVED_BODY if one.name == "signed, with the event of another run: oci" else ""
        yield Mutation(
            f"archived, {one.name}", one_after_another(one.act, archived), by_design=one.by_design or unread
        )
    for stream in STREAMS:
        yield mutation(
            f"marked and written again, seen without the right to list versions: {stream}",
            _unseen,
            stream,
            by_design=NO_VERSIONS,
        )


def _unseen(scene: Scene, stream: str) -> None:
    marked_and_written_again(scene, stream, PLACES["middle"])
    _refused(scene, stream, history=AuditLogAccessDeniedError(stream=stream))


# The lock record


def _lock_record(stream: str) -> Iterator[Mutation]:
    yield mutation(f"a head with another hash: {stream}", head_forged, stream)
    for by in (1, 50, 1_000_001, 10**12 - 50, 10**12 - 18):
        yield mutation(f"a head {by} ahead: {stream}", head_forged, stream, ahead=by)
    for place in ("first", "middle", "last-but-one"):
        where, name = PLACES[place], f"a head that names the {place}: {stream}"
        yield mutation(name, head_behind, stream, where, by_design=HEAD_FORGED)
    yield mutation(f"no head: {stream}", no_head, stream, by_design=HEAD_FORGED)


def head_forged(scene: Scene, stream: str, *, ahead: int = 0) -> None:
    """A head with another hash, or above the last entry."""
    number = scene.last(stream).number + ahead
    scene.head(stream, ChainHead(seq=number, hash="f" * 64))


def head_behind(scene: Scene, stream: str, place: Place) -> None:
    """A head that names an older entry, as it is."""
    scene.head(stream, scene.at(stream, place(scene.raw[stream].numbers())).head)


def heads_exchanged(scene: Scene) -> None:
    """The head of each stream for the other."""
    heads = scene.world.lock.record.heads
    scene.world.lock.record = replace(
        scene.world.lock.record, heads={"aws": heads["oci"], "oci": heads["aws"]}
    )


def catalogue(flip_count: int = 200) -> list[Mutation]:
    """All mutations, with so many bit flips in each stream."""
    found: list[Mutation] = []
    for stream in STREAMS:
        found += flips(stream, flip_count)
        for kind in (_bodies, _places, _forgeries, _replays, _junk, _lock_record):
            found += kind(stream)
    found += [*_cuts(), *_after_the_digests(), *_whole_replays(), *_archived(), *_purposes()]
    found.append(mutation("heads exchanged", heads_exchanged))
    assert len({one.name for one in found}) == len(found)
    return found
