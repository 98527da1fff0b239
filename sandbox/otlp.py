"""A collector of OpenTelemetry on this machine: OTLP over HTTP, as protobuf.

    with Collector() as collector:
        …                               # with OTEL_EXPORTER_OTLP_ENDPOINT = collector.endpoint
        collector.traces()

It answers as https://opentelemetry.io/docs/specs/otlp/#otlphttp says, and refuses what a collector refuses: another
path, another content type, what is no request, ids of a wrong size, a span that ends before it begins.
"""

import gzip
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status

TRACE_BYTES, SPAN_BYTES = 16, 8
TYPE = "application/x-protobuf"
DRIP_SECONDS = 0.2


class Manner(Enum):
    """How a collector answers."""

    WELL = "well"
    NEVER = "never"
    DRIPPING = "dripping"
    ERROR = "error"
    LATER = "later"
    ENDLESS = "endless"


@dataclass(frozen=True, kw_only=True)
class Received:
    """A span as it came.

    Attributes:
        parent: None for the first span of a trace.
        began: Nanoseconds since 1970, as `ended`.
        resource: The attributes of what has sent it.
    """

    trace: str
    id: str
    parent: str | None
    name: str
    kind: str
    began: int
    ended: int
    attributes: Mapping[str, str | int | bool]
    is_error: bool
    resource: Mapping[str, str | int | bool]


class Collector:
    """A collector, until its block ends.

    Attributes:
        manner: How it answers from now on.
        bodies: What was sent to it, as it came, unzipped.
        refusals: Why it has refused something.
        spans: What it has accepted.
    """

    def __init__(self, manner: Manner = Manner.WELL) -> None:
        self.manner = manner
        self.bodies: list[bytes] = []
        self.refusals: list[str] = []
        self.spans: list[Received] = []
        self.closing = threading.Event()
        collector = self

        class Handler(_Handler):
            owner = collector

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def endpoint(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT is to be."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def traces(self) -> dict[str, list[Received]]:
        """The spans by their trace, in the order in which they began."""
        found: dict[str, list[Received]] = defaultdict(list)
        for span in sorted(self.spans, key=lambda s: s.began):
            found[span.trace].append(span)
        return dict(found)

    def forget(self) -> None:
        """Forget what has come."""
        for what in (self.bodies, self.refusals, self.spans):
            what.clear()

    def take(self, body: bytes, *, path: str, content_type: str) -> str | None:
        """Take a request; why not, if it is refused."""
        self.bodies.append(body)
        if path != "/v1/traces" or content_type != TYPE:
            return f"{path}, {content_type}"
        try:
            request = ExportTraceServiceRequest.FromString(body)
        except DecodeError:
            return "no request"
        spans = list(_spans(request))
        for span in spans:
            sizes = {len(span.trace): 2 * TRACE_BYTES, len(span.id): 2 * SPAN_BYTES}
            if any(size != wanted for size, wanted in sizes.items()) or not 0 < span.began <= span.ended:
                return f"{span.name}: ids or times"
        self.spans += spans
        return None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    owner: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with suppress(ConnectionError):
            match self.owner.manner:
                case Manner.WELL:
                    self._answer(body)
                case Manner.NEVER:
                    self.owner.closing.wait()
                case Manner.DRIPPING:
                    self._begin(200, 1_000_000)
                    while not self.owner.closing.wait(DRIP_SECONDS):
                        self.wfile.write(b"\0")
                case Manner.ERROR:
                    self._begin(500, 0)
                case Manner.LATER:
                    self.send_response(503)
                    self.send_header("Retry-After", "600")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                case Manner.ENDLESS:
                    self._begin(200, 2**40)
                    while not self.owner.closing.is_set():
                        self.wfile.write(bytes(2**20))

    def _answer(self, body: bytes) -> None:
        why = self.owner.take(body, path=self.path, content_type=self.headers.get("Content-Type", ""))
        if why:
            self.owner.refusals.append(why)
            self._begin(400, 0)
            return
        reply = ExportTraceServiceResponse().SerializeToString()
        self._begin(200, len(reply))
        self.wfile.write(reply)

    def _begin(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", TYPE)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Nothing: the tests look at what has come."""


def _spans(request: ExportTraceServiceRequest) -> Iterator[Received]:
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Received(
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex() or None,
                    name=span.name,
                    kind=SpanMessage.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                    began=span.start_time_unix_nano,
                    ended=span.end_time_unix_nano,
                    attributes=_attributes(span.attributes),
                    is_error=span.status.code == Status.STATUS_CODE_ERROR,
                    resource=resource,
                )


def _attributes(found: "Iterator[KeyValue]") -> dict[str, str | int | bool]:
    return {pair.key: _value(pair.value) for pair in found}


def _value(value: AnyValue) -> str | int | bool:
    kind = value.WhichOneof("value")
    if kind not in ("string_value", "int_value", "bool_value"):
        raise ValueError(f"a value of the kind {kind}")
    found: str | int | bool = getattr(value, kind)
    return found
