"""Readers of any one slot, live: rotations of both clouds, MariaDB and PostgreSQL (protocol V18).

The reader has none of Lockstep's code: it asks OCI for one secret by its name, as External Secrets does, takes the
members of the JSON, all of them strings, and logs in with them. It keeps a value for up to one overlap.
"""

import json
import sys
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import psycopg
import pymysql
import pytest

from lockstep.protocol.model import Strategy
from sandbox import plans
from sandbox.databases import CertificateAuthority, MariaDbServer, PostgresServer
from sandbox.estate import Estate, Settings, running_estate
from sandbox.fn import running_function
from tests.support.servers import require

SLOTS = 2
ROTATIONS = 8
THREE, TWO = "any/three", "any/two"
"""Credentials, by their number of users."""


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    require(PostgresServer)
    authority = CertificateAuthority(tmp_path_factory.mktemp("ca"))
    servers = {"orders": MariaDbServer(authority=authority), "ledger": PostgresServer(authority=authority)}
    credentials = [
        plans.credential(
            name,
            *servers,
            username=f"any_{users}",
            strategy=Strategy.ALTERNATING_USERS,
            interval="1h",
            users=users,
        )
        for name, users in ((THREE, 3), (TWO, 2))
    ]
    with running_estate(
        credentials, servers, settings=Settings(slots=SLOTS), folder=tmp_path_factory.mktemp("estate")
    ) as running:
        yield running


@dataclass
class Reader:
    """An application that reads one slot of a ring."""

    slot: int
    fetch: Callable[[str], Mapping[str, str]]
    names: tuple[str, str]
    ca_file: Path
    logins: int = 0
    refused: list[str] = field(default_factory=list)
    kept: tuple[Mapping[str, str], Mapping[str, str]] | None = None

    def read(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Both secrets of the slot."""
        user, blob = (self.fetch(f"{name}.{self.slot}") for name in self.names)
        return user, blob

    def keep(self) -> None:
        """Read what it will use until its overlap is over."""
        self.kept = self.read()

    def log_in(self) -> None:
        """With what the slot serves now, and with what it has kept."""
        for user, blob in filter(None, (self.read(), self.kept)):
            login: dict[str, Any] = {"user": user["username"], "password": user["password"]}
            where: dict[str, Any] = {
                "host": user["host"],
                "port": int(user["port"]),
                "database": user["dbname"],
            }
            self._try(
                "MariaDB", user, partial(pymysql.connect, **where, **login, ssl={"ca": str(self.ca_file)})
            )
            url = json.loads(blob["databases"])["ledger"]["dsn"]
            tls: dict[str, Any] = {"sslmode": "verify-full", "sslrootcert": str(self.ca_file)}
            self._try("PostgreSQL", user, partial(psycopg.connect, url, **login, **tls))

    def _try(self, database: str, user: Mapping[str, str], connect: Callable[[], Any]) -> None:
        self.logins += 1
        try:
            connect().close()
        except (pymysql.err.OperationalError, psycopg.OperationalError) as error:
            self.refused.append(f"slot {self.slot}, generation {user['generation']}, {database}: {error}")


def _readers(estate: Estate, name: str) -> list[Reader]:
    config = estate.oci.new_api_key("reader", "SECRET_BUNDLE_READ", compartment=estate.oci.compartment_id)
    client = estate.oci.client(oci.secrets.SecretsClient, config)

    def fetch(secret: str) -> Mapping[str, str]:
        bundle = client.get_secret_bundle_by_name(secret, estate.oci.vault_id).data
        document = json.loads(b64decode(bundle.secret_bundle_content.content))
        assert all(isinstance(member, str) for member in document.values()), sorted(document)
        return dict(document)

    credential = estate.plan.credential(name)
    assert credential
    tls = credential.servers[0].tls
    assert tls
    assert tls.ca_file
    names = credential.secret_names
    ring = (names.app_user.replace("/", "."), names.connection_blob.replace("/", "."))
    return [Reader(slot, fetch, ring, tls.ca_file) for slot in range(SLOTS)]


@contextmanager
def _logging_in(readers: Sequence[Reader], pause: threading.Lock) -> Iterator[None]:
    """Each reader logs in again and again, except while somebody holds the lock."""
    over = threading.Event()

    def keep_logging_in(reader: Reader) -> None:
        while not over.is_set():
            with pause:
                reader.log_in()

    with ThreadPoolExecutor(len(readers)) as pool:
        done = [pool.submit(keep_logging_in, reader) for reader in readers]
        try:
            yield
        finally:
            over.set()
    for one in done:
        one.result()


def _through_rotations(estate: Estate, name: str, *, before: int, rotations: int) -> list[Reader]:
    """Rotate by both clouds in turn while readers of each slot log in."""
    pause = threading.Lock()
    with running_function(estate.function_environment) as function:

        def rotate(n: int) -> None:
            estate.outside.expire_schedule(name)
            if n % 2:
                assert function.call({"credential_id": name, "force": True}).status == 200
            else:
                execution = estate.rotate(name)
                assert execution.status == "SUCCEEDED", execution.cause

        for n in range(before):
            rotate(n)
        readers = _readers(estate, name)
        for reader in readers:
            reader.keep()
        with _logging_in(readers, pause):
            for n in range(before, before + rotations):
                rotate(n)
                with (
                    pause
                ):  # The overlap of what this rotation has replaced is over; the next one has not begun.
                    for reader in readers:
                        reader.log_in()
                        reader.keep()
    return readers


def test_with_more_users_than_slots_a_reader_of_any_one_slot_is_never_refused(estate: Estate) -> None:
    """From the activation on: its reconcile is in every slot."""
    readers = _through_rotations(estate, THREE, before=1, rotations=ROTATIONS)
    assert [reader.refused for reader in readers] == [[]] * SLOTS
    logins = [reader.logins for reader in readers]
    assert min(logins) >= 4 * ROTATIONS
    sys.stdout.write(f"logins by slot: {logins}\n")


def test_with_two_users_it_is_refused(estate: Estate) -> None:
    """So the test above can fail."""
    readers = _through_rotations(estate, TWO, before=1 + SLOTS, rotations=3)
    assert all("denied" in " ".join(reader.refused) for reader in readers)
    sys.stdout.write(
        f"refused by slot: {[len(r.refused) for r in readers]} of {[r.logins for r in readers]}\n"
    )
