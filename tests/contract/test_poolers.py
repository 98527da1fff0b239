"""Real poolers and proxies as verify hosts: rotations go on, or the host is named with the reason (protocol D15)."""

import os
import pwd
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from lockstep.client import ClientCredential, CredentialClient, connect_psycopg
from lockstep.databases.findings import Outcome
from lockstep.databases.inspect import VERIFY_HOSTS
from lockstep.protocol.errors import DatabaseRejectedError, ReplicaLaggingError
from lockstep.protocol.model import SecretStr, Tls, VerifyHost
from sandbox.emulators.databases import CertificateAuthority, process
from tests.agent.languages.harness import require
from tests.contract import database_harness as db
from tests.support.world import revokes_everything, rotate_again

pytest_plugins = ["tests.contract.database_harness"]

GENERATIONS = 10
SETTINGS = Path(__file__).with_name("poolers")
ARGUMENTS = {"haproxy": "-db -f", "pgbouncer": "", "pgpool": "-n -F empty -a empty -f"}
AUTH_QUERY = "auth_user = pooler\nauth_query = SELECT usename, passwd FROM pg_shadow WHERE usename = $1\n"
POOLERS = {
    "haproxy": "",
    "pgbouncer, auth_query, session": f"{AUTH_QUERY}pool_mode = session",
    "pgbouncer, auth_query, transaction": f"{AUTH_QUERY}pool_mode = transaction",
    "pgbouncer, auth_file": "",
    "pgpool, no cache": "connection_cache = off",
    "pgpool, cache": "connection_cache = on",
}
"""Each with what is added to the settings of its program."""
KEEP_PASSWORDS = {"pgbouncer, auth_file": "the verify host refuses what", "pgpool, cache": "connection_cache"}
GO_ON = [("haproxy", world) for world in db.PAIRED_WORLDS]
"""Both strategies where an engine has both."""
GO_ON += [(p, "postgresql") for p in POOLERS if p not in {"haproxy", *KEEP_PASSWORDS}]


@contextmanager
def running(pooler: str, server: Any, authority: CertificateAuthority) -> Iterator[VerifyHost]:  # noqa: ANN401 - of any engine
    """A pooler in front of a server; without `auth_query` pgbouncer knows none of the credential's accounts."""
    program, more = pooler.partition(",")[0], POOLERS[pooler]
    require({"pgpool": "pgpool2"}.get(program, program))
    if "auth_query" in more:
        made = "CREATE ROLE pooler SUPERUSER LOGIN PASSWORD 'of-the-pooler'"
        server.execute_as_superuser(["DROP ROLE IF EXISTS pooler", made])
    port, certificate = process.free_port(), authority.issue()
    account = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="lockstep-") as name:
        folder = Path(name)
        text = (SETTINGS / program).read_text()
        files = {
            "conf": text.format(port=port, server=server.port, folder=folder) + more,
            "users": '"pooler" "of-the-pooler"',
            "key": certificate.key_file.read_text(),
            "certificate": certificate.chain_file.read_text(),
            "ca": authority.ca_file.read_text(),
            "empty": "",
        }
        for file, content in files.items():
            process.write_private_file(folder / file, content.encode())
        for path in (folder, *folder.iterdir()) if account else ():
            os.chown(path, pwd.getpwnam("postgres").pw_uid, -1)
        command, log = [program, *ARGUMENTS[program].split(), "conf"], folder / "log"
        started = process.SupervisedProcess(command, log_file=log, folder=folder, account=account)
        try:
            assert process.poll_until(lambda: _listens(port), timeout_seconds=20), log.read_text()
            yield VerifyHost(host="localhost", port=port, tls=Tls(ca_file=authority.ca_file))
        finally:
            started.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def shown_to(world: db.SqlHarness, *hosts: VerifyHost) -> db.Shown:
    """Make poolers the only verify hosts of a world's database, and count what they are shown."""
    world.server = structs.replace(world.server, verify_hosts=hosts)
    database: Any = world.open()
    world.database, shown = database, db.Shown()
    for replica in database.replicas:
        shown.watch(replica)
    return shown


@pytest.mark.parametrize(("pooler", "world"), GO_ON, indirect=["world"])
def test_all_goes_on(pooler: str, world: db.SqlHarness, authority: CertificateAuthority) -> None:
    with running(pooler, world.sandbox, authority) as host:
        shown = shown_to(world, host)
        life = db.Life(world)
        for number in range(db.STEADY, GENERATIONS):
            rotate_again(life.memory, f"rotation-{number}")
        life.assert_cured()
        # Every generation but the last two was seen to be refused, where the account has a login that works.
        assert (shown.refused, shown.most) == (GENERATIONS - 2, 1)
        revokes_everything(life.memory)
        rotate_again(life.memory, "emergency")
        assert len(life.memory.lock.record.valid) == shown.most == 1
        doctor = db.DoctorWorld(world)
        doctor.base = replace(doctor.base, login=life.served()[0])
        assert doctor.look().outcomes(VERIFY_HOSTS) == {Outcome.PASSED}
        if world.is_postgresql:
            reads_again(world, host)


def reads_again(world: db.SqlHarness, host: VerifyHost) -> None:
    """The client of an application that is refused, in whatever words the pooler has."""
    world.execute("DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN PASSWORD 'right'")
    where = {"host": host.host, "port": host.port, "dbname": "postgres"}
    values = [
        ClientCredential(username="reader", password=SecretStr(p), generation=g, connection=where)
        for g, p in ((2, "right"), (1, "wrong"))
    ]
    client = CredentialClient([values.pop])
    connect_psycopg(client, sslrootcert=str(host.tls and host.tls.ca_file)).close()
    assert (client.refusals, client.get().generation) == (1, 2)


@db.worlds("postgresql")
@pytest.mark.parametrize(("pooler", "reason"), KEEP_PASSWORDS.items())
def test_a_pooler_that_keeps_passwords_is_named_with_the_reason(
    pooler: str, reason: str, world: db.SqlHarness, authority: CertificateAuthority
) -> None:
    with running(pooler, world.sandbox, authority) as host:
        shown_to(world, host)
        world.stage(None, 1)
        (answer,) = db.DoctorWorld(world).look().found(VERIFY_HOSTS)
        assert answer.outcome is Outcome.FAILED
        assert answer.subject.startswith(f"main@{host.name} ")
        assert reason in answer.says
        with pytest.raises((ReplicaLaggingError, DatabaseRejectedError), match=f"main@{host.name}"):
            db.Life(world)
    # Rotations begin once the plan does not name it.
    shown_to(world)
    db.Life(world).assert_cured()
