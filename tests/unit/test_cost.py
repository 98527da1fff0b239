"""What a plan costs: every item has a price, every price has a source, a bill is counted calls times prices."""

import json
import re
import socket
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import pytest
from typer.testing import CliRunner, Result

from cdk.settings import Settings
from lockstep.cli import app
from lockstep.cli.cost_page import page
from lockstep.cost import PRICES, Bill, Deployed, Line, bill, levers, read_counted, total
from lockstep.cost import assumptions as assumed
from lockstep.cost.aws import FUNCTIONS, GETS, IN_OCI, PUTS, READS, SIGNATURES, WRITES, rotations
from lockstep.cost.calls import FLOWS, Coefficients, Shape
from lockstep.cost.fleet import STATES_OF_A_SHARD
from lockstep.cost.prices import SMALLEST_BILLED
from lockstep.durations import parse_duration
from lockstep.model import Engine
from lockstep.plan import Plan
from lockstep.plan_file import load_plan, parse_plan
from lockstep.quotas.scaling import scaled
from lockstep.store_kinds.oci_budget import version_budget
from sandbox import plans

ROOT = Path(__file__).parents[2]
DEFAULT = load_plan(ROOT / "lockstep.yaml")
COUNTED = read_counted()
UNCONFIRMED = {"kms mac requests", "oci key", "oci schedules", "oci secret", "oci secret calls"}


def plan_of(
    *,
    oci: bool = True,
    standby: bool = True,
    events: bool = False,
    interval: str = "20m",
    slots: int = 4,
    runners: plans.Document | None = None,
    **audit: str,
) -> Plan:
    """A plan of one credential on two databases."""
    document = plans.plan_document(
        [
            plans.database(name, engine, host=f"{name}.internal", tls={})
            for name, engine in (("orders", Engine.MARIADB), ("ledger", Engine.MYSQL))
        ],
        [plans.credential("multi-cloud/app_user", "orders", "ledger", interval=interval)],
        oci=plans.OciNames(slots=slots) if oci else None,
        runners=runners,
        events=events,
    )
    document["audit"]["aws"] |= audit
    if oci and not standby:
        del document["runners"]["oci"]
    return parse_plan(json.dumps(document), base=Path())


def billed(plan: Plan, **deployed: Any) -> Bill:  # noqa: ANN401 - as Deployed takes them
    return bill(plan, Deployed(**deployed), COUNTED)


def line(lines: object, item: str) -> Line:
    assert isinstance(lines, list)
    (found,) = (one for one in lines if item in one.item)
    assert isinstance(found, Line)
    return found


SESSIONS = {"aws": {"federation": plans.TO_OCI}, "oci": {"federation": plans.TO_AWS}}
EVERY_KIND = [
    billed(DEFAULT),
    billed(DEFAULT, architecture="x86_64"),
    *(billed(plan_of(oci=False, storage_class=kind)) for kind in SMALLEST_BILLED),
    billed(plan_of(events=True)),
    billed(plan_of(runners=SESSIONS)),
]


# The price table


@pytest.mark.parametrize("name", PRICES)
def test_every_price_says_where_and_when_it_was_read(name: str) -> None:
    price = PRICES[name]
    assert price.source.startswith(("https://aws.amazon.com/", "https://www.oracle.com/"))
    assert price.region == ("eu-frankfurt-1" if name.startswith("oci") else "us-east-1")
    assert price.seen_in
    assert price.looked_up.isoformat() >= "2026-11-27"
    assert price.usd >= 0
    assert price.per >= 1
    assert price.usd > 0 or not price.free


def test_every_item_has_a_price_and_every_price_an_item() -> None:
    used = {line.price for one in EVERY_KIND for line in one.lines}
    assert used == set(PRICES)


def test_what_was_not_found_in_print_is_marked_and_said() -> None:
    assert {name for name, price in PRICES.items() if not price.confirmed} == UNCONFIRMED
    shown = run("cost", "-p", str(ROOT / "lockstep.yaml")).stdout
    assert "not confirmed: " in shown
    assert all(name in shown for name in UNCONFIRMED)


# The counted calls


