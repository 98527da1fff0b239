"""Commands that read the audit log, where it holds what somebody else wrote, and archived entries (protocol E11)."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from time import tzset

import pytest
import rfc8785
from typer.testing import CliRunner, Result

from lockstep.cli import app
from lockstep.cli.orders import OrderContext
from lockstep.plan.file import load_plan
from lockstep.protocol.errors import AuditLogUnreachableError
from lockstep.protocol.model import Credential
from lockstep.protocol.ports import AuditLog, Clock, Lock, Signer
from sandbox import plans
from tests.support.builds import NEWER, build
from tests.support.memory import MemorySigner, MemoryWorld
from tests.support.seals import sealed
from tests.support.world import rotate_again
from tests.unit.audit_case import EVENT, at, begun, head


@dataclass
class _Clouds:
    """What the commands ask of `Clouds`, from a world in memory."""

    world: MemoryWorld

    @property
    def clock(self) -> Clock:
        return self.world.clock

    def lock(self, _credential: Credential) -> Lock:
        return self.world.lock

    def stream(self, cloud: str, _credential: Credential) -> tuple[AuditLog, Signer]:
        return self.world.audit_logs[cloud], self.world.signers[cloud]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryWorld:
    made = begun(2)
    rotate_again(made, "oci-1", runner="oci")
    document = plans.plan_document(
        [plans.database(s.name, s.engine, host=s.host, tls="") for s in made.credential.servers],
        [plans.credential(made.credential.id, *made.credential.databases)],
        oci=plans.OciNames(),
    )
    file = tmp_path / "lockstep.yaml"
    file.write_text(json.dumps(document))
    monkeypatch.setenv("LOCKSTEP_PLAN", str(file))
    desk = OrderContext(plan=load_plan(file), clouds=_Clouds(made), stream="aws")  # type: ignore[arg-type]  # part of it
    for command in ("audit", "status"):
        monkeypatch.setattr(f"lockstep.cli.{command}.operator", lambda _plan: _Clouds(made))
    monkeypatch.setattr("lockstep.cli.plan.order_context", lambda _plan: desk)
    return made


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def plant_one_of_a_newer_format(world: MemoryWorld, signer: MemorySigner) -> None:
    last = at(world, head(world).seq)
    with build(NEWER):
        made = sealed(EVENT, last, signer=signer)
    world.audit_logs["aws"].entries[last.number + 1] = made.body, made.metadata


def test_a_foreign_object_that_claims_a_newer_format_stops_no_command(world: MemoryWorld) -> None:
    plant_one_of_a_newer_format(world, MemorySigner("stolen"))
    shown = run("audit", "show")
    assert (shown.exit_code, "NOT AN ENTRY" in shown.stdout) == (0, True)
    ordered = run("apply", "--from", "0" * 64, "--dry-run", world.credential.id)
    assert "NewerFormatError" not in ordered.output
    assert ordered.exit_code == 0, ordered.output


def test_an_entry_of_a_newer_build_is_not_taken_for_a_foreign_one(world: MemoryWorld) -> None:
    """Protocol R10."""
    plant_one_of_a_newer_format(world, world.signers["aws"])
    for words in (
        ("audit", "show"),
        ("apply", "--from", "0" * 64, "--dry-run", world.credential.id),
    ):
        assert run(*words).exit_code != 0


def test_archived_entries_are_shown_by_their_seals(world: MemoryWorld) -> None:
    """Those of OCI always are."""

    def archived(operation: str) -> None:
        if operation == "read":
            raise AuditLogUnreachableError(stream="oci", code="NotRestored")

    world.audit_logs["oci"].faults.before = archived
    shown = run("audit", "show")
    assert shown.exit_code == 0
    assert "archived, oci-1" in shown.stdout
    found = json.loads(run("audit", "show", "--json").stdout)["entries"]
    assert {entry["stream"] for entry in found if entry["event"] is None} == {"oci"}


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
    ("event", "time"),
    [
        ('{"start_time":1%s,"status":"Success"}' % ("0" * 400), 0),
        ('{"start_time":true,"status":"Success"}', 0),
        ('{"start_time":{},"status":[],"status_code":{},"unmapped":{"lockstep":{"generation":"x"}}}', 0),
        ('{"status":"Success"}', LAST_SECOND),
        ('{"status":"Success","time":%d}' % LAST_SECOND, LAST_SECOND),  # noqa: UP031 - braces
        ('["status"]', 0),
    ],
)
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Niue"])
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
