"""API keys of a user in OCI: making, uploading, proving and deleting them.

Keys are changed in the tenancy's home region
(https://docs.oracle.com/iaas/Content/Identity/Tasks/managingregions.htm).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import oci  # type: ignore[import-untyped]  # the SDK ships no types
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from lockstep.environment import OciIdentityRefusedError
from lockstep.model import SecretStr
from lockstep.oci.clients import OciClients, Untyped
from lockstep.oci.reads import explained
from lockstep.ports import Clock
from lockstep.runner_keys import Registered, proven

MOST = 3
"""API keys that a user may have (https://docs.oracle.com/iaas/Content/API/Concepts/apisigningkey.htm)."""
_BITS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A new API key."""

    private_key: SecretStr
    public_key: str

    @property
    def fingerprint(self) -> str:
        """By which OCI knows it: the MD5 of the public key, in pairs."""
        der = serialization.load_pem_public_key(self.public_key.encode()).public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        digest = hashlib.md5(der, usedforsecurity=False).hexdigest()
        return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def new_pair() -> KeyPair:
    """An RSA key pair, which is in this process alone."""
    return pair_of(
        SecretStr(
            rsa.generate_private_key(public_exponent=65537, key_size=_BITS)
            .private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            .decode("ascii")
        )
    )


def pair_of(private_key: SecretStr) -> KeyPair:
    """The pair of a private key without a pass phrase.

    Raises:
        ValueError: It is no private key.
    """
    try:
        public_key = serialization.load_pem_private_key(private_key.reveal().encode(), None).public_key()
    except (ValueError, TypeError):
        raise ValueError("not a private key") from None  # The text of the other may quote it.
    pem = public_key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode("ascii")
    return KeyPair(private_key=private_key, public_key=pem)


class ApiKeys:
    """The keys of one user. Every method raises an EnvironmentalError where OCI does not do it.

    Args:
        clients: Gives the clients of a region, of who changes the keys.
        tenancy: Its OCID.
        user: The OCID of whose keys they are.
        region: A region of the tenancy.
    """

    def __init__(self, clients: Callable[[str], OciClients], *, tenancy: str, user: str, region: str) -> None:
        self._clients = clients
        self._tenancy = tenancy
        self._region = region
        self._home: Untyped = None
        self.user = user

    def listed(self) -> Sequence[Registered]:
        """All keys of the user."""
        with explained("ListApiKeys"):
            found = self._identity.list_api_keys(self.user).data
            return [Registered(id=str(key.fingerprint), made_at=key.time_created) for key in found]

    def upload(self, public_key: str) -> None:
        """Register a key."""
        with explained("UploadApiKey"):
            self._identity.upload_api_key(self.user, oci.identity.models.CreateApiKeyDetails(key=public_key))

    def delete(self, fingerprint: str) -> None:
        """Delete a key."""
        with explained("DeleteApiKey"):
            self._identity.delete_api_key(self.user, fingerprint)

    @property
    def _identity(self) -> Untyped:
        if self._home is None:
            with explained("ListRegionSubscriptions"):
                client = self._clients(self._region).of(oci.identity.IdentityClient)
                regions = client.list_region_subscriptions(self._tenancy).data
            home = next((r.region_name for r in regions if r.is_home_region), self._region)
            self._home = self._clients(home).of(oci.identity.IdentityClient)
        return self._home


def prove(clients: OciClients, clock: Clock) -> None:
    """Show that the key with which clients sign works: its user lists the own keys, which needs no policy.

    Raises:
        EnvironmentalError: It does not, or not in time.
    """

    def call() -> None:
        with explained("ListApiKeys"):
            clients.of(oci.identity.IdentityClient).list_api_keys(clients.config["user"])

    proven(call, OciIdentityRefusedError, clock)
