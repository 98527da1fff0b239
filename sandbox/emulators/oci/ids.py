"""Identifiers in the shapes that OCI gives them: opaque, and the same in every run."""

import hashlib
import itertools
import uuid
from typing import Final

_NAMESPACE: Final = uuid.UUID("6f0a3d9e-0f6e-4c0e-9a43-2f1f6a5f8c11")


class Ids:
    """Numbers what it names, and hides the numbers; safe to share between threads."""

    def __init__(self) -> None:
        """Begin at one."""
        self._numbers = itertools.count(1)

    def ocid(self, kind: str) -> str:
        """An OCID of a kind of resource, e.g. `vaultsecret`."""
        return f"ocid1.{kind}.oc1.eu-frankfurt-1.{self._digest()[:60]}"

    def etag(self) -> str:
        """An entity tag as Vault gives them: 64 hexadecimal digits."""
        return self._digest()

    def uuid(self) -> str:
        """An entity tag or a version id as Object Storage gives them."""
        return str(uuid.uuid5(_NAMESPACE, self._digest()))

    def request(self) -> str:
        """The service's part of an opc-request-id."""
        return self._digest()[:32].upper()

    def _digest(self) -> str:
        return hashlib.sha256(str(next(self._numbers)).encode("ascii")).hexdigest()
