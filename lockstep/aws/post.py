"""One POST to an identity domain, of which nothing is believed: bounded in time and size, no redirect, nothing logged.

It goes through botocore's HTTP session, so with the proxies and the CA file that the process uses for AWS.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from lockstep.aws import clients as aws
from lockstep.aws.environment import environment_problem
from lockstep.environment import DomainUnreachableError
from lockstep.federation.failure import FailureKind, SessionFailure
from lockstep.ports import Clock
from lockstep.scope import BeforeSend
from lockstep.strict_json import object_of
from lockstep.timeouts import CloudTimeouts

MOST_BYTES = 65536
"""Of an answer. A token has some thousand."""
_CHUNK = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a domain has answered.

    Attributes:
        document: Its JSON; empty where it has none.
        date: Its clock, as its header says it.
    """

    status: int
    document: Mapping[str, Any] = field(repr=False)
    date: str


def post(
    url: str,
    form: Mapping[str, str],
    headers: Mapping[str, str],
    *,
    clock: Clock,
    timeouts: CloudTimeouts,
    before_send: BeforeSend,
) -> Answer:
    """Send a form, and read a JSON object.

    Args:
        url: Where to.
        form: The body.
        headers: Besides the content type.
        clock: Measures the whole answer, which must not take longer than one wait for a part of it.
        timeouts: Bounds of each wait.
        before_send: Called before the request (protocol F11).

    Raises:
        SessionFailure: There is no answer, or it is not one of an identity domain.
    """
    http = URLLib3Session(
        verify=_ca_file() or True,  # type: ignore[arg-type]  # a file, as for its own clients
        proxies=get_environ_proxies(url),
        timeout=(timeouts.connect_seconds, timeouts.read_seconds),  # type: ignore[arg-type]  # likewise
    )
    plain = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    request = AWSRequest("POST", url, headers={**plain, **headers}, data=urlencode(form), stream_output=True)
    before_send()
    try:
        answer = http.send(request.prepare())
        body = _read(answer.raw, clock, clock.monotonic() + timeouts.read_seconds)
    except SessionFailure:
        raise
    except aws.RAISED as error:
        trouble, code = aws.diagnose(error)
        problem = environment_problem(error) or DomainUnreachableError(code=code)
        raise SessionFailure(FailureKind.of(trouble), code, problem) from None
    finally:
        http.close()
    return Answer(
        status=answer.status_code, document=object_of(body), date=str(answer.headers.get("Date") or "")
    )


def _ca_file() -> str | None:
    return os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")


def _read(raw: Any, clock: Clock, until: float) -> bytes:  # noqa: ANN401 - urllib3's answer
    body = bytearray()
    while chunk := raw.read1(_CHUNK):
        body += chunk
        if len(body) > MOST_BYTES:
            raise _strange("too-large")
        if clock.monotonic() > until:
            raise _strange("too-slow")
    return bytes(body)


def _strange(code: str) -> SessionFailure:
    return SessionFailure(FailureKind.UNREACHABLE, code, DomainUnreachableError(code=code))
