"""The SQL of `lockstep plan sql`: what it grants, what it leaves alone, and that it holds no password."""

import re

import pytest
from msgspec import structs

from lockstep.operate.plan_sql.scripts import LiveRoleError, Provisioning, provisioning
from lockstep.plan.model import Plan
from lockstep.protocol.model import (
    ROTATION_USER,
    AdminSecret,
    Credential,
    DatabaseServer,
    Engine,
    SecretStr,
    Strategy,
    Tls,
)
from tests.support.memory import make_plan

PASSWORD = SecretStr("a'b\\c")

both_faces = pytest.mark.parametrize(
    ("engine", "existing"),
    [
        (engine, existing)
        for engine in Engine
        for existing in (False, True)[: 1 + (engine is not Engine.POSTGRESQL)]
    ],
)


def server(engine: Engine, *, plaintext: bool = False, name: str = "main") -> DatabaseServer:
    return DatabaseServer(
        name=name,
        engine=engine,
        host="db.example.com",
        port=3306,
        dbname="app_db",
        tls=None if plaintext else Tls(),
        admin=AdminSecret(aws="lockstep/rotator", oci="lockstep/rotator"),
    )


def credential(strategy: Strategy = Strategy.ALTERNATING_USERS) -> Credential:
    return structs.replace(make_plan(strategy=strategy).credentials[0], id="multi-cloud/orders")


@pytest.fixture
def plan() -> Plan:
    return make_plan()


def made(plan: Plan, engine: Engine, *, existing: bool = False, plaintext: bool = False) -> Provisioning:
    return provisioning(plan, credential(), server(engine, plaintext=plaintext), existing=existing)


@both_faces
def test_no_statement_sets_a_password(plan: Plan, engine: Engine, *, existing: bool) -> None:
    statements = "\n".join(made(plan, engine, existing=existing).statements)
    assert " PASSWORD '" not in statements
    assert "IDENTIFIED BY" not in statements


@pytest.mark.parametrize("engine", [Engine.MYSQL, Engine.MARIADB])
def test_an_account_that_is_made_requires_tls_unless_the_plan_says_plaintext(
    plan: Plan, engine: Engine
) -> None:
    for plaintext, required in ((False, "REQUIRE SSL"), (True, "REQUIRE NONE")):
        created = [
            s for s in made(plan, engine, plaintext=plaintext).statements if s.startswith("CREATE USER")
        ]
        assert len(created) == 3
        assert all(required in s for s in created)


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("engine", [Engine.MYSQL, Engine.MARIADB])
def test_no_account_is_altered_to_require_tls(plan: Plan, engine: Engine, *, existing: bool) -> None:
    script = made(plan, engine, existing=existing)
    assert not [s for s in script.statements if re.search(r"ALTER USER '+\w+'+@'+%'+ REQUIRE", s)]
    if existing:
        assert "--   ALTER USER 'app_a'@'%' REQUIRE SSL;" in script.text().splitlines()


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("engine", [Engine.MYSQL, Engine.MARIADB])
def test_the_rotation_user_gets_no_more_than_it_needs(plan: Plan, engine: Engine, *, existing: bool) -> None:
    statements = made(plan, engine, existing=existing).statements
    granted = [s for s in statements if s.startswith("GRANT") and ROTATION_USER in s]
    columns = "PROCESSLIST_ID, PROCESSLIST_USER, PROCESSLIST_HOST, PROCESSLIST_TIME, PROCESSLIST_COMMAND"
    rights = {
        Engine.MARIADB: ["CREATE USER ON *.*", "SELECT (User, Host) ON mysql.user", "PROCESS ON *.*"],
        Engine.MYSQL: [
            "CREATE USER ON *.*",
            f"SELECT ({columns}) ON performance_schema.threads",
            "SELECT ON performance_schema.session_connect_attrs",
        ],
    }
    assert granted == [f"GRANT {right} TO 'lockstep_rotator'@'%'" for right in rights[engine]]


def test_the_rotation_user_sees_no_statements_on_postgresql_unless_a_dba_lets_it(plan: Plan) -> None:
    script = made(plan, Engine.POSTGRESQL)
    assert not any("pg_read_all_stats" in statement for statement in script.statements)
    assert '--   GRANT pg_read_all_stats TO "lockstep_rotator";' in script.text().splitlines()


def test_there_is_no_script_for_a_live_role_of_postgresql(plan: Plan) -> None:
    with pytest.raises(LiveRoleError, match=r"act as app_owner, as docs/how-to/postgresql-live-login\.md"):
        made(plan, Engine.POSTGRESQL, existing=True)
