"""The deployed state machine with the real handlers on real databases, the fleet's over it, and the page that looks."""

import json
import time
from datetime import datetime, timedelta

import pytest

from lockstep.operate.page import snapshot
from lockstep.operate.page.fleet import UNREAD, mark
from lockstep.operate.page.snapshot import Looker
from lockstep.plan.published import PLANS, WholePlan, shard_name
from lockstep.protocol.schedule import run_key
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import OPERATOR
from sandbox.estate import Estate
from sandbox.steps import deploy_fleet_machine
from tests.statemachine.conftest import Case

PROBED = ["Generate", "IsAnythingToDo", "ApplyDb", "EveryDatabaseAccepts"]
NORMAL = ["CheckInput", "AcquireLock", *PROBED, "UpdateSecrets", "RevokeOrdered", "Audit", "ReleaseLock"]


def test_every_kind_of_credential_rotates_and_older_values_are_revoked(any_kind: Case) -> None:
    logins = [any_kind.stored_login()]
    for generation in (1, 2, 3):
        is_activation = generation == 1
        execution = any_kind.rotate() if is_activation else any_kind.again()
        told = dict(execution.output)
        promoted = told.pop("promoted")
        promoted_at, ends_at = promoted.pop("promoted_at"), promoted.pop("overlap_ends_at")
        assert (ends_at is None) is is_activation
        if ends_at:
            overlap = datetime.fromisoformat(ends_at) - datetime.fromisoformat(promoted_at)
            assert timedelta() < overlap < any_kind.credential.schedule.interval
        same = {"generation": generation, "kind": "reconcile" if is_activation else "new", "adopted": False}
        entry = {"stream": "aws", "seq": generation}
        assert told == {"outcome": "rotated", **same, "audit": entry}
        assert {name: promoted[name] for name in same} == same
        assert (promoted["credential"], promoted["runner"]) == (any_kind.credential.id, "aws")
        assert (promoted["previous_generation"], promoted["stores"]) == (generation - 1, ["aws"])
        assert (promoted["revoked"], promoted["entry"]) == (False, entry)
        asked = PROBED if is_activation else []
        assert execution.states_entered == [*NORMAL[:2], *asked, *NORMAL[2:]]
        assert any_kind.locked_out() == []
        logins.append(any_kind.stored_login())
    # The activation serves the login of before under a generation of its own.
    assert logins.pop(0) == logins[0]
    passwords = [login.password.reveal() for login in logins]
    assert len(set(passwords)) == len(passwords)
    assert (any_kind.record().holder, any_kind.record().claim) == (None, None)
    details = [e.event["unmapped"]["lockstep"] for e in any_kind.entries()]
    assert [d["generation"] for d in details] == [1, 2, 3]
    revoked = [{name: db["revoked"] for name, db in d["databases"].items()} for d in details]
    assert revoked == [dict.fromkeys(any_kind.credential.databases, r) for r in ({}, {}, {"1": "refused"})]


def test_an_input_that_a_step_would_refuse_is_refused_before_the_lock(mysql: Case) -> None:
    """Also the name of an execution; every wrong input is in `test_definition`."""
    world, good = mysql.world, {"credential_id": mysql.credential.id}
    before = world.outside.lock_item(mysql.credential.id)
    for given, name in ((5, None), ({**good, "force": 1}, None), (good, "it's")):
        execution = world.aws.run_execution(world.machine_arn, given, name=name)
        assert (execution.status, execution.error) == ("FAILED", "InvalidRequestError"), given
        assert execution.states_entered == ["CheckInput", "InvalidInput"], given
    assert world.outside.lock_item(mysql.credential.id) == before
    # It is the step that does not know a credential; the table gets an item without a plan, which no run acts on.
    unknown = world.rotate("multi-cloud/unknown")
    assert (unknown.status, unknown.error) == ("FAILED", "InvalidRequestError")
    assert world.outside.lock_item("multi-cloud/unknown").keys() == {"credential_id", "fence"}


# Many credentials

BUCKET, DIGEST = "lockstep-fleet-plans", "0" * 64


def test_a_shard_rotates_its_credentials(world: Estate, mysql: Case, spanning: Case) -> None:
    """By the state machine of the fleet over that of rotations, both as they are deployed."""
    s3, place = world.aws.client("s3"), {"LocationConstraint": world.aws.region}
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
    fleet_arn = deploy_fleet_machine(world.aws, world.machine_arn, plan_bucket=BUCKET, report_bucket=BUCKET)
    cases = (mysql, spanning)
    for case in cases:
        case.settle()
    shard = json.dumps([{"credential_id": c.credential.id, "key": run_key(c.credential.id)} for c in cases])
    s3.put_object(Bucket=BUCKET, Key=f"{PLANS}/{DIGEST}/{shard_name('20m-00')}", Body=shard.encode())
    given = {"shard": "20m-00", "plan": DIGEST, "trigger": "schedule"}
    before = int(time.time()) // 60
    execution = world.aws.run_execution(fleet_arn, given)
    assert execution.status == "SUCCEEDED", (execution.error, execution.cause)
    assert (execution.output["rotations"], execution.output["failed"]) == (2, 0)
    assert execution.output["tick"] in (before, before + 1)
    for case in cases:
        assert (case.locked_out(), case.record().current_generation) == ([], 2)
        newest, _first = json.loads(case.run("history", "--json").stdout)["runs"]
        assert newest["rotation_id"] == f"f-{execution.output['tick']}-{run_key(case.credential.id)}"
        told = newest["trigger"], newest["cloud"], newest["outcome"]
        assert told == ("schedule", "aws", "rotated")


MOST_FOR_RECORDS = 4
"""Pages of the lock table, each of a megabyte."""


def test_many_credentials_are_read_in_bounded_calls(mysql: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page reads what is looked at first, and nothing twice."""
    monkeypatch.setattr(snapshot, "MOST_READ", 1)
    monkeypatch.setattr(snapshot, "FEW", 1)
    assert mysql.rotate().status == "SUCCEEDED"
    plan, asked, calls = mysql.world.plan, mysql.credential.id, list[None]()
    clouds = Clouds(WholePlan(plan.compiled), OPERATOR, deadline_guard=lambda: calls.append(None))
    looker = Looker(plan, clouds)
    first = looker.look((), records_only=True)
    assert 1 <= len(calls) <= MOST_FOR_RECORDS
    assert (len(first.seen), mark(first.seen[asked])) == (len(plan.credentials), ("calm", UNREAD))
    second = looker.look([asked])
    seen = second.seen[asked]
    assert (mark(seen), [run.generation for run in seen.runs]) == (("good", "healthy"), [1])
    assert [of for of, one in second.seen.items() if one.read_at] == [asked]
    # Nothing has changed of what was read: the others have their turn.
    third = looker.look([asked])
    assert third.seen[asked].read_at == seen.read_at
    assert sum(one.read_at is not None for one in third.seen.values()) == min(2, len(plan.credentials))
