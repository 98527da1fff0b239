"""The callers: principals, the API keys of users, and the permissions that policies have given them.

Permissions bear OCI's names; which operation asks for which is in Oracle's policy references ("Details for the
Vault Service", "Details for Object Storage and Archive Storage").
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

TENANCY: Final = "ocid1.tenancy.oc1..sandbox"
REGION: Final = "eu-frankfurt-1"
# OCI takes API keys of 2,048 bits or more.
_KEY_BITS: Final = 2048

Kind = Literal["user", "identityfederateddomainapp", "instance", "workload"]
"""What `request.principal.type` says: a user, a workload of elsewhere that an identity domain let in, or of OCI."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One permission, on one resource (a secret's OCID, a bucket's name) or, with None, on all.

    With a compartment it covers only what is in that compartment. The sandbox's compartments are siblings.

    A grant on one resource does not cover listing or creating: such a request names no target, and a condition on a
    variable that a request lacks makes a policy statement false ("Conditions", Oracle's policy syntax).
    """

    permission: str
    resource: str | None = None
    compartment: str | None = None


@dataclass(slots=True)
class Principal:
    """A user, an instance or a function, as policies see it.

    Attributes:
        name: A user's name, or the subject of a federated workload.
        ocid: Its id.
        kind: Policies for one kind do not cover another of the same name.
        grants: What policies allow.
        is_administrator: It may do everything.
    """

    name: str
    ocid: str
    kind: Kind = "user"
    grants: set[Grant] = field(default_factory=set)
    is_administrator: bool = False

    def may(self, permission: str, *, resource: str | None, compartment: str) -> bool:
        """Whether a policy gives the permission on the resource; None for a request without one.

        Args:
            permission: OCI's name.
            resource: A secret's OCID or a bucket's name.
            compartment: Where the resource is, or what the request lists.
        """
        covering = (
            Grant(permission, name, place) for name in {None, resource} for place in (None, compartment)
        )
        return self.is_administrator or any(grant in self.grants for grant in covering)


@dataclass(frozen=True, slots=True)
class Credential:
    """What verifies a request's signature, and whose it is."""

    public_key: rsa.RSAPublicKey
    principal: Principal


@dataclass(frozen=True, slots=True)
class ApiKey(Credential):
    """A registered key of a user."""

    fingerprint: str

    @property
    def key_id(self) -> str:
        """As signatures name it."""
        return f"{TENANCY}/{self.principal.ocid}/{self.fingerprint}"


def new_private_key() -> rsa.RSAPrivateKey:
    """A key pair such as OCI takes as an API key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)


# Making one takes as long as a hundred calls: what a user gets by default is the same in every sandbox of a process.
@cache
def _own_key(_name: str, _number: int) -> rsa.RSAPrivateKey:
    return new_private_key()


def pem_of(public_key: rsa.RSAPublicKey) -> str:
    """A public key as the services show it."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return public_key.public_bytes(serialization.Encoding.PEM, form).decode("ascii")


class Identity:
    """The tenancy's principals and keys."""

    def __init__(self) -> None:
        """Begin without principals."""
        self._lock = threading.Lock()
        self._principals: dict[tuple[str, Kind], Principal] = {}
        self._keys: dict[str, ApiKey] = {}
        self._own_keys: Counter[str] = Counter()

    def principal(self, name: str, kind: Kind | None = None) -> Principal:
        """The principal of that name; a new one may do nothing.

        Args:
            name: A user's name or the subject of a federated workload.
            kind: By default a workload where the name has a colon, as a role's ARN has: no user's name may have one.
        """
        kind = kind or ("identityfederateddomainapp" if ":" in name else "user")
        with self._lock:
            ocid = f"ocid1.{kind}.oc1..{hashlib.sha256(name.encode()).hexdigest()[:32]}"
            return self._principals.setdefault((name, kind), Principal(name, ocid, kind))

    def user(self, ocid: str) -> Principal | None:
        """The user of an OCID."""
        with self._lock:
            return next((p for p in self._principals.values() if p.ocid == ocid and p.kind == "user"), None)

    def permit(
        self, name: str, *permissions: str, resource: str | None = None, compartment: str | None = None
    ) -> None:
        """Give a principal permissions, on one resource or on all, in one compartment or in all."""
        self.principal(name).grants.update(
            Grant(permission, resource, compartment) for permission in permissions
        )

    def forbid(self, name: str, *permissions: str) -> None:
        """Take permissions from a principal, on every resource."""
        principal = self.principal(name)
        principal.grants = {grant for grant in principal.grants if grant.permission not in permissions}

    # ---- API keys

    def new_api_key(self, name: str, private_key: rsa.RSAPrivateKey | None = None) -> dict[str, str]:
        """Register an API key for a user, by default another than all before; an SDK config that signs with it."""
        private_key = private_key or self._next_key(name)
        principal = self.principal(name)
        registered = self._register(principal, private_key.public_key())
        pem = private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "tenancy": TENANCY,
            "user": principal.ocid,
            "fingerprint": registered.fingerprint,
            "key_content": pem.decode("ascii"),
            "region": REGION,
        }

    def _next_key(self, name: str) -> rsa.RSAPrivateKey:
        with self._lock:
            self._own_keys[name] += 1
            number = self._own_keys[name]
        return _own_key(name, number)

    def _register(self, user: Principal, public_key: rsa.RSAPublicKey) -> ApiKey:
        """Let requests be signed for a user by the private key of `public_key`."""
        der = public_key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        digest = hashlib.md5(der, usedforsecurity=False).hexdigest()
        fingerprint = ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))
        key = ApiKey(public_key, user, fingerprint)
        with self._lock:
            self._keys[key.key_id] = key
        return key

    def delete_api_key(self, config: dict[str, str]) -> None:
        """Unregister the key that a config signs with; its next call is refused."""
        with self._lock:
            del self._keys[f"{config['tenancy']}/{config['user']}/{config['fingerprint']}"]

    def api_key(self, key_id: str) -> ApiKey | None:
        """The registered key of an id, `tenancy/user/fingerprint`."""
        return self._keys.get(key_id)


# SDK config files, as processes outside OCI have them.
def write_config_file(folder: Path, name: str, config: Mapping[str, str]) -> Path:
    """Write a config of the sandbox as `<name>.config`, which names its key's file; only their owner may read both."""
    key_file, config_file = folder / f"{name}.pem", folder / f"{name}.config"
    lines = [f"{k}={v}" for k, v in config.items() if k != "key_content"]
    texts = {
        key_file: config["key_content"],
        config_file: "\n".join(["[DEFAULT]", *lines, f"key_file={key_file}", ""]),
    }
    for file, text in texts.items():
        file.touch(mode=0o600)
        file.write_text(text)
    return config_file
