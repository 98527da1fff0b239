"""Real replicas that lag: two refusals are not reached (protocol D15), and a fail-over is cured (protocol I8)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from msgspec import structs

from functions.apply_db.replication import Wait
from lockstep.databases.findings import Outcome
from lockstep.databases.inspect import VERIFY_HOSTS
from lockstep.databases.sessions import open_sessions
from lockstep.operate.doctor.servers import LOGIN
from lockstep.protocol.errors import AccountLockedError
from lockstep.protocol.model import ClaimKind, Engine, Login, VerifyHost
from lockstep.protocol.workers import at_the_same_time
from lockstep.runtime.clouds import open_database
from sandbox.emulators.databases import CertificateAuthority
from sandbox.emulators.databases.process import poll_until
from sandbox.emulators.databases.replicas import PostgresReplica
from tests.contract import database_harness as db
from tests.support.memory import FakeClock
from tests.support.world import rotate_again

pytest_plugins = ["tests.contract.database_harness"]


class ScriptedClock(FakeClock):
    """Does something at a chosen wait, instead of waiting for it to happen."""

    def __init__(self, at: int = 0, happens: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.waits, self._at, self._happens = 0, at, happens

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.waits += 1
        if self.waits == self._at:
            self._happens()


class Replicated(db.SqlHarness):
    """A credential on a primary; where an account of MySQL is limited, so it is on the replica."""

    def __init__(self, pair: db.Pair, name: str) -> None:
        super().__init__(pair.primary, db.PAIRED_WORLDS[name])
        self.pair = pair
        self.host = VerifyHost(host="localhost", port=pair.replica.port, tls=self.server.tls)
        if self.engine is Engine.MYSQL:
            with self.limited(db.MAX_REFUSALS):
                pass

    def wait(self, clock: ScriptedClock, pending: int) -> None:
        Wait(clock, at_the_same_time).until_accepted(
            self.database,
            pending=self.login(pending),
            base=self.login(pending - 1),
            doomed=[self.login(pending - 2)],
        )

    def on_replica(self, *logins: int | Login) -> list[bool]:
        """Whether each login gets in there. A blocked account does not, whatever the server says."""
        (replica,) = self.database.replicas
        found = []
        for login in logins:
            found.append(False)
            with suppress(AccountLockedError):
                found[-1] = replica.accepts(login if isinstance(login, Login) else self.login(login))
        return found


@pytest.fixture
def servers(request: pytest.FixtureRequest) -> Iterator[Replicated]:
    pair: db.Pair = request.getfixturevalue(db.PAIRED_WORLDS[request.param].server)
    yield Replicated(pair, request.param)
    pair.replica.catch_up()


@pytest.fixture
def world(servers: Replicated) -> Replicated:
    """The replica knows its generations 1 and 2; nothing that follows is applied there."""
    servers.database = servers.open(verify_hosts=(servers.host,))
    servers.stage(None, 1)
    servers.stage(1, 2)
    servers.pair.replica.catch_up()
    servers.pair.replica.hold()
    return servers


def on(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("servers", names, indirect=True)


every_engine = on(*db.PAIRED_WORLDS)
each_engine = on(*db.EACH_ENGINE)


@every_engine
def test_rotations_over_a_replica_that_lags_each_time(world: Replicated) -> None:
    """Pending is refused until it is applied and base never is; the limit is not reached, whenever that is."""
    for generation, waits in enumerate((1, 3, 7), 3):
        world.stage(generation - 1, generation)
        assert world.on_replica(generation, generation - 1) == [False, True]
        clock = ScriptedClock(at=waits, happens=world.pair.replica.catch_up)
        world.wait(clock, generation)
        assert clock.waits == waits
        world.pair.replica.catch_up()
        world.pair.replica.hold()
        assert world.on_replica(generation - 1, generation - 2, generation) == [True, False, True]


# Its own sessions


@each_engine
def test_sessions_of_a_replica_are_its_own_and_those_of_an_alias_the_primary_s(world: Replicated) -> None:
    if world.engine is Engine.MYSQL:
        world.run("GRANT PROCESS ON *.* TO {rotator}")
    world.pair.replica.catch_up()
    same = VerifyHost(host="localhost", port=world.pair.primary.port, tls=world.host.tls)
    primary = structs.replace(world.server, verify_hosts=(world.host, same))
    found: list[Any] = [
        open_sessions(open_database(server, world.credential, lambda: db.ADMIN))
        for server in (primary, *primary.copies)
    ]
    assert found[0].server == found[2].server != found[1].server


# The doctor (`lockstep.operate.doctor.servers`)


@pytest.fixture
def doctor(world: Replicated) -> db.DoctorWorld:
    """It looks at the database and its replica, while the stores serve generation 2."""
    made = db.DoctorWorld(world)
    made.server = structs.replace(world.server, verify_hosts=(world.host,))
    made.base = world.value(2)
    return made


@each_engine
def test_the_doctor_tells_a_replica_that_refuses(world: Replicated, doctor: db.DoctorWorld) -> None:
    world.pair.replica.catch_up()
    assert doctor.look().outcomes(VERIFY_HOSTS) == {Outcome.PASSED}
    world.pair.replica.hold()
    world.stage(2, 3)
    doctor.base = world.value(3)
    seen = doctor.look()
    assert seen.outcomes(LOGIN) == {Outcome.PASSED}
    (refused,) = seen.found(VERIFY_HOSTS)
    assert refused.outcome is Outcome.FAILED
    assert "the verify host refuses what aws and oci serve" in refused.says
    assert seen.refused == {"main"}
    # The login that works there takes the refusal back: a limit of two is not reached.
    assert world.on_replica(2) == [True]


@each_engine
def test_the_doctor_finds_a_replica_that_is_no_verify_host_and_one_that_is_named_as_the_server(
    world: Replicated, doctor: db.DoctorWorld
) -> None:
    (_,) = doctor.look().found("database.server")
    doctor.server = world.server
    if world.is_postgresql:
        (unseen,) = doctor.look().found("database.server")
        assert unseen.says.startswith("1 hosts replicate from it, more than verify hosts")
        world.run("GRANT pg_read_all_stats TO {rotator}")
    (named,) = doctor.look().found("database.server")
    assert named.outcome is Outcome.WARNING
    assert "replicates from it and is no verify host" in named.says
    world.pair.replica.catch_up()
    if not world.is_postgresql:
        world.pair.replica.execute_as_superuser("SET GLOBAL read_only = 1")
    doctor.server = structs.replace(world.server, port=world.host.port)
    try:
        (answer,) = doctor.look().found("database.server")
    finally:
        if not world.is_postgresql:
            world.pair.replica.execute_as_superuser("SET GLOBAL read_only = 0")
    assert answer.outcome is Outcome.FAILED
    assert "under `verify_hosts`" in (answer.command or "")


# A fail-over that loses Lockstep's last changes is cured by the next run, and asks nobody (protocol I8)


@contextmanager
def successor(servers: Replicated, authority: CertificateAuthority) -> Iterator[int]:
    """A server that sees no change any more; its port.

    With MySQL and MariaDB it is the replica itself, which takes writes while it applies none of the primary's. With
    PostgreSQL it is a standby of its own, which is promoted at once, since what is promoted follows nobody again.
    """
    if not servers.is_postgresql:
        servers.pair.replica.catch_up()
        servers.pair.replica.hold()
        yield servers.host.port
        return
    with PostgresReplica(authority=authority, primary=servers.pair.primary) as standby:
        standby.execute_as_superuser("SELECT pg_promote()")
        assert poll_until(
            lambda: standby.execute_as_superuser("SELECT pg_is_in_recovery()") == [(False,)],
            timeout_seconds=25,
        )
        yield standby.port


@pytest.mark.parametrize(("lost", "forced"), [(1, True), (2, False)], ids=["one, forced", "two, due"])
@every_engine
def test_after_a_fail_over_the_next_run_serves_a_login_that_works(
    servers: Replicated, authority: CertificateAuthority, lost: int, *, forced: bool
) -> None:
    life = db.Life(servers)
    with successor(servers, authority) as port:
        for number in range(lost):
            rotate_again(life.memory, f"lost-{number}")
        with life.failed_over(port):
            assert life.run(forced=forced) is ClaimKind.RECONCILE
            life.assert_cured()
            assert life.refusals.most == 1
            life.assert_goes_on()
