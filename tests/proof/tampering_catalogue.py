"""Every mutation, in every place, by its name."""

from collections.abc import Iterator, Sequence
from functools import partial

from tests.proof import foreign as f
from tests.proof import mutations as m
from tests.proof.impossible import (
    ARCHIVED_BODY,
    HEAD_FORGED,
    METADATA_ALONE,
    NO_VERSIONS,
    NOT_CONFIRMED,
    THIEF_APPENDS,
    UNREAD,
)
from tests.proof.mutations import PLACES, REENCODINGS
from tests.proof.tampered import NEXT_RUN, OTHER, STREAMS, Mutation, Scene

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


def flips(stream: str, count: int) -> Iterator[Mutation]:
    """Bit flips, spread over an entry and over the entries."""
    for n in range(count):
        at, bit, (place, where) = n / count, n % 8, list(PLACES.items())[n % len(PLACES)]
        yield Mutation(
            name=f"bit {bit} at {at:.3f} of {place} of {stream}",
            act=partial(m.body_changed, stream=stream, place=where, edit=m._flipped(at, bit)),
        )


def _bodies(stream: str) -> Iterator[Mutation]:
    for place, where in PLACES.items():
        for name, edit in REENCODINGS.items():
            yield Mutation(
                name=f"{name}: {place} of {stream}",
                act=partial(_if_different, stream=stream, place=where, edit=edit),
            )
        yield Mutation(
            name=f"overwritten by itself: {place} of {stream}",
            act=partial(m.overwritten, stream=stream, place=where),
        )
    yield Mutation(
        name=f"the last mac with another key, and its head: {stream}",
        act=partial(m.mac_key_added, stream=stream),
    )


def _if_different(scene: Scene, stream: str, place: m.Place, edit: object) -> None:
    """A re-encoding; where it changes nothing (no success to turn into a failure), the entry is deleted."""
    number = place(scene.raw[stream].numbers())
    body, metadata = scene.raw[stream].get(number)
    changed = edit(body)  # type: ignore[operator]  # of the table
    if changed == body:
        changed = body[:-1] + b" }"
    scene.raw[stream].replace(number, changed, metadata)


def _places(stream: str) -> Iterator[Mutation]:
    for place, where in PLACES.items():
        for bodies, metadata in ((True, True), (True, False)):
            what = "neighbours" if metadata else "neighbours' bodies"
            yield Mutation(
                name=f"{what} swapped: {place} of {stream}",
                act=partial(m.swapped, stream=stream, place=where, bodies=bodies, metadata=metadata),
            )
        yield Mutation(
            name=f"neighbours' metadata swapped: {place} of {stream}",
            act=partial(m.swapped, stream=stream, place=where, bodies=False, metadata=True),
            by_design="" if place in ("last", "last-but-one") else METADATA_ALONE,
        )
        for name, act in (
            ("deleted", m.deleted),
            ("marked", m.marked),
            ("marked and written again", m.marked_and_written_again),
        ):
            yield Mutation(name=f"{name}: {place} of {stream}", act=partial(act, stream=stream, place=where))
    yield Mutation(
        name=f"last marked, and the lock record rolled back: {stream}",
        act=partial(m.marked_tail, stream=stream),
    )
    yield Mutation(
        name=f"dated 16 minutes later: last of {stream}", act=partial(m.dated_later, stream=stream)
    )
    yield Mutation(name=f"a number left out: {stream}", act=partial(m.number_left_out, stream=stream))


def _without_last(scene: Scene, stream: str) -> int:
    return scene.last(stream).number - 1


def _half(scene: Scene, stream: str) -> int:
    return scene.last(stream).number // 2


KEEPS = {
    "half": _half,
    "the last": _without_last,
}


def _cuts() -> Iterator[Mutation]:
    for streams in (("aws",), ("oci",), STREAMS):
        for name, keep in KEEPS.items():
            for heads in (False, True):
                yield Mutation(
                    name=f"cut {name}{', and the heads' * heads}: {' and '.join(streams)}",
                    act=partial(_cut, streams=streams, keep=keep, heads=heads),
                )
        for heads in (False, True):
            yield Mutation(
                name=f"all deleted{', and the heads' * heads}: {' and '.join(streams)}",
                act=partial(_all_deleted, streams=streams, heads=heads),
            )


def _after_the_digests() -> Iterator[Mutation]:
    """What no digest names yet: the next rotation says from what it began, and a failure nothing says."""
    yield Mutation(name="a rotation cut before the next digest, with its head", act=f.rotated_and_cut)
    yield Mutation(
        name="a failure cut before the next digest, with its head",
        act=f.failed_and_cut,
        by_design=NOT_CONFIRMED,
    )


def _cut(scene: Scene, streams: Sequence[str], keep: object, *, heads: bool) -> None:
    m.cut(scene, *streams, keep=keep, heads=heads)  # type: ignore[arg-type]  # of the table


