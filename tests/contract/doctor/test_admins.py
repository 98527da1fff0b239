"""The doctor where the rotation user has a token of RDS IAM authentication, or a login that is itself rotated."""

from pathlib import Path

from msgspec import structs

from lockstep.aws.rds import token_login
from lockstep.databases.findings import Finding, Outcome
from lockstep.operate.doctor import servers
from lockstep.protocol.errors import AdminCredentialRejectedError
from lockstep.protocol.model import ROTATION_USER, AdminCredential, Login, SecretStr
from sandbox.identities import endless
from tests.contract.database_harness import SqlHarness, each_engine, worlds
from tests.contract.doctor.database_world import DoctorWorld
from tests.contract.test_admin_credential import estate
from tests.contract.test_rds_iam import ADMIN_IAM, KEYS, STRANGER, behind, rds

pytest_plugins = ["tests.contract.database_fixtures"]

BY_TOKEN = "RDS IAM authentication"
"""What answers the question `aws.rds-tokens` of `--confirm`."""


def of_admin(doctor: DoctorWorld) -> Finding:
    (told,) = doctor.look().of(servers.ADMIN)
    return told


@each_engine
def test_with_a_token_every_check_passes_and_one_that_is_refused_is_told_without_it(
    world: SqlHarness, tmp_path: Path
) -> None:
    doctor = DoctorWorld(world, tmp_path)
    doctor.accept_base()
    with rds(world) as front:
        doctor.server = behind(world, front.port)
        doctor.admin = token_login(doctor.server, ADMIN_IAM, endless(KEYS))
        seen = doctor.look()
        assert seen.complaints() == []
        assert BY_TOKEN in seen.of(servers.ADMIN)[0].says
        doctor.admin = token_login(doctor.server, ADMIN_IAM, endless(STRANGER))
        from_here = of_admin(doctor)
        doctor.where = "aws/apply_db"
        seen = doctor.look()
    # A person need not have the right that the runner has.
    assert (from_here.outcome, from_here.command) == (Outcome.NOT_ASKED, "lockstep doctor --in-cloud")
    (told,) = seen.of(servers.ADMIN)
    assert (told.outcome, BY_TOKEN in told.says) == (Outcome.FAILED, True)
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
        assert seen.of(servers.ADMIN)[0].says == f"{admin.current.login.username} logs in"


@worlds("mysql-dual", "postgresql")
def test_a_rotated_login_that_does_not_work_is_imported_again(world: SqlHarness, tmp_path: Path) -> None:
    """There is a placeholder, or a wrong password."""
    doctor = DoctorWorld(world, tmp_path)
    doctor.server = structs.replace(world.server, admin=AdminCredential(credential="rotators/main"))
    for login in (AdminCredentialRejectedError(database="main"), Login(ROTATION_USER, SecretStr("wrong"))):
        doctor.admin = login
        told = of_admin(doctor)
        assert (told.outcome, told.command) == (Outcome.FAILED, "lockstep import rotators/main")
        assert "refuses the rotation user's login, or there is none" in told.says
