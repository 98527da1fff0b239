"""The checksums by which Object Storage verifies an upload, since its signature does not cover the body."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from typing import Final

import crc32c

from sandbox.oci.errors import ApiError

_ALGORITHMS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "CRC32C": lambda body: crc32c.crc32c(body).to_bytes(4, "big"),
    "SHA256": lambda body: hashlib.sha256(body).digest(),
    "SHA384": lambda body: hashlib.sha384(body).digest(),
}


def md5_of(body: bytes) -> str:
    """The base64 MD5 that Object Storage keeps of every object."""
    return _base64(hashlib.md5(body, usedforsecurity=False).digest())


def verified(headers: Mapping[str, str], body: bytes) -> dict[str, str]:
    """Hold the body against the checksums in the headers.

    Returns:
        The headers in which the service gives back the checksums that it keeps.

    Raises:
        ApiError: 400, a checksum is malformed, does not match, or comes without its algorithm.
    """
    kept = {"opc-content-md5": md5_of(body)}
    if (md5 := headers.get("content-md5")) is not None:
        _compare(md5, kept["opc-content-md5"], "MD5", "Content-MD5", malformed="InvalidContentMD5")
    named = headers.get("opc-checksum-algorithm", "").upper()
    if named and named not in _ALGORITHMS:
        raise ApiError(400, "MissingOrInvalidChecksumType", "opc-checksum-algorithm is not known")
    for algorithm, digest in _ALGORITHMS.items():
        header = f"opc-content-{algorithm.lower()}"
        if algorithm != named:
            if header in headers:
                raise ApiError(400, "MissingOrInvalidChecksumType", f"{header} needs opc-checksum-algorithm")
            continue
        kept[header] = _base64(digest(body))
        if (given := headers.get(header)) is not None:
            _compare(given, kept[header], algorithm, header, malformed="MissingOrInvalidChecksum")
    return kept


def _compare(given: str, computed: str, label: str, header: str, *, malformed: str) -> None:
    try:
        length = len(base64.b64decode(given, validate=True))
    except binascii.Error:
        length = 0
    if length != len(base64.b64decode(computed)):
        raise ApiError(400, malformed, f"the {header} header is malformed")
    if given != computed:
        raise ApiError(
            400,
            f"UnmatchedContent{label}",
            f"The computed {label} of the request body ({computed}) does not match the {header} header ({given})",
        )


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")
