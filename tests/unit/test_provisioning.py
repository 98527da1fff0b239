"""The SQL of `lockstep plan sql`: it grants what is needed, and holds no password."""

from dataclasses import replace

import pytest

from lockstep.databases.provisioning import provisioning, provisioning_sql
from lockstep.model import ROTATOR, Credential, DatabaseServer, Engine, SecretStr, Strategy, Tls
from lockstep.plan import Plan
from tests.support.memory import make_plan

PASSWORD = SecretStr("a'b\\c")


def server(engine: Engine, *, plaintext: bool = False, name: str = "main") -> DatabaseServer:
    return DatabaseServer(
        name=name,
        engine=engine,
        host="db.example.com",
        port=3306,
        dbname="app_db",
        tls=None if plaintext else Tls(),
        admin_secret="lockstep/rotator",
    )


def credential(strategy: Strategy = Strategy.ALTERNATING_USERS) -> Credential:
    return replace(make_plan(strategy=strategy).credentials[0], id="multi-cloud/orders")


@pytest.fixture
def plan() -> Plan:
    return make_plan()


def statements(plan: Plan, engine: Engine, *, plaintext: bool = False) -> list[str]:
    made = provisioning(plan, credential(), server(engine, plaintext=plaintext))
    return [s.reveal() for s in made.render_for({ROTATOR: PASSWORD}, bytes)]


@pytest.mark.parametrize("engine", Engine)
def test_the_script_has_a_placeholder_for_the_password(plan: Plan, engine: Engine) -> None:
    script = provisioning_sql(plan, credential(), server(engine))
    code = [line for line in script.splitlines() if not line.startswith("--")]
    assert sum("'<password of lockstep_rotator>'" in line for line in code) == 1
    assert script.startswith("-- Lockstep: credential multi-cloud/orders on database server main")
    assert "secret lockstep/rotator" in script


@pytest.mark.parametrize("engine", Engine)
def test_rendered_statements_have_no_placeholder(plan: Plan, engine: Engine) -> None:
    assert not any("<password" in s for s in statements(plan, engine))


@pytest.mark.parametrize("engine", [Engine.POSTGRESQL, Engine.MARIADB])
def test_an_engine_that_takes_a_verifier_does_not_get_the_password(plan: Plan, engine: Engine) -> None:
    assert not any("a'b" in s or "a''b" in s for s in statements(plan, engine))


def test_mysql_gets_the_password_quoted(plan: Plan) -> None:
    assert any("IDENTIFIED BY 'a''b\\\\c'" in s for s in statements(plan, Engine.MYSQL))


@pytest.mark.parametrize("engine", [Engine.MYSQL, Engine.MARIADB])
def test_every_account_requires_tls_unless_the_plan_says_plaintext(plan: Plan, engine: Engine) -> None:
    altered = [s for s in statements(plan, engine) if s.startswith("ALTER USER")]
    assert len(altered) == 3
    assert all("REQUIRE SSL" in s for s in altered)
    altered = [s for s in statements(plan, engine, plaintext=True) if s.startswith("ALTER USER")]
    assert all("REQUIRE NONE" in s for s in altered)


@pytest.mark.parametrize("engine", [Engine.MYSQL, Engine.MARIADB])
def test_the_rotator_gets_one_privilege(plan: Plan, engine: Engine) -> None:
    granted = [s for s in statements(plan, engine) if s.startswith("GRANT") and ROTATOR in s]
    names = (
        ["GRANT SELECT (User, Host) ON mysql.user TO 'lockstep_rotator'@'%'"]
        if engine is Engine.MARIADB
        else []
    )
    assert granted == ["GRANT CREATE USER ON *.* TO 'lockstep_rotator'@'%'", *names]


def test_postgresql_logins_share_an_owner(plan: Plan) -> None:
    made = statements(plan, Engine.POSTGRESQL)
    assert 'GRANT "app_owner" TO "app_a", "app_b"' in made
    assert 'ALTER ROLE "app_a" SET role TO "app_owner"' in made
    assert 'ALTER ROLE "app_b" SET role TO "app_owner"' in made


def test_an_underscore_in_a_mariadb_name_is_escaped(plan: Plan) -> None:
    assert any(r"ON `app\_db`.*" in s for s in statements(plan, Engine.MARIADB))


def test_dual_passwords_need_one_account(plan: Plan) -> None:
    made = provisioning(plan, credential(Strategy.DUAL_PASSWORD), server(Engine.MARIADB)).statements
    assert [s.split("'")[1] for s in made if s.startswith("CREATE USER")] == ["app", ROTATOR]


def test_the_script_names_the_credentials_that_share_the_rotator(plan: Plan) -> None:
    script = provisioning_sql(plan, credential(), server(Engine.MYSQL, name=plan.databases[0].name))
    assert f"{ROTATOR} and its password are the same for {plan.credentials[0].id}." in script
