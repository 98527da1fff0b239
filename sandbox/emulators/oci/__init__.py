"""OCI on one machine, for the unmodified SDK: Vault, keys, Object Storage, users, and the identity domain."""

from sandbox.emulators.oci.clock import SandboxClock
from sandbox.emulators.oci.faults import Fault
from sandbox.emulators.oci.identity import write_config_file
from sandbox.emulators.oci.server import OciSandbox

__all__ = [
    "Fault",
    "OciSandbox",
    "SandboxClock",
    "write_config_file",
]
