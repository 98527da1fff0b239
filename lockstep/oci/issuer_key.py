"""The key in OCI Vault that signs the OCI runner's tokens: its versions, with their public halves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.environment import OciCallRefusedError
from lockstep.federation.issuer import PublicKey, management_endpoint, public_key
from lockstep.oci.clients import OciClients, Untyped
from lockstep.oci.reads import explained
from lockstep.ports import Clock

_ENABLED, _CREATING = "ENABLED", "CREATING"
_WITHIN_SECONDS = 60.0
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyVersion:
    """A version of the key.

    Attributes:
        id: Its OCID.
        is_enabled: Whether it signs.
        is_coming: Whether it is being made.
        made_at: When it was made.
    """

    id: str
    is_enabled: bool
    is_coming: bool
    made_at: datetime


class IssuerKeyVersions:
    """The versions of one key.

    Every method raises an EnvironmentalError where the vault does not do it.

    Args:
        clients: Of the vault's region.
        key_id: The OCID of the key.
        endpoint: The cryptographic endpoint of its vault.
        elsewhere: Where everything of OCI is, if not at Oracle's own addresses.
        clock: Bounds the wait for a version that is being made.
    """

    def __init__(
        self, clients: OciClients, *, key_id: str, endpoint: str, elsewhere: str | None, clock: Clock
    ) -> None:
        self._clients = clients
        self._clock = clock
        self._key_id = key_id
        self._endpoint = elsewhere or management_endpoint(endpoint)

    def listed(self) -> Sequence[KeyVersion]:
        """All versions, the oldest first."""
        with explained("ListKeyVersions"):
            found = oci.pagination.list_call_get_all_results(self._management.list_key_versions, self._key_id)
            return sorted(map(_version, found.data), key=lambda version: version.made_at)

    def settled(self) -> Sequence[KeyVersion]:
        """The same, once none is being made any more.

        Raises:
            OciCallRefusedError: It takes too long.
        """
        deadline = self._clock.monotonic() + _WITHIN_SECONDS
        while True:
            found = self.listed()
            if not any(version.is_coming for version in found):
                return found
            if self._clock.monotonic() > deadline:
                raise OciCallRefusedError(action="CreateKeyVersion", code="CREATING")
            self._clock.sleep(_PAUSE_SECONDS)

    def public_key(self, version: str) -> PublicKey:
        """The public half of a version.

        Raises:
            NotAnIssuerKeyError: As `lockstep.federation.issuer.public_key`.
        """
        with explained("GetKeyVersion"):
            shown = self._management.get_key_version(self._key_id, version).data
        return public_key(version, str(shown.public_key or ""))

    def make(self) -> str:
        """Make a version; its OCID. Tokens are signed by the one that the plan names, as before."""
        with explained("CreateKeyVersion"):
            return str(self._management.create_key_version(self._key_id).data.id)

    @property
    def _management(self) -> Untyped:
        return self._clients.of(oci.key_management.KmsManagementClient, endpoint=self._endpoint)


def _version(shown: Untyped) -> KeyVersion:
    return KeyVersion(
        id=str(shown.id),
        is_enabled=shown.lifecycle_state == _ENABLED,
        is_coming=shown.lifecycle_state == _CREATING,
        made_at=shown.time_created,
    )
