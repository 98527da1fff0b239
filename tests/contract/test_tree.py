"""What a fresh process imports, and what no committed file may name."""

import re
import sys
from pathlib import Path

import pytest

from tests.support.programs import ran

ROOT = Path(__file__).parents[2]
DRIVERS = {"boto3", "botocore", "oci", "pymysql", "pg8000", "fdk"}
OF_APPLICATIONS = {"psycopg", "psycopg_pool", "sqlalchemy", "asyncpg", "asyncmy", "django"}


def test_the_client_loads_no_driver_and_no_sdk() -> None:
    """An application has only those that it uses."""
    program = f"import sys, lockstep.client; print(*({DRIVERS | OF_APPLICATIONS!r} & sys.modules.keys()))"
    assert ran([sys.executable, "-c", program], cwd=ROOT, check=True).stdout.split() == []


# Written in pieces, so that this file does not break its own rule.
REGISTRIES = [
    *(rf"{name}\.org" for name in ("pypi", "pythonhosted", "npmjs", "rubygems")),
    *(rf"{name}\.(com|io)" for name in ("npmjs", "yarnpkg", "crates")),
    r"(index-url|registry)[ =\"':]+https?:",
]
# A folder of that name inside another folder is allowed.
PLACES = [rf"(?<!\w)/{name}/" for name in ("work", "root", "tmp/bash_jobs")]


def test_no_committed_file_names_a_package_registry_or_a_folder_of_one_machine() -> None:
    listed = ran(["git", "ls-files", "-z"], cwd=ROOT)
    if listed.returncode:
        pytest.skip("not a git checkout")
    words = re.compile("|".join([*REGISTRIES, *PLACES]))
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    texts = {path: path.read_bytes().decode("utf-8", "ignore") for path in files if path.is_file()}
    assert [f"{path}: {match[0]}" for path, text in texts.items() for match in words.finditer(text)] == []
