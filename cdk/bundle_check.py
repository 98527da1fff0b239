"""Imports all that a bundle holds, and nothing else: `python -I -S cdk/bundle_check.py CONTENT SERVICE…`.

Trimming may take away what is imported late: by the handling of an error, by a signer, by a retry. So every module is
imported, and a client of every service made, when the bundle is built. Exit code: 0, or 1 with a line for each failure.
"""

import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

OPTIONAL = frozenset(
    {
        *(
            "aiohttp",
            "awscrt",
            "boto3",
            "brotli",
            "brotlicffi",
            "cffi",
            "chardet",
            "charset_normalizer",
            "compression",
        ),
        *("google", "h2", "hpack", "idna", "js", "OpenSSL", "pkcs11", "pyodide"),
        *("simplejson", "socks", "backports"),
    }
)
"""Packages that others can use, and do without."""
SKIPPED = frozenset({"plan", "__pycache__", "__main__"})


def modules(content: Path) -> Iterator[str]:
    """Every module below a folder."""
    for file in sorted([*content.rglob("*.py"), *content.rglob("*.pyc")]):
        path = file.relative_to(content).with_suffix("")
        parts = path.parts[:-1] if path.name == "__init__" else path.parts
        if not SKIPPED.intersection(parts) and not path.parts[0].endswith(".dist-info"):
            yield ".".join(parts)


def failures(content: Path, optional: frozenset[str]) -> Iterator[str]:
    """A line for each module that cannot be imported."""
    for name in modules(content):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in optional:
                yield f"{name}: {error}"
        except Exception as error:  # noqa: BLE001 - whatever keeps it from being imported
            yield f"{name}: {type(error).__name__}: {error}"


def make_clients(content: Path, services: Sequence[str]) -> None:
    """Make a client of each of these services of AWS, and of OCI where its SDK is in the bundle."""
    import botocore.session  # noqa: PLC0415 - from the bundle

    session = botocore.session.Session()
    for service in services:
        session.create_client(
            service,
            "eu-central-1",
            aws_access_key_id="none",
            aws_secret_access_key="none",  # noqa: S106 - it signs nothing
        )
    if (content / "oci").exists():
        _make_oci_clients()


def _make_oci_clients() -> None:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - likewise
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - likewise

    from lockstep.oci.clients import OciClients, OciIdentity  # noqa: PLC0415 - likewise

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    identity = OciIdentity(
        config={
            "tenancy": "ocid1.tenancy.oc1..none",
            "user": "ocid1.user.oc1..none",
            "fingerprint": ":".join(["00"] * 16),
            "key_content": key.decode(),
        }
    )
    clients = OciClients(lambda: identity, "eu-frankfurt-1")
    _ = clients.vaults, clients.secrets, clients.objects


def main(content: Path, services: Sequence[str]) -> int:
    """Check a bundle, and print what is wrong."""
    sys.path.insert(0, str(content))
    optional = OPTIONAL if (content / "oci").exists() else OPTIONAL | {"oci"}
    wrong = list(failures(content, optional))
    sys.stdout.writelines(f"{line}\n" for line in wrong)
    make_clients(content, services)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