def test_all_flows_are_counted_for_known_steps_and_services() -> None:
    assert set(COUNTED.flows) == set(FLOWS)
    operations: dict[str, set[str]] = {}
    for calls in COUNTED.flows.values():
        for call in calls:
            assert call.step in {*FUNCTIONS, "machine", "function"}
            operations.setdefault(call.service, set()).add(call.operation)
    # What is new here has no price yet, and no time.
    assert operations.keys() == assumed.CALL_MS.keys()
    assert operations["dynamodb"] <= {*WRITES, *READS}
    assert operations["s3"] <= {*PUTS, *GETS}
    # OCI's service has the same name, and its signatures cost nothing.
    assert operations["kms"] <= {*SIGNATURES, "Sign", "sign"}


@pytest.mark.parametrize("ring", [None, 2, 4, 16])
@pytest.mark.parametrize("databases", [1, 8])
def test_no_call_is_made_less_than_never(databases: int, ring: int | None) -> None:
    for flow in FLOWS:
        shape = Shape(databases=databases, ring=ring)
        assert all(count >= 0 for _, count in COUNTED.calls(flow, shape)), flow


def test_a_count_is_the_sum_of_what_each_part_adds() -> None:
    parts = Coefficients(always=1, database=10, oci=100, slot=1000)
    assert parts.count(Shape(databases=2)) == 21
    assert parts.count(Shape(databases=2, ring=4)) == 4121
    assert Coefficients(**parts.as_document()) == parts
    assert Coefficients(slot=2).as_document() == {"slot": 2}


# The bill


def test_an_item_costs_its_quantity_times_its_price() -> None:
    [lines] = billed(plan_of(oci=False)).credentials.values()
    assert line(lines, "two secrets").usd == Fraction(80, 100)
    starts = Fraction(730 * 3)
    assert line(lines, "transitions").quantity == starts * COUNTED.transitions
    assert line(lines, "transitions").usd == starts * COUNTED.transitions * 25 / 1_000_000
    warm, cold = (
        COUNTED.number(flow, Shape(databases=2), "secretsmanager")
        for flow in ("aws rotation", "aws cold start")
    )
    assert line(lines, "Secrets Manager, calls").usd == starts * (warm + cold) * 5 / 1_000_000


def test_glacier_charges_for_128_kilobytes_and_standard_for_what_is_there() -> None:
    kept = {
        kind: line([*billed(plan_of(storage_class=kind)).lines], "entries kept, from").quantity
        for kind in SMALLEST_BILLED
    }
    assert kept["GLACIER_IR"] / kept["STANDARD"] == Fraction(128 * 1024, COUNTED.bytes["audit_entry"])
    assert kept["GLACIER_IR"] == kept["STANDARD_IA"]


def test_what_rotates_a_third_as_often_costs_a_third_of_what_is_no_rent() -> None:
    often, seldom = (billed(plan_of(oci=False, interval=i)) for i in ("20m", "1h"))
    secrets = Fraction(80, 100)
    assert (often.per_credential - secrets) / (seldom.per_credential - secrets) == 3
    assert rotations(timedelta(minutes=20)) == 3 * rotations(timedelta(hours=1)) == 2190


def test_a_plan_without_oci_pays_oci_nothing() -> None:
    alone = billed(plan_of(oci=False))
    assert {line.cloud for line in alone.lines} == {"aws"}
    assert not [
        line for line in alone.lines if "OCI" in line.item and line.quantity and line.price != "secret"
    ]


def test_a_plan_without_the_standby_pays_for_no_function_in_oci() -> None:
    items = {line.item for line in billed(plan_of(standby=False)).lines if line.cloud == "oci" and line.usd}
    assert items == {"Vault, keys in an HSM"}
    fewer = line([*billed(plan_of(standby=False)).deployment], "alarms").quantity
    assert fewer == line([*billed(plan_of()).deployment], "alarms").quantity - 2


def test_the_standby_is_called_every_hour_at_least() -> None:
    calls = {
        interval: line([*billed(plan_of(interval=interval)).deployment], "Functions, calls").quantity
        for interval in ("20m", "1h", "4h")
    }
    assert calls == {"20m": 2190, "1h": 730, "4h": 730}


