"""Orders to many credentials, and looks at them: side by side, repeated after a failure (protocol O2)."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lockstep.aws.clients import botocore_session
from lockstep.cli import orders
from lockstep.operate.access import operator
from lockstep.operate.documents import FEW
from lockstep.operate.page.snapshot import Looker
from lockstep.operate.verdict import Kind
from lockstep.plan.file import load_plan
from lockstep.protocol.errors import LockTableAccessDeniedError
from lockstep.protocol.model import Engine
from lockstep.runtime.clouds import Clouds
from sandbox import plans
from sandbox.emulators.aws.resources import ORDER_KEY, create_audit_bucket, create_lock_table, create_mac_key
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.plans import AUDIT_BUCKET, AWS_REGION, LOCK_TABLE
from tests.statemachine.conftest import lockstep

TEAMS = {"orders": FEW + 15, "ledger": 5}


class Fleet:
    """A lock table and an audit bucket, and the plan of many credentials that was active and the one that is to be."""

    def __init__(self, aws: AwsSandbox, folder: Path) -> None:
        self.aws, self.table, self.s3 = aws, aws.client("dynamodb"), aws.client("s3")
        create_lock_table(self.table, LOCK_TABLE)
        create_audit_bucket(self.s3, AUDIT_BUCKET, region=aws.region)
        create_mac_key(aws.client("kms"), ORDER_KEY)
        self._mac_key = create_mac_key(aws.client("kms"))
        self.before, self.now = folder / "before.yaml", folder / "lockstep.yaml"
        everyone = {f"{team}/app_{number}": ["orders"] for team, n in TEAMS.items() for number in range(n)}
        self.write(self.before, everyone, orders="old.internal")
        self.write(self.now, everyone, orders="new.internal")
        self.digests = {c.id: c.plan_digest for c in load_plan(self.now).credentials}
        for credential in load_plan(self.before).credentials:
            self.put(credential.id, plan={"S": credential.plan_digest})

    def write(self, file: Path, databases: Mapping[str, Sequence[str]], **hosts: str) -> None:
        """Write a plan: the databases of each credential, and the host of each."""
        document = plans.plan_document(
            [plans.database(name, Engine.MARIADB, host=host, tls="") for name, host in hosts.items()],
            [plans.credential(i, *on, username=i.replace("/", "_")) for i, on in databases.items()],
            region=AWS_REGION,
            mac_key=self._mac_key,
        )
        plans.write_plan(file, document)

    def put(self, credential_id: str, **attributes: Any) -> None:  # noqa: ANN401 - as DynamoDB has them
        self.table.put_item(TableName=LOCK_TABLE, Item={"credential_id": {"S": credential_id}, **attributes})

    def calls_of(self, *words: str) -> Counter[str]:
        """What a command sends, as service and operation."""
        seen = Counter[str]()
        self.aws.on_request = lambda service, operation: seen.update([f"{service} {operation}"])
        lockstep(*words)
        self.aws.on_request = None
        return seen

    def ordered(self, attribute: str) -> dict[str, Any]:
        """The value of an attribute by credential, of those that have it."""
        items = self.table.scan(TableName=LOCK_TABLE)["Items"]
        return {item["credential_id"]["S"]: item[attribute] for item in items if attribute in item}

    def entries(self) -> int:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=AUDIT_BUCKET)
        return sum(page["KeyCount"] for page in pages)


@pytest.fixture(name="fleet")
def _fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    with AwsSandbox() as aws:
        for name, value in aws.environment().items():
            monkeypatch.setenv(name, value)
        botocore_session.cache_clear()
        fleet = Fleet(aws, tmp_path)
        monkeypatch.setenv("LOCKSTEP_PLAN", str(fleet.now))
        yield fleet
    botocore_session.cache_clear()


def test_a_plan_of_many_credentials_is_activated_in_place_of_the_one_before(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "TOLD_EVERY", 20)
    refused = lockstep("apply", "*")
    assert refused.exit_code == 1
    assert "40 of 40 not done. Repeat the command" in refused.stderr

    other, broken = "ledger/app_3", [f"orders/app_{number}" for number in range(25)]
    fleet.put(other, plan={"S": "f" * 64})
    # Equal errors are said once, with the credentials.
    before = fleet.ordered("plan")
    for name in broken:
        fleet.put(name, fence={"S": "no number"})
    done = lockstep("apply", "*", "--from", str(fleet.before), "--dry-run")
    assert (done.exit_code, done.stderr.count("LockTableAccessDeniedError")) == (3, 1)
    assert f"{', '.join(broken[:20])} and 5 more: not done" in done.stderr
    for name in broken:
        fleet.put(name, plan=before[name])
    done = lockstep("apply", "*", "--from", str(fleet.before))
    assert done.exit_code == 1
    assert f"{other}: the active plan is {'f' * 64}" in done.stderr
    assert "\n20 of 40\n" in done.stderr
    assert "1 of 40 not done. Repeat the command" in done.stderr
    wanted = {name: {"S": digest} for name, digest in fleet.digests.items() if name != other}
    assert fleet.ordered("activate") == wanted
    assert "next: " not in done.stdout
    written = fleet.entries()

    again = lockstep("apply", "*", "--from", str(fleet.before), "--from", "f" * 64)
    assert again.exit_code == 0, again.output
    assert again.stdout.count("it was so already") == 39
    assert fleet.entries() == written + 1


def test_what_fails_for_all_is_said_once(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    botocore_session.cache_clear()
    done = lockstep("apply", "*", "--from", str(fleet.before))
    assert done.exit_code == 3
    assert done.stderr.count("AwsCredentialsMissingError") == 1
    assert "40 of 40 not done: the last 20 all failed, so no more were tried" in done.stderr
    assert "Fix it and repeat the command" in done.stderr
    assert fleet.entries() == 0


def test_a_summary_of_all_reads_the_lock_table_alone_and_names_who_needs_a_look(fleet: Fleet) -> None:
    assert fleet.calls_of("status", "--summary") == {"dynamodb Scan": 1}
    now = int(datetime.now(UTC).timestamp())

    def rotated(name: str, *, due: int) -> None:
        done: dict[str, Any] = {"format": {"N": "1"}, "current_generation": {"N": "1"}}
        fleet.put(name, plan={"S": fleet.digests[name]}, next_due_at={"N": str(due)}, **done)

    for name in fleet.digests:
        rotated(name, due=now)
    good = lockstep("status", "--summary")
    assert (good.exit_code, good.stdout) == (0, "40 credentials: healthy\n")

    rotated("orders/app_0", due=now - 3600)
    fleet.put("ledger/app_1", fence={"S": "no number"})
    bad = lockstep("status", "--summary")
    assert bad.exit_code == 1
    assert "1 overdue: orders/app_0\n    next: lockstep rotate orders/app_0 --force" in bad.stdout
    assert "1 record unreadable: ledger/app_1\n    next: lockstep lock show ledger/app_1" in bad.stdout
    found = json.loads(lockstep("status", "--summary", "--json").stdout)
    assert (found["verdict"], found["ids"]["StaleCredentials"]) == ("degraded", ["orders/app_0"])
    assert lockstep("status", "--summary", "orders/app_1*").exit_code == 0


def test_who_looks_at_many_reads_the_lock_records_by_one_scan_or_one_by_one(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in ("status", "history", "lock show"):
        calls = fleet.calls_of(*command.split())
        assert (calls["dynamodb Scan"], "dynamodb GetItem" in calls) == (1, False), command
    scanned = lockstep("lock", "show", "--json")

    def refused(_clouds: Clouds) -> None:
        raise LockTableAccessDeniedError

    monkeypatch.setattr(Clouds, "lock_table", refused)
    assert fleet.calls_of("lock", "show") == {"dynamodb GetItem": 40}
    assert lockstep("lock", "show", "--json").stdout == scanned.stdout


def test_a_pattern_names_credentials_and_for_a_database_those_that_are_on_it(fleet: Fleet) -> None:
    assert lockstep("pause", "ledger/*").exit_code == 0
    assert set(fleet.ordered("paused")) == {f"ledger/app_{number}" for number in range(5)}
    none = lockstep("pause", "nobody/*")
    assert (none.exit_code, "no credential that matches 'nobody/*'" in none.stderr) == (2, True)
    assert "and 20 more" in none.stderr
    on_both = {f"orders/app_{number}": ["orders", "crm"] for number in range(3)}
    beside = {"ledger/app_0": ["orders"]}
    fleet.write(fleet.now, {**on_both, **beside}, orders="new.internal", crm="crm.internal")
    assert lockstep("take-over", "*", "crm").exit_code == 0
    assert fleet.ordered("take_over").keys() == on_both.keys()
    for words, code in (
        (("take-over", "ledger/*", "crm"), 2),
        (("take-over", "ledger/app_0", "crm"), 2),
        (("take-over", "*", "crm", "--cancel"), 0),
    ):
        assert lockstep(*words).exit_code == code, words
    assert fleet.ordered("take_over") == {}


def test_a_record_that_cannot_be_read_hides_no_other(fleet: Fleet) -> None:
    """Every surface says so of that credential, as the summary does."""
    fleet.put("ledger/app_1", fence={"S": "no number"})
    for wanted in ((), ("ledger/*",)):
        found = json.loads(lockstep("status", "--json", *wanted).stdout)["credentials"]
        unreadable = {
            c["credential"] for c in found for r in c["reasons"] if r["kind"] == "record unreadable"
        }
        assert unreadable == {"ledger/app_1"}
        assert "ledger/app_1: The lock record cannot be read" in lockstep("history", *wanted).stdout
    plan = load_plan(fleet.now)
    seen = Looker(plan, operator(plan)).look((), records_only=True).seen
    assert {of for of in seen if Kind.UNREADABLE in {r.kind for r in seen[of].reasons}} == {"ledger/app_1"}
    shown = lockstep("status", "ledger/app_1")
    assert (shown.exit_code, "lock: free" in shown.stdout) == (1, False)
    assert "code=MalformedItem] It is there" in lockstep("lock", "show", "ledger/app_1").stderr
