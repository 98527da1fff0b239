"""The doctor on real servers: all is well, each check fails once, and no look brings an account closer to a lock."""

from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread

import pytest

from lockstep.databases.findings import Outcome
from lockstep.databases.inspect import VERIFY_HOSTS
from lockstep.operate.doctor.servers import EVERY_CHECK, LOGIN
from lockstep.protocol.deadlines import DatabaseTimeouts as Timeouts
from lockstep.protocol.model import Engine
from tests.contract.database_harness import FAMILY, MAX_REFUSALS, SqlHarness, every_server, worlds
from tests.contract.database_world import World
from tests.contract.doctor.breakages import BREAKAGES, Breakage
from tests.contract.doctor.database_world import DoctorWorld, Seen
from tests.support.world import revokes_everything, rotate_again

pytest_plugins = ["tests.contract.database_fixtures"]

ROWS = [(check, row, world) for check, rows in BREAKAGES.items() for row in rows for world in row.worlds]


@pytest.fixture(name="doctor")
def _doctor(world: SqlHarness, tmp_path: Path) -> DoctorWorld:
    made = DoctorWorld(world, tmp_path)
    made.accept_base()
    return made


@every_server
def test_where_all_is_well_every_check_passes(doctor: DoctorWorld) -> None:
    seen = doctor.look()
    found = {check: seen.outcomes(check) for check in EVERY_CHECK if seen.of(check)}
    assert set().union(*found.values()) == {Outcome.PASSED}, seen.complaints()
    assert found.keys() == set(EVERY_CHECK) - {VERIFY_HOSTS}


@pytest.mark.parametrize(
    ("check", "row", "world"), ROWS, indirect=["world"], ids=[f"{c}-{r.says}-{w}" for c, r, w in ROWS]
)
def test_each_check_complains_when_what_it_looks_at_is_broken(
    doctor: DoctorWorld, check: str, row: Breakage
) -> None:
    with ExitStack() as fixing:
        row.act(doctor, fixing)
        doctor.logged.forget()
        seen = doctor.look()
        complaint = next((a for a in seen.of(check) if row.says in a.says), None)
        assert complaint is not None, [a.says for a in seen.of(check)]
        assert complaint.outcome is row.outcome
        assert complaint.outcome is Outcome.NOT_ASKED or complaint.command
        assert doctor.logins() == row.shows
        assert doctor.base.login.password.reveal() not in str(seen.everything())


def test_each_check_is_broken_on_each_engine_that_it_asks() -> None:
    broken = {(check, world.partition("-")[0]) for check, _, world in ROWS}
    # Verify hosts, and a standby that is named as the server: tests/contract/test_replicas.py.
    elsewhere = {(VERIFY_HOSTS, engine.value) for engine in Engine} | {("database.server", "postgresql")}
    assert {(check, engine.value) for check in EVERY_CHECK for engine in Engine} - elsewhere <= broken


# Beside rotations, where two wrong passwords in a row lock an account

ROTATIONS, ROTATIONS_PER_EMERGENCY = 12, 7
PATIENT = Timeouts(lock_seconds=60, io_seconds=90)
"""Each waits until the other one has left the account, however slow the machine is."""


@worlds(*FAMILY, "postgresql")
def test_a_doctor_beside_rotations_locks_nobody_out_and_leaves_no_refusal(
    world: SqlHarness, tmp_path: Path
) -> None:
    """One thread rotates, with an emergency now and then; the other looks, at whatever moment of it that is."""
    world.database = world.open(timeouts=PATIENT)
    life, doctor = World(world), DoctorWorld(world, tmp_path)
    life.refusals.watch(world.database)
    doctor.timeouts, doctor.serving = PATIENT, life.current
    looks: list[Seen] = []
    is_over = Event()

    def look_often() -> None:
        while not is_over.is_set():
            looks.append(doctor.look())

    with world.limited(MAX_REFUSALS):
        doctor.logged.forget()
        looking = Thread(target=look_often)
        looking.start()
        try:
            for number in range(1, ROTATIONS + 1):
                if number % ROTATIONS_PER_EMERGENCY == 0:
                    revokes_everything(life.memory)
                rotate_again(life.memory, f"beside-{number}")
                life.assert_cured()
        finally:
            is_over.set()
            looking.join()
    assert any(seen.outcomes(LOGIN) == {Outcome.PASSED} for seen in looks)
    for seen in looks:
        assert seen.databases.refused == frozenset()
        assert Outcome.FAILED not in {answer.outcome for answer in seen.everything()}, seen.complaints()
    # Every refusal that the server has counted is one that the rotations have wanted.
    assert doctor.refusals() == life.refusals.refused
