"""Published plans in OCI Object Storage; the counterpart of `lockstep.aws.plan_bucket`.

Every method makes one call, except `listed`, which makes one for each page.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.errors import LockstepError, PlanAccessDeniedError, PlanUnreachableError
from lockstep.oci.clients import OciClients, Trouble
from lockstep.published.source import Listed, whole

_ERRORS: Mapping[Trouble, type[LockstepError]] = {
    Trouble.UNREACHABLE: PlanUnreachableError,
    Trouble.THROTTLED: PlanUnreachableError,
    Trouble.BUSY: PlanUnreachableError,
    Trouble.NOT_FOUND: PlanAccessDeniedError,
    Trouble.CHANGED: PlanUnreachableError,
    Trouble.QUOTA: PlanAccessDeniedError,
    Trouble.DENIED: PlanAccessDeniedError,
    Trouble.REJECTED: PlanAccessDeniedError,
}
_PRECONDITION_FAILED = 412
_NO_OBJECT = "ObjectNotFound"


class ObjectStoragePlanBucket:
    """The documents of one folder of a bucket.

    Args:
        clients: The clients of the bucket's region.
        namespace: The tenancy's Object Storage namespace.
        bucket: The bucket's name.
        folder: That of the plan (`lockstep.published.places.folder_of`).
        page_size: Objects in one list; the service returns at most 1,000.
    """

    def __init__(
        self, clients: OciClients, *, namespace: str, bucket: str, folder: str, page_size: int = 1000
    ) -> None:
        self._clients = clients
        self._bucket = (namespace, bucket)
        self._folder = f"{folder}/"
        self._page_size = page_size

    def read(self, name: str, limit: int) -> bytes | None:
        """The file of a document, and no more than `limit` bytes and one; None where there is none."""
        with self._translated(name):
            try:
                reply = self._clients.objects.get_object(*self._bucket, self._folder + name)
            except oci.exceptions.ServiceError as error:
                if error.code == _NO_OBJECT:
                    return None
                raise
            try:
                body: bytes = reply.data.raw.read(limit + 1, decode_content=True)
            finally:
                reply.data.close()
            return whole(body, length=int(reply.headers["content-length"]), limit=limit, name=name)

    def create(self, name: str, file: bytes) -> bool:
        """Write a document; False where the name is taken."""
        with self._translated(name):
            try:
                # The signature of a PUT does not cover its body, so a digest is sent, which the service compares.
                self._clients.objects.put_object(
                    *self._bucket,
                    self._folder + name,
                    file,
                    if_none_match="*",
                    content_md5=self.tag(file),
                    content_type="application/json",
                )
            except oci.exceptions.ServiceError as error:
                if error.status == _PRECONDITION_FAILED:
                    return False
                raise
        return True

    def delete(self, name: str) -> None:
        """Delete a document, if it is there; it stays as an older version."""
        with self._translated(name):
            try:
                self._clients.objects.delete_object(*self._bucket, self._folder + name)
            except oci.exceptions.ServiceError as error:
                # A try whose reply was lost has deleted it, or somebody else has.
                if error.code != _NO_OBJECT:
                    raise

    def listed(self) -> Iterator[Listed]:
        """What is in the folder, page by page."""
        start = self._folder
        while start:
            with self._translated(self._folder):
                reply = self._clients.objects.list_objects(
                    *self._bucket,
                    prefix=self._folder,
                    start=start,
                    limit=self._page_size,
                    fields="name,size,md5",
                ).data
                page = [
                    Listed(name=item.name.removeprefix(self._folder), size=item.size or 0, tag=item.md5 or "")
                    for item in reply.objects
                ]
                following = reply.next_start_with
            yield from page
            # A start that does not advance would loop forever.
            start = following if following and following > start else ""

    @staticmethod
    def tag(file: bytes) -> str:
        """The tag that the list gives for this content: its MD5."""
        return base64.b64encode(hashlib.md5(file, usedforsecurity=False).digest()).decode()

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        with self._clients.translated(_ERRORS, path=name):
            yield
