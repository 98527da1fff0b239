"""The answers, in the dialect of the AWS Secrets Manager Agent."""

import json
from collections.abc import Iterator

import pytest

from lockstep.agent.values import Secret, Values
from tests.agent.harness import (
    NAME,
    NEEDLE,
    NOW,
    OVERLAP,
    Address,
    FakeStore,
    World,
    answering,
    app_user,
    blob,
)

QUERY = f"/secretsmanager/get?secretId={NAME}"
PATH = f"/v1/{NAME}"


@pytest.fixture(scope="module")
def world() -> World:
    world = World()
    world.value.refresh()
    return world


@pytest.fixture(scope="module")
def agent(world: World) -> Iterator[Address]:
    with answering(world.values) as address:
        yield address


@pytest.mark.parametrize("path", [QUERY, PATH, "/v1/multi-cloud%2Fapp_user"])
def test_a_value_comes_as_get_secret_value_gives_it(agent: Address, path: str) -> None:
    answer = agent.get(path)
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "ARN": NAME,
        "Name": NAME,
        "VersionId": "version-1",
        "SecretString": app_user(1),
        "VersionStages": ["AWSCURRENT"],
        "CreatedDate": "1795737600.0",
    }
    assert answer.headers["x-lockstep-generation"] == "1"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("header", ["X-Aws-Parameters-Secrets-Token", "X-Vault-Token", "x-vault-token"])
def test_either_header_brings_the_token(agent: Address, header: str) -> None:
    assert agent.get(QUERY, token=None, headers={header: "the-token"}).status == 200


@pytest.mark.parametrize("token", [None, "", "the-toke", "the-token2", "THE-TOKEN"])
def test_a_wrong_token_is_refused(agent: Address, token: str | None) -> None:
    answer = agent.get(QUERY, token=token)
    assert (answer.status, answer.body) == (403, "Bad Token")


def test_a_forwarded_request_is_refused_even_with_the_token(agent: Address) -> None:
    for _ in range(200):
        answer = agent.get(QUERY, headers={"X-Forwarded-For": "10.0.0.1"})
        assert (answer.status, answer.body) == (400, "Forwarded")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "PROPFIND"])
def test_only_get_is_allowed(agent: Address, method: str) -> None:
    assert agent.get(QUERY, method=method).status == 405


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/secretsmanager/get", 400, "missing parameter secretId"),
        ("/secretsmanager/get?secretId=", 400, "missing parameter secretId"),
        (f"{QUERY}&abc=1", 400, "unknown parameter: abc"),
        (f"{QUERY}&refreshNow=yes", 400, "invalid refreshNow value"),
        (f"{PATH}?secretId=x", 400, "unknown parameter: secretId"),
        ("/v1/", 400, "missing secret ID"),
        ("/v2/multi-cloud/app_user", 404, "Not found"),
        ("/", 404, "Not found"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(agent: Address, path: str, status: int, text: str) -> None:
    answer = agent.get(path)
    assert (answer.status, answer.body) == (status, text)


@pytest.mark.parametrize(
    "secret_id",
    [
        "other",
        "multi-cloud/app_user/",
        "../multi-cloud/app_user",
        "multi-cloud/../multi-cloud/app_user",
        "%2e%2e/multi-cloud/app_user",
        "multi-cloud//app_user",
        "multi-cloud/app_user%00",
        *(f"multi-cloud/app{c}_user" for c in ("%0A", "%0D", "%09", "%23", "%3F", "%5C")),
        *(f"{c}multi-cloud/app_user" for c in ("%0A", "%20", "%01")),
        "multi-cloud/app_user%3Fx=1",
        "multi-cloud/app_user%23x",
        "multi-cloud/APP_USER",
        "....//....//etc/passwd",
        "a" * 4096,
    ],
)
def test_no_trick_in_a_path_finds_another_secret(agent: Address, secret_id: str) -> None:
    for path in (f"/v1/{secret_id}", f"/secretsmanager/get?secretId={secret_id}"):
        answer = agent.get(path)
        assert (answer.status, json.loads(answer.body)["__type"]) == (404, "ResourceNotFoundException")


@pytest.mark.parametrize("host", ["localhost", "[::1", "a/ping?b=", "a#b", "", "\xff", "evil.example.com\t"])
def test_no_trick_in_the_host_is_another_path(agent: Address, host: str) -> None:
    assert agent.get(QUERY, headers={"Host": host}).status == 200
    assert agent.get(QUERY, token=None, headers={"Host": host}).status == 403


@pytest.mark.parametrize("path", ["/ping%0A", "/pi%09ng", "/ping%3F", "/ping%23", "/ping/", "//ping"])
def test_what_only_looks_like_an_open_path_needs_a_token(agent: Address, path: str) -> None:
    assert agent.get(path, token=None).status == 403


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ("versionStage=AWSCURRENT", 200),
        ("versionId=version-1", 200),
        ("versionId=version-1&versionStage=AWSCURRENT", 200),
        ("versionStage=AWSPREVIOUS", 404),
        ("versionStage=AWSPENDING", 404),
        ("versionId=version-0", 404),
    ],
)
def test_only_the_current_version_is_served(agent: Address, parameters: str, status: int) -> None:
    assert agent.get(f"{PATH}?{parameters}").status == status


@pytest.mark.parametrize("value", ["true", "True", "1"])
def test_refresh_now_reads_the_store(value: str) -> None:
    world = World()
    world.value.refresh()
    world.near.generation = 2
    world.clock.seconds += 5
    with answering(world.values) as agent:
        assert json.loads(agent.get(QUERY).body)["VersionId"] == "version-1"
        assert json.loads(agent.get(f"{QUERY}&refreshNow={value}").body)["VersionId"] == "version-2"
        assert agent.get(f"{QUERY}&refreshNow=0").headers["x-lockstep-generation"] == "2"


