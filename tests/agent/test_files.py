"""The files that the agent writes: right for the programs that read them, whole at every moment, whatever happens.

Hooks that hang, templates that raise, a disk that is full, a machine that sleeps, and SIGTERM while a file is written.
"""

import errno
import json
import os
import re
import shutil
import signal
import socket
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lockstep.agent import serve
from lockstep.agent.__main__ import main
from lockstep.agent.files import (
    FORMATS,
    Login,
    LoginFormError,
    formatted,
    login_of,
    rendered,
    replace_file,
    run_command,
)
from lockstep.agent.serve import Agent
from lockstep.agent.settings import load_settings
from lockstep.client.sources import StoredText
from lockstep.protocol.errors import EnvironmentalError
from lockstep.protocol.federation import stamps_of
from lockstep.protocol.model import SecretStr
from lockstep.protocol.names import VersionNames
from tests.agent.harness import NAME, NEEDLE, FakeStore, app_user, blob
from tests.agent.process import settings_file
from tests.contract.test_client_fork import in_child
from tests.support.memory import FakeClock
from tests.support.programs import ran, until

PASSWORD = f"{NEEDLE}-1"
NESTED = '{"databases":' * 20_000


USER, BLOB = SecretStr(app_user(1)), SecretStr(blob(1))
LOGIN, LEDGER = (login_of(USER, BLOB, database) for database in (None, "ledger"))
HARD = [
    *(PASSWORD, "'", "''", "it's", '"', 'a"#b', "a'\"#b", '"#"'),
    *("\\", "\\n", "a\\", '\\"#', "$HOME", "`id`", ";a", "a b#c "),
]
"""Passwords that a person may have given; the plan's alphabet may have each of their characters, but a space."""


def _with(password: str) -> Login:
    return replace(LOGIN, fields={**LOGIN.fields, "password": password})


def test_the_clients_of_mysql_read_every_password_from_the_option_file_as_it_is(tmp_path: Path) -> None:
    program = shutil.which("my_print_defaults")
    if program is None:
        pytest.skip("my_print_defaults is missing; it comes with the clients of MariaDB")
    file = tmp_path / "my.cnf"
    for password in HARD:
        file.write_text(formatted(_with(password), "my-cnf"))
        done = ran([program, f"--defaults-file={file}", "client"])
        assert f"--password={password}" in done.stdout.splitlines()


def test_each_other_form_is_as_its_reader_takes_it() -> None:
    assert json.loads(formatted(LOGIN, "json")) == json.loads(app_user(1))
    line = formatted(LEDGER, "pgpass").removesuffix("\n")
    fields = [re.sub(r"\\(.)", r"\1", field) for field in re.findall(r"((?:\\.|[^:\\])*)(?::|$)", line)[:5]]
    assert fields == ["pg.example.com", "5432", "*", "app", PASSWORD]
    template = "{{ engine }} {{ username }}@{{ host }}:{{ port }}/{{ dbname }} {{ generation }}\n"
    assert rendered(LEDGER, template) == "postgresql app@pg.example.com:5432/ledger 1\n"
    assert rendered(LOGIN, "{{ password }}") == PASSWORD


def test_a_wrong_template_or_secret_is_refused_without_its_text() -> None:
    refused: list[partial[Any]] = [
        *(
            partial(rendered, LOGIN, template)
            for template in ("{{ unknown }}", "{{ password | no_filter }}", "{{ password.x.y }}")
        ),
        *(
            partial(login_of, SecretStr(text), None, None)
            for text in ("not json", '{"placeholder": true}', "[1]", NESTED)
        ),
        partial(login_of, USER, SecretStr(NESTED), "ledger"),
        partial(login_of, USER, None, "ledger"),
        partial(login_of, USER, BLOB, "unknown"),
    ]
    for call in refused:
        with pytest.raises(LoginFormError) as caught:
            call()
        assert NEEDLE not in str(caught.value)
    # A field that could begin another line.
    for form in FORMATS:
        for character in ("\n", "\r", "\0", "\x1b"):
            with pytest.raises(LoginFormError, match="control-character"):
                formatted(_with(f"a{character}host=evil.example.com"), form)


