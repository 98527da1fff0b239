"""The key in OCI Vault that signs the OCI runner's tokens: its versions, with their public halves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.federation.issuer import PublicKey, management_endpoint, public_key
from lockstep.oci.clients import OciClients, Untyped
from lockstep.oci.reads import explained

_ENABLED = "ENABLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyVersion:
    """A version of the key.

    Attributes:
        id: Its OCID.
        is_enabled: Whether it signs.
        made_at: When it was made.
    """

    id: str
    is_enabled: bool
    made_at: datetime


class IssuerKeyVersions:
    """The versions of one key.

    Every method raises an EnvironmentalError where the vault does not do it.

    Args:
        clients: Of the vault's region.
        key_id: The OCID of the key.
        endpoint: The cryptographic endpoint of its vault.
        elsewhere: Where everything of OCI is, if not at Oracle's own addresses.
    """

    def __init__(self, clients: OciClients, *, key_id: str, endpoint: str, elsewhere: str | None) -> None:
        self._clients = clients
        self._key_id = key_id
        self._endpoint = elsewhere or management_endpoint(endpoint)

    def listed(self) -> Sequence[KeyVersion]:
        """All versions, the oldest first."""
        with explained("ListKeyVersions"):
            found = oci.pagination.list_call_get_all_results(self._management.list_key_versions, self._key_id)
            return sorted(map(_version, found.data), key=lambda version: version.made_at)

    def public_key(self, version: str) -> PublicKey:
        """The public half of a version.

        Raises:
            NotAnIssuerKeyError: As `lockstep.federation.issuer.public_key`.
        """
        with explained("GetKeyVersion"):
            shown = self._management.get_key_version(self._key_id, version).data
        return public_key(version, str(shown.public_key or ""))

    def make(self) -> KeyVersion:
        """Make a version. Tokens are signed by the one that the plan names, as before."""
        with explained("CreateKeyVersion"):
            return _version(self._management.create_key_version(self._key_id).data)

    @property
    def _management(self) -> Untyped:
        return self._clients.of(oci.key_management.KmsManagementClient, endpoint=self._endpoint)


def _version(shown: Untyped) -> KeyVersion:
    return KeyVersion(
        id=str(shown.id), is_enabled=shown.lifecycle_state == _ENABLED, made_at=shown.time_created
    )