def _all_deleted(scene: Scene, streams: tuple[str, ...], *, heads: bool) -> None:
    m.all_deleted(scene, *streams, heads=heads)


def _forgeries(stream: str) -> Iterator[Mutation]:
    for head in (True, False):
        tail = ", and its head" * head
        yield Mutation(
            name=f"appended with an own key that names itself as the stream's{tail}: {stream}",
            act=partial(m.appended, stream=stream, key="mine", head=head),
        )
        yield Mutation(
            name=f"the next run's entry forged{tail}: {stream}",
            act=partial(m.appended, stream=stream, key="mine", head=head, rotation_id=NEXT_RUN),
        )
        yield Mutation(
            name=f"appended with a retired key{tail}: {stream}",
            act=partial(m.appended, stream=stream, key=m.RETIRED, head=head),
        )
        yield Mutation(
            name=f"appended with the stream's key{tail}: {stream}",
            act=partial(m.appended, stream=stream, head=head),
            by_design=THIEF_APPENDS,
        )
        yield Mutation(
            name=f"sealed for another credential{tail}: {stream}",
            act=partial(m.appended, stream=stream, head=head, credential_id=OTHER),
        )
    yield Mutation(
        name=f"appended with an own key that names itself as the stream's, and no head: {stream}",
        act=m.then_no_head(partial(m.appended, stream=stream, key="mine"), stream),
    )
    yield Mutation(
        name=f"signed, with the event of another run: {stream}",
        act=partial(m.appended, stream=stream, event_of="another"),
    )
    for place, where in PLACES.items():
        yield Mutation(
            name=f"signed again by its own key: {place} of {stream}",
            act=partial(m.resigned_at, stream=stream, place=where),
        )
        yield Mutation(
            name=f"signed again by another key that names itself so: {place} of {stream}",
            act=partial(m.resigned_at, stream=stream, place=where, key="mine"),
        )
    for name, after in {"1": _zero, **KEEPS}.items():
        yield Mutation(
            name=f"written anew ({name}) with the stream's keys: {stream}",
            act=partial(m.forked, stream=stream, after=after),
        )
        yield Mutation(
            name=f"written anew ({name}) with another key that names itself so: {stream}",
            act=partial(m.forked, stream=stream, after=after, key="mine"),
        )
        yield Mutation(
            name=f"written anew ({name}) with the retired key: {stream}",
            act=partial(m.forked, stream=stream, after=after, retired=True),
        )


def _purposes() -> Iterator[Mutation]:
    """In AWS one key signs runs and another one orders: an operator forges no run, and Audit acquits nobody."""
    for head, tail in ((True, ", and its head"), (False, "")):
        wrong = partial(m.appended, stream="aws", head=head, key=m.WRONG)
        posing = partial(m.disguised, stream="aws", head=head)
        for what, act in {
            "order key signs a run": partial(wrong, rotation_id="invented"),
            "order key signs a run as an order": partial(posing, rotation_id="order-invented"),
            "run key signs an order": partial(wrong, rotation_id="order-invented"),
            "run key signs an order as a run": partial(posing, rotation_id="invented"),
        }.items():
            yield Mutation(name=f"{what}{tail}", act=act)


def _zero(_scene: Scene, _stream: str) -> int:
    return 0


def _replays(stream: str) -> Iterator[Mutation]:
    for what, past in (("another credential", m._of_other), ("another deployment", m._of_elsewhere)):
        for place, where in PLACES.items():
            yield Mutation(
                name=f"of {what}: {place} of {stream}",
                act=partial(m.replayed, stream=stream, past=past, place=where, head=False),
            )
        for head in (False, True):
            yield Mutation(
                name=f"of {what}{', and its head' * head}: after the last of {stream}",
                act=partial(m.replayed, stream=stream, past=past, place=None, head=head),
            )
        after_last = partial(m.replayed, stream=stream, past=past, place=None, head=False)
        yield Mutation(
            name=f"of {what}, and no head: after the last of {stream}",
            act=m.then_no_head(after_last, stream),
        )
        yield Mutation(
            name=f"the whole stream of {what}, and its head: {stream}",
            act=partial(_replaced, past=past, streams=(stream,)),
        )
    for place, other in {**PLACES, "after the last": None}.items():
        yield Mutation(
            name=f"of the other stream: {place} of {stream}",
            act=partial(m.crossed, stream=stream, place=other),
        )
    yield Mutation(name=f"the last once more: {stream}", act=partial(m.repeated, stream=stream))


def _replaced(scene: Scene, past: object, streams: tuple[str, ...]) -> None:
    m.stream_replaced(scene, past, *streams)  # type: ignore[arg-type]  # of the table


def _whole_replays() -> Iterator[Mutation]:
    yield Mutation(
        name="both streams of another credential, and the lock record",
        act=partial(_replaced, past=m._of_other, streams=STREAMS),
    )
    yield Mutation(
        name="both streams of another deployment, and the lock record",
        act=partial(_replaced, past=m._of_elsewhere, streams=STREAMS),
    )


