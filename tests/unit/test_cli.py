"""The command line without a cloud: help, wrong use, and one document whatever ends the command."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import tzset
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import rfc8785
from typer.testing import CliRunner, Result

from lockstep.audit.verify import Problem, Trace, collapsed, findings
from lockstep.cli import app
from lockstep.cli.orders import OrderContext
from lockstep.cli.output import answer, document, exit_code_of, plan_file, say, words_left
from lockstep.operate.formatting import clock_time, relative
from lockstep.plan.file import load_plan
from lockstep.protocol import errors
from lockstep.protocol.model import Engine
from lockstep.protocol.ports import ObjectVersion
from lockstep.protocol.workers import one_after_the_other
from sandbox import plans
from tests.support.builds import NEWER, build
from tests.support.cli_paths import paths
from tests.support.memory import EPOCH, MemorySigner, MemoryWorld
from tests.support.seals import sealed
from tests.support.world import rotate_again
from tests.unit.audit_case import EVENT, at, begun, head

CREDENTIAL = "multi-cloud/app_user"
SHIPPED = Path(__file__).parents[2] / "lockstep.yaml"
PLAN = plans.plan_document(
    [plans.database("orders", Engine.MYSQL, host="orders.internal", tls="")],
    [plans.credential(CREDENTIAL, "orders", username="app_user")],
)


@pytest.fixture(autouse=True)
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plan, in the folder in which commands run; nothing answers to AWS's SDK."""
    file = tmp_path / "lockstep.yaml"
    file.write_text(json.dumps(PLAN))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOCKSTEP_PLAN", raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a-key")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    return file


def run(line: str, given: str = "", **env: str) -> Result:
    return CliRunner().invoke(app, line.split(), env=env, input=given)


@pytest.mark.parametrize("words", list(paths()), ids=" ".join)
def test_every_command_has_help(words: tuple[str, ...]) -> None:
    shown = run(" ".join([*words, "--help"]))
    assert (shown.exit_code, shown.stderr, "Usage: " in shown.stdout) == (0, "", True)
    is_group = any(other[: len(words)] == words and other != words for other in paths())
    assert is_group or "Exit code: 0" in shown.stdout
    assert run("--version").stdout.startswith("lockstep 0.")


WRONG_USE = {
    "rollback": "No such command 'rollback'",
    "plan sql -d nowhere": "no database 'nowhere' for these credentials; the plan has: orders",
    "audit verify --since aws:yesterday": "--since: name the digest as a verification has: aws:",
    "audit show -n 0": "'--newest' / '-n': Input should be greater than or equal to 1",
    "audit report -o report.pdf": "--output: report.pdf does not end with .html; for programs: --json > report.json",
    f"take-over {CREDENTIAL}": "Missing argument 'DATABASE'",
    f"take-over {CREDENTIAL} orders nowhere": "has no database nowhere in the plan; it has: orders",
    f"import {CREDENTIAL}": "that is not a login: give a JSON object with `username` and `password`",
    f"rotate {CREDENTIAL} another": "unexpected extra argument(s) (another)",
    "rotate unknown": f"the plan has no credential 'unknown'; it has: {CREDENTIAL}",
    f"apply {CREDENTIAL} --drop orders": "--drop orders: this plan keeps it, so leave that out",
    f"revoke {CREDENTIAL} --without orders --yes": "--without must leave a database that is waited for",
    f"revoke {CREDENTIAL}": f"To see who would break: lockstep sessions {CREDENTIAL}. To go on without",
    "secrets create --cloud oci": "the plan has no store in OCI",
    # The compartment of the rings is made by hand, before the first apply.
    f"check -p {SHIPPED}": "stores[1].compartment_id: ocid1.compartment.oc1..exampleuniqueid is a placeholder",
    "status --plan": "--plan/-p: expected one argument",
    "plan schema -p a.yaml": "plan schema has no use for --plan: leave it out",
    "pause * --json": "pause has no use for --json: leave it out",
    "doctor --only inside": "--in-cloud",
}


