"""Hands spans to a process of their own, which sends them or is ended."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

Send = Callable[[Sequence[dict[str, Any]], float], str | None]
"""Sends spans within some seconds; says what went wrong, None if nothing did."""

SENT, NOT_TAKEN = 0, 4
"""Exit codes of `lockstep.tracing.send`. Any other one is that of a process that could not begin, or has broken off."""
_GIVEN = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")


def send(spans: Sequence[dict[str, Any]], seconds: float) -> str | None:
    """Send spans with OpenTelemetry's exporter, in a process that lives no longer than these seconds."""
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter and a module of ours
            [sys.executable, "-m", "lockstep.tracing.send", str(seconds)],
            input=json.dumps(spans).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {seconds:.1f} s"
    except OSError as error:
        return type(error).__name__
    if done.returncode == NOT_TAKEN:
        return "the collector did not take them"
    return f"the process that sends them ended with {done.returncode}" if done.returncode != SENT else None


def _environment() -> dict[str, str]:
    """No key of a cloud, and nothing else that the exporter has no use for."""
    given = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("OTEL_") or name in _GIVEN or name.lower() in _PROXIES
    }
    return {**given, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
