"""What a plan needs of the clouds' quotas: each breaks exactly where it says, and `plan check` tells."""

import json
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lockstep.cli import app
from lockstep.model import Engine, Strategy
from lockstep.plan import Plan
from lockstep.plan_file import MAX_PLAN_CHARACTERS, parse_plan
from lockstep.quotas import Estate, Quota, Use, Verdict, broken, uses
from lockstep.quotas.aws import OTHER_RULES
from lockstep.quotas.pace import busiest
from lockstep.quotas.scaling import scaled
from lockstep.timing import BATCH
from sandbox import plans

OCI = plans.OciNames()
LISTED = "arn:aws:secretsmanager:eu-central-1:333344445555:secret:dba/orders-{:06}"
QUOTA = Quota(name="x", limit=100, unit="y", source="z", change="w")


def document(*, oci: bool = True, standby: bool = True, **credential: Any) -> dict[str, Any]:  # noqa: ANN401 - as in a plan
    """A plan of one credential."""
    made = plans.plan_document(
        [plans.database("orders", Engine.MYSQL, host="orders.internal", tls={})],
        [plans.credential("multi-cloud/app_user", "orders", **credential)],
        oci=OCI if oci else None,
    )
    if not standby:
        del made["runners"]["oci"]
    return made


def plan_of(made: dict[str, Any]) -> Plan:
    return parse_plan(json.dumps(made), base=Path())


def names(plan: Plan) -> set[str]:
    return {use.quota.name for use in uses(plan, Estate())}


def named(plan: Plan, name: str, estate: Estate | None = None) -> Use:
    (found,) = (use for use in uses(plan, estate or Estate()) if name in use.quota.name)
    return found


GROWING = ("OCI Vault, secrets",)
NOT_PUBLISHED = ("OCI Vault, calls of management", "OCI Vault, calls of retrieval")
RATES = {
    "Secrets Manager, writes": 4,
    "Secrets Manager, GetSecretValue": 9,
    "Step Functions, executions": 1,
    "Step Functions, state transitions": 12,
    "Step Functions, children": 1,
    "KMS, requests": 15,
    "DynamoDB, writes": 5,
    "S3, entries written": 1,
}
"""With the calls of a rotation with a database and a ring of four."""
OF_SHARDS = ("Lambda, concurrent", "EventBridge, shards", "Lockstep, time", "DynamoDB, reads")
BY_DEPLOYMENT = ("Step Functions, versions", "Lambda, storage")
OF_THE_STACK = ("CloudFormation, resources", "CloudFormation, template", "EventBridge, rules")
CONSTANT = (
    "IAM, managed policy",
    "SQS, statements",
    "Secrets Manager, versions",
    "Secrets Manager, CreateSecret",
    "OCI Vault, versions of a slot in use",
    "OCI Vault, versions of a slot pending",
    "OCI IAM, policy statements",
    "OCI Functions, time",
)


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("interval", ["20m", "1h"])
def test_a_quota_breaks_at_the_number_that_it_says_and_not_one_before(name: str, interval: str) -> None:
    plan = plan_of(document(interval=interval))
    at = named(scaled(plan, 1), name).breaks_at
    assert at
    assert named(scaled(plan, at - 1), name).verdict is Verdict.NEAR
    over = named(scaled(plan, at), name)
    assert over.verdict is (Verdict.RAISE if over.quota.adjustable else Verdict.BREAKS)
    assert over.breaks_at == at


@pytest.mark.parametrize(("name", "calls"), RATES.items())
def test_a_rate_is_what_the_busiest_minute_asks_in_a_second(name: str, calls: int) -> None:
    plan = plan_of(document())
    for count in (1, 200, 1000, 10_000):
        larger = scaled(plan, count)
        found = named(larger, name)
        assert found.need == Fraction(calls * busiest(larger.shards).rotations, 60)
        assert found.count == count
    evenly = named(scaled(plan, 10_000), name)
    # 20 shards that hash fills are not quite alike.
    assert calls * Fraction(10_000, 1200) < evenly.need < Fraction(115, 100) * calls * Fraction(10_000, 1200)


def test_a_scaled_plan_has_shards_and_credentials_of_its_own() -> None:
    plan = plan_of(document())
    assert (len(plan.shards), len(plan.credentials), len(plan.databases)) == (1, 1, 1)
    larger = scaled(plan, 300)
    assert (len(larger.shards), len(larger.credentials)) == (5, 300)


