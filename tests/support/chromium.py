"""Headless Chromium over its debugging pipe: no port, no driver, no download. A page's faults are collected.

https://chromedevtools.github.io/devtools-protocol/
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FIND = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",  # It opens files of ours only, and a container has no user namespaces.
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
)
FIRST_FREE = 10
"""A file descriptor above those that the pipe needs, 3 and 4."""


def chromium() -> str | None:
    """The program, if there is one that starts. Ubuntu has a script of that name that asks for a snap."""
    found = (path for name in FIND if (path := shutil.which(name)))
    return next((path for path in found if _starts(path)), None)


def _starts(path: str) -> bool:
    try:
        told = subprocess.run([path, "--version"], capture_output=True, timeout=120, check=False)  # noqa: S603 - found above
    except (OSError, subprocess.TimeoutExpired):
        return False
    return told.returncode == 0 and b"Chrom" in told.stdout


@dataclass
class Seen:
    """What a page did while it was open.

    Attributes:
        faults: Errors of scripts, messages of the console, and what the page's policy has stopped.
        requests: Every address that was asked for.
    """

    faults: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


class Page:
    """One page. Every event of the browser goes into `seen`."""

    def __init__(self, reading: int, writing: int) -> None:
        self.seen = Seen()
        self._reading, self._writing = reading, writing
        self._buffer = b""
        self._count = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def open(self, at: Path | str, *, width: int, scheme: str, height: int = 900) -> None:
        """Open a file, or an address, at a width in pixels, in the `light` or the `dark` scheme."""
        self.seen.faults.clear()
        self.seen.requests.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=at if isinstance(at, str) else at.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def ask(self, expression: str) -> Any:  # noqa: ANN401 - the value of any expression
        """The value of a JavaScript expression; a policy of the page does not stop it."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """One call of the protocol; its result."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._next()
            if reply.get("id") == self._count:
                if "error" in reply:
                    raise RuntimeError(f"{method}: {reply['error']}")
                result: dict[str, Any] = reply["result"]
                return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            read = os.read(self._reading, 1 << 20)
            if not read:
                raise RuntimeError("the browser has ended")
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, told: dict[str, Any]) -> None:
        match method:
            case "Network.requestWillBeSent":
                self.seen.requests.append(told["request"]["url"])
            case "Runtime.exceptionThrown":
                self.seen.faults.append(str(told["exceptionDetails"].get("text")))
            case "Runtime.consoleAPICalled":
                self.seen.faults.append(str(told["args"]))
            case "Log.entryAdded":
                self.seen.faults.append(str(told["entry"]["text"]))


@contextmanager
def browser(program: str) -> Iterator[Page]:
    """A page of a browser that ends with the block."""
    read_ours, write_theirs = os.pipe()
    read_theirs, write_ours = os.pipe()
    theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, FIRST_FREE) for fd in (read_theirs, write_theirs)]
    with tempfile.TemporaryDirectory(prefix="lockstep-chromium-", ignore_cleanup_errors=True) as profile:
        pid = os.posix_spawn(
            program,
            [program, *ARGUMENTS, f"--user-data-dir={profile}", "about:blank"],
            os.environ,
            file_actions=[
                *((os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)),
                (os.POSIX_SPAWN_DUP2, theirs[0], 3),
                (os.POSIX_SPAWN_DUP2, theirs[1], 4),
            ],
        )
        for fd in (*theirs, read_theirs, write_theirs):
            os.close(fd)
        try:
            yield Page(read_ours, write_ours)
        finally:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
            os.close(read_ours)
            os.close(write_ours)