def test_the_default_plan_has_two_credentials_and_their_mean() -> None:
    found = billed(DEFAULT)
    assert list(found.credentials) == [c.id for c in DEFAULT.credential_sections]
    assert found.usd == total(found.lines)
    assert total(found.mean) == found.per_credential
    assert found.per_credential == sum(map(total, found.credentials.values()), Fraction()) / 2


def test_functions_that_need_not_start_anew_cost_less() -> None:
    def time(**deployed: Any) -> Fraction:  # noqa: ANN401 - as Deployed takes them
        [lines] = billed(plan_of(), **deployed).credentials.values()
        return line([*lines], "Lambda, time").quantity

    seconds = rotations(timedelta(minutes=20)) * len(FUNCTIONS) * assumed.start_ms(512) / 1000
    assert time() - time(cold=Fraction(0)) >= seconds / 2
    assert time(cold=Fraction(1, 2)) == (time() + time(cold=Fraction(0))) / 2


def test_a_key_that_is_there_is_not_charged() -> None:
    def keys(plan: Plan, **deployed: bool) -> Fraction:
        return line([*billed(plan, **deployed).deployment], "keys that are made").quantity

    assert keys(plan_of()) == 2
    assert keys(plan_of(), encryption_key_adopted=True) == 1
    assert keys(plan_of(), encryption_key_adopted=True, mac_key_adopted=True) == 0
    assert keys(plan_of(mac_key="1234abcd-12ab-34cd-56ef-1234567890ab")) == 1


def test_the_assumed_settings_are_the_defaults_of_both_deployments() -> None:
    settings, deployed = Settings(), Deployed()
    assert (deployed.memory_mb, deployed.architecture) == (settings.memory_mb, settings.architecture)
    assert deployed.log_retention_days == settings.log_retention_days
    assert deployed.dashboard == settings.dashboard
    assert not deployed.encryption_key_adopted
    assert not deployed.mac_key_adopted
    terraform = (ROOT / "oci_fn/terraform/variables.tf").read_text()
    for name, value in {
        "memory_in_mbs": deployed.memory_in_mbs,
        "log_retention_days": deployed.oci_log_retention_days,
        "key_protection": f'"{deployed.key_protection}"',
    }.items():
        found = re.search(rf'variable "{name}" {{.*?default\s+= ([^\n]+)', terraform, re.DOTALL)
        assert found, name
        assert found[1] == str(value), name


def test_a_call_to_the_other_cloud_sends_something() -> None:
    [lines] = billed(plan_of()).credentials.values()
    starts, shape = rotations(timedelta(minutes=20)), Shape(databases=2, ring=4)
    calls = sum(COUNTED.number("aws rotation", shape, service) for service in IN_OCI)
    assert line(lines, "Data to OCI").quantity >= starts * calls * assumed.CALL_OUT / assumed.GIGABYTE


def test_sessions_begin_with_a_process_and_not_with_a_rotation() -> None:
    shape = Shape(databases=2, ring=4)
    for service in ("sts", "identitydomain"):
        assert COUNTED.number("aws rotation", shape, service) == 0
        assert COUNTED.number("aws cold start", shape, service) == 2
    assert COUNTED.number("oci rotation", shape, "sts") == 0
    assert COUNTED.number("oci cold start", shape, "sts") == 1


def test_a_key_is_read_where_a_session_would_begin() -> None:
    [with_sessions] = billed(plan_of(runners=SESSIONS)).credentials.values()
    [with_keys] = billed(plan_of()).credentials.values()
    begun = line(with_sessions, "KMS, signatures for sessions in OCI").quantity
    assert begun >= 2 * rotations(timedelta(minutes=20))
    assert "KMS, signatures for sessions in OCI" not in {one.item for one in with_keys}
    for item in ("Secrets Manager, calls", "KMS, for the values of secrets"):
        assert line(with_keys, item).quantity - line(with_sessions, item).quantity == begun


# What would lower it


def test_a_lever_saves_what_the_changed_bill_is_lower() -> None:
    plan = plan_of()
    now = billed(plan)
    found = {lever.change: lever.usd for lever in levers(plan, Deployed(), COUNTED, now=now)}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert all(usd > 0 for usd in found.values())
    standard = billed(plan_of(storage_class="STANDARD"))
    assert found["audit.aws.storage_class: STANDARD"] == now.usd - standard.usd
    hours = found["credentials: interval: 1h"]
    assert found["credentials: interval: 1h, with stores: ring: 2"] > hours
    assert found["cdk.json: dashboard: false"] == 3
    assert found["cdk.json: adopt.encryption_key: a key that is there"] == 1
    assert "cdk.json: log_retention_days: 30" in found


