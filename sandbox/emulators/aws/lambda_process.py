"""Runs a deployed function as Lambda does: its package, in its own process, under AWS's runtime client.

The process is this machine's Python without its site packages. It sees the standard library, the package and the
runtime client, which on Lambda is in `/var/runtime`. Its environment holds the variables of the deployment and those
of Lambda (https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html). It gets its calls over the Lambda
Runtime API (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html), one at a time, and waits for the next.
Between two calls it is frozen (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html): what its
threads have begun goes on in the next call.
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, Queue
from threading import Lock
from time import monotonic, time

from werkzeug.wrappers import Request, Response

from sandbox.emulators.aws.lambda_host import InvocationContext, InvocationResult, ProcessDied
from sandbox.emulators.aws.serving import end, served

RUNTIME_PACKAGES = ("awslambdaric", "runtime_client", "simplejson", "snapshot_restore_py")
_BOOT = (
    "import runpy, sys; task, runtime, handler = sys.argv[1:]; sys.path[:0] = [task, runtime]; "
    "sys.argv = ['awslambdaric', handler]; runpy.run_module('awslambdaric', run_name='__main__')"
)
_API = "/2018-06-01/runtime/"
_POLL_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class DeployedFunction:
    """A deployed function.

    Attributes:
        name: Its name.
        handler: Such as `functions.generate.handler.handler`.
        environment: The variables of the deployment.
        task_root: The unpacked package.
        memory_mb: Its memory; passed to the function, not enforced.
    """

    name: str
    handler: str
    environment: Mapping[str, str]
    task_root: Path
    memory_mb: int


def copy_runtime(folder: Path) -> Path:
    """Copy AWS's runtime client and its imports into a folder. Returns the folder."""
    for package in RUNTIME_PACKAGES:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(package)
        origin = Path(spec.origin)
        if spec.submodule_search_locations:
            shutil.copytree(origin.parent, folder / package)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin, folder)
    return folder


class FunctionProcesses:
    """The processes of one version of a function: one for each concurrent call, kept for later calls.

    An `Invoke` for `LambdaHost.register`.

    Attributes:
        function: What they run.
    """

    def __init__(
        self,
        function: DeployedFunction,
        *,
        runtime: Path,
        sandbox_environment: Mapping[str, str],
        log_file: Path,
    ) -> None:
        """Configure the processes. Each starts when it is needed.

        Args:
            function: The function to run.
            runtime: The folder of `copy_runtime`.
            sandbox_environment: The sandbox's address and the credentials, for the function's SDK.
            log_file: For the output of the function.
        """
        self.function = function
        self._runtime = runtime
        self._sandbox_environment = sandbox_environment
        self._log_file = log_file
        self._idle: list[_Process] = []
        self._all: list[_Process] = []
        self._lock = Lock()

    @property
    def starts(self) -> int:
        """The number of processes that were started."""
        return len(self._all)

    def __call__(self, payload: bytes, call: InvocationContext) -> InvocationResult:
        """Run one call.

        Raises:
            ProcessDied: The process ended, or it did not reply in time and was killed.
        """
        with self._lock:
            process = self._idle.pop() if self._idle else self._start(call)
        result = process.run(payload, call)
        if process.lives:
            with self._lock:
                self._idle.append(process)
        return result

    def stop(self) -> None:
        """End all processes. May be called again."""
        for process in self._all:
            process.stop()

    def _start(self, call: InvocationContext) -> "_Process":
        function = self.function
        with self._log_file.open("ab") as log:
            process = _Process(
                [
                    *(sys.executable, "-I", "-S", "-c", _BOOT),
                    *(str(function.task_root), str(self._runtime), function.handler),
                ],
                {
                    **function.environment,
                    **self._sandbox_environment,
                    "_HANDLER": function.handler,
                    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
                    "AWS_LAMBDA_FUNCTION_NAME": call.function_name,
                    "AWS_LAMBDA_FUNCTION_VERSION": call.version,
                    "AWS_LAMBDA_LOG_FORMAT": "JSON",
                    "AWS_LAMBDA_LOG_LEVEL": "INFO",
                    "LAMBDA_TASK_ROOT": str(function.task_root),
                    "LANG": "en_US.UTF-8",
                    "TZ": ":UTC",
                },
                cwd=function.task_root,
                log=log,
            )
        self._all.append(process)
        return process


@dataclass(frozen=True)
class _Work:
    payload: bytes
    call: InvocationContext
    answer: Queue[InvocationResult] = field(default_factory=Queue)

    def as_response(self) -> Response:
        ends_at = time() + self.call.deadline - monotonic()
        return Response(
            self.payload,
            headers={
                "Lambda-Runtime-Aws-Request-Id": self.call.request_id,
                "Lambda-Runtime-Deadline-Ms": str(int(ends_at * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": self.call.function_arn,
            },
            content_type="application/json",
        )


class _Process:
    """One process, and the Runtime API from which it takes calls."""

    def __init__(self, command: list[str], environment: Mapping[str, str], *, cwd: Path, log: object) -> None:
        self._work: Queue[_Work] = Queue()
        self._under_way: dict[str, _Work] = {}
        self._init_error: bytes | None = None
        self._api = served(Request.application(self._serve), "runtime-api")
        self._child = subprocess.Popen(
            command,
            env={**environment, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._api.server_port}"},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,  # type: ignore[call-overload]  # any file will do
            stderr=subprocess.STDOUT,
        )

    @property
    def lives(self) -> bool:
        return self._child.poll() is None

    def run(self, payload: bytes, call: InvocationContext) -> InvocationResult:
        work = _Work(payload, call)
        self._under_way[call.request_id] = work
        self._work.put(work)
        while monotonic() < call.deadline + call.grace_seconds:
            try:
                return work.answer.get(timeout=_POLL_SECONDS)
            except Empty:
                if self._init_error is not None:
                    return InvocationResult(self._init_error, function_error="Unhandled")
                if not self.lives:
                    break
        self.stop()
        raise ProcessDied

    def stop(self) -> None:
        if self.lives:
            self._child.kill()
        self._child.wait()
        end(self._api)

    def _next(self) -> _Work | None:
        """The next call; the process is frozen until there is one."""
        try:
            return self._work.get_nowait()
        except Empty:
            self._child.send_signal(signal.SIGSTOP)
        while self.lives:
            try:
                work = self._work.get(timeout=_POLL_SECONDS)
            except Empty:
                continue
            self._child.send_signal(signal.SIGCONT)
            return work
        return None

    def _serve(self, request: Request) -> Response:
        """Answer a request to the Runtime API."""
        path, body = request.path.removeprefix(_API), request.get_data()
        if path == "invocation/next":
            work = self._next()
            return work.as_response() if work else Response(status=HTTPStatus.INTERNAL_SERVER_ERROR)
        if path == "init/error":
            self._init_error = body
        else:
            _, request_id, outcome = path.split("/")
            error = "Unhandled" if outcome == "error" else None
            self._under_way.pop(request_id).answer.put(InvocationResult(body, error))
        return Response('{"status": "OK"}', HTTPStatus.ACCEPTED, content_type="application/json")
