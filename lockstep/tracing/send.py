"""Sends spans, JSON on its input, to the collector of the environment: `python -m lockstep.tracing.send SECONDS`.

The exporter is OpenTelemetry's own, so its variables work: OTEL_EXPORTER_OTLP_ENDPOINT, _HEADERS, _CERTIFICATE,
_COMPRESSION and the others, OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME.
https://opentelemetry.io/docs/specs/otel/protocol/exporter/

Exit code: 0 sent, 4 the collector did not take them.
"""

import json
import resource
import sys
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from lockstep import __version__
from lockstep.tracing.sending import NOT_TAKEN, SENT

MOST_BYTES = 512 * 2**20
"""The address space of this process: an answer without an end takes no memory from a rotation."""
FOR_REQUESTS = 0.5
"""The part of its seconds in which it asks, and asks again: what is left is for its own start."""
_SCOPE = InstrumentationScope("lockstep", __version__, Schemas.V1_44_0.value)


def main(seconds: float) -> int:
    """Read, send, and return the exit code; it is ended if that takes longer than these seconds."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    own = Resource({"service.name": "lockstep", "service.version": __version__})
    of_process = own.merge(OTELResourceDetector().detect())  # What the environment says wins.
    spans = [_readable(span, of_process) for span in json.load(sys.stdin.buffer)]
    result = OTLPSpanExporter(timeout=FOR_REQUESTS * seconds).export(spans)
    return SENT if result is SpanExportResult.SUCCESS else NOT_TAKEN


def _readable(span: dict[str, Any], of_process: Resource) -> ReadableSpan:
    error = {"error.type": span["error"]} if span["error"] else {}
    return ReadableSpan(
        name=span["name"],
        context=_context(span["trace"], span["id"]),
        parent=_context(span["trace"], span["parent"]) if span["parent"] else None,
        resource=of_process,
        attributes={**span["attributes"], **error},
        kind=SpanKind[span["kind"].upper()],
        instrumentation_scope=_SCOPE,
        status=Status(StatusCode.ERROR if error else StatusCode.UNSET),
        start_time=span["began"],
        end_time=span["ended"],
    )


def _context(trace: str, span: str) -> SpanContext:
    return SpanContext(
        int(trace, 16), int(span, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
