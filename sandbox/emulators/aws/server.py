"""The sandbox's AWS: moto and a Lambda host behind one HTTP address on this machine."""

import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, Self

import boto3
import botocore.session
from botocore.config import Config
from botocore.loaders import create_loader
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from sandbox.emulators.aws import (
    alarms,
    cloudformation,
    events,
    interpreter,
    jsonata,
    map_runs,
    nested,
    strict_iam,
    strict_kms,
    strict_secrets,
    strict_states,
    strict_versions,
)
from sandbox.emulators.aws.executions import Client, Execution, ExecutionStillRunningError, ended
from sandbox.emulators.aws.guard import Guard
from sandbox.emulators.aws.lambda_host import LambdaHost
from sandbox.emulators.aws.patching import Patches
from sandbox.emulators.aws.policies import Call
from sandbox.emulators.aws.serving import QuietHandler, Rate, end, served, throttled
from sandbox.emulators.aws.web_identity import WebIdentity
from sandbox.emulators.oci.names import Names

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from werkzeug.serving import BaseWSGIServer

_ACCESS_KEY = "sandbox"
_SERVICE_MODELS = create_loader()
"""Reading the models of the services takes longer than most tests, so every sandbox of a process shares them."""
_backend_app = cache(create_backend_app)
"""The routes of a service. They are moto's own, whatever is patched behind them, and have no state."""


