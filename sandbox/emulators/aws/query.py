"""AWS's query protocol, as far as the sandbox answers it without moto.

Requests are forms, lists are numbered members, and replies are XML
(https://smithy.io/2.0/aws/protocols/aws-query-protocol.html).
"""

import io
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from werkzeug.wrappers import Response

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_CREDENTIAL = re.compile(r"Credential=([^/]+)/[^/]+/([^/]+)/([^/]+)/")
_FORM = "application/x-www-form-urlencoded"
_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"


class QueryError(Exception):
    """A service refuses a request.

    Args:
        code: The code of the error.
        text: What is wrong.
        status: The status of HTTP.
    """

    def __init__(self, code: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code = code
        self.status = status


@dataclass(frozen=True)
class QueryRequest:
    """One request.

    Attributes:
        action: The operation.
        access_key: Of its signature; None where it is not signed.
        service: For which it is signed; None where it is not.
        fields: All of its parameters.
    """

    action: str
    access_key: str | None
    service: str | None
    fields: Mapping[str, str]

    def text(self, name: str) -> str:
        """A parameter.

        Raises:
            QueryError: It is missing.
        """
        value = self.fields.get(name)
        if value is None:
            raise invalid(name, "Member must not be null")
        return value

    def number(self, name: str, *, default: int, least: int, most: int) -> int:
        """A parameter that is a whole number between two others.

        Raises:
            QueryError: It is not.
        """
        text = self.fields.get(name, str(default))
        if not re.fullmatch(r"-?\d{1,9}", text):
            raise QueryError("MalformedInput", f"{name} is not a number")
        if int(text) < least:
            raise invalid(name, f"Member must have value greater than or equal to {least}")
        if int(text) > most:
            raise invalid(name, f"Member must have value less than or equal to {most}")
        return int(text)

    def members(self, name: str) -> list[str]:
        """A parameter that is a list of texts."""
        found = {
            int(number): value
            for key, value in self.fields.items()
            for prefix, _, number in [key.rpartition(".")]
            if prefix == f"{name}.member" and number.isdigit()
        }
        return [found[number] for number in sorted(found)]


def invalid(name: str, constraint: str) -> QueryError:
    """The error of a parameter that does not meet its constraint."""
    first = name[:1].lower() + name[1:]
    return QueryError(
        "ValidationError",
        f"1 validation error detected: Value at '{first}' failed to satisfy constraint: {constraint}",
    )


def read(environ: "WSGIEnvironment") -> QueryRequest | None:
    """The request, which can still be read by others; None if it is of another protocol."""
    is_form = str(environ.get("CONTENT_TYPE", "")).partition(";")[0].strip() == _FORM
    if environ["REQUEST_METHOD"] != "POST" or not is_form:
        return None
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    fields = {name: values[-1] for name, values in parse_qs(body.decode(), keep_blank_values=True).items()}
    if "Action" not in fields:
        return None
    signed = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
    return QueryRequest(
        fields["Action"], signed[1] if signed else None, signed[3] if signed else None, fields
    )


def reply(action: str, result: Mapping[str, Any]) -> Response:
    """The reply to a request that STS served.

    Args:
        action: The operation.
        result: Its result, of texts and of mappings of texts.
    """
    body = f"<{action}Result>{_xml(result)}</{action}Result>" if result else ""
    return Response(
        f'<{action}Response xmlns="{_NAMESPACE}">{body}'
        f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata></{action}Response>",
        content_type="text/xml",
    )


def refusal(code: str, text: str, status: int) -> Response:
    """The reply to a request that is refused."""
    return Response(
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(text)}</Message></Error>"
        f"<RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>",
        status=status,
        content_type="text/xml",
    )


def _xml(value: Mapping[str, Any] | str) -> str:
    if isinstance(value, str):
        return escape(value)
    return "".join(f"<{name}>{_xml(inner)}</{name}>" for name, inner in value.items())