def test_a_link_is_not_followed_and_nobody_else_can_read_the_file_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mode is set before the file is given away: who is no owner any more could not change it without rights."""
    file, elsewhere, seen, fchown = tmp_path / "secret", tmp_path / "elsewhere", list[int](), os.fchown

    def watched(descriptor: int, uid: int, gid: int) -> None:
        seen.append(os.fstat(descriptor).st_mode & 0o777)
        fchown(descriptor, uid, gid)

    elsewhere.write_text("untouched")
    file.symlink_to(elsewhere)
    monkeypatch.setattr(os, "fchown", watched)
    replace_file(file, b"old", mode=0o640)
    assert (elsewhere.read_text(), file.is_symlink(), file.read_text()) == ("untouched", False, "old")
    assert seen == [0o640]

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    # A full disk leaves the old file, and no other.
    for step in ("fchown", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, full)
            with pytest.raises(OSError, match="No space left on device"):
                replace_file(file, b"new", mode=0o600)
        assert {p.name for p in tmp_path.iterdir()} == {"secret", "elsewhere"}
        assert file.read_text() == "old"


# What happens to a machine

ROOT = Path(__file__).resolve().parents[2]
SERVED = {"version": 1, "plan": str(ROOT / "lockstep.yaml"), "credentials": [NAME]}


class Machine:
    """An agent with one store, and a clock that a test moves."""

    def __init__(self, folder: Path, *files: dict[str, Any]) -> None:
        self.store, self.clock = FakeStore(), FakeClock()
        with_format = [{"format": "json"} | file if "template" not in file else file for file in files]
        settings = load_settings(settings_file(folder, {**SERVED, "refresh": "5m", "files": with_format}))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(serve, "reader_of", lambda _store: lambda _names: self.store())
            self.agent = Agent(settings, self.clock.monotonic)
        self.value = next(iter(self.agent.values))

    def reads_again(self) -> None:
        reads = self.store.reads
        self.agent.hurry()
        until(lambda: self.store.reads > reads)

    def changes(self) -> None:
        """There is a new value, and the agent is told to look."""
        self.store.generation += 1
        self.agent.hurry()


def test_a_file_is_written_when_its_text_or_the_file_has_changed_and_only_then(tmp_path: Path) -> None:
    file = tmp_path / "one"
    machine = Machine(tmp_path, {"path": str(file), "mode": "0040"})  # One that its owner cannot read.

    def is_written() -> bool:
        before = stamps_of(str(file))
        assert machine.agent.refresh()
        assert file.stat().st_mode & 0o777 == 0o040
        return stamps_of(str(file)) != before

    assert (is_written(), is_written()) == (True, False)
    for changes in (
        lambda: file.chmod(0o644),
        lambda: file.write_text("by hand"),
        file.unlink,
        lambda: os.chown(file, 12345, -1),
    ):
        changes()
        assert (is_written(), is_written()) == (True, False)
    machine.store.generation = 2
    assert (is_written(), is_written()) == (True, False)
    assert machine.value.given == {str(file): 2}


def test_a_hook_that_hangs_lets_no_file_grow_old(tmp_path: Path) -> None:
    child, one, two = (tmp_path / name for name in ("child", "one", "two"))
    hang = ["/bin/sh", "-c", f"echo $$ > {child}; exec sleep 600"]
    machine = Machine(tmp_path, {"path": str(one), "command": hang}, {"path": str(two)})
    machine.agent.prepare()
    assert (one.exists(), child.exists()) == (True, False)  # It delays no start, either.
    with machine.agent.refreshing():
        until(lambda: child.exists() and child.read_text())
        machine.changes()
        until(lambda: all("-2" in file.read_text() for file in (one, two)))
    _ends(child)


def test_a_hook_runs_when_every_file_is_written_and_what_it_does_to_its_file_does_not_call_for_it_again(
    tmp_path: Path,
) -> None:
    one, two, runs = (tmp_path / name for name in ("one", "two", "runs"))
    touch = ["/bin/sh", "-c", f"test -s {two} && echo >> {runs} && touch {one}"]
    machine = Machine(tmp_path, {"path": str(one), "command": touch}, {"path": str(two)})
    assert [machine.agent.refresh() for _ in range(3)] == [True] * 3
    assert runs.read_text() == "\n"


def test_a_hook_that_failed_runs_again_and_one_that_succeeded_does_not(tmp_path: Path) -> None:
    log, may = tmp_path / "log", tmp_path / "may"
    command = ["/bin/sh", "-c", f"test -e {may}; done=$?; echo $done >> {log}; exit $done"]
    machine = Machine(tmp_path, {"path": f"{tmp_path}/one", "command": command})

    def ends(status: int, *, times: int) -> None:
        until(lambda: log.exists() and log.read_text().split().count(str(status)) == times)

    def late() -> bool:  # Files are looked at when the hook has run, as on a machine that is busy.
        until(log.exists)
        return keeps()

    machine.agent.prepare()
    keeps, machine.agent._write_files = machine.agent._write_files, late  # type: ignore[method-assign]
    with machine.agent.refreshing():
        ends(1, times=1)
        time.sleep(0.5)
        ends(1, times=1)  # Nothing but a refresh tries it again.
        machine.agent.hurry()
        ends(1, times=2)
        may.touch()
        machine.agent.hurry()
        ends(0, times=1)
        machine.reads_again()
        time.sleep(0.5)
        ends(0, times=1)
        machine.changes()
        ends(0, times=2)


def test_a_hook_waits_for_its_file(tmp_path: Path) -> None:
    """At the start a hook is owed, but not before there is a file that is as it should be."""
    log = tmp_path / "log"
    machine = Machine(tmp_path, {"path": f"{tmp_path}/one", "command": ["/bin/sh", "-c", f"touch {log}"]})
    machine.store.is_up = False
    machine.agent.prepare()
    with machine.agent.refreshing():
        machine.reads_again()
        time.sleep(0.5)
        assert not log.exists()
        machine.store.is_up = True
        machine.agent.hurry()
        until(log.exists)


def _ends(child: Path) -> None:
    """With its parent: it does not run any more, though nobody may have waited for it."""
    process = Path(f"/proc/{child.read_text().strip()}/stat")
    until(lambda: not process.exists() or " Z " in process.read_text())


def test_a_command_that_fails_is_told_and_ends_in_time_with_all_that_it_has_started(tmp_path: Path) -> None:
    child = tmp_path / "child"
    for command, told in (
        (["false"], "status 1"),
        (["/no/such/program"], "No such file or directory"),
        (["/bin/sh", "-c", f"sleep 600 & echo $! > {child}; wait"], "not done in 2 s"),
    ):
        with pytest.raises(EnvironmentalError, match=told):
            run_command(command, threading.Event(), seconds=2)
    _ends(child)


def test_a_command_ends_with_a_process_that_is_ended(tmp_path: Path) -> None:
    """As by `--once` in a job that is cancelled: SIGTERM raises SystemExit there."""
    child = tmp_path / "child"

    def end(*_received: object) -> None:
        raise SystemExit(3)

    before = signal.signal(signal.SIGUSR1, end)
    # Not while it is being started: of that nobody knows a process yet.
    script = f"sleep 600 & echo $! > {child}; sleep 0.5; kill -USR1 {os.getpid()}; wait"
    try:
        with pytest.raises(SystemExit):
            run_command(["/bin/sh", "-c", script], threading.Event())
    finally:
        signal.signal(signal.SIGUSR1, before)
    _ends(child)


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (None, "code=No such file or directory"),
        ("{% if %}", "template-line-1"),
        ("{{ port / 0 }}", "TypeError"),
    ],
)
def test_a_template_that_is_wrong_ends_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, template: str | None, told: str
) -> None:
    if template:
        (tmp_path / "template").write_text(template)
    good = tmp_path / "two"
    broken = {"path": f"{tmp_path}/one", "template": f"{tmp_path}/template"}
    machine = Machine(tmp_path, broken, {"path": str(good)})
    assert not machine.agent.refresh()
    [error] = [vars(record)["error"] for record in caplog.records if record.levelname == "WARNING"]
    assert told in error
    assert good.exists()
    with machine.agent.refreshing():
        machine.changes()
        until(lambda: "-2" in good.read_text())


def test_a_port_that_is_taken_is_told_in_a_line_and_status_2(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file = settings_file(tmp_path, {**SERVED, "port": port, "token_file": f"{tmp_path}/token"})
        assert in_child(lambda: main(["--config", str(file)])) == 2
    [told] = capfd.readouterr().err.splitlines()
    assert f"[path=127.0.0.1:{port}, code=Address already in use]" in told
    assert "ss -lntp" in told


def test_files_follow_a_caller_who_asks_for_a_fresh_value_and_a_machine_that_was_suspended(
    tmp_path: Path,
) -> None:
    file = tmp_path / "one"
    machine = Machine(tmp_path, {"path": str(file)})
    machine.agent.prepare()
    with machine.agent.refreshing():
        machine.store.generation = 2
        machine.value.refresh_now()
        until(lambda: "-2" in file.read_text())
        machine.store.generation = 3
        machine.clock.sleep(3600.0)
        until(lambda: "-3" in file.read_text())


# SIGTERM while a file is written: it is the old one or the new one, and nothing of a password is beside it


def _ended(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, *more: str) -> int:
    """The status of an agent with a store of its own, whose value is another one at each read.

    A write to the file takes a second, and the write with this number begins with a SIGTERM to the agent. If it serves,
    the first read begins with a SIGHUP: it ends nothing, and the stores are read again long before it is time.
    """
    stores: dict[str, FakeStore] = {}
    writes, fsync = iter(range(1, 100)), os.fsync

    def read(names: VersionNames) -> StoredText:
        store = stores.setdefault(names.secret, FakeStore())
        if not (store.reads or more):
            os.kill(os.getpid(), signal.SIGHUP)
        store.generation += 1
        return store()

    def slowly(descriptor: int) -> None:
        if "/kept/" in str(Path(f"/proc/self/fd/{descriptor}").readlink()) and next(writes) == number:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slowly)
    monkeypatch.setattr(serve, "reader_of", lambda _store: read)
    (folder / "kept").mkdir()
    (folder / "kept" / "login.json").write_text("old\n")
    files = [{"path": f"{folder}/kept/login.json", "format": "json"}]
    own = {"token_file": f"{folder}/token", "port": 0, "refresh": "5m", "files": files}
    file = settings_file(folder, {**SERVED, **own})
    return in_child(lambda: main(["--config", str(file), *more]))


def _kept(folder: Path) -> str:
    [file] = (folder / "kept").iterdir()
    return file.read_text()


@pytest.mark.parametrize(("more", "status"), [(["--once"], 3), ([], 0)], ids=["once", "serve"])
def test_sigterm_at_the_first_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], status: int
) -> None:
    assert (_ended(tmp_path, monkeypatch, 1, *more), _kept(tmp_path)) == (status, "old\n")


def test_a_later_write_is_waited_for_and_sighup_reads_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _ended(tmp_path, monkeypatch, 2) in (0, -signal.SIGTERM)
    assert json.loads(_kept(tmp_path)) == json.loads(app_user(3))
