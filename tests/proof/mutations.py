"""What somebody may do to the evidence, each thing small and with a name.

Most act on the objects without a trace among the versions (`RawLog.replace`), as who may delete versions can: what is
then seen is seen by the chains alone. Those that leave a trace say so by their name.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import rfc8785

from lockstep.audit.chain import Sealed, seal
from lockstep.audit.entry import CHAIN, MAC, NO_PREVIOUS, ORDER, ChainEnd, Stored, milliseconds, stored
from lockstep.protocol.model import ChainHead
from tests.proof.tampered import CREDENTIAL, STREAMS, Past, Scene
from tests.support.memory import MemorySigner
from tests.support.seals import resigned

Place = Callable[[list[int]], int]
PLACES: dict[str, Place] = {
    "first": lambda n: n[0],
    "middle": lambda n: n[len(n) // 2],
    "last-but-one": lambda n: n[-2],
    "last": lambda n: n[-1],
}


# Bodies


def _flipped(at: float, bit: int) -> Callable[[bytes], bytes]:
    def flip(body: bytes) -> bytes:
        place = int(at * len(body))
        return body[:place] + bytes([body[place] ^ 1 << bit]) + body[place + 1 :]

    return flip


def _reversed(value: object) -> object:
    if isinstance(value, dict):
        return {k: _reversed(value[k]) for k in reversed(value)}
    return [_reversed(v) for v in value] if isinstance(value, list) else value


REENCODINGS: dict[str, Callable[[bytes], bytes]] = {
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


def body_changed(scene: Scene, stream: str, place: Place, edit: Callable[[bytes], bytes]) -> None:
    """Another body under the same metadata."""
    raw = scene.raw[stream]
    number = place(raw.numbers())
    body, metadata = raw.get(number)
    assert edit(body) != body
    raw.replace(number, edit(body), metadata)


def overwritten(scene: Scene, stream: str, place: Place) -> None:
    """Put the same object once more, so that its versions show two."""
    raw = scene.raw[stream]
    number = place(raw.numbers())
    raw.put(number, *raw.get(number))


def mac_key_added(scene: Scene, stream: str) -> None:
    """A MAC with one more key, which no MAC covers, in the last entry; and the head that belongs to it."""
    last = scene.last(stream).number
    body, metadata = scene.raw[stream].get(last)
    mac = rfc8785.dumps({**json.loads(metadata[MAC]), "note": "x"}).decode()
    body = body[: body.rindex(b',"mac":') + 7] + mac.encode() + b"}"
    scene.raw[stream].replace(last, body, {**metadata, MAC: mac})
    scene.head(stream, _head(scene, stream, last))


def _head(scene: Scene, stream: str, number: int) -> ChainHead:
    """The head of an object whose metadata are no seal's."""
    _, metadata = scene.raw[stream].get(number)
    text = b'{"chain":' + metadata[CHAIN].encode() + b',"mac":' + metadata[MAC].encode() + b"}"
    return ChainHead(seq=number, hash=hashlib.sha256(text).hexdigest())


# Places


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


def all_deleted(scene: Scene, *streams: str, heads: bool) -> None:
    """Delete whole streams, and their heads."""
    for stream in streams:
        scene.raw[stream].erase(*scene.raw[stream].numbers())
        if heads:
            scene.head(stream, None)


def marked(scene: Scene, stream: str, place: Place) -> None:
    """Put a delete marker on an entry."""
    scene.raw[stream].mark(place(scene.raw[stream].numbers()))


def marked_tail(scene: Scene, stream: str) -> None:
    """Put a delete marker on the last entry, and roll back the lock record."""
    scene.raw[stream].mark(scene.last(stream).number)
    rolled_back(scene, stream)


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


def rolled_back(scene: Scene, *streams: str) -> None:
    """Make the lock record agree with what the logs hold now."""
    for stream in streams:
        numbers = scene.raw[stream].numbers()
        scene.head(stream, scene.at(stream, numbers[-1]).head if numbers else None)


def cut(scene: Scene, *streams: str, keep: Callable[[Scene, str], int], heads: bool) -> None:
    """Delete the newest entries.

    Args:
        scene: The scene.
        streams: Of which streams.
        keep: The last number that stays.
        heads: Whether the heads in the lock record are rolled back.
    """
    kept = {stream: keep(scene, stream) for stream in streams}
    for stream in streams:
        scene.raw[stream].erase(*(n for n in scene.raw[stream].numbers() if n > kept[stream]))
    if heads:
        rolled_back(scene, *streams)


def number_left_out(scene: Scene, stream: str) -> None:
    """The signer gives an entry the number after the next one."""
    last = scene.last(stream)
    made = _made(scene, stream, ChainEnd(after=last, seq=last.number + 2))
    _append(scene, stream, made)


# Forgeries


def _made(
    scene: Scene,
    stream: str,
    end: ChainEnd,
    *,
    signer: MemorySigner | None = None,
    credential_id: str = CREDENTIAL,
    rotation_id: str = "invented",
    event_of: str = "",
) -> Sealed:
    """An entry that never happened."""
    event = {
        "time": milliseconds(scene.world.clock.now()),
        "metadata": {"uid": event_of or rotation_id},
        "unmapped": {"lockstep": {"order": "invented"} if rotation_id.startswith(ORDER) else {}},
    }
    return seal(
        event,
        end,
        credential_id=credential_id,
        stream=stream,
        signer=signer or scene.world.signers[stream],
        rotation_id=rotation_id,
    )


