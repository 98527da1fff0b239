"""An application in another language beside the agent, through rotations by both clouds.

The application is a child process that logs in again and again until it is ended. It may do so in several ways, for
example by a new connection each time and through a pool. It writes a line for each attempt, and flushes it:

    WAY ok USER           USER is whom the database takes it for: `session_user` or the name in `USER()`
    WAY failed TEXT       a login that was refused, or any other error that the application gets to see

On stderr it writes nothing, but what its recipe says of a refused login that it has got over: a line with the word
`refused`.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lockstep.agent.values import Values
from sandbox.estate import Estate
from sandbox.fn import FunctionProcess
from sandbox.outside import Value, lets_in
from sandbox.plans import DBNAME
from tests.agent.harness import BOUND_SECONDS, TOKEN, FakeStore, answering, secret_of
from tests.agent.process import AgentProcess, Cloud, rotate, running_agent
from tests.support.memory import FakeClock
from tests.support.programs import until

ROOT = Path(__file__).parents[3]
RECIPES = ROOT / "docs" / "how-to"
USER = "multi-cloud/app_user"
NEVER = "8m"
"""As seldom as an agent may ask the stores: more seldom than a test takes."""
PACKAGES = {
    package: thing
    for thing, package in re.findall(
        r"^(\S+) (\S+)$", (ROOT / ".ci/languages").read_text().split("EOT")[1], re.MULTILINE
    )
}
"""Each with a program or a path, which may have wildcards, by which it is known."""
BOTH: tuple[Cloud, ...] = ("oci", "aws")
POOL_LIFETIME_SECONDS = 1
"""Of a pool's connections. Recipes have minutes; here an overlap is as short as an application lets it be."""
SESSIONS = {
    "orders": "SELECT USER FROM information_schema.PROCESSLIST",
    "ledger": "SELECT usename FROM pg_stat_activity WHERE usename IS NOT NULL",
}


@dataclass(frozen=True)
class Machine:
    """Where an application runs: beside an agent, with both clouds and the databases around it."""

    estate: Estate
    function: FunctionProcess
    agent: AgentProcess
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What the recipes are configured by; no secret is in it."""
        [credential] = self.estate.plan.credentials
        [ca_file] = {str(s.tls.ca_file) for s in credential.servers if s.tls}
        return {
            **{name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ},
            "LOCKSTEP_AGENT": f"http://127.0.0.1:{self.agent.address.port}",
            "LOCKSTEP_TOKEN_FILE": str(self.folder / "token"),
            "LOCKSTEP_SECRET": USER,
            "LOCKSTEP_CA": ca_file,
            "LOCKSTEP_PGPASS": str(self.folder / "pgpass"),
            "LOCKSTEP_MY_CNF": str(self.folder / "my.cnf"),
            "POOL_LIFETIME_SECONDS": str(POOL_LIFETIME_SECONDS),
            "PGDATABASE": DBNAME,
            "XDG_RUNTIME_DIR": str(self.folder),
        }

    @property
    def current(self) -> Value:
        """The login that the stores serve."""
        [credential] = self.estate.plan.credentials
        login = self.estate.outside.login("aws", credential)
        assert login
        return login

    def rotate(self, by: Cloud) -> None:
        """Let a cloud rotate, as if the interval and the overlap had passed."""
        rotate(self.estate, self.function, by=by)

    def sessions(self) -> set[str]:
        """The users that have a session on either database."""
        servers = self.estate.servers
        return {row[0] for name, sql in SESSIONS.items() for row in servers[name].execute_as_superuser(sql)}


@contextmanager
def running_machine(
    estate: Estate,
    function: FunctionProcess,
    folder: Path,
    *,
    files: Sequence[Mapping[str, Any]] = (),
    refresh: str = "1s",
) -> Iterator[Machine]:
    """An agent that keeps `pgpass` and `my.cnf` and more files.

    Args:
        estate: Both clouds and the databases.
        function: The runner in OCI.
        folder: For the agent's files.
        files: More than these two, as in the agent's settings.
        refresh: How often the agent asks the stores.
    """
    settings = {
        "plan": str(estate.plan_file),
        "nearest": "oci",
        "refresh": refresh,
        "files": [
            {"path": f"{folder}/pgpass", "format": "pgpass", "database": "ledger"},
            {"path": f"{folder}/my.cnf", "format": "my-cnf", "database": "orders"},
            *files,
        ],
    }
    with running_agent(folder, settings) as agent:
        yield Machine(estate, function, agent, folder)


@contextmanager
def served(
    databases: Mapping[str, Mapping[str, object]], user: FakeStore, folder: Path
) -> Iterator[dict[str, str]]:
    """The variables for an agent that serves what a store has, which it has read once.

    Args:
        databases: Their addresses, by name.
        user: Has `app_user`.
        folder: For the token.
    """
    stores = {USER: user, "blob": FakeStore(text=json.dumps({"databases": databases}))}
    values = Values([secret_of(name, oci=store) for name, store in stores.items()], FakeClock().monotonic)
    values.refresh()
    (folder / "token").write_text(TOKEN)
    with answering(values) as agent:
        yield {
            "LOCKSTEP_AGENT": f"http://127.0.0.1:{agent.port}",
            "LOCKSTEP_TOKEN_FILE": str(folder / "token"),
        }


@dataclass
class Way:
    """What an application says about one way of logging in.

    Attributes:
        user: Whom it was the last time.
    """

    succeeded: int = 0
    failed: list[str] = field(default_factory=list)
    user: str = ""


@dataclass
class Application:
    """A running application and what it says."""

    process: "subprocess.Popen[str]"
    log: Path
    ways: defaultdict[str, Way] = field(default_factory=lambda: defaultdict(Way))
    said: list[str] = field(default_factory=list)

    def read(self) -> None:
        """Take what it says until it ends."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.said.append(line)
            name, outcome, text = [*line.rstrip("\n").split(" ", 2), "", ""][:3]
            way = self.ways[name]
            if outcome == "ok":
                way.succeeded, way.user = way.succeeded + 1, text
            else:
                way.failed.append(text)

    def is_at(self, names: Sequence[str], user: str) -> bool:
        """Whether its last logins in all these ways were as this user; nothing may have failed."""
        assert self.process.poll() is None, self.stderr
        assert not any(way.failed for way in self.ways.values()), f"{dict(self.ways)}; {self.stderr}"
        return all(self.ways[name].user == user for name in names)

    @property
    def stderr(self) -> str:
        """What it has written there."""
        return self.log.read_text()