@pytest.mark.parametrize(("line", "told"), WRONG_USE.items(), ids=WRONG_USE)
def test_wrong_use_is_explained_on_stderr_with_exit_code_2(line: str, told: str) -> None:
    shown = run(line)
    assert (shown.exit_code, shown.stdout if "--json" not in line else "") == (2, "")
    assert told in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_variable_that_is_wrong_is_named_and_what_is_no_login_is_not_shown() -> None:
    wrong = {"LOCKSTEP_STATE_MACHINE_ARN": "arn:aws:lambda:eu:1:f", "LOCKSTEP_RECORD_IN": "oci"}
    for command, (name, value) in zip(("rotate", "pause"), wrong.items(), strict=True):
        shown = run(f"{command} {CREDENTIAL}", **{name: value})
        assert (shown.exit_code, shown.stderr.split(": ")[0]) == (2, name)
    for given in ("app_user\nhunter2\n", '{"username": "app_user", "password": "hunter2"', "{}"):
        shown = run(f"import {CREDENTIAL}", given)
        assert (shown.exit_code, shown.stdout, "hunter2" in shown.output) == (2, "", False)
        assert "give a JSON object" in shown.stderr


def test_control_characters_in_names_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    say("\x1b[2Jrun-1 [red]x[/]")
    assert capsys.readouterr().out == "?[2Jrun-1 [red]x[/]\n"


# What `check` says of a plan that is valid


def test_check_shows_the_digest_of_each_credential(plan: Path) -> None:
    digest = load_plan(plan).credentials[0].plan_digest
    shown = run("check").stdout
    assert shown.endswith("valid\n")
    assert f"plan digest: {digest}" in shown
    [credential] = json.loads(run("check --json").stdout)["credentials"]
    assert (credential["logins"], credential["plan_digest"]) == ("app_user", digest)


def test_check_knows_the_regions_of_the_clouds(plan: Path) -> None:
    region = "us-gov-wets-1"
    oci = plans.plan_document(PLAN["databases"], PLAN["credentials"], region=region, oci=plans.OciNames())
    oci["stores"][1]["region"] = "eu-frankfort-1"
    plan.write_text(json.dumps(oci))
    shown = run("check")
    assert shown.exit_code == 2
    known = f"AWS has no region {region} that this version knows; did you mean us-gov-west-1"
    for told in (f"lock.region: {known}", f"stores[0].region: {known}", "did you mean eu-frankfurt-1?"):
        assert told in shown.stderr


# With `--json` there is one document on standard output, whatever ends the command


ENDS: dict[str, tuple[str, int, str]] = {
    "there is no plan": ("status --json -p nowhere", 3, "PlanMissingError"),
    "there is no such option": ("status --json --no-such-option", 2, "WrongUse"),
    "a person does not agree": (f"revoke {CREDENTIAL} --json", 1, "NotConfirmed"),
    "a person goes away": (f"revoke {CREDENTIAL} --json", 1, "Aborted"),
    "Ctrl-C": ("status --json", 130, "Interrupted"),
    "no command told it": ("status --json", 7, "NoAnswer"),
}


