"""`lockstep sessions` and the question of an emergency, on a running world: real sessions, real rotations."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from lockstep.protocol.model import ROTATION_USER, Login
from sandbox.plans import DBNAME
from tests.statemachine.conftest import Case
from tests.statemachine.conftest import lockstep as run
from tests.support.app_sessions import connect


def found(case: Case, *, code: int = 0) -> dict[str, Any]:
    shown = run("sessions", case.credential.id, "--json")
    assert shown.exit_code == code, shown.output
    [credential] = json.loads(shown.stdout)["credentials"]
    return dict(credential)


@contextmanager
def opened(case: Case, login: Login, application: str, count: int, *databases: str) -> Iterator[None]:
    with ExitStack() as stack:
        for name in databases or case.credential.databases:
            for _ in range(count):
                session = connect(case.world.servers[name], login, DBNAME, application)
                stack.enter_context(closing(session))
        yield


def counts(document: dict[str, Any], database: str) -> dict[str, int]:
    [server] = [s for s in document["servers"] if s["database"] == database]
    return {row["username"]: row["sessions"] for row in server["sessions"]}


def test_sessions_are_counted_by_generation_on_every_server(everywhere: Case) -> None:
    crm = everywhere.world.servers["crm"]
    crm.execute_as_superuser(f"GRANT PROCESS ON *.* TO '{ROTATION_USER}'@'%'")
    everywhere.rotate()
    everywhere.again()
    first = everywhere.stored_login()
    with opened(everywhere, first, "worker", 3):
        assert everywhere.again().output["outcome"] == "rotated"
        second = everywhere.stored_login()
        assert first.username != second.username
        with opened(everywhere, second, "web", 2):
            document = found(everywhere)
            for name in everywhere.credential.databases:
                assert counts(document, name) == {first.username: 3, second.username: 2}
            states = {login["username"]: login for login in document["logins"]}
            assert (states[second.username]["state"], states[second.username]["generations"]) == (
                "current",
                [3],
            )
            assert (states[first.username]["state"], states[first.username]["generations"]) == (
                "previous",
                [2],
            )
            assert states[first.username]["dies_at"] > document["promoted_at"]
            shown = run("sessions", everywhere.credential.id)
            assert "previous, dies in 1" in shown.stdout
            assert "worker (3)" in shown.stdout
            for login in (first, second):
                assert login.password.reveal() not in shown.output
            everywhere.again()
            # Its username has generation 4 by now, and its sessions are still there.
            after = found(everywhere)
            assert counts(after, "ledger") == {first.username: 3, second.username: 2}
            assert {login["username"]: login["state"] for login in after["logins"]} == {
                first.username: "current",
                second.username: "previous",
            }


def test_a_server_without_the_right_names_the_statement_and_is_no_failure(mysql: Case) -> None:
    crm = mysql.world.servers["crm"]
    crm.execute_as_superuser(
        [
            f"GRANT PROCESS ON *.* TO '{ROTATION_USER}'@'%'",
            f"REVOKE PROCESS ON *.* FROM '{ROTATION_USER}'@'%'",
        ]
    )
    shown = run("sessions", mysql.credential.id)
    assert shown.exit_code == 0
    statement = f"GRANT PROCESS ON *.* TO '{ROTATION_USER}'@'%'"
    assert "crm: cannot be counted" in shown.stdout
    assert statement in shown.stdout
    [server] = found(mysql)["servers"]
    assert (server["counted"], server["grants"]) == (False, [statement])
    crm.execute_as_superuser(statement)
    assert found(mysql)["servers"][0]["counted"] is True


def test_a_server_that_does_not_answer_is_one_line_and_exit_code_3(spanning: Case) -> None:
    spanning.rotate()
    orders = spanning.world.servers["orders"]
    orders.stop()
    try:
        shown = run("sessions", spanning.credential.id)
        document = found(spanning, code=3)
    finally:
        orders.start()
    assert shown.exit_code == 3
    assert "orders: cannot be counted: DatabaseUnreachableError" in shown.stdout
    assert [(s["database"], s["counted"]) for s in document["servers"]] == [
        ("orders", False),
        ("ledger", True),
    ]


# Before an emergency


EMERGENCY = """
import sys
from lockstep.cli import app
app(sys.argv[1:])
"""


def emergency(case: Case, answer: str | None, *words: str) -> "subprocess.CompletedProcess[str]":
    """Order one, at a terminal where there is somebody to answer."""
    asked = ["revoke", case.credential.id, *words]
    ours, theirs = pty.openpty()
    try:
        if answer is not None:
            os.write(ours, answer.encode())
        return subprocess.run(  # noqa: S603 - our own interpreter and program
            [sys.executable, "-c", EMERGENCY, *asked],
            env={**os.environ, "LOCKSTEP_STATE_MACHINE_ARN": case.world.machine_arn},
            stdin=subprocess.DEVNULL if answer is None else theirs,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    finally:
        os.close(ours)
        os.close(theirs)


def test_an_emergency_shows_who_would_break_and_asks(spanning: Case) -> None:
    spanning.rotate()
    spanning.again()
    first = spanning.stored_login()
    with opened(spanning, first, "worker", 3, "ledger"):
        spanning.again()
        second = spanning.stored_login()
        declined = emergency(spanning, "n\n")
        assert (declined.returncode, declined.stdout) == (1, "")
        assert "previous, dies in" in declined.stderr
        assert "worker (3)" in declined.stderr
        assert (
            "Open sessions go on; their next login is refused until they read the new value"
            in declined.stderr
        )
        assert "not revoked" in declined.stderr
        assert spanning.stored_login() == second

        done = emergency(spanning, "y\n", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["outcome"] == "rotated"
        assert spanning.accepted(first) == spanning.accepted(second) == []
        # The server has ended no session.
        document = found(spanning)
        assert counts(document, "ledger")[first.username] == 3
        states = {login["username"]: login["state"] for login in document["logins"]}
        assert sorted(states.values()) == ["current", "revoked"]


def test_an_emergency_that_nobody_can_be_asked_about_needs_consent_in_its_words(spanning: Case) -> None:
    spanning.rotate()
    before = spanning.stored_login()
    refused = emergency(spanning, None)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"lockstep sessions {spanning.credential.id}" in refused.stderr
    assert "add --yes" in refused.stderr
    assert spanning.stored_login() == before
    assert emergency(spanning, None, "--yes").returncode == 0
    assert spanning.accepted(before) == []
