"""Leaves out of a bundle, or of the agent's image, what is not used, compiles the rest, and checks it.

    python -I -S cdk/trim.py KIND FOLDER SHOWN OWN…

KIND is `aws` or `oci` for the functions of a cloud, or `agent`. The two SDKs know hundreds of services; Lockstep calls
a handful. A function's file system is read-only, so each module is compiled here, by the target's Python. Packages of
others keep the byte code only, where Python finds it without a source, and the OCI SDK keeps none of its texts, which
are half of it. Lockstep's own packages, which OWN names, keep their sources, so that what is deployed can be read;
their byte code is unchecked, since unpacking changes the files' dates. Tracebacks show the path below SHOWN. The file
THIRD_PARTY names what is left of others, with its licence; the texts of the licences stay in the packages' folders.

    python -I -S -B cdk/trim.py check KIND FOLDER

imports every module of FOLDER, and makes a client of each service in it: what is imported late, by the handling of an
error, by a signer or by a retry, would be missed in an account only. Exit code: 0, or 1 with a line for each failure.
"""

import compileall
import gzip
import importlib
import importlib.metadata
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any

BOTOCORE_SERVICES = ("dynamodb", "events", "iam", "kms", "s3", "secretsmanager", "stepfunctions", "sts")
# The SDK's waiter imports work_requests.
OCI_SERVICES = ("functions", "key_management", "object_storage", "ons", "secrets", "vault", "work_requests")

# Other packages require these, but neither a handler nor the agent imports them: the SDK's asynchronous client, its
# support for hardware tokens, the test tools that fdk depends on.
_UNUSED = """
aiohappyeyeballs aiohttp aiosignal attr attrs boto3 bin cffi Cython cython.py _distutils_hack distutils-precedence.pth
docs frozenlist idna iniconfig iso8601 multidict OpenSSL packaging pbr pkcs11 pluggy propcache py.py pycparser pygments
pyopenssl _pytest pytest pytest_asyncio python_pkcs11 pyximport s3transfer setuptools wheel yarl
"""
# What reads a plan file; a function reads the compiled plan.
_FOR_PLANS = """
annotated_types durationpy pydantic pydantic_core ruamel ruamel_yaml typing_extensions typing_extensions.py
typing_inspection
"""
# The command line, the drivers of databases, and what has installed the packages.
_NOT_FOR_AGENTS = """
annotated_doc asn1crypto colorama markdown_it mdurl pg8000 pip pymysql rich scramp shellingham typer
"""
_LEFT_OUT: Mapping[str, frozenset[str]] = {
    "aws": frozenset(f"{_UNUSED} {_FOR_PLANS} fdk httptools".split()),
    "oci": frozenset(f"{_UNUSED} {_FOR_PLANS}".split()),
    "agent": frozenset(f"{_UNUSED} {_NOT_FOR_AGENTS}".split()),
}
# Parts of packages that nothing imports, or that need what is left out.
_PARTS = """
botocore/cacert.pem botocore/crt/auth.py botocore/docs/translator.py botocore/data/dynamodb/2011-12-05
cryptography/hazmat/bindings/_rust dateutil/tz/win.py dateutil/tzwin.py dateutil/zoneinfo/dateutil-zoneinfo.tar.gz
fdk/scripts/fdk_tcp_debug.py fdk/tests oci/addons oci/async_base_client.py oci/encryption oci/_vendor/chardet
pytz/zoneinfo
"""
_STUBS = {
    # Pagination asks whether a reply is one of these two; no reply is.
    "oci/dns/__init__.py": "class models:\n    class RecordCollection: ...\n    class RRSet: ...\n",
    # Guesses the encoding of a text that does not say it. OCI answers in JSON.
    "oci/_vendor/chardet/__init__.py": "__version__ = '4.0.0'\ndef detect(text):\n    return {'encoding': None}\n",
}
"""What is imported where nothing of it is used."""
_OF_SERVICES = frozenset(
    {"examples-1.json", "paginators-1.json", "paginators-1.sdk-extras.json", "waiters-2.json"}
)
"""Files of a service in botocore: examples of its documentation, and helpers that Lockstep does not use."""
_SUFFIXES = frozenset({".c", ".h", ".pxd", ".pyi", ".pyx"})
_OPTIONAL = """
aiohttp awscrt backports boto3 brotli brotlicffi cffi chardet charset_normalizer compression google grpc h2 hpack idna
js OpenSSL pkcs11 pyodide simplejson socks
"""
"""Packages that others can use, and do without."""


def trim(content: Path, kind: str) -> None:
    """Leave out of the installed packages what is not used."""
    left_out = _LEFT_OUT[kind]
    distributions = {name.lower() for name in left_out}
    for entry in content.iterdir():
        distribution = entry.name.removesuffix(".dist-info").partition("-")[0]
        if entry.name in left_out or (entry.suffix == ".dist-info" and distribution in distributions):
            _remove(entry)
    for part in _PARTS.split():
        _remove(content / part)
    # A folder of the OCI SDK that has models belongs to a service.
    for models in list(content.glob("oci/*/models")):
        if models.parent.name not in OCI_SERVICES:
            _remove(models.parent)
    for name, text in _STUBS.items() if (content / "oci").exists() else ():
        (content / name).parent.mkdir()
        (content / name).write_text(text)
    _trim_botocore(content / "botocore" / "data")
    for file in [f for f in content.rglob("*") if f.is_file()]:
        if file.suffix in _SUFFIXES or file.name in ("RECORD", "INSTALLER"):
            file.unlink()


