"""What of an audit log somebody else wrote, hid or deleted: it is told, and hides nothing else (protocol E11)."""

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from time import tzset
from types import SimpleNamespace
from typing import Any

import pytest
import rfc8785
from typer.testing import CliRunner, Result

from lockstep.audit.verify import Problem, Trace, collapsed, findings
from lockstep.cli import app
from lockstep.cli.orders import OrderContext
from lockstep.plan.file import load_plan
from lockstep.protocol.ports import ObjectVersion
from lockstep.protocol.workers import one_after_the_other
from sandbox import plans
from tests.support.builds import NEWER, build
from tests.support.memory import EPOCH, MemorySigner, MemoryWorld
from tests.support.seals import sealed
from tests.support.world import rotate_again
from tests.unit.audit_case import EVENT, at, begun, head


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryWorld:
    """What the commands ask of `Clouds`, from a world in memory."""
    made = begun(2)
    rotate_again(made, "oci-1", runner="oci")
    document = plans.plan_document(
        [plans.database(s.name, s.engine, host=s.host, tls="") for s in made.credential.servers],
        [plans.credential(made.credential.id, *made.credential.databases)],
        oci=plans.OciNames(),
    )
    file = plans.write_plan(tmp_path / "lockstep.yaml", document)
    monkeypatch.setenv("LOCKSTEP_PLAN", str(file))
    clouds: Any = SimpleNamespace(
        clock=made.clock,
        lock=lambda _credential: made.lock,
        log=lambda cloud, _credential: made.audit_logs[cloud],
        signer=lambda cloud: made.signers[cloud],
        side_by_side=one_after_the_other,
    )
    for command in ("audit", "status"):
        monkeypatch.setattr(f"lockstep.cli.{command}.operator", lambda _plan: clouds)
    desk = OrderContext(plan=load_plan(file), clouds=clouds, stream="aws")
    monkeypatch.setattr("lockstep.cli.plan.order_context", lambda _plan: desk)
    return made


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


APPLY = ("apply", "--from", "0" * 64, "--dry-run")


@pytest.mark.parametrize("is_ours", [False, True], ids=["a foreign object", "an entry"])
def test_only_an_entry_of_a_newer_build_stops_commands(world: MemoryWorld, *, is_ours: bool) -> None:
    """An entry of a newer build is not taken for a foreign one (protocol R10)."""
    last = at(world, head(world).seq)
    with build(NEWER):
        made = sealed(EVENT, last, signer=world.signers["aws"] if is_ours else MemorySigner("stolen"))
    world.audit_logs["aws"].entries[last.number + 1] = made.body, made.metadata
    shown, ordered = run("audit", "show"), run(*APPLY, world.credential.id)
    assert (shown.exit_code != 0, ordered.exit_code != 0) == (is_ours, is_ours), ordered.output
    assert is_ours or "NOT AN ENTRY" in shown.stdout
    assert is_ours or "NewerFormatError" not in ordered.output


def plant(world: MemoryWorld, event: str, *, time: int = 0) -> None:
    """Put an object after the last entry that looks like one, and has no valid MAC."""
    last = at(world, head(world).seq)
    made = sealed({**EVENT, "time": time}, last, signer=MemorySigner("stolen"))
    document = json.loads(made.body)
    chain = {**document["chain"], "event": hashlib.sha256(event.encode()).hexdigest()}
    parts = [rfc8785.dumps(chain).decode(), event, rfc8785.dumps(document["mac"]).decode()]
    body = '{"chain":%s,"event":%s,"mac":%s}' % tuple(parts)  # noqa: UP031 - braces
    world.audit_logs["aws"].entries[last.number + 1] = body.encode(), {**made.metadata, "chain": parts[0]}


LAST_SECOND = 253_402_300_799_000
"""Of the year 9999, in milliseconds."""


@pytest.mark.parametrize(
    ("event", "time", "zone"),
    [
        ('{"start_time":1%s,"status":"Success"}' % ("0" * 400), 0, "UTC"),
        ('{"start_time":{},"status":[],"unmapped":{"lockstep":{"generation":"x"}}}', 0, "UTC"),
        ('{"status":"Success"}', LAST_SECOND, "Pacific/Kiritimati"),
    ],
)
def test_whatever_an_object_holds_the_runs_are_shown(
    world: MemoryWorld, event: str, time: int, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(world, event, time=time)
    monkeypatch.setenv("TZ", zone)
    tzset()
    try:
        for words in (("history",), ("history", "--json"), ("audit", "show"), ("audit", "show", "--json")):
            shown = run(*words)
            assert shown.exit_code == 0, shown.output
            assert "run-1" in shown.stdout or "generation 2" in shown.stdout
    finally:
        monkeypatch.undo()
        tzset()


# What a history of versions shows

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
