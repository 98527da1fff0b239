"""What a bundle, or the agent's image, leaves out of the packages that it installs, and why nothing misses it.

The two SDKs know hundreds of services; Lockstep calls a handful. What is left out here is found missing by
`cdk.bundle_check`, which imports all that is left, and by the tests, which run the bundle.

    python cdk/bundle_trim.py agent FOLDER

trims packages that are installed already, such as those of the agent's image.
"""

import gzip
import json
import shutil
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["aws", "oci", "agent"]
"""The functions of a cloud, or the agent."""

BOTOCORE_SERVICES = frozenset(
    {"dynamodb", "events", "iam", "kms", "s3", "secretsmanager", "stepfunctions", "sts"}
)
# The SDK's waiter imports work_requests.
OCI_SERVICES = frozenset(
    {"functions", "key_management", "object_storage", "ons", "secrets", "vault", "work_requests"}
)

# Other packages require these, but neither a handler nor the agent imports them: the SDK's asynchronous client, its
# support for hardware tokens, the test tools that fdk depends on.
_UNUSED = frozenset(
    {
        "aiohappyeyeballs",
        "aiohttp",
        "aiosignal",
        "attr",
        "attrs",
        "boto3",
        "bin",
        "cffi",
        "Cython",
        "cython.py",
    }
    | {"_distutils_hack", "distutils-precedence.pth", "docs", "frozenlist", "idna", "iniconfig", "iso8601"}
    | {"multidict", "OpenSSL", "packaging", "pbr", "pkcs11", "pluggy", "propcache", "py.py", "pycparser"}
    | {"pygments", "pyopenssl", "_pytest", "pytest", "pytest_asyncio", "python_pkcs11", "pyximport"}
    | {"s3transfer", "setuptools", "wheel", "yarl"}
)
# What reads a plan file; a function reads the compiled plan.
_FOR_PLANS = frozenset(
    {"annotated_types", "durationpy", "pydantic", "pydantic_core", "ruamel", "ruamel_yaml"}
) | {
    "typing_extensions",
    "typing_extensions.py",
    "typing_inspection",
}
_FOR_OCI_FUNCTIONS = frozenset({"fdk", "httptools"})
# The command line, the drivers of databases, and what has installed the packages.
_NOT_FOR_AGENTS = frozenset(
    {"asn1crypto", "fdk", "markdown_it", "mdurl", "pg8000", "pip", "pymysql", "rich"}
) | {
    "annotated_doc",
    "colorama",
    "scramp",
    "shellingham",
    "typer",
}
_LEFT_OUT: Mapping[Kind, frozenset[str]] = {
    "aws": _UNUSED | _FOR_PLANS | _FOR_OCI_FUNCTIONS,
    "oci": _UNUSED | _FOR_PLANS,
    "agent": _UNUSED | _NOT_FOR_AGENTS,
}

# Parts of packages that nothing imports.
_PARTS = (
    "botocore/cacert.pem",  # It takes certifi's.
    "botocore/crt/auth.py",
    "botocore/docs/translator.py",
    "botocore/data/dynamodb/2011-12-05",
    "cryptography/hazmat/bindings/_rust",  # Type stubs; the library beside it has the same name.
    "dateutil/tz/win.py",
    "dateutil/tzwin.py",
    "dateutil/zoneinfo/dateutil-zoneinfo.tar.gz",  # Of zones, only UTC is used.
    "fdk/scripts/fdk_tcp_debug.py",
    "fdk/tests",
    "oci/addons",
    "oci/async_base_client.py",
    "oci/encryption",
    "oci/_vendor/chardet",  # See _STUBS.
    "pytz/zoneinfo",  # Likewise.
)
# What is imported where nothing of it is used.
_STUBS = {
    # Pagination asks whether a reply is one of these two; no reply is.
    "oci/dns/__init__.py": ("class models:\n    class RecordCollection: ...\n    class RRSet: ...\n"),
    # Guesses the encoding of a text that does not say it. OCI answers in JSON.
    "oci/_vendor/chardet/__init__.py": (
        "__version__ = '4.0.0'\n\n\ndef detect(text):\n    return {'encoding': None}\n"
    ),
}
_BOTOCORE_DATA = frozenset(
    {"examples-1.json", "paginators-1.json", "paginators-1.sdk-extras.json", "waiters-2.json"}
)
"""Files of a service: examples of its documentation, and helpers that Lockstep does not use."""
_SUFFIXES = frozenset({".c", ".h", ".pxd", ".pyi", ".pyx"})
_METADATA = frozenset({"INSTALLER", "RECORD", "REQUESTED", "WHEEL", "top_level.txt", "zip-safe"})
"""Of an installation. Names, versions and licences stay."""


