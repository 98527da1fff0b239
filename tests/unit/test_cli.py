"""The command line without a cloud: help, wrong use, and clouds that do not answer."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from typer.testing import CliRunner, Result

from lockstep.cli import app
from lockstep.cli.output import say
from lockstep.operate.access import named_stores, operator, streams
from lockstep.operate.state import forecast, in_sync, possible
from lockstep.plan.file import load_plan
from lockstep.protocol.model import Claim, ClaimKind, Engine, LockRecord, Login, SecretStr, StoredValue
from lockstep.stores.readers import StoredNames
from sandbox import plans
from tests.support.cli_paths import paths
from tests.support.memory import make_plan

ARN = "arn:aws:states:eu-central-1:123456789012:stateMachine:lockstep"
CREDENTIAL = "multi-cloud/app_user"
PLAN = plans.plan_document(
    [plans.database("orders", Engine.MYSQL, host="orders.internal", tls="")],
    [plans.credential(CREDENTIAL, "orders", username="app_user")],
)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    file = tmp_path / "lockstep.yaml"
    file.write_text(json.dumps(PLAN))
    return file


def run(*words: str, **more: Mapping[str, str] | str) -> Result:
    return CliRunner().invoke(app, words, **more)  # type: ignore[arg-type]  # environment and input only


@pytest.mark.parametrize("words", list(paths()), ids=" ".join)
def test_every_command_has_help(words: tuple[str, ...]) -> None:
    shown = run(*words, "--help")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "Usage: " in shown.stdout
    assert len(shown.stdout.splitlines()) > 5
    is_group = any(other[: len(words)] == words and other != words for other in paths())
    assert is_group or "Exit code: 0" in shown.stdout


def test_version() -> None:
    assert run("--version").stdout.startswith("lockstep 0.")


WRONG_USE = {
    "no such command": ["rollback"],
    "plan sql: no such database": ["plan", "sql", "-d", "nowhere"],
    "audit verify: no digest": ["audit", "verify", "--since", "aws:yesterday"],
    "audit show: zero entries": ["audit", "show", "-n", "0"],
    "audit report: no duration": ["audit", "report", "--since", "three weeks"],
    "audit report: too long": ["audit", "report", "--since", "9999d"],
    "audit report: no form": ["audit", "report", "-o", "report.pdf"],
    "audit report: no such folder": ["audit", "report", "-o", "/nowhere/report.html"],
    "lock release: no holder": ["lock", "release", CREDENTIAL],
    "pause: no credential": ["pause"],
    "pause: a credential and all": ["pause", CREDENTIAL, "--all"],
    "take-over: no database": ["take-over", CREDENTIAL],
    "take-over: no such database": ["take-over", CREDENTIAL, "orders", "nowhere"],
    "import: no login": ["import", CREDENTIAL],
    "import: no such store": ["import", CREDENTIAL, "--from-secret", "Y", "--store", "nowhere"],
    "rotate: two credentials": ["rotate", CREDENTIAL, "another"],
    "revoke: nothing is waited for": ["revoke", "--without", "orders", "--yes"],
    "secrets create: a file that is too deep": [
        *("secrets", "create"),
        *("--cloud", "oci", "--terraform", "deep.json"),
    ],
    "revoke: without a terminal": ["revoke", CREDENTIAL],
    "rotate: no such credential": ["rotate", "unknown"],
}
ELSEWHERE = {
    "rotate: not an ARN of a state machine": (
        "LOCKSTEP_STATE_MACHINE_ARN",
        "arn:aws:lambda:eu:1:f",
        "rotate",
    ),
    "pause: a log that is not in the plan": ("LOCKSTEP_RECORD_IN", "oci", "pause"),
}


@pytest.mark.parametrize(("name", "value", "command"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_variable_that_is_wrong_is_named(name: str, value: str, command: str, plan: Path) -> None:
    shown = run(command, CREDENTIAL, env={"LOCKSTEP_PLAN": str(plan), name: value})
    assert (shown.exit_code, shown.stderr.startswith(f"{name}: ")) == (2, True)


@pytest.mark.parametrize("words", WRONG_USE.values(), ids=WRONG_USE)
def test_wrong_use_is_explained_on_stderr_with_exit_code_2(
    words: list[str], plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(plan.parent)
    Path("deep.json").write_text("[" * 200_000)
    shown = run(*words, env={"LOCKSTEP_PLAN": str(plan)})
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert len(shown.stderr) > 20
    assert "Traceback" not in shown.stderr


def test_plan_check(plan: Path) -> None:
    assert run("check", "-p", str(plan)).stdout.endswith("valid\n")
    document = json.loads(run("check", "-p", str(plan), "--json").stdout)
    assert document["valid"] is True
    assert document["credentials"][0]["logins"] == "app_user"
    assert document["credentials"][0]["plan_digest"] == load_plan(plan).credentials[0].plan_digest
    assert (
        f"plan digest: {load_plan(plan).credentials[0].plan_digest}" in run("check", "-p", str(plan)).stdout
    )


def test_before_oci_is_deployed_what_it_makes_may_be_an_example(plan: Path) -> None:
    shipped = (Path(__file__).parents[2] / "lockstep.yaml").read_text()
    plan.write_text(shipped)
    shown = run("check", "-p", str(plan)).stderr
    assert not [word for word in ("vault_id", "own_compartment_id") if word in shown]
    # The compartment of the rings is made by hand, before the first apply.
    assert "stores[1].compartment_id: ocid1.compartment.oc1..exampleuniqueid is an example" in shown
    own = (
        shipped.replace("example", "acme")
        .replace("11112222", "21112222")
        .replace("acmeownid", "exampleownid")
    )
    plan.write_text(own)
    shown = run("check", "-p", str(plan)).stdout
    assert "exampleownid is an example; give your own, which `make deploy-oci` prints" in shown
    assert shown.endswith("valid\n")


@pytest.mark.parametrize(
    ("region", "meant"), [("eu-central-9", "eu-central-"), ("us-gov-wets-1", "us-gov-west-1")]
)
def test_plan_check_knows_the_regions_of_the_clouds(plan: Path, region: str, meant: str) -> None:
    oci = plans.plan_document(PLAN["databases"], PLAN["credentials"], region=region, oci=plans.OciNames())
    oci["stores"][1]["region"] = "eu-frankfort-1"
    plan.write_text(json.dumps(oci))
    shown = run("check", "-p", str(plan))
    assert shown.exit_code == 2
    for told in (
        f"lock.region: AWS has no region {region} that this version knows; did you mean {meant}",
        f"stores[0].region: AWS has no region {region}",
        "stores[1].region: OCI has no region eu-frankfort-1 that this version knows; did you mean eu-frankfurt-1?",
    ):
        assert told in shown.stderr


def test_plan_check_refuses_a_ca_file_that_is_not_there(plan: Path) -> None:
    server = {**PLAN["databases"][0], "ca_file": "ca.pem"}
    plan.write_text(json.dumps({**PLAN, "databases": [server]}))
    shown = run("check", "-p", str(plan))
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert f"databases[0].ca_file: {plan.parent / 'ca.pem'} is not a file" in shown.stderr
    (plan.parent / "ca.pem").touch()
    assert run("check", "-p", str(plan)).exit_code == 0


@pytest.mark.parametrize(
    "given",
    [
        "hunter2",
        "app_user\n",
        "app_user\nhunter2\nmore\n",
        '{"username": "app_user"}',
        '{"password": "hunter2"}',
        '{"username": "app_user", "password": "hunter2"',
        '{"placeholder": true}',
    ],
)
def test_what_is_no_login_is_refused_and_not_shown(plan: Path, given: str) -> None:
    shown = run("import", CREDENTIAL, env={"LOCKSTEP_PLAN": str(plan)}, input=given)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "give a JSON object" in shown.stderr
    assert "hunter2" not in shown.output


def test_control_characters_in_names_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    say("\x1b[2Jrun-1 [red]x[/]")
    assert capsys.readouterr().out == "?[2Jrun-1 [red]x[/]\n"


# The forecast of the next run

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
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
FORECASTS = {
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


@pytest.mark.parametrize("case", FORECASTS.values(), ids=FORECASTS)
def test_the_forecast_follows_the_rules_of_acquire_and_generate(
    case: tuple[LockRecord, list[StoredValue], bool, str, str | None],
) -> None:
    lock_record, values, expected_in_sync, action, waits_for = case
    cases = possible({f"store-{n}": v for n, v in enumerate(values)})
    found = forecast(lock_record, cases, PLANNED, now=NOW)
    assert in_sync(lock_record, cases) is expected_in_sync
    assert found.action == action
    assert (waits_for is None) == (found.waits_for is None)
    assert (waits_for or "") in (found.waits_for.describe(NOW) if found.waits_for else "")


def names_of(value: StoredValue) -> StoredNames:
    return StoredNames(
        generation=value.generation, blob_generation=value.blob_generation, version=value.version
    )


DECIDED_BY_VALUES = {"import", "placeholder", "bootstrap"}
"""Nothing was rotated yet, so the stores hold what Lockstep did not write: names do not say what."""


@pytest.mark.parametrize("name", FORECASTS)
def test_names_tell_the_same_or_that_values_decide(name: str) -> None:
    """What names tell is what values tell; never something else (ADR 59)."""
    lock_record, values, expected_in_sync, action, waits_for = FORECASTS[name]
    cases = possible({f"store-{n}": names_of(v) for n, v in enumerate(values)})
    found, told = forecast(lock_record, cases, PLANNED, now=NOW), in_sync(lock_record, cases)
    if name in DECIDED_BY_VALUES:
        assert (told, found.action) == (None, None)
        assert "if the stores hold placeholders only" in found.meaning
    else:
        assert (told, found.action) == (expected_in_sync, action)
    assert (waits_for is None) == (found.waits_for is None)


@given(data=st.data())
def test_no_judgement_by_names_is_refuted_by_the_values(data: st.DataObject) -> None:
    """Over records and stores: what is told by names holds for every value that those names may have."""
    generations = st.integers(0, 3)
    logins = [LOGIN, Login("app", SecretStr("b")), None]
    names = data.draw(st.lists(st.tuples(generations, generations), min_size=1, max_size=2))
    lock_record = record(
        current_generation=data.draw(st.sampled_from([None, 1, 2])),
        promoting=data.draw(st.booleans()),
        claim=data.draw(st.sampled_from([None, structs.replace(CLAIM, generation=3, base_generation=2)])),
        take_over=data.draw(st.sampled_from([frozenset(), BOTH])),
        blocked=data.draw(st.sampled_from([frozenset(), BOTH])),
        plan=data.draw(st.sampled_from([None, PLANNED.plan_digest])),
        activate=data.draw(st.sampled_from([None, PLANNED.plan_digest])),
        revoke_through=data.draw(st.sampled_from([None, 2])),
    )
    # Lockstep writes one login under one generation into every store (protocol V1); others write what they like.
    values = [stored(g, LOGIN if g else data.draw(st.sampled_from(logins)), blob) for g, blob in names]
    by_values = possible({f"store-{n}": v for n, v in enumerate(values)})
    by_names = possible({f"store-{n}": names_of(v) for n, v in enumerate(values)})
    [truth] = [forecast(lock_record, by_values, PLANNED, now=NOW)]
    found = forecast(lock_record, by_names, PLANNED, now=NOW)
    assert found.action in {None, truth.action}
    assert in_sync(lock_record, by_names) in {None, in_sync(lock_record, by_values)}


def test_an_operator_sees_the_streams_of_all_runners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    both, alone = make_plan(stores=2), make_plan(stores=1)
    for plan, expected in ((both, ["aws", "oci"]), (alone, ["aws"])):
        clouds, credential = operator(plan), plan.credentials[0]
        assert [log.stream for log, _ in streams(plan, clouds, credential)] == expected
        assert [store.name for store in clouds.stores(credential)] == expected
        assert [store.name for store in named_stores(plan, clouds, credential)] == expected
