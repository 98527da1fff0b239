"""Imports all that a bundle holds, and nothing else: `python -I -S cdk/bundle_check.py CONTENT SERVICE…`.

With `--only PACKAGE,…` it imports these alone, where others have parts for programs that are not there, as in the
agent's image.

Trimming may take away what is imported late: by the handling of an error, by a signer, by a retry; or what a request
needs of a service's model. So every module is imported, a client of every service made, and a call of every service of
AWS, when the bundle is built. Exit code: 0, or 1 with a line for each failure.
"""

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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
        *("google", "grpc", "h2", "hpack", "idna", "js", "OpenSSL", "pkcs11", "pyodide"),
        *("simplejson", "socks", "backports"),
    }
)
"""Packages that others can use, and do without."""
SKIPPED = frozenset({"__pycache__", "__main__"})


def modules(content: Path) -> Iterator[str]:
    """Every module below a folder."""
    for file in sorted([*content.rglob("*.py"), *content.rglob("*.pyc")]):
        path = file.relative_to(content).with_suffix("")
        parts = path.parts[:-1] if path.name == "__init__" else path.parts
        if not SKIPPED.intersection(parts) and not path.parts[0].endswith(".dist-info"):
            yield ".".join(parts)


def failures(content: Path, optional: frozenset[str], only: Sequence[str]) -> Iterator[str]:
    """A line for each module that cannot be imported, of some packages or of all."""
    for name in modules(content):
        if only and not any(f"{name}.".startswith(f"{package}.") for package in only):
            continue
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in optional:
                yield f"{name}: {error}"
        except Exception as error:  # noqa: BLE001 - whatever keeps it from being imported
            yield f"{name}: {type(error).__name__}: {error}"


def failed_calls(services: Sequence[str]) -> Iterator[str]:
    """Make a client of each of these services of AWS, and one call; a line for each that does not get to its answer."""
    import botocore.session  # noqa: PLC0415 - from the bundle
    from botocore.exceptions import ClientError  # noqa: PLC0415 - likewise

    session = botocore.session.Session()
    for service in services:
        client = session.create_client(
            service,
            "eu-central-1",
            aws_access_key_id="none",
            aws_secret_access_key="none",  # noqa: S106 - nothing is sent
        )
        client.meta.events.register("before-send", _refusal)
        names = client.meta.method_to_api_mapping
        operation = next(n for n, api in names.items() if _needs_nothing(client.meta.service_model, api))
        try:
            getattr(client, operation)()
        except ClientError:
            continue
        except Exception as error:  # noqa: BLE001 - whatever keeps it from the answer
            yield f"{service}.{operation}: {type(error).__name__}: {error}"


def _needs_nothing(model: Any, api: str) -> bool:  # noqa: ANN401 - of botocore, which has no types
    shape = model.operation_model(api).input_shape
    return shape is None or not shape.required_members


def _refusal(request: Any, **_more: object) -> Any:  # noqa: ANN401 - likewise
    """What the service answers to a call that is not sent."""
    from botocore.awsrequest import AWSResponse, HeadersDict  # noqa: PLC0415 - from the bundle

    class Body:
        def stream(self, *_arguments: object, **_options: object) -> Iterator[bytes]:
            yield b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"

    # botocore's stubs know another class of headers than botocore.
    return AWSResponse(request.url, 403, HeadersDict(), Body())  # type: ignore[arg-type]


def make_oci_clients() -> None:
    """Make the clients of OCI."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - likewise
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - likewise
    from oci.key_management import KmsCryptoClient  # type: ignore[import-untyped]  # noqa: PLC0415 - likewise, untyped

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
    clients.of(KmsCryptoClient, endpoint="https://none-crypto.kms.eu-frankfurt-1.oraclecloud.com")


def main(content: Path, services: Sequence[str], only: Sequence[str]) -> int:
    """Check a bundle, and print what is wrong."""
    sys.path.insert(0, str(content))
    optional = OPTIONAL if (content / "oci").exists() else OPTIONAL | {"cryptography", "oci"}
    wrong = list(failures(content, optional, only))
    wrong += failed_calls(services)
    if (content / "oci").exists():
        make_oci_clients()
    sys.stdout.writelines(f"{line}\n" for line in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python cdk/bundle_check.py")
    parser.add_argument("content", type=Path)
    parser.add_argument("services", nargs="*")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    asked = parser.parse_args()
    sys.exit(main(asked.content.resolve(), asked.services, asked.only))