def test_the_default_plan_names_the_cheapest_storage_class() -> None:
    changes = {lever.change for lever in levers(DEFAULT, Deployed(), COUNTED, now=billed(DEFAULT))}
    assert not [change for change in changes if "storage_class" in change]


def test_what_is_done_already_is_no_lever() -> None:
    plan = plan_of(interval="1h", slots=2, storage_class="STANDARD")
    deployed = Deployed(
        dashboard=False, encryption_key_adopted=True, key_protection="SOFTWARE", log_retention_days=30
    )
    assert levers(plan, deployed, COUNTED, now=bill(plan, deployed, COUNTED)) == []


def test_a_smaller_ring_is_advised_only_where_it_holds() -> None:
    plan = plan_of(slots=8)
    (smaller,) = (
        int(lever.change.removeprefix("stores: ring: "))
        for lever in levers(plan, Deployed(), COUNTED, now=billed(plan))
        if lever.change.startswith("stores: ring")
    )
    assert version_budget(parse_duration("20m"), smaller).holds
    assert not version_budget(parse_duration("20m"), smaller - 1).holds


# The command


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def test_the_command_shows_items_sums_and_levers() -> None:
    shown = run("cost", "-p", str(ROOT / "lockstep.yaml"))
    found = billed(DEFAULT)
    assert shown.exit_code == 0
    first = shown.stdout.splitlines()[0]
    assert first.startswith(f"{float(found.usd):,.3f} USD a month: 2 credentials at ")
    for one in found.lines:
        assert one.item in shown.stdout
    assert all(name in shown.stdout for name in found.credentials)
    assert "what would lower it" in shown.stdout


def test_prices_are_shown_with_source_day_and_what_is_free() -> None:
    shown = run("cost", "-p", str(ROOT / "lockstep.yaml"), "--prices").stdout
    for name in billed(DEFAULT).prices:
        price = PRICES[name]
        assert f"{price.source}, {price.looked_up}; read in {price.seen_in}" in shown
        assert price.free in shown


def test_json_has_the_same_numbers() -> None:
    shown = run("cost", "-p", str(ROOT / "lockstep.yaml"), "--json")
    document: dict[str, Any] = json.loads(shown.stdout)
    found = billed(DEFAULT)
    assert document["usd"] == pytest.approx(float(found.usd), abs=1e-4)
    assert document["usd_per_credential"] == pytest.approx(float(found.per_credential), abs=1e-4)
    items = [*document["deployment"], *(i for c in document["credentials"] for i in c["items"])]
    assert sum(item["usd"] for item in items) == pytest.approx(float(found.usd), abs=1e-2)
    assert {item["price"] for item in items} == set(document["prices"])
    assert document["would_lower_it"]


def test_an_invalid_plan_is_told_as_everywhere(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("version: 1\n")
    shown = run("cost", "-p", str(tmp_path / "plan.yaml"))
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "is not a valid plan" in shown.stderr


def test_settings_of_a_deployment_change_the_bill(tmp_path: Path) -> None:
    file = tmp_path / "cdk.json"
    settings = {"memory_mb": 1024, "dashboard": False, "adopt": {"encryption_key": "arn:aws:kms:…"}, "x": 1}
    file.write_text(json.dumps({"context": settings}))
    words = ("cost", "--json", "-p", str(ROOT / "lockstep.yaml"))
    document = json.loads(run(*words, "--settings", str(file)).stdout)
    found = billed(DEFAULT, memory_mb=1024, dashboard=False, encryption_key_adopted=True)
    assert document["usd"] == pytest.approx(float(found.usd), abs=1e-4)
    assert run(*words, "--settings", str(ROOT / "cdk.json")).stdout == run(*words).stdout


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "No such file"),
        ("{", "Expecting"),
        ("[]", "it has no `context`"),
        ('{"context": {"memory_mb": "much"}}', "memory_mb: Input should be a valid integer"),
        ('{"context": {"architecture": "ppc"}}', "architecture: Input should be 'arm64' or 'x86_64'"),
        ('{"context": {"adopt": 1}}', "adopt: 1 is no object"),
    ],
)
def test_a_file_without_settings_is_told(tmp_path: Path, text: str | None, why: str) -> None:
    file = tmp_path / "cdk.json"
    if text is not None:
        file.write_text(text)
    shown = run("cost", "-p", str(ROOT / "lockstep.yaml"), "--settings", str(file))
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert why in shown.stderr


