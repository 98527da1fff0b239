"""What a history shows: a table of histories, collapsed, bounded, and safe to print."""

from datetime import timedelta

from lockstep.audit.verify import Problem, Trace, collapsed, findings
from lockstep.protocol.ports import ObjectVersion
from tests.support.memory import EPOCH

PREFIX = "aws/multi-cloud.app_user/"


def versions(seq: int, shape: str, *, name: str = "") -> list[ObjectVersion]:
    """The versions of an object, the latest first: `v` for a content, `m` for a marker."""
    return [
        ObjectVersion(
            key=name or f"{PREFIX}{seq:012d}.json",
            version_id=str(len(shape) - n),
            is_delete_marker=kind == "m",
            is_latest=n == 0,
            at=EPOCH - timedelta(seconds=n),
            size=0 if kind == "m" else 10,
        )
        for n, kind in enumerate(shape)
    ]


TRACES: dict[Trace | None, str] = {
    None: "v",
    Trace.HIDDEN: "m mv mm mvmv",
    Trace.DELETED: "vmv vm",
    Trace.REWRITTEN: "vv vvv",
}


def test_every_trace_of_an_entry() -> None:
    for trace, shapes in TRACES.items():
        for shape in shapes.split():
            assert [found.what for found in findings(versions(7, shape))] == ([trace] if trace else [])


def test_neighbours_of_one_kind_are_one_finding() -> None:
    history = {1: "v", 2: "mv", 3: "mv", 4: "mv", 6: "mv", 7: "vv", 8: "v"}
    assert collapsed(findings([v for seq, shape in history.items() for v in versions(seq, shape)])) == [
        Problem(Trace.HIDDEN, 2, 4),
        Problem(Trace.HIDDEN, 6),
        Problem(Trace.REWRITTEN, 7),
    ]


def test_strangers_are_counted_and_a_foreign_name_is_printed_without_effect() -> None:
    (finding,) = findings([v for name in "abc" for v in versions(0, "mv", name=f"{PREFIX}{name}")])
    assert str(finding) == f"3 objects are not entries, the first is '{PREFIX}a'"
    for evil in ("\x1b[2J", "\u202ekcotskcol", "\n", "x" * 5_000):
        (finding,) = findings(versions(0, "v", name=f"{PREFIX}{evil}"))
        assert str(finding).isascii()
        assert str(finding).isprintable()
        assert len(str(finding)) < 300
