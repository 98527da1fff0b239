"""OCI on one machine: Vault, secret retrieval and Object Storage behind HTTP, for the unmodified SDK."""

from sandbox.oci.calls import CallRecord
from sandbox.oci.clock import SandboxClock
from sandbox.oci.config_file import write_config_file
from sandbox.oci.faults import Effect, Fault
from sandbox.oci.identity import Grant
from sandbox.oci.server import OciSandbox
from sandbox.oci.vault import VaultBehaviour

__all__ = [
    "CallRecord",
    "Effect",
    "Fault",
    "Grant",
    "OciSandbox",
    "SandboxClock",
    "VaultBehaviour",
    "write_config_file",
]
