"""The doctor where the rotation user has a token of RDS IAM authentication, or a login that is itself rotated."""

from pathlib import Path

import pytest
from msgspec import structs

from lockstep.aws.rds import token_login
from lockstep.databases.findings import Outcome
from lockstep.operate.doctor import servers
from lockstep.protocol.errors import AdminCredentialRejectedError, LockstepError
from lockstep.protocol.model import ROTATION_USER, AdminCredential, Login, SecretStr
from tests.contract.database_harness import SqlHarness, each_engine, worlds
from tests.contract.doctor.database_world import DoctorWorld
from tests.contract.test_admin_credential import estate
from tests.contract.test_rds_iam import ADMIN_IAM, KEYS, STRANGER, behind, rds

pytest_plugins = ["tests.contract.database_fixtures"]


@each_engine
def test_with_a_token_every_check_passes_and_one_that_is_refused_is_told_without_it(
    world: SqlHarness, tmp_path: Path
) -> None:
    doctor = DoctorWorld(world, tmp_path)
    doctor.accept_base()
    with rds(world) as front:
        doctor.server = behind(world, front.port)
        doctor.admin = token_login(doctor.server, ADMIN_IAM, KEYS)
        seen = doctor.look()
        assert seen.complaints() == []
        (told,) = seen.of(servers.ADMIN)
        assert (
            told.says == f"{ROTATION_USER} logs in, by a token of RDS IAM authentication for {ROTATION_USER}"
        )
        doctor.admin = token_login(doctor.server, ADMIN_IAM, STRANGER)
        (from_here,) = doctor.look().of(servers.ADMIN)
        doctor.where = "aws/apply_db"
        seen = doctor.look()
    # A person need not have the right that the runner has.
    assert (from_here.outcome, from_here.command) == (Outcome.NOT_ASKED, "lockstep doctor --in-cloud")
    (told,) = seen.of(servers.ADMIN)
    assert told.outcome is Outcome.FAILED
    assert "refuses the rotation user's login, by a token" in told.says
    assert "rds-db:connect" in (told.command or "")
    assert "X-Amz-" not in str(seen.everything())


@each_engine
def test_with_a_login_that_is_rotated_every_check_passes(world: SqlHarness, tmp_path: Path) -> None:
    """Also those of the credential whose account the rotation user is."""
    admin, application = estate(world)
    for looked_at in (admin, application):
        doctor = DoctorWorld(world, tmp_path)
        [doctor.server] = admin.plan.databases
        doctor.credential, doctor.admin = looked_at.credential, admin.current.login
        doctor.base = looked_at.current
        seen = doctor.look()
        assert seen.complaints() == []
        (told,) = seen.of(servers.ADMIN)
        assert told.says == f"{admin.current.login.username} logs in, by the credential {admin.credential.id}"


@worlds("mysql-dual", "postgresql")
@pytest.mark.parametrize(
    ("login", "says"),
    [
        (AdminCredentialRejectedError(database="main"), "there is no login of the rotation user"),
        (Login(ROTATION_USER, SecretStr("wrong")), "refuses the rotation user's login, by the credential"),
    ],
    ids=["placeholder", "wrong"],
)
def test_a_rotated_login_that_does_not_work_is_imported_again(
    world: SqlHarness, tmp_path: Path, login: Login | LockstepError, says: str
) -> None:
    doctor = DoctorWorld(world, tmp_path)
    rotated = AdminCredential(credential="rotators/main")
    doctor.server, doctor.admin = structs.replace(world.server, admin=rotated), login
    (told,) = doctor.look().of(servers.ADMIN)
    assert told.outcome is Outcome.FAILED
    assert says in told.says
    assert told.command == f"lockstep import {rotated.credential}"
