"""The checksum by which Object Storage verifies an upload, since its signature does not cover the body."""

import base64
import binascii
import hashlib
from collections.abc import Mapping

from sandbox.emulators.oci.errors import ApiError, not_emulated


def verified_md5(headers: Mapping[str, str], body: bytes) -> str:
    """The base64 MD5 that Object Storage keeps of every object, compared with that in the headers, if any.

    Raises:
        ApiError: 400, the checksum is malformed or does not match.
    """
    if "opc-checksum-algorithm" in headers:
        raise not_emulated("other checksums than MD5")
    computed = hashlib.md5(body, usedforsecurity=False).digest()
    found = base64.b64encode(computed).decode("ascii")
    given = headers.get("content-md5", found)
    try:
        length = len(base64.b64decode(given, validate=True))
    except binascii.Error:
        length = 0
    if length != len(computed):
        raise ApiError(400, "InvalidContentMD5", "the Content-MD5 header is malformed")
    if given != found:
        raise ApiError(
            400,
            "UnmatchedContentMD5",
            f"The computed MD5 of the request body ({found}) does not match the Content-MD5 header ({given})",
        )
    return found