@pytest.mark.parametrize(("name", "calls"), [*zip(NOT_PUBLISHED, (12, 10), strict=True)])
def test_what_is_not_published_is_told_with_the_way_to_know_it(tmp_path: Path, name: str, calls: int) -> None:
    plan = scaled(plan_of(document()), 1000)
    found = named(plan, name)
    assert found.need == Fraction(calls * busiest(plan.shards).rotations, 60)
    assert (found.verdict, found.breaks_at, found.is_told) == (Verdict.UNKNOWN, None, False)
    assert "no limit is published; docs/fleet.md#what-needs-a-real-account" in str(found)
    assert name not in check(tmp_path, document())[1]
    assert name in check(tmp_path, document(), "--quotas")[1]


def test_the_standby_that_takes_over_ten_thousand_has_memory_for_the_shards_of_a_minute() -> None:
    plan = scaled(plan_of(document()), 10_000)
    found = named(plan, "OCI Functions, memory")
    # Ten rotations of ten seconds: calls of the minute before still run.
    assert found.need == -(-busiest(plan.shards).rotations // BATCH) * Fraction(512 * 100, 60)
    assert found.verdict is Verdict.FITS


def test_a_fleet_breaks_the_rate_of_writes_at_about_the_number_that_is_told() -> None:
    plan = plan_of(document())
    told = named(scaled(plan, 10_000), "Secrets Manager, writes")
    assert told.verdict is Verdict.FITS
    assert told.breaks_at
    assert f"from about {told.breaks_at:,} credentials" in str(told)
    assert named(scaled(plan, told.breaks_at * 11 // 10), "Secrets Manager, writes").verdict is Verdict.BREAKS
    assert named(scaled(plan, told.breaks_at * 9 // 10), "Secrets Manager, writes").verdict is Verdict.NEAR


def test_what_begins_at_midnight_in_every_class_is_refused() -> None:
    plan = scaled(plan_of(document()), 1200)
    intervals = [timedelta(hours=h) for h in (1, 2, 4, 6, 8, 12)]
    sections = tuple(
        section.model_copy(update={"interval": intervals[number % 6]})
        for number, section in enumerate(plan.credential_sections)
    )
    found = broken(uses(plan.model_copy(update={"credential_sections": sections}), Estate()))
    refused = {use.quota.name: str(use) for use in found}
    for name in (
        "Secrets Manager, writes in the busiest minute",
        "Lockstep, time in which the rotations of a",
    ):
        (text,) = (text for told, text in refused.items() if told.startswith(name))
        assert "use longer intervals for some credentials" in text
    assert "1,200 rotations begin at 00:00 UTC" in text


def test_shards_of_a_fleet_begin_in_their_minute_and_leave_the_account_room() -> None:
    plan = scaled(plan_of(document()), 10_000)
    assert named(plan, "Lockstep, time").verdict is not Verdict.BREAKS
    assert named(plan, "Lambda, concurrent").need == 2 * 120
    assert named(plan, "EventBridge, shards").need == 1
    assert named(plan, "DynamoDB, reads").need > 10_000 * 520 // 4096


@pytest.mark.parametrize("name", CONSTANT)
def test_a_quota_that_does_not_grow_with_the_plan_says_so(name: str) -> None:
    plan = plan_of(document())
    assert named(plan, name).breaks_at is None
    assert named(scaled(plan, 1000), name).need == named(plan, name).need


@pytest.mark.parametrize("name", OF_THE_STACK)
def test_a_stack_has_one_size_but_for_the_rules_of_an_interval_and_its_secrets(name: str) -> None:
    plan = plan_of(document())
    secrets, few, many = (named(scaled(plan, count), name) for count in (100, 101, 10_000))
    assert {use.verdict for use in (secrets, few, many)} == {Verdict.FITS}
    assert {use.breaks_at for use in (secrets, few, many)} == {None}
    # From 101 credentials on `lockstep provision` makes the secrets.
    assert secrets.need >= few.need
    rules = len(scaled(plan, 10_000).shards) - 1
    assert rules == 19
    assert (many.need - few.need) % rules == 0


@pytest.mark.parametrize(("name", "kept"), [("Step Functions, versions", 1000), ("Lambda, storage", 960)])
def test_versions_are_counted_by_deployments_whatever_the_plan(name: str, kept: int) -> None:
    plan = plan_of(document())
    found = named(scaled(plan, 100), name)
    assert found.need == named(plan, name).need
    assert (found.breaks_at, found.per) == (kept + 1, "deployments whose versions are kept")


def test_every_quota_is_one_of_the_two() -> None:
    plan = plan_of(document())
    text = Estate(plan_text="credentials: x")
    found = [use.quota.name for use in uses(plan, text)]
    listed = (
        *GROWING,
        *RATES,
        *OF_SHARDS,
        *NOT_PUBLISHED,
        "OCI Functions, memory",
        *CONSTANT,
        *OF_THE_STACK,
        *BY_DEPLOYMENT,
        "Lockstep, plan file",
        "IAM, inline",
        "Secrets Manager, secrets",
    )
    assert [name for name in found if not name.startswith(listed)] == []
    assert len(found) == len(listed) == len(set(found))


def test_a_plan_without_oci_meets_none_of_its_quotas() -> None:
    aws = names(plan_of(document(oci=False)))
    assert not any("OCI" in name for name in aws)
    assert aws < names(plan_of(document()))


def test_without_the_standby_there_is_no_policy_for_it_and_no_takeover() -> None:
    left = names(plan_of(document())) - names(plan_of(document(standby=False)))
    assert left == {
        "IAM, managed policy of the OCI runner",
        "OCI Functions, time of one call that takes over a batch of credentials",
        "OCI Functions, memory of the calls that take over the shards of the busiest minute",
    }
    assert named(plan_of(document(standby=False)), "OCI Vault, secrets").need == 8
    assert (
        named(plan_of(document()), "OCI Vault, secrets").need == 8 + 3
    )  # The admin, the AWS key, the MAC key.


@pytest.mark.parametrize(
    ("ring", "readers_ring", "secrets", "breaks_at"), [(4, None, 8, 625), (5, None, 10, 500), (4, 5, 10, 500)]
)
def test_a_ring_needs_two_secrets_for_each_slot(
    ring: int, readers_ring: int | None, secrets: int, breaks_at: int
) -> None:
    """Also for each that only readers read, until the ring has grown."""
    made = document(standby=False)
    made["stores"][1] |= {"ring": ring, "readers_ring": readers_ring}
    found = named(plan_of(made), "OCI Vault, secrets")
    assert found.need == secrets
    assert found.breaks_at == breaks_at + 1


def test_alternating_users_need_nothing_more() -> None:
    alternating = plan_of(document(strategy=Strategy.ALTERNATING_USERS, users=5))
    dual = plan_of(document())
    assert [u.need for u in uses(alternating, Estate())] == [u.need for u in uses(dual, Estate())]


def test_adopted_secrets_are_not_resources_of_the_stack() -> None:
    plan = scaled(plan_of(document()), 100)
    adopted = Estate(adopts_secret=lambda _: True)
    one = Estate(adopts_secret=plan.credential_sections[0].secret_names.app_user.__eq__)
    of_stack = [named(plan, "resources", estate) for estate in (Estate(), one, adopted)]
    assert [of_stack[0].need - use.need for use in of_stack] == [0, 1, 200]
    assert named(plan, "template", adopted).need < named(plan, "template", one).need
    assert named(plan, "Secrets Manager, secrets", adopted).need == 202


def test_tags_and_long_names_make_the_template_larger() -> None:
    plan = plan_of(document())
    plain = named(plan, "template").need
    assert named(plan, "template", Estate(stack="a-longer-name-of-a-stack")).need > plain
    assert named(plan, "template", Estate(tags={"cost-centre": "4711"})).need > plain


@pytest.mark.parametrize("managed", [False, True])
def test_admins_that_are_known_by_arn_fill_the_policy_of_one_function(*, managed: bool) -> None:
    made = document(oci=False)
    database = made["databases"][0]

    def with_admins(count: int) -> Use:
        made["databases"] = [
            {
                **database,
                "name": f"orders-{i}",
                "host": f"orders-{i}.internal",
                "admin_secret": f"rds!cluster-{i:06}" if managed else LISTED.format(i),
            }
            for i in range(count)
        ]
        made["credentials"][0]["databases"] = ["orders-0"]
        return named(plan_of(made), "IAM, inline")

    at = with_admins(1).breaks_at
    assert at
    assert with_admins(at - 1).verdict is Verdict.NEAR
    assert with_admins(at).verdict is Verdict.BREAKS


def test_a_shared_admin_is_listed_once() -> None:
    made = document(oci=False)
    made["databases"][0]["admin_secret"] = LISTED.format(0)
    one = named(plan_of(made), "IAM, inline")
    made["databases"].append({**made["databases"][0], "name": "more", "host": "more.internal"})
    assert named(plan_of(made), "IAM, inline") == one


@pytest.mark.parametrize(
    ("need", "verdict"),
    [
        (Fraction(7999, 100), Verdict.FITS),
        (Fraction(80), Verdict.NEAR),
        (Fraction(100), Verdict.NEAR),
        (Fraction(10001, 100), Verdict.BREAKS),
    ],
)
def test_four_fifths_of_a_limit_are_near_and_all_of_it_still_fits(need: Fraction, verdict: Verdict) -> None:
    use = Use(quota=QUOTA, need=need)
    assert use.verdict is verdict
    assert (broken([use]) == [use]) is (verdict is Verdict.BREAKS)


def test_what_does_not_fit_at_all_breaks_at_nothing() -> None:
    assert Use(quota=QUOTA, need=Fraction(205), each=Fraction(1), count=3).breaks_at == 0


def test_the_section_of_the_credentials_is_what_grows_in_a_plan_file() -> None:
    plan = plan_of(document())
    text = "version: 1\n" + "# a long head\n" * 100 + "credentials:\n" + "  - x\n" * 10 + "runners: {}\n"
    found = named(plan, "plan file", Estate(plan_text=text))
    section = len("credentials:\n" + "  - x\n" * 10)
    assert found.need == len(text)
    assert found.breaks_at == (MAX_PLAN_CHARACTERS - (len(text) - section)) // section + 1


def check(tmp_path: Path, made: dict[str, Any], *words: str) -> tuple[int, str]:
    """Exit code and output of `lockstep plan check`."""
    file = tmp_path / "lockstep.yaml"
    file.write_text(json.dumps(made))
    shown = CliRunner().invoke(app, ["plan", "check", "-p", str(file), *words])
    return shown.exit_code, shown.stdout + shown.stderr


def fleet(count: int) -> dict[str, Any]:
    """A plan of so many credentials, as a file has it."""
    made = document()
    first = made["credentials"][0]
    made["credentials"] = [
        {
            **first,
            "id": f"app-{i}",
            "username": f"app_{i}",
            "secrets": {"app_user": f"app-{i}", "connection_blob": f"app-{i}.blob"},
        }
        for i in range(count)
    ]
    return made


def test_plan_check_is_quiet_while_a_plan_fits(tmp_path: Path) -> None:
    code, text = check(tmp_path, document())
    assert (code, "CloudFormation" in text) == (0, False)


def test_plan_check_warns_near_a_quota_and_refuses_beyond_one_that_nobody_raises(tmp_path: Path) -> None:
    def at_midnight(count: int) -> dict[str, Any]:
        made = fleet(count)
        for number, credential in enumerate(made["credentials"]):
            credential["interval"] = f"{(1, 2, 4, 6, 8, 12)[number % 6]}h"
        return made

    told = "Secrets Manager, writes in the busiest minute"
    code, text = check(tmp_path, at_midnight(660))
    assert (code, told in text) == (0, True)
    code, text = check(tmp_path, at_midnight(900))
    assert (code, told in text, "use longer intervals" in text) == (2, True, True)


def test_plan_check_shows_every_quota_on_request(tmp_path: Path) -> None:
    code, text = check(tmp_path, document(), "--quotas")
    assert code == 0
    for use in uses(plan_of(document()), Estate()):
        assert use.quota.name in text
        assert use.quota.source in text


def test_plan_check_tells_the_shards_and_the_busiest_minute(tmp_path: Path) -> None:
    made = fleet(250)
    code, text = check(tmp_path, made, "--secrets-exist")
    found = busiest(plan_of(made).shards)
    assert code == 0
    assert f"5 shards; at the busiest minute, {found}, {found.rotations} rotations begin" in text
    assert "and 230 more credentials: --json has them all" in text
    assert "shard" not in check(tmp_path, document())[1]
    code, text = check(tmp_path, made, "--secrets-exist", "--json")
    starts = json.loads(text)["starts"]
    assert (starts["shards"], starts["rotations"]) == (5, found.rotations)
    assert starts["concurrency"].keys() == {f"20m-0{number}" for number in range(5)}


def test_plan_check_gives_the_quotas_as_json(tmp_path: Path) -> None:
    code, text = check(tmp_path, document(interval="15m") | {"runners": {}}, "--json")
    found = {row["quota"]: row for row in json.loads(text)["quotas"]} if code == 0 else {}
    assert code == 2  # A store in OCI needs the runners' key.
    code, text = check(tmp_path, document(oci=False, interval="15m"), "--json")
    found = {row["quota"]: row for row in json.loads(text)["quotas"]}
    versions = found["Secrets Manager, versions of a secret younger than a day"]
    assert (code, versions["need"], versions["limit"], versions["verdict"]) == (0, 96, 100, "near")
    rules = found["EventBridge, rules on the default bus"]
    assert (rules["need"], rules["breaks_at"]) == (1 + OTHER_RULES, None)
    assert set(versions) == {
        "quota",
        "limit",
        "unit",
        "need",
        "grows_with",
        "breaks_at",
        "verdict",
        "adjustable",
        "change",
        "source",
    }
