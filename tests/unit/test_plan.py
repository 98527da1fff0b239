"""The plan file: what a plan that loads says, and which texts are no plan."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.plan.fields import format_duration, parse_duration
from lockstep.plan.file import PlanProblemsError, load_plan, parse_plan
from lockstep.plan.stores import AwsSecretsManager, OciVault
from lockstep.protocol.errors import InvalidPlanError
from lockstep.protocol.model import Engine
from lockstep.protocol.strict_json import write
from sandbox import plans
from tests.unit.plan_case import BOTH, VALID, parse, problems_of, with_value


def test_a_valid_plan_gets_defaults() -> None:
    plan = parse(VALID)
    credential = plan.credential("multi-cloud/app_user")
    assert credential
    assert credential.schedule.interval == timedelta(minutes=20)
    assert credential.schedule.overlap == timedelta(minutes=16)
    assert credential.schedule.tolerance == timedelta(minutes=2)
    assert credential.usernames == ("app",)
    assert credential.secret_names.app_user == "multi-cloud/app_user"
    assert credential.secret_names.connection_blob == "multi-cloud/app_user.connection"
    assert credential.primary.host == "shop.example.com"
    assert credential.password_policy.length == 32
    assert plan.store(AwsSecretsManager) is plan.stores[0]
    assert plan.store(OciVault) is None
    assert plan.credential("multi-cloud/other") is None


def test_ca_files_are_relative_to_the_plan() -> None:
    plan = parse(VALID)
    for server in (plan.databases[0], plan.credentials[0].servers[0]):
        assert server.tls
        assert server.tls.ca_file == Path("/etc/lockstep/ca.pem")


def test_a_verify_host_is_reached_as_its_database() -> None:
    document = with_value("databases.0.verify_hosts", ["r1", "r2:3307"])
    document["databases"][1]["verify_hosts"] = ["r3"]
    shop, stock = parse(document).databases
    assert [end.name for end in shop.verify_hosts] == ["r1:3306", "r2:3307"]
    assert {end.tls for end in shop.verify_hosts} == {shop.tls}
    assert shop.ca_files == (Path("/etc/lockstep/ca.pem"),)
    assert stock.verify_hosts[0].tls is None


def test_a_verify_host_is_a_copy_of_one_server() -> None:
    document = with_value("databases.0.verify_hosts", ["replica"])
    same = {**document["databases"][0], "name": "shop-archive", "dbname": "archive"}
    document["databases"].append(same)
    assert parse(document)
    same["host"] = "other.example.com"
    [problem] = problems_of(document)
    assert "databases[2].verify_hosts[0]: replica:3306 is also of shop" in problem


def test_alternating_users_have_two_names_and_an_owner() -> None:
    document = with_value("credentials.0.strategy", "alternating_users")
    credential = parse(document).credentials[0]
    assert (credential.usernames, credential.owner) == (("app_a", "app_b"), "app_owner")
    document["credentials"][0]["alternates"] = ["app", "app2"]
    assert parse(document).credentials[0].usernames == ("app", "app2")


def test_a_second_credential_in_a_folder_needs_no_names_of_its_own() -> None:
    document = with_value(
        "credentials.1", {**VALID["credentials"][0], "id": "multi-cloud/worker", "username": "w"}
    )
    document["credentials"].append({**VALID["credentials"][0], "id": "one", "username": "one"})
    names = [name for c in parse(document).credentials for name in write(c.secret_names).values()]
    assert names == [
        *("multi-cloud/app_user", "multi-cloud/app_user.connection"),
        *("multi-cloud/worker", "multi-cloud/worker.connection"),
        *("one", "one.connection"),
    ]
    document["credentials"][0] |= {"secret": "crm/login", "connection_secret": "crm/addresses"}
    assert write(parse(document).credentials[0].secret_names) == {
        "app_user": "crm/login",
        "connection_blob": "crm/addresses",
    }


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("20m", 1200),
        ("20 m", 1200),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("7d", 604800),
    ],
)
def test_a_duration_is_numbers_with_units(text: str, seconds: int) -> None:
    document = with_value("audit.aws.retention", text)
    assert parse(document).audit.aws.retention == timedelta(seconds=seconds)


def test_the_default_overlap_ends_before_the_next_trigger() -> None:
    for interval in ("15m", "20m", "30m", "1h", "8h", "1d", "3d"):
        document = with_value("credentials.0.interval", interval)
        schedule = parse(document).credentials[0].schedule
        assert schedule.overlap + schedule.tolerance <= schedule.interval
        assert schedule.overlap >= schedule.interval / 2


def test_with_two_runners_a_lease_must_end_before_the_standby_is_called() -> None:
    # (protocol R9)
    def at(interval: str) -> str:
        document = plans.plan_document(
            [plans.database("shop", Engine.MYSQL)],
            [plans.credential("app_user", "shop", interval=interval)],
            oci=plans.OciNames(),
        )
        return json.dumps(document)

    with pytest.raises(PlanProblemsError) as caught:
        parse_plan(at("15m"), base=Path())
    assert "credentials[0].interval: 15m is too short with runners.oci: the lease" in " ".join(
        caught.value.lines
    )
    assert parse_plan(at("20m"), base=Path())
    document = json.loads(at("15m"))
    del document["runners"]["oci"]
    with pytest.raises(PlanProblemsError) as caught:
        parse(document)
    assert "with runners.oci" not in " ".join(caught.value.lines)


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(PlanProblemsError) as missing:
        load_plan(tmp_path / "nope.yaml")
    assert "cannot be read" in missing.value.lines[0]
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(PlanProblemsError) as caught:
        load_plan(binary)
    assert "UTF-8" in caught.value.lines[0]


def test_the_error_does_not_quote_the_plan() -> None:
    with pytest.raises(PlanProblemsError) as caught:
        parse(with_value("credentials.0.username", "hunter2-hunter2"))
    assert isinstance(caught.value, InvalidPlanError)
    assert "hunter2" not in str(caught.value) + "".join(caught.value.lines)


@pytest.mark.parametrize(("engine", "is_refused"), [(Engine.MYSQL, True), (Engine.MARIADB, False)])
def test_a_username_fits_the_server(engine: Engine, *, is_refused: bool) -> None:
    document = with_value("databases.0.engine", engine.value)
    document["credentials"][0] |= {"strategy": "alternating_users", "username": "x" * 31}
    if is_refused:
        assert any("mysql takes at most 32 characters" in p for p in problems_of(document))
    else:
        assert parse(document)


@pytest.mark.parametrize("username", ["postgres", "rdsadmin", "pg_monitor"])
def test_an_account_of_the_server_itself_is_not_rotated(username: str) -> None:
    document = with_value("credentials.1.alternates", [username, "stock_b"], of=BOTH)
    assert any(f"{username} is an account of Lockstep or of the server" in p for p in problems_of(document))


@pytest.mark.parametrize(
    ("host", "is_refused"),
    [
        ("shop.abcdef.eu-central-1.rds.amazonaws.com", True),
        ("shop.cluster-abcdef.eu-central-1.rds.amazonaws.com", True),
        ("Shop.cluster-ro-abcdef.eu-central-1.RDS.amazonaws.com.", True),
        ("shop.abcdef.rds.cn-north-1.amazonaws.com.cn", True),
        ("shop.abcdef.cn-north-1.rds.amazonaws.com.cn", True),
        # A proxy's certificate is of a public authority.
        ("shop.proxy-abcdef.eu-central-1.rds.amazonaws.com", False),
        ("rds.amazonaws.com.example.com", False),
    ],
)
def test_tls_to_rds_needs_its_cas(host: str, *, is_refused: bool) -> None:
    document = with_value("databases.0.host", host)
    assert parse(document)
    del document["databases"][0]["ca_file"]
    if is_refused:
        [problem] = problems_of(document)
        assert problem.startswith("databases[0].host: RDS signs its certificates with private CAs")
        assert "ca_file" in problem
    else:
        assert parse(document)


# Durations


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(minutes=20), "20m"),
        (timedelta(minutes=90), "1h30m"),
        (timedelta(seconds=90), "1m30s"),
        (timedelta(days=7), "7d"),
        (timedelta(days=400), "400d"),
        (timedelta(), "0s"),
    ],
)
def test_a_duration_is_written_with_units(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


@given(st.integers(0, 3_000_000_000))
def test_a_written_duration_is_read_back(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert parse_duration(format_duration(duration)) == duration
