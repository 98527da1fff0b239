"""Incidents on a running world: every surface has the same verdict, and following `next:` ends it (ADR 84)."""

import json
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import timedelta

import pytest

from lockstep.operate.access import operator
from lockstep.operate.page.snapshot import Looker
from lockstep.operate.verdict import Kind, Verdict, verdict_of
from lockstep.operate.watch import METRICS, Expected, watch
from lockstep.protocol.model import Login, SecretStr
from lockstep.protocol.orders import Pause, Revoke
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.system import SystemClock
from sandbox import plans
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer
from sandbox.estate import Estate, running_estate
from sandbox.servers import set_password
from tests.statemachine.conftest import Case, lockstep, login_text

DATABASE = "orders"
EXITS = {Verdict.HEALTHY: 0, Verdict.DEGRADED: 1, Verdict.DOWN: 5}
Act = Callable[[Case], object]


def make_due(case: Case, at: float | None = None) -> None:
    """As if an interval had passed, or since a time."""
    for name in ("next_due_at", "not_before"):
        case.set_attribute(name, {"N": str(int(at or time.time() - 60))})


def refused(case: Case) -> None:
    """A DBA sets another password, and a run finds it."""
    make_due(case)
    case.set_password(DATABASE, "of-a-dba")
    assert case.rotate().status == "FAILED"


def lost_change(case: Case) -> None:
    """A fail-over to a replica that had not got the last change: nobody knows it before the next run."""
    before = case.stored_login()
    make_due(case)
    assert case.rotate().status == "SUCCEEDED"
    set_password(case.world.servers[DATABASE], before)
    make_due(case)


def database_down(case: Case) -> None:
    """A run that finds its database down, and leaves a generation in flight."""
    make_due(case)
    case.world.servers[DATABASE].stop()
    try:
        assert case.rotate().error == "DatabaseUnreachableError"
    finally:
        case.world.servers[DATABASE].start()


def edited(case: Case) -> None:
    """Somebody types a wrong password into the secret."""
    case.edit_secret(login_text(Login(case.stored_login().username, SecretStr("tpyo"))))


def revoked(case: Case) -> None:
    """Somebody makes an old version of the secret current again, whose password is revoked."""
    client, secret = case.world.aws.client("secretsmanager"), case.credential.secret_names.app_user

    def current() -> str:
        stages = client.describe_secret(SecretId=secret)["VersionIdsToStages"]
        [version] = [version for version in stages if "AWSCURRENT" in stages[version]]
        return str(version)

    case.world.outside.expire_schedule(case.credential.id)
    first = current()
    for _ in range(2):
        assert case.again().status == "SUCCEEDED"
    client.update_secret_version_stage(
        SecretId=secret, VersionStage="AWSCURRENT", RemoveFromVersionId=current(), MoveToVersionId=first
    )


