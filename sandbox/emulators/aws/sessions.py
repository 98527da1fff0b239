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
        is_revoked: Whether the role's sessions have been revoked: its policies then deny everything to this one.
    """

    token: str = field(repr=False)
    expires_at: float
    is_revoked: bool = False

    def standing(self, token: str | None, now: float) -> Standing | None:
        """What is wrong with a request of the session; None where nothing is.

        Args:
            token: The session token of the request.
            now: Seconds since the epoch.
        """
        if token != self.token:
            return Standing.INVALID_TOKEN
        return Standing.EXPIRED if now >= self.expires_at else None


def refuse(environ: "WSGIEnvironment", standing: Standing) -> Response:
    """The refusal of a request, in the protocol of its service and by the name that the service uses.

    https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html (query),
    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (S3),
    https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html (JSON).
    """
    is_expired = standing is Standing.EXPIRED
    text = f"The security token included in the request is {'expired' if is_expired else 'invalid.'}"
    if "HTTP_X_AMZ_TARGET" in environ or "/functions/" in environ["PATH_INFO"]:
        code = "ExpiredTokenException" if is_expired else "UnrecognizedClientException"
        return Response(
            json.dumps({"__type": code, "message": text, "Message": text}),
            status=400 if "HTTP_X_AMZ_TARGET" in environ else 403,
            headers={"x-amzn-ErrorType": code, "x-amzn-RequestId": str(uuid.uuid4())},
            content_type="application/x-amz-json-1.1",
        )
    if query.read(environ):
        return query.refusal("ExpiredToken" if is_expired else "InvalidClientTokenId", text, 403)
    code, text, status = _OF_S3[standing]
    return Response(
        f"<Error><Code>{code}</Code><Message>{escape(text)}</Message></Error>",
        status=status,
        content_type="application/xml",
    )


_OF_S3 = {
    Standing.EXPIRED: ("ExpiredToken", "The provided token has expired.", 400),
    Standing.INVALID_TOKEN: (
        "InvalidToken",
        "The provided token is malformed or otherwise invalid.",
        400,
    ),
    Standing.UNKNOWN_KEY: (
        "InvalidAccessKeyId",
        "The AWS Access Key Id you provided does not exist in our records.",
        403,
    ),
}