class AwsSandbox:
    """AWS for one process: S3, DynamoDB, Secrets Manager, KMS, Step Functions, Lambda and the other services of moto.

    moto keeps its state in module globals, so only one sandbox may run in a process at a time. Starting and stopping
    one clears the state. While it runs, moto is patched to be as strict as AWS (see the `strict_` modules); stopping
    undoes the patches.

    Requests to one service are served one at a time, because moto's conditional writes are not atomic as those of AWS.

    Attributes:
        region: The region of everything in it.
        account_id: The account of everything in it.
        lambda_host: Runs the functions; they are registered there.
        event_fault: What goes wrong with every PutEvents, see `events.Fault`.
        guard: Limits the roles that it knows to their policies.
        names: Resolves the names of issuers, for STS and for others who are given it.
        web_identity: Issues tokens for the account's roles, and takes those of other issuers.
        application: Serves all requests (WSGI); a front forwards requests to it.
        on_request: Called with service and operation (for S3 the method) of each request.
        rates: How many calls a second a service takes, by moto's name of it; any number where it is not named.
    """

    _running: ClassVar[Lock] = Lock()

    def __init__(
        self,
        *,
        region: str = "eu-central-1",
        retry_sleep: Callable[[float], None] = time.sleep,
        wall_clock: Callable[[], float] = time.time,
        names: Names | None = None,
    ) -> None:
        """Configure a sandbox; `start` starts it.

        Args:
            region: An AWS region.
            retry_sleep: Waits the given seconds between the attempts of a state machine's Retry.
            wall_clock: Seconds since the epoch, for the dates of secret versions and objects, and the time in state
                machines.
            names: Shared with others, and stopped by who made it; by default its own.
        """
        self.region = region
        self.account_id = DEFAULT_ACCOUNT_ID
        self.lambda_host = LambdaHost(region=region, account_id=self.account_id)
        self.guard = Guard(region=region, account_id=self.account_id, wall_clock=wall_clock)
        self.names = names or Names()
        self._owns_names = names is None
        self.web_identity = WebIdentity(self.guard, self.names)
        self._retry_sleep = retry_sleep
        self._wall_clock = wall_clock
        self._patches = Patches()
        self._session_lock = Lock()
        core = botocore.session.get_session()
        core.register_component("data_loader", _SERVICE_MODELS)
        self._session: Client = boto3.Session(region_name=region, botocore_session=core)
        self._server: BaseWSGIServer | None = None
        self.application = _Dispatcher(self)
        self.event_fault: events.Fault | None = None
        self.on_request: Callable[[str, str], None] | None = None
        self.rates: dict[str, Rate] = {}

    def start(self) -> None:
        """Listen on a free port of the loopback interface.

        Raises:
            RuntimeError: Another sandbox is running in this process.
        """
        if not self._running.acquire(blocking=False):
            raise RuntimeError("one AwsSandbox at a time: moto keeps its state in this process")
        # The interpreter logs every failed state as an error, which without a handler goes to stderr.
        logging.getLogger("moto").addHandler(logging.NullHandler())
        moto_api_backend.reset()
        # Its port is not known to anyone before all of it is patched.
        self._server = served(self.application, "aws-sandbox", QuietHandler)
        interpreter.apply(self._patches, self._server.port, self._retry_sleep, self._wall_clock)
        jsonata.apply(self._patches, self._wall_clock)
        strict_versions.apply(self._patches)
        strict_states.apply(self._patches)
        nested.apply(self._patches, self._judge)
        map_runs.apply(self._patches, self._judge)
        strict_secrets.apply(self._patches, self._wall_clock)
        self._patches.replace("moto.s3.models:utcnow", self._naive_now)
        # moto looks through its folders at every request.
        self._patches.wrap("moto.backends:list_of_moto_modules", lambda listed: cache(lambda: [*listed()]))
        strict_iam.apply(self._patches, self.guard.deleted_keys.add)
        strict_kms.apply(self._patches)
        alarms.apply(self._patches)
        events.apply(self._patches, lambda: self.event_fault)
        cloudformation.apply(self._patches, cache(self.client))

    def _naive_now(self) -> datetime:
        return datetime.fromtimestamp(self._wall_clock(), UTC).replace(tzinfo=None)

    def _judge(self, role_arn: str, call: Call) -> bool:
        return self.guard.allows(interpreter.access_key(role_arn), call)

    def stop(self) -> None:
        """Abort all executions, stop listening and clear the state. May be called again."""
        if self._server is None:
            return
        interpreter.abort_running_executions()
        end(self._server)
        self._server = None
        self._patches.undo()
        moto_api_backend.reset()
        if self._owns_names:
            self.names.stop()
        else:
            self.names.forget(self.web_identity.host)
        self._running.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The address of every service. It has `localhost`, because the CDK CLI misreads 127.0.0.1.

        Raises:
            RuntimeError: The sandbox is not running.
        """
        if self._server is None:
            raise RuntimeError("the AwsSandbox is not running")
        return f"http://localhost:{self._server.port}"

    def route_tasks_to(self, port: int) -> None:
        """Let state machines call this loopback port, such as a front's, until the sandbox stops."""
        interpreter.call_the_sandbox(self._patches, port)

    def client(self, service: str) -> Client:
        """Create a boto3 client with bounded time-outs and without retries."""
        return self.client_as(_ACCESS_KEY, service)

    def client_as(self, access_key: str, service: str) -> Client:
        """Create a client that signs with an access key that the guard knows."""
        with self._session_lock:
            return self._session.client(
                service,
                endpoint_url=self.url,
                config=Config(connect_timeout=2, read_timeout=300, retries={"total_max_attempts": 1}),
                aws_access_key_id=access_key,
                aws_secret_access_key=_ACCESS_KEY,
            )

    def environment(self) -> Mapping[str, str]:
        """The environment in which another process, its SDK and the CDK CLI use this sandbox and no real account."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": _ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": _ACCESS_KEY,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def run_execution(
        self,
        state_machine_arn: str,
        execution_input: object,
        *,
        timeout_seconds: float = 30.0,
        name: str | None = None,
        poll_seconds: float = 0.01,
    ) -> Execution:
        """Start an execution and wait for its end.

        Args:
            state_machine_arn: What to run.
            execution_input: Any JSON value.
            timeout_seconds: How long it may run.
            name: The execution's name; made by the client if None.
            poll_seconds: Between two looks at it. Each look takes ten milliseconds of processor time.

        Raises:
            ExecutionStillRunningError: It exceeded its time.
        """
        states, named = self.client("stepfunctions"), {"name": name} if name else {}
        arn: str = states.start_execution(
            stateMachineArn=state_machine_arn, input=json.dumps(execution_input), **named
        )["executionArn"]
        deadline = time.monotonic() + timeout_seconds
        while states.describe_execution(executionArn=arn)["status"] == "RUNNING":
            if time.monotonic() > deadline:
                states.stop_execution(executionArn=arn)
                raise ExecutionStillRunningError(f"{arn} ran for more than {timeout_seconds} s")
            time.sleep(poll_seconds)
        return ended(states, arn)


class _Dispatcher:
    """Forwards the requests that the guard allows: calls of functions to the Lambda host, all others to moto."""

    def __init__(self, sandbox: AwsSandbox) -> None:
        self._sandbox = sandbox
        self._moto = DomainDispatcherApplication(_backend_app)
        self._one_at_a_time: defaultdict[str, Lock] = defaultdict(Lock)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if refusal := self._sandbox.guard(environ):
            return refusal(environ, start_response)
        if asked := self._sandbox.web_identity.takes(environ):
            self._describe(asked.service or "sts", asked.action)
            return self._sandbox.web_identity.respond(asked)(environ, start_response)
        lambda_host = self._sandbox.lambda_host
        if lambda_host.answers(environ["REQUEST_METHOD"], environ["PATH_INFO"]):
            return lambda_host(environ, start_response)
        app = self._moto.get_application(environ)
        service: str = app.service  # type: ignore[attr-defined]  # moto adds it to its Flask applications
        if service == "stepfunctions":
            # A synchronous execution calls other services, perhaps this one, while it is being served.
            return app(environ, start_response)
        operation = str(environ.get("HTTP_X_AMZ_TARGET", environ["REQUEST_METHOD"])).rpartition(".")[2]
        self._describe(service, operation)
        rate = self._sandbox.rates.get(service)
        if rate and not rate.takes(operation):
            return throttled()(environ, start_response)
        with self._one_at_a_time[service]:
            return app(environ, start_response)

    def _describe(self, service: str, operation: str) -> None:
        if self._sandbox.on_request:
            self._sandbox.on_request(service, operation)
