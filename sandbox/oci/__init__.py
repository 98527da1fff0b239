"""OCI on one machine, for the unmodified SDK: Vault, keys, Object Storage, users, and the identity domain."""

from sandbox.oci.calls import CallRecord
from sandbox.oci.clock import SandboxClock
from sandbox.oci.config_file import write_config_file
from sandbox.oci.faults import Effect, Fault
from sandbox.oci.identity import Grant
from sandbox.oci.identity_domain import DomainBehaviour, IdentityDomain
from sandbox.oci.keys import Key
from sandbox.oci.server import OBJECT_STORAGE_HOST, OciSandbox
from sandbox.oci.trusts import App, Trust
from sandbox.oci.vault import VaultBehaviour

__all__ = [
    "OBJECT_STORAGE_HOST",
    "App",
    "CallRecord",
    "DomainBehaviour",
    "Effect",
    "Fault",
    "Grant",
    "IdentityDomain",
    "Key",
    "OciSandbox",
    "SandboxClock",
    "Trust",
    "VaultBehaviour",
    "write_config_file",
]