def _junk(stream: str) -> Iterator[Mutation]:
    for name, offsets in {
        "the next number": (1,),
        "three numbers out of order": (3, 1, 2),
        "a number after a gap": (7,),
        "a thousand numbers": tuple(range(1, 1_001)),
        "more than a thousand": tuple(range(1, 1_003)),
    }.items():
        for head in (False, True):
            yield Mutation(
                name=f"junk under {name}{', and the head there' * head}: {stream}",
                act=partial(_junk_at, stream=stream, offsets=offsets, head=head),
                heavy=len(offsets) > 3,
            )
    yield Mutation(
        name=f"junk under the highest number: {stream}", act=partial(f.junk_far_away, stream=stream)
    )
    yield Mutation(
        name=f"a huge body: {stream}",
        act=partial(_junk_at, stream=stream, offsets=(1,), body=b"[" * 300_000),
    )
    yield Mutation(
        name=f"junk in the place of a cut tail, the record rolled back: {stream}",
        act=partial(_junk_at, stream=stream, offsets=(1,), cut_first=3),
    )
    for place, where in PLACES.items():
        yield Mutation(
            name=f"junk in the place of {place} of {stream}",
            act=partial(f.in_place, stream=stream, place=where, body=b"\xff\x00"),
        )
    for name, text in NAMES.items():
        yield Mutation(name=f"a name: {name}: {stream}", act=partial(f.named, stream=stream, name=text))
    for head in (False, True):
        yield Mutation(
            name=f"of a newer format{', and the head there' * head}: {stream}",
            act=partial(f.of_another_format, stream=stream, head=head),
        )


def _junk_at(scene: Scene, stream: str, offsets: Sequence[int], **more: object) -> None:
    f.junk(scene, stream, *offsets, **more)  # type: ignore[arg-type]  # of the table


def _metadata(stream: str) -> Iterator[Mutation]:
    for place, where in PLACES.items():
        for name, edit in f.METADATA.items():
            changed = partial(f.metadata_changed, stream=stream, place=where, edit=edit)
            yield Mutation(
                name=f"metadata with {name}: {place} of {stream}",
                act=changed,
                by_design="" if place == "last" else METADATA_ALONE,
            )
            if stream == "oci":
                yield Mutation(
                    name=f"archived, metadata with {name}: {place} of {stream}", act=f.then_archived(changed)
                )


def _archived() -> Iterator[Mutation]:
    for place, where in PLACES.items():
        yield Mutation(
            name=f"archived, another body: {place} of oci",
            act=f.then_archived(partial(m.body_changed, stream="oci", place=where, edit=REENCODINGS["half"])),
            by_design=ARCHIVED_BODY,
        )
    for mutation in (*_replays("oci"), *_forgeries("oci"), *_cuts()):
        unread = UNREAD.get(mutation.name, "")
        yield Mutation(
            name=f"archived, {mutation.name}",
            act=f.then_archived(mutation.act),
            by_design=mutation.by_design or unread,
        )
    for stream in STREAMS:
        yield Mutation(
            name=f"marked and written again, seen without the right to list versions: {stream}",
            act=partial(_unseen, stream=stream),
            by_design=NO_VERSIONS,
        )


def _unseen(scene: Scene, stream: str) -> None:
    m.marked_and_written_again(scene, stream, PLACES["middle"])
    f.without_versions(scene, stream)


def _lock_record(stream: str) -> Iterator[Mutation]:
    yield Mutation(
        name=f"a head with another hash: {stream}", act=partial(_head_forged, stream=stream, hash="0" * 64)
    )
    for by in (1, 50, 1_000_001, 10**12 - 50, 10**12 - 18):
        yield Mutation(name=f"a head {by} ahead: {stream}", act=partial(f.head_ahead, stream=stream, by=by))
    for place in ("first", "middle", "last-but-one"):
        yield Mutation(
            name=f"a head that names the {place}: {stream}",
            act=partial(f.head_behind, stream=stream, place=PLACES[place]),
            by_design=HEAD_FORGED,
        )
    yield Mutation(
        name=f"no head: {stream}", act=lambda scene: scene.head(stream, None), by_design=HEAD_FORGED
    )


def _head_forged(scene: Scene, stream: str, **forged: object) -> None:
    f.head_forged(scene, stream, **forged)


def _generations() -> Iterator[Mutation]:
    yield Mutation(name="heads exchanged", act=f.heads_exchanged)


def catalogue(flip_count: int = 200) -> list[Mutation]:
    """All mutations.

    Args:
        flip_count: How many bit flips in each stream.
    """
    found: list[Mutation] = []
    for stream in STREAMS:
        found += flips(stream, flip_count)
        for kind in (_bodies, _places, _forgeries, _replays, _junk, _metadata, _lock_record):
            found += kind(stream)
    found += [*_cuts(), *_after_the_digests(), *_whole_replays(), *_archived(), *_generations(), *_purposes()]
    assert len({mutation.name for mutation in found}) == len(found)
    return found
