"""OCI on one machine, for the unmodified SDK: Vault, keys, Object Storage, users, and the identity domain."""

from sandbox.emulators.oci.calls import CallRecord
from sandbox.emulators.oci.clock import SandboxClock
from sandbox.emulators.oci.faults import Effect, Fault
from sandbox.emulators.oci.identity import Grant, write_config_file
from sandbox.emulators.oci.identity_domain import App, IdentityDomain, Trust
from sandbox.emulators.oci.keys import Key
from sandbox.emulators.oci.server import OBJECT_STORAGE_HOST, OciSandbox
from sandbox.emulators.oci.vault import VaultBehaviour

__all__ = [
    "OBJECT_STORAGE_HOST",
    "App",
    "CallRecord",
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
