"""The shell recipes: psql with `.pgpass`, mariadb with `my.cnf`."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.agent.languages.harness import (
    BOTH,
    RECIPES,
    Machine,
    connects_nowhere,
    require,
)
from tests.support.programs import Ran, ran
from tests.support.settling import until

COMMAND = ("sh", Path(__file__).with_name("shell_application.sh"), RECIPES / "shell")
WAYS = ("psql", "mariadb")
QUERIES = (
    ("psql.sh", "-Atc", "SELECT session_user"),
    ("mariadb.sh", "-BNe", "SELECT USER()"),
)


def _ran(machine: Machine, name: str, *words: str, **more: str) -> Ran:
    return ran(["/bin/sh", str(RECIPES / "shell" / name), *words], env={**machine.environment, **more})


def test_a_script_goes_on_after_a_refused_login(unaware_machine: Machine) -> None:
    require("postgresql-client", "mariadb-client", "curl")

    def statuses() -> list[int]:
        return [_ran(unaware_machine, *query).returncode for query in QUERIES]

    assert statuses() == [0, 0]
    for by in BOTH:
        unaware_machine.rotate(by)
    assert 0 not in statuses()
    refreshed = _ran(unaware_machine, "refresh.sh")
    assert (refreshed.returncode, refreshed.stdout, refreshed.stderr) == (0, "", "")
    until(lambda: statuses() == [0, 0])


def test_what_a_user_has_set_for_another_login_does_not_count(machine: Machine) -> None:
    require("postgresql-client", "mariadb-client", "curl")
    (machine.folder / ".my.cnf").write_text("[client]\nuser=somebody\npassword=of-another\n")
    (machine.folder / ".my.cnf").chmod(0o600)
    set_by_user = {
        "HOME": str(machine.folder),
        "PGPASSWORD": "of-another",
        "PGSERVICE": "another",
        "PGHOSTADDR": "192.0.2.1",
        "http_proxy": "http://127.0.0.1:9",
    }
    for words in (*QUERIES, ("refresh.sh",)):
        done = _ran(machine, *words, **set_by_user)
        assert (done.returncode, done.stderr) == (0, ""), words
        said = "" if words == ("refresh.sh",) else machine.current.username
        assert done.stdout.partition("@")[0].strip() == said


def test_a_certificate_for_another_name_is_refused(machine: Machine, misnamed: Mapping[str, str]) -> None:
    require("postgresql-client", "mariadb-client")
    connects_nowhere(machine, COMMAND, misnamed, WAYS)


def test_a_script_that_is_ended_leaves_no_password_behind(machine: Machine) -> None:
    require("postgresql-client")
    script = str(RECIPES / "shell" / "psql.sh")
    before = set(machine.folder.iterdir())
    with subprocess.Popen(  # noqa: S603 - a file of ours
        ["/bin/sh", script, "-c", "SELECT pg_sleep(60)"],
        env={**machine.environment, "TMPDIR": str(machine.folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        until(lambda: bool(machine.sessions() & {machine.current.username}))
        assert set(machine.folder.iterdir()) != before
        os.killpg(process.pid, signal.SIGTERM)
    assert set(machine.folder.iterdir()) == before