def test_it_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert run("cost", "-p", str(ROOT / "lockstep.yaml"), "--json").exit_code == 0


def test_the_page_is_made_from_the_table_and_the_plan() -> None:
    written = (ROOT / "docs/cost.md").read_text()
    assert written == page(), "run: python -m lockstep.cli.cost_page > docs/cost.md"


# Events


def test_events_cost_what_the_function_that_sends_them_costs_and_nothing_where_none_is_sent() -> None:
    silent, telling = billed(plan_of()), billed(plan_of(events=True))
    (before,), (now,) = silent.credentials.values(), telling.credentials.values()
    added = [found for found in now if found not in before]
    assert [found for found in now if found in before] == list(before)
    assert {found.item for found in added} == {
        "EventBridge, events",
        "Lambda, calls of announce",
        "Lambda, time of announce",
        "X-Ray, traces of announce",
        "CloudWatch, logs of announce written",
        "CloudWatch, logs of announce kept",
    }
    often = rotations(timedelta(minutes=20))
    assert line(now, "EventBridge, events").quantity == 2 * often
    assert list(telling.deployment) == list(silent.deployment)
    assert Fraction(3, 100) < telling.usd - silent.usd < Fraction(4, 100)


# A fleet


def fleet(count: int, **of_plan: Any) -> Plan:  # noqa: ANN401 - as plan_of takes them
    return scaled(plan_of(**of_plan), count)


def each(found: Bill) -> Fraction:
    """What a credential costs, with its part of the deployment."""
    return found.usd / len(found.credentials)


@pytest.mark.parametrize("oci", [False, True])
def test_a_credential_costs_the_same_in_every_fleet_from_a_hundred_on(*, oci: bool) -> None:
    costs = {count: each(billed(fleet(count, oci=oci))) for count in (100, 1000, 10_000)}
    assert max(costs.values()) <= Fraction(110, 100) * min(costs.values()), costs


def test_what_a_fleet_adds_to_the_deployment_is_little_for_each_credential() -> None:
    small, large = (total(billed(fleet(count)).deployment) for count in (1, 10_000))
    assert large - small < 10_000 * Fraction(1, 100)


def test_a_rule_is_charged_for_each_shard_and_none_for_a_credential() -> None:
    for count, shards in ((1, 1), (200, 1), (1000, 5), (10_000, 20)):
        found = billed(fleet(count))
        assert line([*found.deployment], "a rule for each shard").quantity == 2190 * shards
        assert line([*found.deployment], "starts of shards").quantity == 2190 * shards * STATES_OF_A_SHARD
        assert not [item for item in found.mean if item.price == "rules"]


def test_the_watch_takes_longer_the_more_records_it_reads() -> None:
    few, many = (line([*billed(fleet(n)).deployment], "time of the watch").quantity for n in (100, 10_000))
    assert many > 10 * few


def test_the_bill_of_ten_thousand_credentials_is_that_of_one_many_times() -> None:
    one, many = billed(fleet(1)), billed(fleet(10_000))
    assert many.per_credential == one.per_credential
    assert [item.quantity for item in many.mean] == [item.quantity for item in one.mean]


def test_the_standby_reads_the_whole_table_at_the_turns_of_shards_and_no_record_else() -> None:
    for count, minutes in ((1, 3), (1000, 15), (10_000, 60)):
        found = billed(fleet(count))
        calls = line([*found.deployment], "Functions, calls").quantity
        assert calls == minutes * 730
        units = -(-count * COUNTED.bytes["lock_record"] // 4096)
        assert line([*found.deployment], "DynamoDB, scans of the standby").quantity == calls * units
    assert not [
        item for item in billed(fleet(10, standby=False)).lines if "standby" in item.item and item.usd
    ]
