"""Real replicas that lag: pending is waited for, and a limit of two refusals is not reached (protocol D15)."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from functions.apply_db import replication
from functions.apply_db.replication import Wait
from lockstep.databases.findings import Outcome
from lockstep.databases.sessions import LISTS, SessionList, Sessions
from lockstep.operate.doctor.servers import LOGIN, VERIFY_HOSTS
from lockstep.protocol.errors import (
    AccountLockedError,
    DatabaseUnreachableError,
    ReplicaLaggingError,
    ReplicaRejectedError,
    TlsVerificationError,
)
from lockstep.protocol.model import (
    ROTATION_USER,
    CredentialValue,
    Login,
    SecretStr,
    Strategy,
    Tls,
    VerifyHost,
)
from lockstep.protocol.model import DatabaseServer as PlannedServer
from lockstep.protocol.ports import Database
from lockstep.protocol.workers import at_the_same_time
from lockstep.runtime.databases import open_server
from sandbox.emulators.databases import CertificateAuthority
from tests.contract.database_harness import (
    ADMIN,
    DATABASE,
    HASTY,
    MAX_REFUSALS,
    PAIRED_WORLDS,
    MySqlHarness,
    Pair,
    SqlHarness,
    fails,
    value_of,
)
from tests.contract.doctor.database_world import DoctorWorld
from tests.support.app_sessions import connect
from tests.support.memory import FakeClock

pytest_plugins = ["tests.contract.replica_fixtures"]

DUAL, ALTERNATING = Strategy.DUAL_PASSWORD, Strategy.ALTERNATING_USERS
PATIENCE = 20.0


def waiting(clock: FakeClock, seconds: float = PATIENCE) -> Wait:
    return Wait(clock=clock, deadline=clock.monotonic() + seconds, side_by_side=at_the_same_time)


class CrashError(Exception):
    """The run is gone."""


class ScriptedClock(FakeClock):
    """Does something at a chosen wait, instead of waiting for it to happen."""

    def __init__(self, at: int = 0, happens: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.waits = 0
        self._at = at
        self._happens = happens

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.waits += 1
        if self.waits == self._at:
            self._happens()


class ReplicatedWorld:
    """A credential whose generations 1 and 2 the replica knows; nothing that follows is applied there."""

    def __init__(self, pair: Pair, harness: SqlHarness) -> None:
        self.pair = pair
        self.harness = harness
        self.host = VerifyHost(host="localhost", port=pair.replica.port, tls=harness.server.tls)
        self.database = self.open(self.host)
        if isinstance(harness, MySqlHarness):
            limit = f"FAILED_LOGIN_ATTEMPTS {MAX_REFUSALS} PASSWORD_LOCK_TIME UNBOUNDED"
            harness.execute(*(f"ALTER USER '{u}'@'%' {limit}" for u in harness.credential.usernames))
        self.stage(None, 1)
        self.stage(1, 2)
        self.catch_up()
        pair.lag.hold()

    def open(self, host: VerifyHost, **more: Any) -> Database:  # noqa: ANN401 - options of the harness
        return self.harness.open(server=structs.replace(self.harness.server, verify_hosts=(host,)), **more)

    def catch_up(self) -> None:
        self.pair.lag.catch_up()

    def login(self, generation: int) -> Login:
        return value_of(self.harness, generation).login

    def value(self, generation: int) -> CredentialValue:
        return value_of(self.harness, generation)

    def stage(self, current: int | None, pending: int) -> None:
        with self.database.exclusive() as stager:
            stager.stage(
                current=None if current is None else self.value(current), pending=self.value(pending)
            )

    def wait(
        self, clock: FakeClock, pending: int = 3, *, of: Database | None = None, until: float = PATIENCE
    ) -> None:
        replication.wait_until_accepted(
            of or self.database,
            waiting(clock, until),
            pending=self.login(pending),
            base=self.login(pending - 1),
            doomed=[self.login(pending - 2)],
        )

    def on_replica(self, *generations: int) -> list[bool]:
        (replica,) = self.database.replicas
        return [replica.accepts(self.login(g)) for g in generations]


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[ReplicatedWorld]:
    pair, harness, strategy = PAIRED_WORLDS[request.param]
    servers: Pair = request.getfixturevalue(pair)
    sandbox: Any = servers.primary
    yield ReplicatedWorld(servers, harness(sandbox, strategy))
    servers.lag.catch_up()


every_engine = pytest.mark.parametrize("world", PAIRED_WORLDS, indirect=True)
with_limits = pytest.mark.parametrize("world", [w for w in PAIRED_WORLDS if w != "postgresql"], indirect=True)
with_two_passwords = pytest.mark.parametrize("world", ["mariadb-dual", "mysql-dual"], indirect=True)


@every_engine
def test_pending_is_refused_until_it_is_applied_and_base_never_is(world: ReplicatedWorld) -> None:
    world.stage(2, 3)
    assert world.database.accepts(world.login(3))
    assert world.on_replica(3, 2) == [False, True]
    clock = ScriptedClock(at=3, happens=world.catch_up)
    world.wait(clock)
    assert clock.waits == 3
    assert world.on_replica(2, 3, 1, 3) == [True, True, False, True]


@with_limits
def test_two_refusals_in_a_row_lock_an_account_there(world: ReplicatedWorld) -> None:
    """The limit is real. With one refusal the account is as before."""
    wrong = Login(world.login(2).username, SecretStr("wrong"))
    assert logs_in(world, wrong, world.login(2), wrong, world.login(2)) == [False, True, False, True]
    assert logs_in(world, wrong, wrong, world.login(2)) == [False, False, False]
    world.pair.replica.execute_as_superuser("FLUSH PRIVILEGES")


def logs_in(world: ReplicatedWorld, *logins: Login) -> list[bool]:
    """Whether each login gets in on the replica. A blocked account does not, whatever the server says."""
    (replica,) = world.database.replicas
    found = []
    for login in logins:
        found.append(False)
        with suppress(AccountLockedError):
            found[-1] = replica.accepts(login)
    return found


@every_engine
@pytest.mark.parametrize("waits", [0, 1, 2, 7])
def test_the_limit_is_not_reached_whenever_the_change_arrives(world: ReplicatedWorld, waits: int) -> None:
    world.stage(2, 3)
    clock = ScriptedClock(at=waits, happens=world.catch_up)
    if not waits:
        world.catch_up()
    world.wait(clock)
    assert clock.waits == waits
    assert world.on_replica(2, 3) == [True, True]


@every_engine
def test_a_replica_whose_replication_has_stopped_is_named_and_stays_unlocked(world: ReplicatedWorld) -> None:
    world.stage(2, 3)
    for _ in range(4):
        with fails(ReplicaLaggingError):
            world.wait(FakeClock(), until=1)
    world.catch_up()
    world.wait(FakeClock())


@every_engine
def test_rotations_over_a_replica_that_lags_each_time(world: ReplicatedWorld) -> None:
    for generation in range(3, 13):
        world.stage(generation - 1, generation)
        world.wait(ScriptedClock(at=1 + generation % 3, happens=world.catch_up), generation)
        world.catch_up()
        world.pair.lag.hold()
    assert world.on_replica(11, 12) == [True, True]


@with_two_passwords
def test_runs_that_die_between_two_logins_do_not_lock_the_account(world: ReplicatedWorld) -> None:
    """The worst moment, after pending was refused, in runs that follow one another."""

    class Dying:
        """A host that the run reaches for so many logins."""

        def __init__(self, logins: int) -> None:
            (self._replica,) = world.database.replicas
            self._left = logins
            self.replicas = (self,)
            self.name = self._replica.name

        def accepts(self, login: Login) -> bool:
            if not self._left:
                raise CrashError
            self._left -= 1
            return self._replica.accepts(login)

    world.stage(2, 3)
    for logins in (2, 2, 2, 4, 2, 6):
        dying: Any = Dying(logins)
        with pytest.raises(CrashError):
            world.wait(FakeClock(), of=dying)
    world.catch_up()
    world.wait(FakeClock())
    assert world.on_replica(2, 3) == [True, True]


@every_engine
def test_a_replica_that_does_not_know_base_is_named(world: ReplicatedWorld) -> None:
    world.stage(2, 3)
    world.stage(3, 4)
    with pytest.raises(ReplicaRejectedError, match=f"main@localhost:{world.pair.replica.port}"):
        world.wait(FakeClock(), pending=4)


@every_engine
def test_a_retired_value_is_waited_for_until_the_replica_refuses_it(world: ReplicatedWorld) -> None:
    with world.database.exclusive() as stager:
        keep = stager.retire(drop=world.value(1), keep=world.value(2))
    assert world.on_replica(1) == [True]

    def wait(clock: FakeClock) -> None:
        doomed = [world.login(1)]
        replication.wait_until_revoked(world.database, waiting(clock, 1), doomed=doomed, live=[keep])

    with fails(ReplicaLaggingError):
        wait(FakeClock())
    wait(ScriptedClock(at=2, happens=world.catch_up))
    assert world.on_replica(2, 1) == [True, False]


@every_engine
def test_a_replica_that_does_not_answer_is_no_refusal(world: ReplicatedWorld) -> None:
    world.stage(2, 3)
    world.pair.replica.pause()
    try:
        with fails(DatabaseUnreachableError):
            world.wait(FakeClock(), of=world.open(world.host, timeouts=HASTY))
    finally:
        world.pair.replica.resume()
    world.catch_up()


@pytest.mark.parametrize("world", ["mariadb-dual", "mysql-dual", "postgresql"], indirect=True)
def test_a_replica_is_verified_by_its_own_ca_file(world: ReplicatedWorld, tmp_path_factory: Any) -> None:  # noqa: ANN401
    stranger = CertificateAuthority(tmp_path_factory.mktemp("stranger"))
    elsewhere = structs.replace(world.host, tls=Tls(ca_file=stranger.ca_file))
    with fails(TlsVerificationError):
        world.wait(FakeClock(), of=world.open(elsewhere))


# Its own sessions


def sessions_on(world: ReplicatedWorld, server: PlannedServer) -> SessionList:
    reached = open_server(server, world.harness.credential, lambda: ADMIN)
    found = Sessions(reached, LISTS[server.engine]).list_sessions()
    assert isinstance(found, SessionList)
    return found


@every_engine
def test_a_replica_lists_its_own_sessions_and_another_name_of_the_primary_the_primarys(
    world: ReplicatedWorld,
) -> None:
    if isinstance(world.harness, MySqlHarness):
        world.harness.execute(f"GRANT PROCESS ON *.* TO '{ROTATION_USER}'@'%'")
    world.catch_up()
    same = VerifyHost(host="localhost", port=world.pair.primary.port, tls=world.host.tls)
    primary = structs.replace(world.harness.server, verify_hosts=(world.host, same))
    replica, alias = primary.copies
    login = world.login(2)
    with ExitStack() as stack:
        for server, count in ((world.pair.primary, 1), (world.pair.replica, 2)):
            for _ in range(count):
                stack.enter_context(closing(connect(server, login, DATABASE, "web")))
        found = [sessions_on(world, server) for server in (primary, replica, alias)]
    assert [len(listed.sessions) for listed in found] == [1, 2, 1]
    assert found[0].server == found[2].server != found[1].server


# The doctor (`lockstep.operate.doctor.servers`)


@pytest.fixture
def doctor(world: ReplicatedWorld, tmp_path: Path) -> DoctorWorld:
    """It looks at the database and its replica, while the stores serve generation 2."""
    made = DoctorWorld(world.harness, tmp_path)
    made.server = structs.replace(world.harness.server, verify_hosts=(world.host,))
    made.serve(world.value(2), world.value(2))
    return made


@every_engine
def test_the_doctor_tells_a_replica_that_refuses(world: ReplicatedWorld, doctor: DoctorWorld) -> None:
    world.catch_up()
    assert doctor.look().outcomes(VERIFY_HOSTS) == {Outcome.PASSED}
    world.pair.lag.hold()
    world.stage(2, 3)
    doctor.serve(world.value(3), world.value(3))
    seen = doctor.look()
    assert seen.outcomes(LOGIN) == {Outcome.PASSED}
    (refused,) = seen.of(VERIFY_HOSTS)
    assert refused.outcome is Outcome.FAILED
    assert "the verify host refuses what aws and oci serve" in refused.says
    assert seen.databases.refused == {"main"}
    # The login that works there takes the refusal back: a limit of two is not reached.
    assert world.on_replica(2) == [True]


@every_engine
def test_the_doctor_finds_a_replica_that_is_no_verify_host(
    world: ReplicatedWorld, doctor: DoctorWorld
) -> None:
    (_,) = doctor.look().of("database.server")
    doctor.server = world.harness.server
    if doctor.is_postgresql:
        (unseen,) = doctor.look().of("database.server")
        assert unseen.says.startswith("1 hosts replicate from it, more than verify hosts")
        world.harness.execute(f"GRANT pg_read_all_stats TO {ROTATION_USER}")
    (named,) = doctor.look().of("database.server")
    assert named.outcome is Outcome.WARNING
    assert "replicates from it and is no verify host" in named.says


@every_engine
def test_the_doctor_tells_a_replica_that_is_named_as_the_server(
    world: ReplicatedWorld, doctor: DoctorWorld
) -> None:
    world.catch_up()
    if not doctor.is_postgresql:
        world.pair.replica.execute_as_superuser("SET GLOBAL read_only = 1")
    doctor.server = structs.replace(world.harness.server, port=world.pair.replica.port)
    try:
        (answer,) = doctor.look().of("database.server")
    finally:
        if not doctor.is_postgresql:
            world.pair.replica.execute_as_superuser("SET GLOBAL read_only = 0")
    assert answer.outcome is Outcome.FAILED
    assert "under `verify_hosts`" in (answer.command or "")
