"""Headless Chromium over its debugging pipe: no port, no driver, no download. A page's faults are collected.

https://chromedevtools.github.io/devtools-protocol/
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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


def chromium() -> str | None:
    """The program, if there is one that starts. Ubuntu has a script of that name that asks for a snap."""
    for path in filter(None, map(shutil.which, FIND)):
        told = subprocess.run([path, "--version"], capture_output=True, timeout=120, check=False)  # noqa: S603 - found above
        if told.returncode == 0 and b"Chrom" in told.stdout:
            return path
    return None


class Page:
    """One page.

    Attributes:
        faults: Errors of scripts, messages of the console, and what the page's policy has stopped.
        requests: Every address that was asked for.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self.faults: list[str] = []
        self.requests: list[str] = []
        self._reading, self._writing = reading, writing
        self._buffer = b""
        self._count = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def open(self, at: Path | str, *, width: int, scheme: str) -> None:
        """Open a file, or an address, at a width in pixels, in the `light` or the `dark` scheme."""
        self.faults.clear()
        self.requests.clear()
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
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
                self.requests.append(told["request"]["url"])
            case "Runtime.exceptionThrown":
                self.faults.append(str(told["exceptionDetails"].get("text")))
            case "Runtime.consoleAPICalled":
                self.faults.append(str(told["args"]))
            case "Log.entryAdded":
                self.faults.append(str(told["entry"]["text"]))


@contextmanager
def browser(program: str) -> Iterator[Page]:
    """A page of a browser that ends with the block."""
    read_ours, write_theirs = os.pipe()
    read_theirs, write_ours = os.pipe()
    pipe = f'exec "$0" "$@" 3<&{read_theirs} 4>&{write_theirs}'
    with tempfile.TemporaryDirectory(prefix="lockstep-chromium-", ignore_cleanup_errors=True) as profile:
        words = [program, *ARGUMENTS, f"--user-data-dir={profile}", "about:blank"]
        started = subprocess.Popen(  # noqa: S603 - found above
            ["bash", "-c", pipe, *words],  # noqa: S607
            pass_fds=(read_theirs, write_theirs),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_theirs)
        os.close(write_theirs)
        try:
            yield Page(read_ours, write_ours)
        finally:
            started.terminate()
            started.wait()
            os.close(read_ours)
            os.close(write_ours)
