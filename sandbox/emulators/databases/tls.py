"""The sandbox's certificate authority, for servers whose certificates are right, and wrong in known ways."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import trustme

from sandbox.emulators.databases.process import write_private_file

# The names under which clients reach the sandbox's servers.
SERVER_NAMES = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Certificate:
    """A server certificate and its key, as PEM files; the key file is readable by its owner alone."""

    chain_file: Path
    key_file: Path


@dataclass
class CertificateAuthority:
    """Issues server certificates, which a client verifies with `ca_file`.

    Args:
        folder: Takes the PEM files; made if absent.
    """

    folder: Path
    _authority: trustme.CA = field(init=False, repr=False, default_factory=trustme.CA)
    _serial: Iterator[int] = field(init=False, repr=False, default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._authority.cert_pem.write_to_path(self.ca_file)

    @property
    def ca_file(self) -> Path:
        """The authority's own certificate, as PEM."""
        return self.folder / "ca.pem"

    def issue(self, *names: str) -> Certificate:
        """A valid certificate for host names or IP addresses; for `SERVER_NAMES` when none is given."""
        leaf = self._authority.issue_cert(*(names or SERVER_NAMES))
        serial = next(self._serial)
        certificate = Certificate(self.folder / f"server-{serial}.pem", self.folder / f"server-{serial}.key")
        certificate.chain_file.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        write_private_file(certificate.key_file, leaf.private_key_pem.bytes())
        return certificate
