"""The issuer's documents in OCI Object Storage. Each method makes one call."""

import base64
import hashlib
from dataclasses import dataclass, field

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.federation.issuer import CACHE_CONTROL, CONTENT_TYPE, Place
from lockstep.oci.clients import OciClients
from lockstep.oci.reads import explained

_MOST_BYTES = 100_000
_PRECONDITION_FAILED = 412


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A document as the bucket has it.

    Attributes:
        etag: Of this content.
        is_served_well: Whether it is served with the content type and the cache time of the issuer's documents.
    """

    content: bytes = field(repr=False)
    etag: str
    is_served_well: bool


class IssuerBucket:
    """The place of an issuer's documents.

    Every method raises an EnvironmentalError where the service does not do it.

    Args:
        clients: Of the bucket's region.
        place: The bucket.
    """

    def __init__(self, clients: OciClients, place: Place) -> None:
        self._clients = clients
        self._bucket = (place.namespace, place.bucket)
        self._prefix = place.prefix

    def read(self, name: str) -> Stored | None:
        """A document, of which no more than 100,000 bytes are read; None where there is none."""
        with explained("GetObject"):
            try:
                reply = self._clients.objects.get_object(*self._bucket, self._prefix + name)
            except oci.exceptions.ServiceError as error:
                if error.code == "ObjectNotFound":
                    return None
                raise
            try:
                content: bytes = reply.data.raw.read(_MOST_BYTES, decode_content=True)
            finally:
                reply.data.close()
            served = (reply.headers.get("content-type"), reply.headers.get("cache-control"))
            return Stored(
                content=content,
                etag=reply.headers["etag"],
                is_served_well=served == (CONTENT_TYPE, CACHE_CONTROL),
            )

    def write(self, name: str, content: bytes, *, over: Stored | None) -> bool:
        """Put a document in the place of what was read; False where another writer came first."""
        seen = {"if_match": over.etag} if over else {"if_none_match": "*"}
        with explained("PutObject"):
            try:
                # The signature of a PUT does not cover its body, so a digest is sent, which the service compares.
                self._clients.objects.put_object(
                    *self._bucket,
                    self._prefix + name,
                    content,
                    content_md5=base64.b64encode(
                        hashlib.md5(content, usedforsecurity=False).digest()
                    ).decode(),
                    content_type=CONTENT_TYPE,
                    cache_control=CACHE_CONTROL,
                    **seen,
                )
            except oci.exceptions.ServiceError as error:
                if error.status == _PRECONDITION_FAILED:
                    return False
                raise
        return True
