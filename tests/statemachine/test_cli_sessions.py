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
from tests.support.programs import Ran, ran


def found(case: Case) -> dict[str, Any]:
    shown = run("sessions", case.credential.id, "--json")
    assert shown.exit_code == 0, shown.output
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


def states(document: dict[str, Any]) -> dict[str, tuple[str, list[int]]]:
    return {login["username"]: (login["state"], login["generations"]) for login in document["logins"]}


def test_sessions_are_counted_by_generation_on_every_server(everywhere: Case) -> None:
    crm, grant = everywhere.world.servers["crm"], f"GRANT PROCESS ON *.* TO '{ROTATION_USER}'@'%'"
    crm.execute_as_superuser([grant, f"REVOKE PROCESS ON *.* FROM '{ROTATION_USER}'@'%'"])
    everywhere.rotate()
    everywhere.again()
    first = everywhere.stored_login()
    with opened(everywhere, first, "worker", 3):
        assert everywhere.again().output["outcome"] == "rotated"
        second = everywhere.stored_login()
        assert first.username != second.username
        # A server without the right names the statement, and is no failure.
        shown = run("sessions", everywhere.credential.id).stdout
        assert ("crm: cannot be counted" in shown, grant in shown) == (True, True)
        [server] = [s for s in found(everywhere)["servers"] if s["database"] == "crm"]
        assert (server["counted"], server["grants"]) == (False, [grant])
        crm.execute_as_superuser(grant)
        with opened(everywhere, second, "web", 2):
            document = found(everywhere)
            for name in everywhere.credential.databases:
                assert counts(document, name) == {first.username: 3, second.username: 2}
            assert states(document) == {second.username: ("current", [3]), first.username: ("previous", [2])}
            shown = run("sessions", everywhere.credential.id).stdout
            assert ("  previous  " in shown, "worker (3)" in shown) == (True, True)
            assert not any(login.password.reveal() in shown for login in (first, second))


# Before an emergency


def emergency(case: Case, answer: str | None, *words: str) -> Ran:
    """Order one, at a terminal where there is somebody to answer."""
    asked = ["revoke", case.credential.id, *words]
    ours, theirs = pty.openpty()
    try:
        if answer is not None:
            os.write(ours, answer.encode())
        return ran(
            [sys.executable, "-m", "lockstep", *asked],
            env={**os.environ, "LOCKSTEP_STATE_MACHINE_ARN": case.world.machine_arn},
            stdin=subprocess.DEVNULL if answer is None else theirs,
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
        # Where nobody can be asked, it takes consent in its words.
        refused = emergency(spanning, None)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert f"lockstep sessions {spanning.credential.id}" in refused.stderr
        assert "add --yes" in refused.stderr
        declined = emergency(spanning, "n\n")
        assert (declined.returncode, declined.stdout) == (1, "")
        for told in (
            *("previous", "worker (3)", "not revoked"),
            "Open sessions go on; their next login is refused until they read the new value",
        ):
            assert told in declined.stderr
        assert spanning.stored_login() == second
        done = emergency(spanning, "y\n", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["outcome"] == "rotated"
        assert spanning.accepted(first) == spanning.accepted(second) == []
        # The server has ended no session.
        document = found(spanning)
        assert counts(document, "ledger")[first.username] == 3
        assert sorted(state for state, _ in states(document).values()) == ["current", "revoked"]
