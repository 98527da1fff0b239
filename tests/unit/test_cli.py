"""The command line without a cloud: help, wrong use, and one document whatever ends the command."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from typer.testing import CliRunner, Result

from lockstep.cli import app
from lockstep.cli.output import answer, document, exit_code_of, plan_file, say, words_left
from lockstep.operate.documents import Error
from lockstep.operate.formatting import absolute, clock_time, relative
from lockstep.operate.state import forecast, in_sync, possible
from lockstep.plan.file import load_plan
from lockstep.protocol import errors
from lockstep.protocol.model import Claim, ClaimKind, Engine, LockRecord, Login, SecretStr, StoredValue
from lockstep.stores.credential import StoredNames
from sandbox import plans
from tests.support.cli_paths import paths
from tests.support.memory import make_plan

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
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "Usage: " in shown.stdout
    assert len(shown.stdout.splitlines()) > 5
    is_group = any(other[: len(words)] == words and other != words for other in paths())
    assert is_group or "Exit code: 0" in shown.stdout


def test_version() -> None:
    assert run("--version").stdout.startswith("lockstep 0.")


WRONG_USE = {
    "rollback": "No such command 'rollback'",
    "plan sql -d nowhere": "no database 'nowhere' for these credentials; the plan has: orders",
    "audit verify --since aws:yesterday": "--since: name the digest as a verification has: aws:",
    "audit show -n 0": "'--newest' / '-n': Input should be greater than or equal to 1",
    "audit report --since weeks": "--since: write a duration as a number with its unit",
    "audit report --since 9999d": "--since: must be longer than zero, and at most 3650d",
    "audit report -o report.pdf": "--output: report.pdf does not end with .html; for programs: --json > report.json",
    "audit report -o /nowhere/report.html": "--output: /nowhere is not a folder",
    f"lock release {CREDENTIAL}": "Missing option '--holder'",
    "pause": "Missing argument 'CREDENTIAL",
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
    "status -p --json": "--plan/-p: expected one argument",
    "plan schema -p a.yaml": "plan schema has no use for --plan: leave it out",
    "pause * --json": "pause has no use for --json: leave it out",
    "doctor --only inside": "--in-cloud",
    "doctor --only inside.plan": "--in-cloud",
    "serve --port 70000": "--port",
}


@pytest.mark.parametrize(("line", "told"), WRONG_USE.items(), ids=WRONG_USE)
def test_wrong_use_is_explained_on_stderr_with_exit_code_2(line: str, told: str) -> None:
    shown = run(line)
    assert (shown.exit_code, shown.stdout if "--json" not in line else "") == (2, "")
    assert told in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_variable_that_is_wrong_is_named() -> None:
    machine = run(f"rotate {CREDENTIAL}", LOCKSTEP_STATE_MACHINE_ARN="arn:aws:lambda:eu:1:f")
    log = run(f"pause {CREDENTIAL}", LOCKSTEP_RECORD_IN="oci")
    assert (machine.exit_code, machine.stderr.split(": ")[0]) == (2, "LOCKSTEP_STATE_MACHINE_ARN")
    assert (log.exit_code, log.stderr.split(": ")[0]) == (2, "LOCKSTEP_RECORD_IN")


@pytest.mark.parametrize(
    "given",
    [
        *("app_user\nhunter2\n", '{"username": "app_user", "password": "hunter2"'),
        *('{"password": "hunter2"}', '{"placeholder": true}'),
    ],
)
def test_what_is_no_login_is_refused_and_not_shown(given: str) -> None:
    shown = run(f"import {CREDENTIAL}", given)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "give a JSON object" in shown.stderr
    assert "hunter2" not in shown.output


def test_a_file_that_is_too_deep_is_told(plan: Path) -> None:
    in_oci = plans.plan_document(PLAN["databases"], PLAN["credentials"], oci=plans.OciNames())
    plan.write_text(json.dumps(in_oci))
    Path("deep.json").write_text("[" * 200_000)
    shown = run("secrets create --cloud oci --terraform deep.json")
    assert (shown.exit_code, "deep.json is not what `terraform" in shown.stderr) == (2, True)


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
    for told in (
        f"lock.region: AWS has no region {region} that this version knows; did you mean us-gov-west-1",
        f"stores[0].region: AWS has no region {region}",
        "stores[1].region: OCI has no region eu-frankfort-1 that this version knows; did you mean eu-frankfurt-1?",
    ):
        assert told in shown.stderr


# With `--json` there is one document on standard output, whatever ends the command


def raising(error: type[BaseException]) -> Any:  # noqa: ANN401 - in the place of any function
    def end(*_: object, **__: object) -> NoReturn:
        raise error

    return end


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
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("lockstep.cli.orders.sys", terminal)
    if end == "Ctrl-C":
        monkeypatch.setattr("lockstep.cli.status.operator", raising(KeyboardInterrupt))
    if end == "no command told it":
        monkeypatch.setattr("typer.core.TyperGroup.main", lambda *_, **__: code)
    shown = run(line, "n\n" if end == "a person does not agree" else "")
    told = json.loads(shown.stdout)["error"]
    assert (shown.exit_code, told["exit_code"], told["name"]) == (code, code, name)
    assert "Traceback" not in shown.stderr


NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_a_person_is_told_the_cause_and_a_program_both() -> None:
    error = errors.LockTableAccessDeniedError(credential="c")
    error.__cause__ = errors.EnvironmentalError(errors.Environment.AWS_SESSION_EXPIRED, code="ExpiredToken")
    assert errors.line_of(error).startswith(
        "AwsSessionExpiredError: The AWS session has expired. [code=ExpiredToken] "
    )
    assert document(error) == Error(
        name="AwsSessionExpiredError",
        meaning="The AWS session has expired.",
        where={"code": "ExpiredToken"},
        next="Log in again: `aws sso login`.",
        during="LockTableAccessDeniedError",
    )


def test_a_foreign_cause_is_not_told() -> None:
    error = errors.StoreBusyError(store="aws")
    error.__cause__ = ValueError("hunter2")
    assert errors.described(error) is error
    assert "hunter2" not in errors.line_of(error)


def test_exit_codes() -> None:
    kinds = (errors.FenceLostError, errors.InvalidPlanError, errors.StoreBusyError)
    assert [exit_code_of(kind) for kind in kinds] == [1, 2, 3]


def test_times_are_local_and_say_how_far_away_they_are() -> None:
    spans = {0: "0 seconds ago", 0.4: "in 1 second", 2.5: "in 3 seconds", -7300: "2 hours ago"}
    assert {s: relative(NOW + timedelta(seconds=s), NOW) for s in spans} == spans
    local = (NOW + timedelta(minutes=7)).astimezone()
    assert clock_time(local, NOW) == f"{local:%H:%M:%S} (in 7 minutes)"
    long_ago = NOW - timedelta(days=9)
    assert absolute(long_ago, NOW) == f"{long_ago.astimezone():%Y-%m-%d %H:%M:%S}"
    with answer():
        assert list(words_left(["--json", "status"])) == ["status"]
        assert clock_time(local, NOW) == "2026-01-01T12:07:00Z"


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


# The forecast of the next run

SOON, BEFORE = NOW + timedelta(minutes=5), NOW - timedelta(minutes=5)
LOGIN = Login("app", SecretStr("a"))
CLAIM = Claim(kind=ClaimKind.NEW, generation=8, base_generation=7, rotation_id="run-8")
PLANNED = make_plan().credentials[0]
BOTH = frozenset(PLANNED.databases)


def stored(generation: int = 7, login: Login | None = LOGIN, blob: int | None = None) -> StoredValue:
    return StoredValue(
        login=login,
        generation=generation,
        blob_generation=generation if blob is None else blob,
        version=f"v{generation}",
    )


def record(**more: object) -> LockRecord:
    known = {"current_generation": 7, "valid": frozenset({6, 7}), "plan": PLANNED.plan_digest}
    return LockRecord(credential_id=CREDENTIAL, **{**known, **more})  # type: ignore[arg-type]


NEVER, LEAKED = {"current_generation": None}, {"revoke_through": 7}
Forecast = tuple[LockRecord, list[StoredValue], bool, str, str | None]
FORECASTS: dict[str, Forecast] = {
    "due": (record(), [stored(), stored()], True, "rotate", None),
    "import": (record(**NEVER), [stored(0)], True, "reconcile", None),
    "not due": (record(next_due_at=SOON, not_before=BEFORE), [stored()], True, "rotate", "not due"),
    "overlap": (record(next_due_at=BEFORE, not_before=SOON), [stored()], True, "reconcile", None),
    "held": (record(holder="run-8", expires_at=SOON), [stored()], True, "rotate", "run-8 holds"),
    "no end": (record(holder="run-8"), [stored()], True, "rotate", "until somebody gives it back"),
    "holder is dead": (record(holder="run-8", expires_at=BEFORE), [stored()], True, "rotate", None),
    "half done": (record(claim=CLAIM, next_due_at=SOON), [stored(), stored()], True, "finish", None),
    "promoted": (record(claim=CLAIM, promoting=True), [stored(8), stored(8)], True, "reconcile", None),
    "half promoted": (record(claim=CLAIM, promoting=True), [stored(8), stored(7)], False, "reconcile", None),
    "edited": (record(), [stored(0), stored()], False, "reconcile", None),
    "edited everywhere": (record(), [stored(0), stored(0)], False, "reconcile", None),
    "blob behind": (record(), [stored(7, blob=6)], False, "reconcile", None),
    "placeholder": (record(**NEVER), [stored(0, login=None)], False, "stop", None),
    "bootstrap": (record(take_over=BOTH, **NEVER), [stored(0, login=None)], False, "rotate", None),
    "another plan": (record(plan="of-another-plan"), [stored()], True, "stop", None),
    "activation": (record(plan=None, activate=PLANNED.plan_digest), [stored()], True, "reconcile", None),
    "blocked": (record(blocked=BOTH), [stored()], True, "stop", None),
    "paused": (record(paused=True), [stored()], True, "rotate", "paused"),
    "emergency": (record(next_due_at=SOON, not_before=SOON, **LEAKED), [stored()], True, "rotate", None),
    "emergency, paused": (record(paused=True, **LEAKED), [stored()], True, "rotate", "paused"),
}


def names_of(value: StoredValue) -> StoredNames:
    return StoredNames(
        generation=value.generation, blob_generation=value.blob_generation, version=value.version
    )


DECIDED_BY_VALUES = {"import", "placeholder", "bootstrap"}
"""Nothing was rotated yet, so the stores hold what Lockstep did not write: names do not say what."""


@pytest.mark.parametrize("name", FORECASTS)
def test_the_forecast_follows_the_rules_and_names_tell_the_same_or_nothing(name: str) -> None:
    """By values it follows Acquire and Generate; what names tell is that, never something else (ADR 59)."""
    lock_record, values, expected_in_sync, action, waits_for = FORECASTS[name]
    by_values = possible({f"store-{n}": v for n, v in enumerate(values)})
    by_names = possible({f"store-{n}": names_of(v) for n, v in enumerate(values)})
    found, named = (forecast(lock_record, cases, PLANNED, now=NOW) for cases in (by_values, by_names))
    assert (in_sync(lock_record, by_values), found.action) == (expected_in_sync, action)
    assert (waits_for or "") in (found.waits_for.meaning if found.waits_for else "")
    assert (waits_for is None) == (found.waits_for is None) == (named.waits_for is None)
    if name in DECIDED_BY_VALUES:
        assert (in_sync(lock_record, by_names), named.action) == (None, None)
        assert "if the stores hold placeholders only" in named.meaning
    else:
        assert (in_sync(lock_record, by_names), named.action) == (expected_in_sync, action)


@given(data=st.data())
def test_no_judgement_by_names_is_refuted_by_the_values(data: st.DataObject) -> None:
    """Over records and stores: what is told by names holds for every value that those names may have."""
    generations = st.integers(0, 3)
    logins = [LOGIN, Login("app", SecretStr("b")), None]
    names = data.draw(st.lists(st.tuples(generations, generations), min_size=1, max_size=2))
    claim = structs.replace(CLAIM, generation=3, base_generation=2)
    choices: dict[str, list[object]] = {
        "current_generation": [None, 1, 2],
        "promoting": [False, True],
        "claim": [None, claim],
        "take_over": [frozenset(), BOTH],
        "blocked": [frozenset(), BOTH],
        "plan": [None, PLANNED.plan_digest],
        "activate": [None, PLANNED.plan_digest],
        "revoke_through": [None, 2],
    }
    lock_record = record(**{field: data.draw(st.sampled_from(values)) for field, values in choices.items()})
    # Lockstep writes one login under one generation into every store (protocol V1); others write what they like.
    values = [stored(g, LOGIN if g else data.draw(st.sampled_from(logins)), blob) for g, blob in names]
    by_values = possible({f"store-{n}": v for n, v in enumerate(values)})
    by_names = possible({f"store-{n}": names_of(v) for n, v in enumerate(values)})
    truth, found = (forecast(lock_record, cases, PLANNED, now=NOW) for cases in (by_values, by_names))
    assert found.action in {None, truth.action}
    assert in_sync(lock_record, by_names) in {None, in_sync(lock_record, by_values)}
