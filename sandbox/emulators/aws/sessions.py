"""Sessions of roles: temporary credentials, which count until they expire."""

import json
import uuid
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from werkzeug.wrappers import Response

from sandbox.emulators.aws import query

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class Standing(Enum):
    """Why credentials do not count."""

    EXPIRED = auto()
    INVALID_TOKEN = auto()
    UNKNOWN_KEY = auto()


@dataclass
class Session:
    """Temporary credentials of a role.

    Attributes:
        token: The session token, which every request must carry.
        expires_at: Seconds since the epoch, by the sandbox's clock.
    """

    token: str = field(repr=False)
    expires_at: float

    def standing(self, token: str | None, now: float) -> Standing | None:
        """What is wrong with a request of the session; None where nothing is.

        Args:
            token: The session token of the request.
            now: Seconds since the epoch.
        """
        if token != self.token:
            return Standing.INVALID_TOKEN
        return Standing.EXPIRED if now >= self.expires_at else None


_CODES = {
    Standing.EXPIRED: ("ExpiredTokenException", "ExpiredToken", "ExpiredToken", 400),
    Standing.INVALID_TOKEN: ("UnrecognizedClientException", "InvalidClientTokenId", "InvalidToken", 400),
    Standing.UNKNOWN_KEY: ("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", 403),
}
_DENIED = ("AccessDeniedException", "AccessDenied", "AccessDenied", 403)


def refuse(environ: "WSGIEnvironment", standing: Standing) -> Response:
    """The refusal of a request whose credentials do not count.

    https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html (query),
    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (S3),
    https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html (JSON).
    """
    wrong = "expired" if standing is Standing.EXPIRED else "invalid."
    return _answer(environ, f"The security token included in the request is {wrong}", *_CODES[standing])


def deny(environ: "WSGIEnvironment", text: str) -> Response:
    """The refusal of a request that is not permitted."""
    return _answer(environ, text, *_DENIED)


def _answer(
    environ: "WSGIEnvironment", text: str, as_json: str, as_query: str, as_s3: str, status: int
) -> Response:
    """An error in the protocol of the service, by the name that the service uses; the status is S3's."""
    if "HTTP_X_AMZ_TARGET" in environ or environ["PATH_INFO"].startswith("/2015-03-31/functions/"):
        return Response(
            json.dumps({"__type": as_json, "message": text, "Message": text}),
            status=400 if "HTTP_X_AMZ_TARGET" in environ else 403,
            headers={"x-amzn-ErrorType": as_json, "x-amzn-RequestId": str(uuid.uuid4())},
            content_type="application/x-amz-json-1.1",
        )
    if query.read(environ):
        return query.refusal(as_query, text, 403)
    return Response(
        f"<Error><Code>{as_s3}</Code><Message>{escape(text)}</Message></Error>",
        status=status,
        content_type="application/xml",
    )