@contextmanager
def running_application(
    machine: Machine, command: Sequence[str | Path], more: Mapping[str, str] = {}
) -> Iterator[Application]:
    """An application as a child process; it and its children have ended at the end of the block.

    Args:
        machine: Where it runs.
        command: No secret belongs here.
        more: Further variables of its environment.
    """
    stderr = machine.folder / "application.stderr"
    with (
        stderr.open("w") as log,
        subprocess.Popen(  # noqa: S603 - a file of the tests
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=machine.folder,
            env={**machine.environment, **more},
            text=True,
            start_new_session=True,
        ) as process,
    ):
        application = Application(process, stderr)
        reader = threading.Thread(target=application.read)
        reader.start()
        try:
            yield application
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(BOUND_SECONDS)
            reader.join(BOUND_SECONDS)


def require(*packages: str) -> None:
    """Skip where a package of `.ci/languages` is missing."""
    root = Path("/")
    missing = [n for n in packages if not (shutil.which(p := PACKAGES[n]) or any(root.glob(p.strip("/"))))]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing: .ci/languages installs what can be had")


def survives_rotations(machine: Machine, application: Application, ways: Sequence[str]) -> None:
    """Rotate by both clouds in turn; no login fails, and no session of the value before is left at the next rotation.

    A value dies in the rotation after the next one. Before each rotation the application has come to the newest
    value in all these ways, so the overlap is as long as the application needs, and a pool that keeps its old
    connections is noticed.
    """
    [credential] = machine.estate.plan.credentials
    logins: list[Value] = []
    with _no_password_shown(machine, application) as passwords:
        for by in (*BOTH, *BOTH, None):
            current = machine.current
            logins.append(current)
            passwords.add(current.password)
            others = {*credential.usernames} - {current.username}
            until(
                lambda user=current.username, others=others: (  # type: ignore[misc]  # of this round
                    application.is_at(ways, user) and not machine.sessions() & others
                )
            )
            if by:
                machine.rotate(by)
    for revoked in logins[:-2]:
        assert not any(lets_in(server, revoked) for server in credential.servers)
    assert {name for name, way in application.ways.items() if not way.failed} == set(ways)
    assert application.stderr == ""


def connects_nowhere(
    machine: Machine, command: Sequence[str | Path], environment: Mapping[str, str], ways: Sequence[str]
) -> None:
    """Every login in these ways fails for a certificate's sake."""
    with running_application(machine, command, environment) as application:
        for name in ways:
            [failed, *_] = until(partial(getattr, application.ways[name], "failed"))
            assert "certif" in failed.lower() or "hostname" in failed.lower()
    assert not any(way.succeeded for way in application.ways.values())


@contextmanager
def _no_password_shown(machine: Machine, application: Application) -> Iterator[set[str]]:
    """Look for passwords in the arguments and the environment of every process, again and again.

    Yields:
        The passwords to look for.
    """
    passwords: set[str] = set()
    shown: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            for process in (p for p in Path("/proc").iterdir() if p.name.isdecimal()):
                for name in ("cmdline", "environ"):
                    with suppress(OSError):  # It has ended, or is not ours.
                        content = (process / name).read_text(errors="replace")
                        shown.update(name for p in tuple(passwords) if p in content)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield passwords
    finally:
        over.set()
        looker.join(BOUND_SECONDS)
    assert passwords
    assert shown == set()
    for text in (*application.said, application.stderr, machine.agent.log.read_text()):
        assert not any(password in text for password in passwords)