INCIDENTS: dict[str, tuple[Act | None, tuple[Kind, ...]]] = {
    "nothing": (None, ()),
    "never rotated": (None, (Kind.NEW,)),
    "refused": (refused, (Kind.REFUSED, Kind.UNFINISHED)),
    "lost change": (lost_change, ()),
    "database down": (database_down, (Kind.FAILED, Kind.UNFINISHED)),
    "a store out of reach": (None, (Kind.UNREACHABLE,)),
    "a lease that cannot be": (lambda case: case.hold_lock("nobody", for_time=timedelta(days=1)), ()),
    "another plan": (lambda case: case.set_attribute("plan", {"S": "a" * 64}), (Kind.OTHER_PLAN,)),
    "paused": (lambda case: case.order(Pause()), (Kind.PAUSED,)),
    "emergency": (lambda case: case.order(Revoke(lift_pause=False)), (Kind.EMERGENCY,)),
    "overdue": (lambda case: make_due(case, at=1_750_000_000), (Kind.OVERDUE,)),
    "edited": (edited, (Kind.OUT_OF_SYNC,)),
    "revoked": (revoked, (Kind.REVOKED,)),
}
"""What happens to a credential that rotates, and what is the matter then, the gravest first."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """Both clouds and a database."""
    authority = CertificateAuthority(tmp_path_factory.mktemp("ca"))
    servers = {DATABASE: MariaDbServer(authority=authority)}
    credentials = [
        plans.credential(f"shop/app-{n}", DATABASE, username=f"app_{n}") for n in range(len(INCIDENTS))
    ]
    # The back-off is not under test, so a retry follows at once.
    aws, folder = AwsSandbox(retry_sleep=lambda _seconds: None), tmp_path_factory.mktemp("incidents")
    with running_estate(credentials, servers, folder=folder, aws=aws) as running:
        yield running


@pytest.fixture(scope="module")
def clouds(world: Estate) -> Clouds:
    """Those of the page, which runs all the time."""
    return operator(world.plan)


def follow(case: Case, clouds: Clouds, step: str) -> list[tuple[Kind, str]]:
    """Run the command that comes next; what is the matter then."""
    command, *words = shlex.split(step)
    assert command == "lockstep"
    if "--read-values" in words:
        [credential] = json.loads(lockstep(*words, "--json").stdout)["credentials"]
        return [(Kind(reason["kind"]), reason["next"]) for reason in credential["reasons"]]
    if words != ["doctor"]:
        done = lockstep(*words, input="y\n")
        assert done.exit_code == 0, done.output
    return looked(case, clouds)


def looked(case: Case, clouds: Clouds) -> list[tuple[Kind, str]]:
    """What is the matter, which every surface says alike, with the command that helps."""
    of = case.credential.id
    shown = lockstep("status", of, "--json")
    told = json.loads(shown.stdout)
    [credential] = told["credentials"]
    reasons = [(Kind(r["kind"]), r["next"]) for r in credential["reasons"]]
    verdict = Verdict(credential["verdict"])
    assert (told["verdict"], told["evidence"], shown.exit_code) == (verdict, [], EXITS[verdict])
    for_people = lockstep("status", of).stdout.splitlines()
    assert for_people[0].startswith(f"{of}: {verdict}")
    steps = [line.strip().removeprefix("next: ") for line in for_people if line.startswith("    next: ")]
    assert steps == [step for _, step in reasons]

    plan = case.world.plan
    seen = Looker(plan, clouds).look([of]).seen[of]
    assert (seen.verdict, [(r.kind, r.next) for r in seen.reasons]) == (verdict, reasons)

    others = {c.id for c in plan.credentials}
    expected = Expected(credentials=[case.credential], schedules=True, others=others)
    watched = watch(clouds.lock_table(), expected, now=SystemClock().now())
    by_watch = watched.reasons.get(of, [])
    alarms = {(r.kind, r.next) for r in by_watch if r.kind in METRICS and r.kind is not Kind.NEW}
    # A refusal is in the run's entry alone; the alarm on failed runs tells it.
    assert alarms <= set(reasons)
    summary = json.loads(lockstep("status", of, "--summary", "--json").stdout)
    assert summary["verdict"] == verdict_of(by_watch)
    return reasons


@pytest.mark.parametrize("name", INCIDENTS)
def test_an_incident_has_one_verdict_and_its_next_ends_it(world: Estate, clouds: Clouds, name: str) -> None:
    case = Case(world, world.plan.credentials[list(INCIDENTS).index(name)])
    happens, kinds = INCIDENTS[name]
    if name != "never rotated":
        assert case.rotate().status == "SUCCEEDED"
    if happens:
        happens(case)
    with world.oci.faults.outage("vault") if name == "a store out of reach" else nullcontext():
        reasons = looked(case, clouds)
    assert tuple(kind for kind, _ in reasons) == kinds

    for _ in range(4):
        if reasons:
            reasons = follow(case, clouds, reasons[0][1])
    assert reasons == []
    if happens and not kinds:
        make_due(case)
        assert case.rotate().status == "SUCCEEDED"
        assert looked(case, clouds) == []
    assert world.locked_out(case.credential) == []