@pytest.mark.parametrize("end", ENDS)
def test_every_end_has_one_document_with_the_exit_code(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line, code, name = ENDS[end]
    monkeypatch.setattr("lockstep.cli.orders.sys", Mock())  # A terminal.
    if end == "Ctrl-C":
        monkeypatch.setattr("lockstep.cli.status.operator", Mock(side_effect=KeyboardInterrupt))
    if end == "no command told it":
        monkeypatch.setattr("typer.core.TyperGroup.main", Mock(return_value=code))
    shown = run(line, "n\n" if end == "a person does not agree" else "")
    told = json.loads(shown.stdout)["error"]
    assert (shown.exit_code, told["exit_code"], told["name"]) == (code, code, name)
    assert "Traceback" not in shown.stderr


def test_a_person_is_told_the_cause_and_a_program_both_but_no_foreign_one() -> None:
    error = errors.LockTableAccessDeniedError(credential="c")
    error.__cause__ = errors.EnvironmentalError(errors.Environment.AWS_SESSION_EXPIRED, code="ExpiredToken")
    assert errors.line_of(error).startswith(
        "AwsSessionExpiredError: The AWS session has expired. [code=ExpiredToken] "
    )
    told, during = document(error), "LockTableAccessDeniedError"
    assert (told.name, told.where, told.during) == (
        "AwsSessionExpiredError",
        {"code": "ExpiredToken"},
        during,
    )
    assert (told.meaning, told.next) == ("The AWS session has expired.", "Log in again: `aws sso login`.")
    error.__cause__ = ValueError("hunter2")
    assert (errors.described(error), "hunter2" in errors.line_of(error)) == (error, False)


def test_exit_codes() -> None:
    kinds = (errors.FenceLostError, errors.InvalidPlanError, errors.StoreBusyError)
    assert [exit_code_of(kind) for kind in kinds] == [1, 2, 3]


def test_times_say_how_far_away_they_are_and_for_a_program_the_zone() -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    spans = {0: "0 seconds ago", 0.4: "in 1 second", 2.5: "in 3 seconds", -7300: "2 hours ago"}
    assert {s: relative(now + timedelta(seconds=s), now) for s in spans} == spans
    local = (now + timedelta(minutes=7)).astimezone()
    assert clock_time(local, now) == f"{local:%H:%M:%S} (in 7 minutes)"
    with answer():
        assert list(words_left(["--json", "status"])) == ["status"]
        assert clock_time(local, now) == "2026-01-01T12:07:00Z"


@pytest.mark.parametrize(
    ("given", "left", "file"),
    [
        ("-p a.yaml status", "status", "a.yaml"),
        ("audit --plan a.yaml show -n 5", "audit show -n 5", "a.yaml"),
        ("status -pa.yaml -p b.yaml", "status", "b.yaml"),
        ("x -- --json -p a.yaml", "x -- --json -p a.yaml", "lockstep.yaml"),
    ],
)
def test_options_of_the_whole_command_stand_anywhere(given: str, left: str, file: str) -> None:
    with answer():
        assert list(words_left(given.split())) == left.split()
        assert plan_file() == Path(file)


# What of an audit log somebody else wrote, hid or deleted: it is told, and hides nothing else (protocol E11)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, plan: Path) -> MemoryWorld:
    """What the commands ask of `Clouds`, from a world in memory."""
    made = begun(2)
    rotate_again(made, "oci-1", runner="oci")
    databases = [plans.database(s.name, s.engine, host=s.host, tls="") for s in made.credential.servers]
    credentials = [plans.credential(made.credential.id, *made.credential.databases)]
    plans.write_plan(plan, plans.plan_document(databases, credentials, oci=plans.OciNames()))
    clouds: Any = SimpleNamespace(
        clock=made.clock,
        lock=lambda _credential: made.lock,
        log=lambda cloud, _credential: made.audit_logs[cloud],
        signer=lambda cloud: made.signers[cloud],
        side_by_side=one_after_the_other,
    )
    for command in ("audit", "status"):
        monkeypatch.setattr(f"lockstep.cli.{command}.operator", lambda _plan: clouds)
    desk = OrderContext(plan=load_plan(plan), clouds=clouds, stream="aws")
    monkeypatch.setattr("lockstep.cli.plan.order_context", lambda _plan: desk)
    return made


APPLY = f"apply --from {'0' * 64} --dry-run"


@pytest.mark.parametrize("is_ours", [False, True], ids=["a foreign object", "an entry"])
def test_only_an_entry_of_a_newer_build_stops_commands(world: MemoryWorld, *, is_ours: bool) -> None:
    """An entry of a newer build is not taken for a foreign one (protocol R10)."""
    last = at(world, head(world).seq)
    with build(NEWER):
        made = sealed(EVENT, last, signer=world.signers["aws"] if is_ours else MemorySigner("stolen"))
    world.audit_logs["aws"].entries[last.number + 1] = made.body, made.metadata
    shown, ordered = run("audit show"), run(f"{APPLY} {world.credential.id}")
    assert (shown.exit_code != 0, ordered.exit_code != 0) == (is_ours, is_ours), ordered.output
    assert is_ours or "NOT AN ENTRY" in shown.stdout
    assert is_ours or "NewerFormatError" not in ordered.output


def plant(world: MemoryWorld, event: str, *, time: int = 0) -> None:
    """Put an object after the last entry that looks like one, and has no valid MAC."""
    last = at(world, head(world).seq)
    made = sealed({**EVENT, "time": time}, last, signer=MemorySigner("stolen"))
    document = json.loads(made.body)
    chain = {**document["chain"], "event": hashlib.sha256(event.encode()).hexdigest()}
    parts = [rfc8785.dumps(chain).decode(), event, rfc8785.dumps(document["mac"]).decode()]
    body = '{"chain":%s,"event":%s,"mac":%s}' % tuple(parts)  # noqa: UP031 - braces
    world.audit_logs["aws"].entries[last.number + 1] = body.encode(), {**made.metadata, "chain": parts[0]}


LAST_SECOND = 253_402_300_799_000
"""Of the year 9999, in milliseconds."""


@pytest.mark.parametrize(
    ("event", "time", "zone"),
    [
        ('{"start_time":1%s,"status":"Success"}' % ("0" * 400), 0, "UTC"),
        ('{"start_time":{},"status":[],"unmapped":{"lockstep":{"generation":"x"}}}', 0, "UTC"),
        ('{"status":"Success"}', LAST_SECOND, "Pacific/Kiritimati"),
    ],
)
def test_whatever_an_object_holds_the_runs_are_shown(
    world: MemoryWorld, event: str, time: int, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(world, event, time=time)
    monkeypatch.setenv("TZ", zone)
    tzset()
    try:
        for line in ("history", "history --json", "audit show", "audit show --json"):
            shown = run(line)
            assert shown.exit_code == 0, shown.output
            assert "run-1" in shown.stdout or "generation 2" in shown.stdout
    finally:
        monkeypatch.undo()
        tzset()


# What a history of versions shows

PREFIX = "aws/multi-cloud.app_user/"


def versions(seq: int, shape: str, *, name: str = "") -> list[ObjectVersion]:
    """The versions of an object, the latest first: `v` for a content, `m` for a marker."""
    return [
        ObjectVersion(
            key=name or f"{PREFIX}{seq:012d}.json",
            version_id=str(len(shape) - n),
            is_delete_marker=kind == "m",
            is_latest=n == 0,
            at=EPOCH - timedelta(seconds=n),
            size=0 if kind == "m" else 10,
        )
        for n, kind in enumerate(shape)
    ]


def test_every_trace_of_an_entry() -> None:
    traces = {Trace.HIDDEN: "m mv mm mvmv", Trace.DELETED: "vmv vm", Trace.REWRITTEN: "vv vvv"}
    for trace, shapes in traces.items():
        for shape in shapes.split():
            assert [found.what for found in findings(versions(7, shape))] == [trace]
    assert list(findings(versions(7, "v"))) == []


def test_neighbours_of_one_kind_are_one_finding() -> None:
    history = {1: "v", 2: "mv", 3: "mv", 4: "mv", 6: "mv", 7: "vv", 8: "v"}
    assert collapsed(findings([v for seq, shape in history.items() for v in versions(seq, shape)])) == [
        Problem(Trace.HIDDEN, 2, 4),
        Problem(Trace.HIDDEN, 6),
        Problem(Trace.REWRITTEN, 7),
    ]


def test_strangers_are_counted_and_a_foreign_name_is_printed_without_effect() -> None:
    (finding,) = findings([v for name in "abc" for v in versions(0, "mv", name=f"{PREFIX}{name}")])
    assert str(finding) == f"3 objects are not entries, the first is '{PREFIX}a'"
    for evil in ("\x1b[2J", "\u202ekcotskcol", "\n", "x" * 5_000):
        (finding,) = findings(versions(0, "v", name=f"{PREFIX}{evil}"))
        assert str(finding).isascii()
        assert str(finding).isprintable()
        assert len(str(finding)) < 300
