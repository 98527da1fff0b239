"""Digests of both clouds from the first entry to `lockstep audit verify`, each call by the real SDKs over HTTP."""

import base64
import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lockstep.audit.append import Chain
from lockstep.audit.entry import milliseconds
from lockstep.cli import app
from lockstep.operate.access import operator
from lockstep.operate.state import evidence_reasons
from lockstep.plan.file import load_plan
from lockstep.plan.model import Plan
from lockstep.protocol.model import Engine
from lockstep.protocol.names import digest_bucket_name
from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE, Cloud
from lockstep.runtime.system import SystemClock
from lockstep.runtime.wiring import PLAN_VARIABLE
from sandbox import plans
from sandbox.digests import DigestFunctions, StoresClock, make_digest_keys
from sandbox.emulators.aws import AwsSandbox, create_resources
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.emulators.oci.clock import SandboxClock, real_time
from sandbox.estate import environment
from sandbox.identities import Way, make_identities, make_log, make_role
from sandbox.oci_resources import create_secret, names_in
from sandbox.plans import AUDIT_BUCKET, LOCK_TABLE, MAC_SECRET
from tests.contract.clouds import OciConsole

MINUTES: dict[Cloud, int] = {"oci": 5, "aws": 15}
CREDENTIAL = "multi-cloud/app_user"
KEY, ROLE = "AKIAAUDITOR", "auditor"


@dataclass
class World:
    """The audit logs of both clouds, whose clock goes on by orders.

    Attributes:
        digests: What makes digests, under the rights of the functions that do so.
    """

    aws: AwsSandbox
    oci: OciSandbox
    folder: Path
    plan: Plan
    digests: DigestFunctions

    def hours(self, number: int, *, without: str = "") -> None:
        """So many hours, in each of which each cloud writes an entry and makes its digest, but one."""
        clock = self.oci.clock
        for _ in range(number):
            clock.advance(timedelta(minutes=60 - clock.now().minute))
            for cloud, minute in MINUTES.items():
                clock.advance(timedelta(minutes=minute - clock.now().minute))
                self.append(cloud)
                if cloud != without:
                    self.digests.make(cloud)

    def append(self, cloud: Cloud) -> None:
        """Write an entry with the real adapters."""
        clouds, credential = operator(self.plan), self.plan.credentials[0]
        log, signer = clouds.log(cloud, credential.id), clouds.signer(cloud)
        now = milliseconds(clouds.clock.now())
        event = {"time": now, "metadata": {"uid": f"other-{now}"}, "unmapped": {"lockstep": {}}}
        chain = Chain(credential_id=credential.id, lock=clouds.lock(credential), log=log, signer=signer)
        chain.append(event, entry_id=f"other-{now}", look_back=0)


@pytest.fixture(name="world")
def _world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with ExitStack() as stack:
        oci = stack.enter_context(
            OciSandbox(SandboxClock.fixed(real_time().replace(minute=0, second=0, microsecond=0)))
        )
        clock = StoresClock(oci.clock)
        aws = stack.enter_context(AwsSandbox(wall_clock=clock.timestamp, names=oci.names))
        identities = make_identities(aws, oci, Way.ASSERTION)
        made = create_resources(aws, lock_table=LOCK_TABLE, audit_bucket=AUDIT_BUCKET, secrets={})
        make_log(oci)
        mac_key = base64.b64encode(secrets.token_bytes(48))
        create_secret(oci, MAC_SECRET, mac_key, compartment=oci.own_compartment_id)
        keys = make_digest_keys(aws, oci, made.digest_key_arn)
        document = plans.plan_document(
            [plans.database("orders", Engine.MYSQL)],
            [plans.credential(CREDENTIAL, "orders")],
            region=aws.region,
            mac_key=made.mac_key_arn,
            oci=names_in(oci),
            runners=identities.section,
        )
        file = plans.write_plan(tmp_path / "lockstep.yaml", plans.with_digest_keys(document, keys.public))
        variables = {
            **aws.environment(),
            OCI_ENDPOINT_VARIABLE: oci.endpoint,
            CONFIG_FILE_VARIABLE: str(write_config_file(tmp_path, "admin", oci.config())),
            PLAN_VARIABLE: str(file),
        }
        stack.enter_context(environment(variables))
        monkeypatch.setattr(SystemClock, "now", lambda _: oci.clock.now())
        plan = load_plan(file)
        digests = DigestFunctions(plan=plan, identities=identities, keys=keys, clock=clock)
        yield World(aws=aws, oci=oci, folder=tmp_path, plan=plan, digests=digests)


