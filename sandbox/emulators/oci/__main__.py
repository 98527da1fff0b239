"""`python -m sandbox.emulators.oci`: an OCI on this machine, until Ctrl-C; see `README.md` beside this file."""

import json
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from sandbox.emulators.oci.identity import write_config_file
from sandbox.emulators.oci.server import OciSandbox


def main() -> int:
    """Start it, and print one line of JSON: the endpoint, an administrator's config file, and what requests name."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="oci-sandbox-") as folder, OciSandbox() as sandbox:
        told = {
            "endpoint": sandbox.endpoint,
            "config_file": str(write_config_file(Path(folder), "administrator", sandbox.config())),
            "compartment_id": sandbox.compartment_id,
            "vault_id": sandbox.vault_id,
            "key_id": sandbox.key_id,
            "namespace": sandbox.namespace,
        }
        sys.stdout.write(f"{json.dumps(told)}\n")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
