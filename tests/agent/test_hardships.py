"""What happens to a machine: hooks that hang, templates that raise, a sleep, a socket that was left over."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lockstep.agent import serve
from lockstep.agent.serve import Agent
from lockstep.agent.server import listener_of
from lockstep.agent.settings import load_settings
from lockstep.protocol.errors import EnvironmentalError
from sandbox.agent import command, settings_file
from tests.agent.harness import NAME, FakeBootClock, FakeStore
from tests.agent.process import until
from tests.support.programs import ran

ROOT = Path(__file__).resolve().parents[2]
SERVED = {"version": 1, "plan": str(ROOT / "lockstep.yaml"), "credentials": [NAME]}


class Machine:
    """An agent with one store, and a clock that a test moves."""

    def __init__(self, folder: Path, more: dict[str, Any]) -> None:
        self.store, self.clock = FakeStore(), FakeBootClock()
        settings = load_settings(settings_file(folder, {**SERVED, **more}))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(serve, "reader_of", lambda _store: lambda _names: self.store())
            self.agent = Agent(settings, self.clock)
        self.value = next(iter(self.agent.values))

    def reads_again(self) -> None:
        reads = self.store.reads
        self.agent.hurry()
        until(lambda: self.store.reads > reads or None)

    @contextmanager
    def running(self) -> Iterator[None]:
        self.agent.prepare()
        with self.agent.refreshing():
            yield


def test_a_hook_that_hangs_lets_no_file_grow_old_and_ends_with_the_agent(tmp_path: Path) -> None:
    child, one, two = (tmp_path / name for name in ("child", "one", "two"))
    hang = ["/bin/sh", "-c", f"echo $$ > {child}; exec sleep 120"]
    files = [
        {"path": str(one), "format": "json", "command": hang, "command_timeout": "2m"},
        {"path": str(two), "format": "json"},
    ]
    machine = Machine(tmp_path, {"files": files})
    machine.agent.prepare()
    assert (one.exists(), child.exists()) == (True, False)  # It delays no start, either.
    with machine.agent.refreshing():
        pid = int(until(lambda: (child.exists() and child.read_text()) or None))
        machine.store.generation = 2
        machine.agent.hurry()
        until(lambda: all("-2" in file.read_text() for file in (one, two)) or None)
    until(lambda: not Path(f"/proc/{pid}").exists() or None)


def test_once_writes_every_file_before_a_hook_runs(tmp_path: Path) -> None:
    two = tmp_path / "two"
    looks = ["/bin/sh", "-c", f"test -s {two}"]
    files = [
        {"path": f"{tmp_path}/one", "format": "json", "command": looks},
        {"path": str(two), "format": "json"},
    ]
    assert Machine(tmp_path, {"files": files}).agent.refresh()


def test_a_hook_that_failed_runs_again_and_one_that_succeeded_does_not(tmp_path: Path) -> None:
    ran, may = tmp_path / "ran", tmp_path / "may"
    command = ["/bin/sh", "-c", f"test -e {may}; done=$?; echo $done >> {ran}; exit $done"]
    files = [{"path": f"{tmp_path}/one", "format": "json", "command": command}]
    machine = Machine(tmp_path, {"files": files})

    def ends(status: int, *, times: int) -> None:
        until(lambda: (ran.exists() and ran.read_text().split().count(str(status)) == times) or None)

    def late() -> None:  # Files are looked at when the hook has run, as on a machine that is busy.
        until(lambda: ran.exists() or None)
        keeps()

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
        machine.store.generation = 2
        machine.agent.hurry()
        ends(0, times=2)


def test_a_hook_waits_for_its_file(tmp_path: Path) -> None:
    """At the start a hook is owed, but not before there is a file that is as it should be."""
    ran = tmp_path / "ran"
    file = {"path": f"{tmp_path}/one", "format": "json", "command": ["/bin/sh", "-c", f"touch {ran}"]}
    machine = Machine(tmp_path, {"files": [file]})
    machine.store.is_up = False
    with machine.running():
        machine.reads_again()
        time.sleep(0.5)
        assert not ran.exists()
        machine.store.is_up = True
        machine.agent.hurry()
        until(lambda: ran.exists() or None)


@pytest.mark.parametrize("template", ["{{ port + username }}", "{{ port / 0 }}", "{{ username.x.y }}"])
def test_a_template_that_raises_ends_nothing_else(tmp_path: Path, template: str) -> None:
    (tmp_path / "template").write_text(template)
    broken = {"path": f"{tmp_path}/one", "template": f"{tmp_path}/template"}
    good = tmp_path / "two"
    machine = Machine(tmp_path, {"files": [broken, {"path": str(good), "format": "json"}]})
    assert not machine.agent.refresh()
    assert good.exists()
    with machine.agent.refreshing():
        machine.store.generation = 2
        machine.agent.hurry()
        until(lambda: ("-2" in good.read_text()) or None)


def test_a_socket_that_was_left_over_is_replaced_and_one_of_another_agent_is_left_to_it(
    tmp_path: Path,
) -> None:
    at = tmp_path / "agent.sock"
    listener_of("127.0.0.1", 0, at).close()
    assert at.is_socket()
    with listener_of("127.0.0.1", 0, at), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(at))
        with pytest.raises(EnvironmentalError, match="another program listens there"):
            listener_of("127.0.0.1", 0, at)
        assert at.is_socket()


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("of somebody")
    link.symlink_to(file)
    for at in (file, link, tmp_path):
        with pytest.raises(EnvironmentalError, match="something else is there"):
            listener_of("127.0.0.1", 0, at)
    assert file.read_text() == "of somebody"
    assert link.is_symlink()


def test_a_port_that_is_taken_is_told_in_a_line_and_status_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        document = {**SERVED, "listen": {"port": port}, "token_file": f"{tmp_path}/token"}
        done = ran(
            command(settings_file(tmp_path, document)),
            env={**os.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        )
    assert done.returncode == 2
    [told] = done.stderr.splitlines()
    assert f"[path=127.0.0.1:{port}, code=Address already in use]" in told
    assert "ss -lntp" in told


def test_a_machine_that_was_suspended_reads_within_a_second(tmp_path: Path) -> None:
    machine = Machine(tmp_path, {"refresh": "5m"})
    with machine.running():
        machine.store.generation = 2
        machine.clock.seconds += 3600.0
        until(lambda: (machine.value.served and machine.value.served.value.generation == 2) or None)
