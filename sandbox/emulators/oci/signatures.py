"""OCI's HTTP signatures, from the side that checks them (draft-cavage-http-signatures-08, version 1, rsa-sha256).

Source: Oracle's page "Request Signatures", and `oci.signer`, which signs date, (request-target) and host, and for a
body content-length, content-type and x-content-sha256 too; a PutObject is signed without its body.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from sandbox.emulators.oci.errors import not_authenticated
from sandbox.emulators.oci.identity import Credential, Principal
from sandbox.emulators.oci.wire import Request

ALLOWED_SKEW: Final = timedelta(minutes=5)
_ALWAYS_SIGNED: Final = frozenset({"date", "(request-target)", "host"})
_SIGNED_WITH_BODY: Final = frozenset({"content-length", "content-type", "x-content-sha256"})
_METHODS_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_FIELD: Final = re.compile(r'(\w+)="([^"]*)"')
_INCOMPLETE: Final = "The required information to complete authentication was not provided or was incorrect."


def signer_of(
    request: Request,
    credential_of: Callable[[str], Credential | None],
    *,
    now: datetime,
    covers_body: bool,
    covers_host: bool = True,
) -> Principal:
    """The principal that signed the request, after its proof.

    Args:
        request: What came.
        credential_of: The credential that a key id names: `tenancy/user/fingerprint` of an API key, or `ST$` and a
            session token.
        now: The real time, aware: a signature more than five minutes off is refused.
        covers_host: Whether it must cover the host, too (all but those of an instance's certificate).
        covers_body: Whether this operation's signature must cover its body (all but PutObject's).

    Raises:
        ApiError: 401 NotAuthenticated.
    """
    fields = _authorization(request.headers)
    key = credential_of(fields.get("keyId", ""))
    signed = fields.get("headers", "date").lower().split()
    required = _ALWAYS_SIGNED - (set() if covers_host else {"host"}) | (
        {"opc-obo-token"} & request.headers.keys()
    )
    if covers_body and request.method in _METHODS_WITH_BODY:
        required = required | _SIGNED_WITH_BODY
    if key is None or not required.issubset(signed):
        raise not_authenticated(_INCOMPLETE)
    _check_date(request.headers.get("date", ""), now)
    if "x-content-sha256" in signed:
        _check_body(request)
    try:
        key.public_key.verify(
            base64.b64decode(fields.get("signature", ""), validate=True),
            _signing_string(request, signed),
            padding.PKCS1v15(),
            hashes.SHA256(),
        )
    except (InvalidSignature, binascii.Error):
        raise not_authenticated(_INCOMPLETE) from None
    return key.principal


def _authorization(headers: Mapping[str, str]) -> dict[str, str]:
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    fields = dict(_FIELD.findall(rest))
    if scheme != "Signature" or fields.get("algorithm") != "rsa-sha256" or fields.get("version") != "1":
        raise not_authenticated(_INCOMPLETE)
    return fields


def _signing_string(request: Request, signed: list[str]) -> bytes:
    lines = []
    for name in signed:
        if name == "(request-target)":
            lines.append(f"{name}: {request.method.lower()} {request.target}")
        elif name in request.headers:
            lines.append(f"{name}: {request.headers[name]}")
        else:
            raise not_authenticated(_INCOMPLETE)
    return "\n".join(lines).encode("latin-1")


def _check_date(date: str, now: datetime) -> None:
    moment = _parsed(date)
    if moment is None:
        raise not_authenticated(_INCOMPLETE)
    if abs(now - moment) > ALLOWED_SKEW:
        raise not_authenticated(
            f"Date '{date}' is not within allowed clock skew. Current '{now:%a, %d %b %Y %H:%M:%S} UTC'"
        )


# A client that calls many times a second sends the same date each time.
@lru_cache(maxsize=64)
def _parsed(date: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _check_body(request: Request) -> None:
    digest = base64.b64encode(hashlib.sha256(request.body).digest()).decode("ascii")
    if request.headers.get("x-content-sha256") != digest:
        raise not_authenticated(_INCOMPLETE)
