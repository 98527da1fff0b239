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
from sandbox.emulators.databases import PostgresServer
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
    for name, text in places.items():
        for password in passwords[1:]:  # An administrator set the first one by hand, in SQL.
            assert password not in text, f"the {name} holds a password"


def test_the_sql_log_holds_the_statements(any_kind: Case) -> None:
    """The search above proves nothing unless these are there."""
    any_kind.settle()
    servers = {name: any_kind.world.servers[name] for name in any_kind.credential.databases}
    watched = {name: server.watch_general_log() for name, server in servers.items()}
    any_kind.rotate()
    names = "|".join(any_kind.credential.usernames)
    for name, server in servers.items():
        word = "ROLE" if isinstance(server, PostgresServer) else "USER"
        assert re.search(rf"ALTER {word} ['\"](?:{names})['\"]", watched[name].added())


def command_lines() -> str:
    """The command lines of all processes of this machine."""
    return subprocess.run(
        ["/bin/ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True
    ).stdout


def test_no_file_of_the_world_holds_a_password(any_kind: Case) -> None:
    any_kind.settle()
    any_kind.rotate()
    password = any_kind.stored_login().password.reveal()
    for file in any_kind.world.folder.rglob("*"):
        if file.is_file():
            assert password.encode() not in file.read_bytes()