def _trim_botocore(data: Path) -> None:
    # Each client parses it.
    endpoints = json.loads((data / "endpoints.json").read_text())
    for partition in endpoints["partitions"]:
        services = partition["services"]
        partition["services"] = {name: services[name] for name in services if name in BOTOCORE_SERVICES}
    _rewrite(data / "endpoints.json", json.dumps(endpoints).encode())
    for folder in data.iterdir():
        if folder.is_dir() and folder.name not in BOTOCORE_SERVICES:
            _remove(folder)
    for file in list(data.glob("*/*/*.json*")):
        if file.name in _OF_SERVICES:
            file.unlink()
        elif file.name == "service-2.json.gz":
            model = json.loads(gzip.decompress(file.read_bytes()), object_hook=_without_text)
            # Without a date, so that the same content gives the same bytes.
            _rewrite(file, gzip.compress(json.dumps(model, separators=(",", ":")).encode(), mtime=0))


def _without_text(model: dict[str, Any]) -> dict[str, Any]:
    """Part of a service's model with an empty text: botocore asks for some, and parses them all for the first client.

    A member of a shape may have that name, with a mapping as its value.
    """
    return {**model, "documentation": ""} if isinstance(model.get("documentation"), str) else model


def third_parties(content: Path, own: frozenset[str]) -> str:
    """A line for each package of others: name and version on PyPI, and licence."""
    lines = []
    for said in (d.metadata for d in importlib.metadata.distributions(path=[str(content)])):
        classes = [c.rpartition(" :: ")[2] for c in said.get_all("Classifier", []) if c.startswith("License")]
        licence = said["License-Expression"] or "; ".join(classes) or said["License"].partition("\n")[0]
        if said["Name"].partition("-")[0] not in own:
            lines.append(f"{said['Name']} {said['Version']}: {licence}\n")
    return "".join(sorted(lines, key=str.lower))


def compile_all(content: Path, shown: str, own: frozenset[str]) -> None:
    """Compile every module below a folder."""
    for entry in content.iterdir():
        is_own = entry.name in own
        compile_one = compileall.compile_dir if entry.is_dir() else compileall.compile_file
        compile_one(
            entry,
            quiet=1,
            legacy=not is_own,
            optimize=2 if entry.name == "oci" else 0,
            stripdir=str(content),
            prependdir=shown,
            invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
        )
        for source in () if is_own else [entry, *entry.rglob("*.py")]:
            if source.suffix == ".py":
                source.unlink()


def failures(content: Path, kind: str) -> Iterator[str]:
    """A line for each module that cannot be imported; of the agent's image, of the packages that the agent uses."""
    only = ("botocore", "oci", "jinja2", "lockstep.agent", "lockstep.aws", "lockstep.oci")
    optional = {*_OPTIONAL.split(), *(() if (content / "oci").exists() else ("cryptography", "oci"))}
    for file in sorted([*content.rglob("*.py"), *content.rglob("*.pyc")]):
        path = file.relative_to(content).with_suffix("")
        name = ".".join(path.parts[:-1] if path.name == "__init__" else path.parts)
        if {"__pycache__", "__main__"} & {*path.parts} or path.parts[0].endswith(".dist-info"):
            continue
        if kind == "agent" and not any(f"{name}.".startswith(f"{package}.") for package in only):
            continue
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in optional:
                yield f"{name}: {error}"
        except Exception as error:  # noqa: BLE001 - whatever keeps it from being imported
            yield f"{name}: {type(error).__name__}: {error}"


def make_clients() -> None:
    """Make a client of each service of AWS, whose models are read then."""
    import botocore.session  # noqa: PLC0415 - from the bundle

    session = botocore.session.Session()
    for service in BOTOCORE_SERVICES:
        session.create_client(service, "eu-central-1")


def _rewrite(file: Path, content: bytes) -> None:
    """Replace a file, which may be a link to the cache of what has installed it."""
    file.unlink()
    file.write_bytes(content)


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)


def main(words: list[str]) -> int:
    """Trim and compile, or check; the exit code."""
    if words[0] != "check":
        kind, folder, shown, *own = words
        trim(Path(folder), kind)
        (Path(folder) / "THIRD_PARTY").write_text(third_parties(Path(folder), frozenset(own)))
        compile_all(Path(folder), shown, frozenset(own))
        return 0
    content = Path(words[2]).resolve()
    sys.path.insert(0, str(content))
    wrong = list(failures(content, words[1]))
    make_clients()
    sys.stdout.writelines(f"{line}\n" for line in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
