"""Each call that can be under way at once has a connection, and the next ones find it open."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lockstep.aws.clients import AwsKeys, aws_client
from lockstep.oci.clients import OciClients, OciIdentity
from lockstep.protocol.deadlines import CONNECTIONS, CloudTimeouts
from lockstep.protocol.model import SecretStr
from lockstep.protocol.workers import CALLS_AT_ONCE, Workers
from sandbox.oci.server import OciSandbox

SECONDS = 60.0
PATIENT = CloudTimeouts(connect_seconds=SECONDS, read_seconds=SECONDS)
"""The last call may come long after the first one."""


class _Front(ThreadingHTTPServer):
    """Answers when all calls are there, and counts the connections."""

    daemon_threads = True
    request_queue_size = CONNECTIONS

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.connections = 0
        self.all_there = threading.Barrier(CONNECTIONS)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Front

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.all_there.wait(SECONDS)
        body = json.dumps({"Name": "a"}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the name that http.server calls

    def log_message(self, *_: object) -> None:
        """Not to the terminal."""


@contextmanager
def _front() -> Iterator[tuple[_Front, str]]:
    with _Front() as front:
        thread = threading.Thread(target=front.serve_forever, daemon=True)
        thread.start()
        yield front, f"http://127.0.0.1:{front.server_port}"
        front.shutdown()


def _aws(endpoint: str) -> Callable[[], object]:
    keys = AwsKeys(access_key_id="a-key", secret_access_key=SecretStr("a-secret"))
    client = aws_client("secretsmanager", "eu-central-1", keys=keys, endpoint=endpoint, timeouts=PATIENT)
    return lambda: client.describe_secret(SecretId="a")


def _oci(endpoint: str) -> Callable[[], object]:
    with OciSandbox() as sandbox:
        identity = OciIdentity(config=sandbox.config())
    client = OciClients(lambda: identity, "eu-frankfurt-1", endpoint=endpoint, timeouts=PATIENT).secrets
    return lambda: client.get_secret_bundle("ocid1.vaultsecret.oc1..a")


@pytest.mark.parametrize("client", [_aws, _oci])
def test_calls_at_once_keep_their_connections_for_the_next_ones(
    client: Callable[[str], Callable[[], object]],
) -> None:
    workers = Workers(CALLS_AT_ONCE)
    with _front() as (front, endpoint):
        call = client(endpoint)
        for _ in range(2):
            workers([call] * CONNECTIONS)
        assert front.connections == CONNECTIONS