def trim(content: Path, kind: Kind) -> None:
    """Leave out of the installed packages what is not used.

    Args:
        content: The folder with the packages.
        kind: What uses them.
    """
    _leave_out(content, _LEFT_OUT[kind])
    _trim_botocore(content / "botocore" / "data")
    for part in _PARTS:
        _remove(content / part)
    if (content / "oci").exists():
        _trim_oci(content)
    for file in [f for f in content.rglob("*") if f.is_file()]:
        if file.suffix in _SUFFIXES or (file.parent.suffix == ".dist-info" and file.name in _METADATA):
            file.unlink()
        elif file.suffix == ".so":
            strip(file)


def _leave_out(content: Path, names: frozenset[str]) -> None:
    for entry in content.iterdir():
        name = entry.name
        distribution = name.removesuffix(".dist-info").partition("-")[0]
        if name in names or (name.endswith(".dist-info") and distribution in {n.lower() for n in names}):
            _remove(entry)


def _trim_oci(content: Path) -> None:
    # A folder of the SDK that has models belongs to a service.
    for models in list((content / "oci").glob("*/models")):
        if models.parent.name not in OCI_SERVICES:
            shutil.rmtree(models.parent)
    for name, text in _STUBS.items():
        (content / name).parent.mkdir()
        (content / name).write_text(text)


def _trim_botocore(data: Path) -> None:
    endpoints = json.loads((data / "endpoints.json").read_text())
    for partition in endpoints["partitions"]:
        services = partition["services"]
        partition["services"] = {name: services[name] for name in services if name in BOTOCORE_SERVICES}
    for folder in [f for f in data.iterdir() if f.is_dir()]:
        if folder.name not in BOTOCORE_SERVICES:
            shutil.rmtree(folder)
    for file in [f for f in data.rglob("*") if f.is_file()]:
        if file.name in _BOTOCORE_DATA:
            file.unlink()
        elif file.name == "service-2.json.gz":
            model = _undocumented(json.loads(gzip.decompress(file.read_bytes())))
            # Without a date, so that the same content gives the same bytes.
            _rewrite(file, gzip.compress(_compact(model), mtime=0))
    _rewrite(data / "endpoints.json", _compact(endpoints))


def _undocumented(model: Any) -> Any:  # noqa: ANN401 - JSON
    """A service's model with its texts emptied: botocore asks for some of them.

    A member of a shape may have that name, with a mapping as its value.
    """
    if isinstance(model, list):
        return [_undocumented(item) for item in model]
    if isinstance(model, dict):
        return {
            key: "" if key == "documentation" and isinstance(value, str) else _undocumented(value)
            for key, value in model.items()
        }
    return model


def _compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def strip(library: Path) -> None:
    """Cut off what follows the segments of a library: its symbols and its table of sections, which no loader reads.

    As `strip` does, for any processor. A file that is not a library as Linux loads it stays as it is.
    """
    data = bytearray(library.read_bytes())
    if data[:6] != b"\x7fELF\x02\x01":  # 64 bits, little-endian
        return
    (segments,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    end = segments + size * count
    for number in range(count):
        offset, _, _, length = struct.unpack_from("<QQQQ", data, segments + size * number + 8)
        end = max(end, offset + length)
    struct.pack_into("<Q", data, 40, 0)
    struct.pack_into("<HH", data, 60, 0, 0)
    _rewrite(library, bytes(data[:end]))


def _rewrite(file: Path, content: bytes) -> None:
    """Replace a file, which may be a link to the cache of what has installed it."""
    file.unlink()
    file.write_bytes(content)


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)


if __name__ == "__main__":
    trim(Path(sys.argv[2]), next(kind for kind in _LEFT_OUT if kind == sys.argv[1]))