def test_a_value_that_may_be_revoked_is_not_served_and_the_reason_is_told() -> None:
    world = World()
    world.value.refresh()
    with answering(world.values) as agent:
        assert agent.get("/healthz", token=None).status == 200
        world.near.is_up = world.far.is_up = False
        world.clock.seconds += OVERLAP.total_seconds()
        world.value.refresh()
        refused, health = agent.get(QUERY), agent.get("/healthz", token=None)
        assert (refused.status, health.status) == (503, 503)
        assert "seen 720 s ago" in health.body
        assert "StoreUnreachableError" in json.loads(refused.body)["message"]
        world.near.is_up = True
        world.value.refresh()
        assert (agent.get(QUERY).status, agent.get("/healthz", token=None).status) == (200, 200)


def test_what_was_never_read_is_told_as_that() -> None:
    with answering(World().values) as agent:
        assert agent.get(QUERY).status == 503
        assert "never read" in agent.get("/healthz", token=None).body


def test_a_login_is_a_flat_object_of_strings(agent: Address) -> None:
    answer = agent.get(f"/lockstep/login?secretId={NAME}")
    assert (answer.status, answer.headers["x-lockstep-generation"]) == (200, "1")
    assert json.loads(answer.body) == {
        "username": "app",
        "password": f"{NEEDLE}-1",
        "engine": "mariadb",
        "host": "db.example.com",
        "port": "3306",
        "dbname": "orders",
        "generation": "1",
    }


def test_a_login_to_another_database_has_its_address() -> None:
    world = World()
    of_blob = Secret(
        name="multi-cloud/blob", credential_id=NAME, overlap=OVERLAP, sources={"oci": FakeStore(text=blob(1))}
    )
    values = Values([world.value.secret, of_blob], world.clock)
    for value in values:
        value.refresh()
    with answering(values) as agent:
        found = json.loads(agent.get(f"/lockstep/login?secretId={NAME}&database=ledger").body)
        assert [found[k] for k in ("username", "host", "port", "dbname")] == [
            *("app", "pg.example.com", "5432", "ledger")
        ]


def test_addresses_outlive_the_overlap_and_what_was_not_read_yet_is_no_404() -> None:
    """A 404 says that there is no such thing: External Secrets may then delete what it has made of it."""
    world, of_blob = World(), FakeStore(text=blob(1), is_up=False)
    blob_secret = Secret(name="b", credential_id=NAME, overlap=OVERLAP, sources={"oci": of_blob})
    values = Values([world.value.secret, blob_secret], world.clock)
    query = f"/lockstep/login?secretId={NAME}&database=ledger"
    with answering(values) as agent:
        values.refresh()
        refused = agent.get(query)
        assert (refused.status, "never read" in refused.body) == (503, True)
        of_blob.is_up = True
        values.refresh()
        of_blob.is_up, world.near.generation = False, 2
        world.clock.seconds += 2 * OVERLAP.total_seconds()
        values.refresh()
        found = json.loads(agent.get(query).body)
        assert (found["host"], found["password"]) == ("pg.example.com", f"{NEEDLE}-2")
        assert agent.get("/v1/b").status == 503
        assert agent.get(query.replace("ledger", "none")).status == 404


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 400), (f"secretId={NAME}&x=1", 400), ("secretId=x", 404), (f"secretId={NAME}&database=none", 404)],
)
def test_a_login_that_is_not_there_is_told(agent: Address, query: str, status: int) -> None:
    answer = agent.get(f"/lockstep/login?{query}")
    assert answer.status == status
    assert NEEDLE not in answer.body
    assert agent.get(f"/lockstep/login?{query}", token="wrong").status == 403


def test_ping_needs_no_token_and_no_value() -> None:
    with answering(World().values) as agent:
        answer = agent.get("/ping", token=None, headers={"X-Forwarded-For": "10.0.0.1"})
        assert (answer.status, answer.body) == (200, "healthy")


def test_metrics_have_ages_and_counts_and_no_value(agent: Address) -> None:
    agent.get(QUERY)
    agent.get(QUERY, token="wrong")
    answer = agent.get("/metrics", token=None)
    assert answer.status == 200
    assert f'lockstep_agent_generation{{secret="{NAME}",source="oci"}} 1.0' in answer.body
    assert f'lockstep_agent_overlap_left_seconds{{secret="{NAME}"}} 720.0' in answer.body
    assert 'lockstep_agent_requests_total{status="403"}' in answer.body
    assert NEEDLE not in answer.body
    assert "the-token" not in answer.body


def test_it_tells_which_generation_it_gave_last() -> None:
    world = World()
    world.value.refresh()

    def given() -> list[str]:
        metrics = address.get("/metrics", token=None).body
        return [line for line in metrics.splitlines() if line.startswith("lockstep_agent_given")]

    with answering(world.values) as address:
        assert given() == []
        for generation, path in ((1, QUERY), (2, PATH), (3, f"/lockstep/login?secretId={NAME}")):
            world.near.generation = generation
            world.value.refresh()
            assert address.get(path).status == 200
            labels = f'{{credential="{NAME}",way="http"}}'
            told, at = given()
            assert told == f"lockstep_agent_given_generation{labels} {generation}.0"
            assert at.startswith(f"lockstep_agent_given_timestamp_seconds{labels} ")
            assert float(at.rpartition(" ")[2]) == NOW.timestamp()
        world.near.generation = 4
        world.value.refresh()
        for refused in (address.get(QUERY, token="wrong"), address.get(QUERY + "&versionId=unknown")):
            assert refused.status in (403, 404)
        assert given() == [told, at]  # Nobody was given it.
