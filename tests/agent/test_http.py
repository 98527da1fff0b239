"""The answers, in the dialect of the AWS Secrets Manager Agent, and what is kept of the stores for them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lockstep.agent.values import Values
from lockstep.client.sources import StoredText
from lockstep.protocol.errors import Environment, EnvironmentalError, StoreAccessDeniedError
from tests.agent.harness import (
    NAME,
    NEEDLE,
    OVERLAP,
    Address,
    FakeStore,
    World,
    answering,
    app_user,
    blob,
    secret_of,
)

QUERY = f"/secretsmanager/get?secretId={NAME}"
PATH = f"/v1/{NAME}"
SECONDS = OVERLAP.total_seconds()
LOGIN = f"/lockstep/login?secretId={NAME}"
NEEDLE_IN_JSON = NEEDLE[:5]
"""Nothing in it is escaped in JSON."""


@pytest.fixture(scope="module")
def agent() -> Iterator[Address]:
    world = World()
    world.value.refresh()
    with answering(world.values) as address:
        yield address


def test_a_value_comes_as_get_secret_value_gives_it(agent: Address) -> None:
    for path in (QUERY, PATH, "/v1/multi-cloud%2Fapp_user"):
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
        headers = answer.headers
        assert (headers["x-lockstep-generation"], headers["cache-control"]) == ("1", "no-store")


OPEN = ("/ping", "/healthz", PATH)
FOREIGN = [
    *((421, "Host", host) for host in ("evil.example", "127.0.0.1", "", "[::1", "\xff", "a/ping?b=")),
    *((403, "Sec-Fetch-Site", site) for site in ("cross-site", "same-site")),
    (403, "Origin", "http://evil.example"),
]
TOLD: list[tuple[str, dict[str, Any], int, str]] = [
    (QUERY, {"token": None, "headers": {"x-vault-token": "the-token"}}, 200, NEEDLE_IN_JSON),
    *((QUERY, {"token": t}, 403, "Bad Token") for t in ("", "the-toke", "the-token2", "THE-TOKEN")),
    # A page of another site, under a name of its own or across origins: nothing answers that, not even a probe.
    *((p, {"headers": {name: said}}, status, "") for p in OPEN for status, name, said in FOREIGN),
    # Only the current version is served.
    *((f"{PATH}?{p}", {}, 200, NEEDLE_IN_JSON) for p in ("versionStage=AWSCURRENT", "versionId=version-1")),
    (f"{PATH}?versionId=version-1&versionStage=AWSCURRENT", {}, 200, NEEDLE_IN_JSON),
    # What only looks like an open path needs a token.
    *(
        (p, {"token": None}, 403, "Bad Token")
        for p in ("/ping%0A", "/pi%09ng", "/ping%3F", "/ping%23", "/ping/", "/metrics", "/healthz/")
    ),
    # A login that is not there.
    ("/lockstep/login?", {}, 400, ""),
    (f"{LOGIN}&x=1", {}, 400, ""),
    ("/lockstep/login?secretId=x", {}, 404, ""),
    (f"{LOGIN}&database=none", {}, 404, ""),
    (f"{LOGIN}&database=none", {"token": "wrong"}, 403, "Bad Token"),
]


def test_each_request_has_its_answer(agent: Address) -> None:
    for path, how, status, text in TOLD:
        answer = agent.get(path, **how)
        assert (answer.status, text in answer.body) == (status, True), (path, how, answer)
        assert status == 200 or NEEDLE_IN_JSON not in answer.body, path


def test_no_trick_in_a_path_finds_another_secret(agent: Address) -> None:
    for secret_id in (
        *("other", "multi-cloud/app_user/", "../multi-cloud/app_user", "multi-cloud//app_user"),
        *("multi-cloud/../multi-cloud/app_user", "%2e%2e/multi-cloud/app_user", "multi-cloud/app_user%00"),
        *(f"multi-cloud/app{c}_user" for c in ("%0A", "%0D", "%09", "%23", "%3F", "%5C")),
        *(f"{c}multi-cloud/app_user" for c in ("%0A", "%20", "%01")),
        *("multi-cloud/app_user%3Fx=1", "multi-cloud/app_user%23x", "multi-cloud/APP_USER"),
        *("....//....//etc/passwd", "a" * 4096),
    ):
        for path in (f"/v1/{secret_id}", f"/secretsmanager/get?secretId={secret_id}"):
            answer = agent.get(path)
            assert answer.status == 404, path
            assert json.loads(answer.body)["__type"] == "ResourceNotFoundException", path


def test_refresh_now_reads_the_store_and_callers_that_want_it_share_reads() -> None:
    world = World()
    world.value.refresh()
    with answering(world.values) as agent:
        for new, value in enumerate(("true", "True", "1"), 2):
            world.near.generation = new
            world.clock.sleep(5)
            assert json.loads(agent.get(QUERY).body)["VersionId"] == f"version-{new - 1}"
            assert json.loads(agent.get(f"{QUERY}&refreshNow={value}").body)["VersionId"] == f"version-{new}"
            assert agent.get(f"{QUERY}&refreshNow=0").headers["x-lockstep-generation"] == str(new)
    for pause in (1.5, 1.5):
        world.clock.sleep(pause)
        reads = world.near.reads
        for _ in range(50):
            world.value.refresh_now()
        assert world.near.reads == reads + 1


def test_what_was_never_read_or_may_be_revoked_is_not_served_and_the_reason_is_told() -> None:
    world = World()
    with answering(world.values) as agent:
        assert agent.get(QUERY).status == 503
        assert "never read" in agent.get("/healthz").body
        ping = agent.get("/ping", token=None, headers={"X-Forwarded-For": "10.0.0.1"})
        assert (ping.status, ping.body) == (200, "healthy"), "it needs no token and no value"
        world.value.refresh()
        world.near.is_up = world.far.is_up = False
        world.clock.sleep(SECONDS - 1)
        world.value.refresh()
        assert (world.value.seconds_left, agent.get("/healthz", token=None).status) == (1, 200)
        world.clock.sleep(1)
        refused, health = agent.get(QUERY), agent.get("/healthz")
        assert (refused.status, health.status) == (503, 503)
        assert agent.get("/healthz", token=None).body == ""
        assert "seen 720 s ago" in health.body
        assert "StoreUnreachableError" in json.loads(refused.body)["message"]
        world.near.is_up = True
        world.value.refresh()
        assert (agent.get(QUERY).status, agent.get("/healthz", token=None).status) == (200, 200)


def test_a_login_is_a_flat_object_of_strings_and_what_is_none_is_told_as_that(agent: Address) -> None:
    """It is there, and somebody has to look at it: no 404, after which External Secrets may delete, and no 500."""
    answer = agent.get(LOGIN)
    assert (answer.status, answer.headers["x-lockstep-generation"]) == (200, "1")
    flat = {name: str(value) for name, value in json.loads(app_user(1)).items()}
    assert json.loads(answer.body) == flat
    world = World()
    with answering(world.values) as other:
        for text in ("not json", '{"a":' * 20_000, '{"username": "app"}', '{"placeholder": true}'):
            world.near.text = text
            world.value.refresh()
            for path in (LOGIN, f"{LOGIN}&database=ledger"):
                answer = other.get(path)
                assert (answer.status, "lockstep rotate" in answer.body) == (503, True)


def test_addresses_outlive_the_overlap_and_what_was_not_read_yet_is_no_404() -> None:
    """A 404 says that there is no such thing: External Secrets may then delete what it has made of it."""
    world, of_blob = World(), FakeStore(text=blob(1), is_up=False)
    values = Values([world.value.secret, secret_of("b", oci=of_blob)], world.clock.monotonic)
    query = f"{LOGIN}&database=ledger"
    with answering(values) as agent:
        values.refresh()
        refused = agent.get(query)
        assert (refused.status, "never read" in refused.body) == (503, True)
        of_blob.is_up = True
        values.refresh()
        of_blob.is_up, world.near.generation = False, 2
        world.clock.sleep(2 * SECONDS)
        values.refresh()
        found = json.loads(agent.get(query).body)
        assert [found[k] for k in ("username", "host", "port", "dbname", "password")] == [
            *("app", "pg.example.com", "5432", "ledger", f"{NEEDLE}-2")
        ]
        assert agent.get("/v1/b").status == 503
        assert agent.get(query.replace("ledger", "none")).status == 404


def test_metrics_have_ages_and_generations_and_no_value() -> None:
    world = World()
    with answering(world.values) as address:

        def metrics() -> list[str]:
            found = address.get("/metrics").body
            assert (NEEDLE in found, "the-token" in found) == (False, False)
            return [line for line in found.splitlines() if not line.startswith("#")]

        assert metrics() == []
        for generation, path in ((1, QUERY), (2, PATH), (3, LOGIN)):
            world.near.generation = generation
            world.value.refresh()
            assert address.get(path).status == 200
            told = metrics()
            assert told == [
                f'lockstep_agent_generation{{secret="{NAME}",source="oci"}} {generation}.0',
                f'lockstep_agent_overlap_left_seconds{{secret="{NAME}"}} 720.0',
                f'lockstep_agent_given_generation{{credential="{NAME}",way="http"}} {generation}.0',
            ]
        world.near.generation = 4
        world.value.refresh()
        for refused in (address.get(QUERY, token="wrong"), address.get(QUERY + "&versionId=unknown")):
            assert refused.status in (403, 404)
        assert told[-1] in metrics()  # Nobody was given it.


# What is kept of the stores

ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:"


def test_a_store_that_does_not_answer_is_waited_for_once_in_a_round() -> None:
    """Else the time-outs of many secrets add up to an overlap, and values that the next store has grow old."""
    world = World()
    names = [f"{NAME}_{n}" for n in range(50)]
    values = Values([secret_of(n, oci=world.near, aws=world.far) for n in names], world.clock.monotonic)
    world.near.is_up = False
    values.refresh()
    assert values.are_served
    assert (world.near.reads, world.far.reads) == (1, 50)
    world.near.is_up = True
    values.refresh()
    assert (world.near.reads, world.far.reads) == (51, 50)
    # So is one where this process is nobody, which takes seconds to see. A secret that is denied is one secret.
    world.near.is_up, world.near.problem = False, StoreAccessDeniedError(code="no-identity")
    for cause, reads in ((Environment.OCI_IDENTITY_MISSING, 1), (Environment.OCI_ACTION_DENIED, 50)):
        world.near.reads, world.near.problem.__cause__ = 0, EnvironmentalError(cause)
        values.refresh()
        assert world.near.reads == reads


def test_why_a_store_was_passed_over_is_said_without_the_text_of_a_foreign_error() -> None:
    world = World()
    world.near.generation = world.far.generation = 7
    world.value.refresh()
    assert not world.value.problem
    world.near.generation = 6
    world.value.refresh()
    assert world.value.problem.startswith("ReadSideLaggingError: ")

    def defect() -> StoredText:
        raise KeyError(NEEDLE)

    [value] = Values([secret_of(oci=defect, aws=world.far)], world.clock.monotonic)
    value.refresh()
    assert value.served
    assert value.problem == "KeyError"


def test_an_arn_without_its_end_means_the_secret_of_that_name_and_no_other() -> None:
    """AWS takes a partial ARN, too. The end of `prod-orders` could be the one that AWS appends."""
    names, store = ("prod", "prod-db", "prod-orders", NAME), FakeStore(arn=f"{ARN}prod-a1B2c3")
    values = Values([secret_of(n, aws=store, region="eu-central-1") for n in names], World().clock.monotonic)
    for name in names:
        for arn in (name, f"{ARN}{name}", f"{ARN}{name}-a1B2c3"):
            found = values.find(arn)
            assert found, arn
            assert found.secret.name == name
    of_another = ("prod-", "prod-d", "prod-db-", "prod-db-a1B2c", "prod-db-a1B2c3d", "prod-other")
    others = (f"{ARN}{NAME}_2-a1B2c3", f"arn:aws:s3:::{NAME}", f"{ARN}prod".replace("eu-", "us-"))
    for wrong in ("", "multi-cloud", *others, *(ARN + name for name in of_another)):
        assert values.find(wrong) is None, wrong
    values.refresh()
    assert values.find(f"{ARN}prod")
    for is_of, other in (("123456789012", "999999999999"), ("aws", "aws-cn"), ("eu-", "us-")):
        assert values.find(f"{ARN}prod".replace(is_of, other, 1)) is None, other


# The tests of the AWS agent, put to this one: each is the same here, or docs/agent.md says why it differs

TESTS = Path(__file__).resolve().parents[1]
ROWS = [
    [cell.strip() for cell in line.split("|")]
    for line in (TESTS / "agent" / "peer.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
HOW: dict[str, dict[str, Any]] = {
    "": {},
    "no token": {"token": None},
    "bad token": {"token": "click slipers"},
    "vault": {"token": None, "headers": {"X-Vault-Token": "the-token"}},
    "forwarded": {"headers": {"X-Forwarded-For": "54.239.28.85"}},
}


def test_a_request_is_answered_as_there_or_the_page_says_why_not() -> None:
    store = FakeStore(arn="arn:aws:secretsmanager:us-west-2:123456789012:secret:MyTest-abcdef")
    values = Values([secret_of(n, aws=store, region="us-west-2") for n in ("MyTest", "My/Test")], lambda: 0.0)
    values.refresh()
    with answering(values) as peer:
        for _, path, hows, status, told, *_ in (row for row in ROWS if len(row) > 2):
            for how in hows.split(","):
                answer = peer.get(path, **HOW.get(how, {"method": how}))
                assert (answer.status, told in answer.body) == (int(status), True), (path, how, answer)


def test_each_of_its_tests_is_here_once_and_the_page_says_what_differs() -> None:
    page = " ".join((TESTS.parent / "docs" / "agent.md").read_text().split())
    why = dict[str, str]()
    for names, *cells in ROWS:
        file, is_test, test = cells[-1].partition("::")
        assert not is_test or f"def {test}" in (TESTS / file).read_text(), cells
        assert why.keys() & set(names.split()) <= {"get_only"}
        why |= dict.fromkeys(names.split(), "" if is_test or len(cells) == 4 else cells[-1])
    for reason in set(why.values()):
        assert reason in page, reason
    same = sum(not reason for reason in why.values())
    assert f"of its {len(why)} tests of secrets at `d47a49d`, {same} are the same here" in page
