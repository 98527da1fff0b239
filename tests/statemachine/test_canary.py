"""Invariant I6: no password, current or old, is in anything that can be read."""

import io
import json
import logging
import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from lockstep.protocol.orders import Revoke
from tests.statemachine.conftest import Case, login_text


@pytest.fixture
def everything_logged() -> Iterator[io.StringIO]:
    """Everything that Python logs at DEBUG."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.format = lambda record: f"{record.getMessage()} {vars(record)}"  # type: ignore[method-assign]  # all fields
    lockstep = [logging.getLogger(name) for name in ("lockstep", "botocore", "urllib3", "pg8000", "pymysql")]
    before = [(logger, logger.level) for logger in lockstep]
    for logger in lockstep:
        logger.addHandler(handler)
        if logger.name != "botocore":
            logger.setLevel(logging.DEBUG)
    yield stream
    for logger, level in before:
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_no_password_appears_anywhere(any_kind: Case, everything_logged: io.StringIO) -> None:
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
        seen.append(command_lines())
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
        "logs": everything_logged.getvalue(),
        "audit entries": json.dumps([e.event for e in any_kind.entries()], default=str),
        "lock record": json.dumps(any_kind.lock),
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


def command_lines() -> str:
    """The command lines of all processes of this machine."""
    return subprocess.run(
        ["/bin/ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True
    ).stdout
