"""AWS and OCI as the code under test sees them: HTTP servers of their own in front of the sandbox's services."""

import re
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import TYPE_CHECKING

from werkzeug.wrappers import Response

from sandbox.emulators.aws import AwsSandbox, query
from sandbox.emulators.aws.serving import end, served
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.calls import target_of
from sandbox.emulators.oci.wire import HttpServer, Reply, Request
from sandbox.wire import CutError, Wire, wait_for_hangup

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

OCI_HANG_SECONDS = 1.0
_CHANGES = {
    *("PutSecretValue", "UpdateSecretVersionStage", "UpdateItem", "PUT object"),
    *("update_secret", "schedule_secret_version_deletion", "put_object"),
}
_SCOPE = re.compile(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/")
_INVOKE = re.compile(r"/2015-03-31/functions/.*?([A-Za-z_]+)/invocations")


def _asked(environ: "WSGIEnvironment", body: bytes) -> tuple[str, str, bool]:
    path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
    if invoked := _INVOKE.fullmatch(path):
        return "lambda", f"invoke {invoked[1]}", True
    scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
    service = scope[1] if scope else "?"
    if form := query.read({**environ, "wsgi.input": BytesIO(body)}):
        return form.service or "sts", form.action, False
    operation = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
    return service, operation or f"{method} object", False


@contextmanager
def aws_front(wire: Wire, sandbox: AwsSandbox) -> Iterator[int]:
    """Serve on a free port; which one. What the wire cuts, the client sees as a broken connection."""

    def serve(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        connection: socket.socket = environ["werkzeug.socket"]
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        target, operation, nested = _asked(environ, body)

        def effect() -> Response:
            again: WSGIEnvironment = {**environ, "wsgi.input": BytesIO(body)}
            return Response.from_app(sandbox.application, again, buffered=True)

        try:
            response = wire.exchange(
                target,
                operation,
                effect,
                changes=operation in _CHANGES,
                nested=nested,
                wait_for_hangup=lambda: wait_for_hangup(connection),
            )
        except CutError:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            # werkzeug takes this for what it is, a client that is gone, and says nothing.
            raise ConnectionAbortedError from None
        return response(environ, start_response)

    server = served(serve, "aws-front")
    try:
        yield server.port
    finally:
        end(server)


@contextmanager
def oci_front(wire: Wire, sandbox: OciSandbox) -> Iterator[int]:
    """Serve on a free port; which one."""

    def respond(request: Request) -> Reply | None:
        target = target_of(request)
        try:
            return wire.exchange(
                target.route.service,
                target.route.operation,
                lambda: sandbox.respond(request),
                changes=target.route.operation in _CHANGES,
                # This server does not show its sockets; by then the client has given up.
                wait_for_hangup=lambda: time.sleep(OCI_HANG_SECONDS),
            )
        except CutError:
            return None

    server = HttpServer(respond)
    server.start()
    try:
        yield server.port
    finally:
        server.stop()