def _append(scene: Scene, stream: str, made: Sealed, *, head: bool = True) -> None:
    scene.raw[stream].put(made.stored.number, made.body, made.metadata)
    if head:
        scene.head(stream, made.stored.head)


def _after(last: Stored) -> ChainEnd:
    return ChainEnd(after=last, seq=last.number + 1)


RETIRED, WRONG = "retired", "wrong"


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
    last, own = scene.last(stream), scene.world.signers[stream]
    if key == RETIRED:
        signer: MemorySigner = MemorySigner(f"{stream}-key")
    elif key == WRONG:
        signer = MemorySigner((own if rotation_id.startswith(ORDER) else own.orders).key_id)
    else:
        signer = Stolen(own.key_id, key) if key else own
    made = _made(
        scene,
        stream,
        _after(last),
        signer=signer,
        rotation_id=rotation_id,
        event_of=event_of,
        credential_id=credential_id,
    )
    _append(scene, stream, made, head=head)


def disguised(scene: Scene, stream: str, *, rotation_id: str, head: bool) -> None:
    """A run at the end under the id of an order, or an order under that of a run."""
    appended(scene, stream, rotation_id=rotation_id, head=False)
    number = scene.last(stream).number
    document = json.loads(scene.raw[stream].get(number)[0])
    document["event"]["unmapped"]["lockstep"] = {} if rotation_id.startswith(ORDER) else {"order": "invented"}
    _replace_signed(scene, stream, number, document)
    if head:
        scene.head(stream, scene.last(stream).head)


class Stolen(MemorySigner):
    """A key that names itself as another one.

    Args:
        key_id: The name that it gives itself.
        real: What it is.
    """

    def __init__(self, key_id: str, real: str) -> None:
        super().__init__(key_id)
        self._real = real

    def key(self, key_id: str) -> bytes:  # type: ignore[override]  # it needs itself
        """Its own key, whatever it is called."""
        del key_id
        return MemorySigner.key(self._real)


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
    metadata = {name: rfc8785.dumps(parts[name]).decode() for name in (CHAIN, MAC)}
    scene.raw[stream].replace(number, body, metadata)


def forked(
    scene: Scene, stream: str, *, after: Callable[[Scene, str], int], key: str = "", retired: bool = False
) -> None:
    """Write a stream anew from an entry on: other events, chained and signed; and the head."""
    raw, start = scene.raw[stream], after(scene, stream)
    last = scene.at(stream, start) if start else None
    for number in [n for n in raw.numbers() if n > start]:
        document = json.loads(raw.get(number)[0])
        document["event"]["message"] = "something else"
        document["chain"]["previous_hash"] = last.hash if last else NO_PREVIOUS
        if retired:
            document["mac"]["key_id"] = f"{stream}-key"
        _replace_signed(scene, stream, number, document, key)
        last = scene.at(stream, number)
    scene.head(stream, last.head if last else None)


# Replays


def _of_other(scene: Scene) -> Past:
    return scene.other


def _of_elsewhere(scene: Scene) -> Past:
    return scene.elsewhere


def replayed(
    scene: Scene, stream: str, past: Callable[[Scene], Past], place: Place | None, *, head: bool
) -> None:
    """An entry of another chain, in the place of one, or after the last one."""
    raw = scene.raw[stream]
    number = place(raw.numbers()) if place else raw.numbers()[-1] + 1
    theirs = past(scene).objects[stream]
    body, metadata = theirs.get(number) or theirs[max(theirs)]
    raw.replace(number, body, metadata)
    if head:
        scene.head(stream, stored(number, metadata).head)


def stream_replaced(scene: Scene, past: Callable[[Scene], Past], *streams: str) -> None:
    """Whole streams of another chain, and what the lock record says of them."""
    theirs = past(scene)
    for stream in streams:
        raw = scene.raw[stream]
        raw.erase(*raw.numbers())
        for number, one in theirs.objects[stream].items():
            raw.put(number, *one)
        scene.head(stream, theirs.world.lock.record.heads[stream])


def crossed(scene: Scene, stream: str, place: Place | None) -> None:
    """An entry of the other stream."""
    (other,) = (s for s in STREAMS if s != stream)
    raw = scene.raw[stream]
    number = place(raw.numbers()) if place else raw.numbers()[-1] + 1
    raw.replace(number, *scene.raw[other].get(min(number, scene.last(other).number)))


def repeated(scene: Scene, stream: str) -> None:
    """The last entry once more, after itself."""
    last = scene.last(stream).number
    scene.raw[stream].put(last + 1, *scene.raw[stream].get(last))


def then_no_head(act: Callable[[Scene], None], stream: str) -> Callable[[Scene], None]:
    """Something, and the stream's head is removed."""

    def done(scene: Scene) -> None:
        act(scene)
        scene.head(stream, None)

    return done
