"""Invariant I6: no password, current or old, is in anything that can be read."""

import json
import logging
import os
import re

import pytest

from lockstep.protocol.orders import Revoke
from tests.statemachine.conftest import Case, login_text
from tests.support.programs import ran


def test_no_password_appears_anywhere(any_kind: Case, caplog: pytest.LogCaptureFixture) -> None:
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
    any_kind.edit_secret(login_text(any_kind.stored_login(), note="by hand"))
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
