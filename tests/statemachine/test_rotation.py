"""The deployed state machine with the real handlers on real databases, and the page that looks at it."""

import json
import logging
import os
import re
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from lockstep.operate.access import operator
from lockstep.operate.page import snapshot
from lockstep.operate.page.fleet import UNREAD, mark
from lockstep.operate.page.snapshot import Looker
from lockstep.protocol.model import SecretStr
from lockstep.protocol.orders import Revoke
from tests.statemachine.conftest import Case, login_text
from tests.support.programs import ran

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


def test_no_password_appears_anywhere(any_kind: Case, caplog: pytest.LogCaptureFixture) -> None:
    """Invariant I6: no password, current or old, is in anything that can be read."""
    for name in ("lockstep", "urllib3", "pg8000", "pymysql"):
        caplog.set_level(logging.DEBUG, logger=name)
    world, credential = any_kind.world, any_kind.credential
    watched = {
        f"{what} log of {server.product}": begin()
        for server in world.servers.values()
        for what, begin in (("SQL", server.watch_general_log), ("server", server.watch_log))
    }
    seen = [any_kind.rotate().text]
    passwords = [any_kind.stored_login().password.reveal()]
    for run in range(3):
        world.outside.expire_schedule(credential.id)
        if run == 2:
            any_kind.order(Revoke(lift_pause=False))
        seen.append(any_kind.rotate().text)
        command_lines = ran(["/bin/ps", "-eww", "-o", "args"], check=True)
        seen.append(command_lines.stdout)
        passwords.append(any_kind.stored_login().password.reveal())
    # A failure and a reconcile, for their texts.
    orders = world.servers[credential.databases[0]]
    orders.kill()
    try:
        world.outside.expire_schedule(credential.id)
        seen.append(any_kind.rotate().text)
    finally:
        orders.start()
    mistyped = replace(any_kind.stored_login(), password=SecretStr("mistyped by hand"))
    any_kind.edit_secret(login_text(mistyped, note="by hand"))
    seen.append(any_kind.rotate().text)
    passwords.append(any_kind.stored_login().password.reveal())

    places = {
        "histories and command lines": "".join(seen),
        "logs": "".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records),
        "audit entries": json.dumps([e.event for e in any_kind.entries()], default=str),
        "lock record": json.dumps(world.outside.lock_item(credential.id)),
        "environment": json.dumps(dict(os.environ)),
        "plan": world.plan_file.read_text(),
        **{name: log.added() for name, log in watched.items()},
    }
    # The reconcile has served the fourth one again.
    assert len(set(passwords)) == 4
    assert places["logs"].count("step ended") > 4 * len(passwords)
    # The search proves nothing unless the statements are there.
    names = "|".join(credential.usernames)
    for server in credential.databases:
        log = places[f"SQL log of {world.servers[server].product}"]
        assert re.search(rf"ALTER (?:USER|ROLE) ['\"](?:{names})['\"]", log)
    files = [file for file in world.folder.rglob("*") if file.is_file()]
    assert not [f for f in files for p in passwords[1:] if p.encode() in f.read_bytes()]
    for name, text in places.items():
        for password in passwords[1:]:  # An administrator set the first one by hand, in SQL.
            assert password not in text, f"the {name} holds a password"


def test_an_input_that_a_step_would_refuse_is_refused_before_the_lock(mysql: Case) -> None:
    """Every wrong input is in `test_definition`."""
    world, given = mysql.world, {"credential_id": mysql.credential.id, "force": 1}
    execution = world.aws.run_execution(world.machine_arn, given)
    assert (execution.status, execution.error) == ("FAILED", "InvalidRequestError")
    assert execution.states_entered == ["CheckInput", "InvalidInput"]
    # It is the step that does not know a credential; the table gets an item without a plan, which no run acts on.
    unknown = world.rotate("multi-cloud/unknown")
    assert (unknown.status, unknown.error) == ("FAILED", "InvalidRequestError")
    assert world.outside.lock_item("multi-cloud/unknown").keys() == {"credential_id", "fence"}


def test_of_many_credentials_what_is_looked_at_is_read_first(
    mysql: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page reads what is looked at first, and nothing twice."""
    monkeypatch.setattr(snapshot, "MOST_READ", 1)
    monkeypatch.setattr(snapshot, "FEW", 1)
    assert mysql.rotate().status == "SUCCEEDED"
    plan, asked = mysql.world.plan, mysql.credential.id
    looker = Looker(plan, operator(plan))
    first = looker.look((), records_only=True)
    assert (len(first.seen), mark(first.seen[asked])) == (len(plan.credentials), ("calm", UNREAD))
    second = looker.look([asked])
    seen = second.seen[asked]
    assert (mark(seen), [run.generation for run in seen.runs]) == (("good", "healthy"), [1])
    assert [of for of, one in second.seen.items() if one.read_at] == [asked]
    # Nothing has changed of what was read: the others have their turn.
    third = looker.look([asked])
    assert third.seen[asked].read_at == seen.read_at
    assert sum(one.read_at is not None for one in third.seen.values()) == min(2, len(plan.credentials))