def verify(*words: str) -> tuple[Result, list[str]]:
    """What the command shows, and its lines."""
    shown = CliRunner().invoke(app, ["audit", "verify", *words])
    return shown, [line.strip() for line in shown.stdout.splitlines()]


def digests(*words: str) -> Any:  # noqa: ANN401 - JSON
    """What the command says of them, of AWS's first."""
    return json.loads(verify("--json", *words)[0].stdout)["digests"]


def test_each_cloud_confirms_the_digests_of_the_other_one_and_an_auditor_needs_no_secret(
    world: World,
) -> None:
    world.hours(3)
    now = world.oci.clock.now()
    shown, said = verify("--stores")
    assert shown.exit_code == 0, shown.output
    assert [line.rpartition(", ")[0] for line in said if line.startswith("digests of")] == [
        f"digests of aws: 3; confirmed until {now - timedelta(hours=1):%Y-%m-%d %H}:15 UTC",
        f"digests of oci: 3; confirmed until {now:%Y-%m-%d %H}:05 UTC",
    ]
    for told in (*(f"{CREDENTIAL} {cloud}: verified (3 entries)" for cloud in MINUTES), "verified"):
        assert told in said
    [aws, oci] = digests()
    assert (aws["digests"], digests("--since", aws["confirmed"])[0]["digests"], oci["problems"]) == (3, 2, [])

    own = world.oci.own_compartment_id
    key = world.oci.new_api_key("auditor", "OBJECT_READ", "OBJECT_INSPECT", compartment=own)
    config = str(write_config_file(world.folder, "auditor", key))
    make_role(world.aws, ROLE, trust={"Principal": "*", "Action": "sts:AssumeRole"}, may=[{"Action": "s3:*"}])
    world.aws.guard.know(KEY, ROLE)
    with environment({"AWS_ACCESS_KEY_ID": KEY, CONFIG_FILE_VARIABLE: config}):
        shown, said = verify()
    assert shown.exit_code == 0, shown.output
    assert said.count("entries are verified by digests alone: no right to verify by their keys") == 2
    assert said[-1] == "verified"
    may = {r.call.action for r in world.aws.guard.records if r.role == ROLE and r.verdict.allowed}
    assert {action.partition(":")[0] for action in may} == {"s3"}

    # What is removed is named by who has confirmed it.
    place = world.oci.namespace, digest_bucket_name(AUDIT_BUCKET)
    s3, storage = world.aws.client("s3"), OciConsole(world.oci).storage
    entry = {"Bucket": AUDIT_BUCKET, "Key": "aws/multi-cloud.app_user/000000000002.json"}
    s3.delete_object(**entry, VersionId=s3.head_object(**entry)["VersionId"])
    [_, second, _] = sorted(o.name for o in storage.list_objects(*place).data.objects)
    gone = storage.head_object(*place, second).headers["version-id"]
    storage.delete_object(*place, second, version_id=gone)
    shown, said = verify()
    assert (shown.exit_code, said[-1]) == (1, "NOT VERIFIED"), shown.output
    name = second.removeprefix("digests/").removesuffix(".json")
    assert any(line.startswith(f"the digest {name}:") and line.endswith(" is gone") for line in said), said
    assert "entry 2: is missing" in said


def test_three_hours_without_a_clouds_digests_are_not_confirmed(world: World) -> None:
    """A digest that is lacking confirms none of the other cloud's, and is confirmed by none (ADR 84)."""

    def evidence() -> list[tuple[str, str]]:
        found = evidence_reasons(world.plan, operator(world.plan), world.oci.clock.now())
        return [(reason.place, reason.next) for reason in found]

    world.hours(2)
    world.hours(1, without="oci")
    assert (verify()[0].exit_code, evidence()) == (0, [])
    world.hours(3, without="oci")
    shown, said = verify()
    assert (shown.exit_code, said[-1]) == (4, "verified, not confirmed"), shown.output
    assert any("hours have no digest" in line for line in said)
    assert evidence() == [(cloud, "lockstep audit verify") for cloud in ("aws", "oci")]
    world.hours(2)
    assert (verify()[0].exit_code, evidence()) == (0, [])
