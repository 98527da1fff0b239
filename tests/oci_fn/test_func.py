"""The function in OCI behind the real fdk, over both clouds and real databases: as standby, as doctor, as digester.

Events of both runners and of operators are live, too. What becomes of an event changes nothing.
"""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event
from typing import Any

import pytest

from lockstep.audit.chain import Entry
from lockstep.operate.access import operator
from lockstep.protocol.model import Credential, Login, SecretStr, Strategy
from lockstep.protocol.names import DEFAULT_STACK
from lockstep.runtime.identity import CONFIG_FILE_VARIABLE
from lockstep.runtime.wiring import DIGEST_VARIABLE, DOCTOR_VARIABLE, FUNCTION_VARIABLE, REGION_VARIABLE
from sandbox import plans
from sandbox.deployed_world import FUNCTION_ID, know_functions
from sandbox.emulators.aws import Execution
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer, MySqlServer, PostgresServer
from sandbox.emulators.oci import write_config_file
from sandbox.estate import Estate, Settings, running_estate
from sandbox.fn import FunctionProcess, running_function
from sandbox.plans import AUDIT_BUCKET
from sandbox.servers import default_servers, login_text
from sandbox.watching import CloudEvent
from tests.contract.clouds import OciConsole
from tests.statemachine.conftest import Case, lockstep
from tests.support.lambda_context import NO_LOOKS
from tests.support.memory import PLACEHOLDER_TEXT
from tests.support.servers import require

PREFIX = "dev.lockstep.credential."
SECONDS = 240


DUAL, ALTERNATING = "rotators/dual", "rotators/alternating"
ADMINS = {"orders": DUAL, "crm": DUAL, "ledger": ALTERNATING}
"""The rotation users: two passwords on MariaDB and MySQL, two users on PostgreSQL."""


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """Every server, the logins of their rotation users, and credentials of which each test takes one."""
    for server in (MariaDbServer, MySqlServer, PostgresServer):
        require(server)
    servers = default_servers(CertificateAuthority(tmp_path_factory.mktemp("ca")))
    dual, alternating, rotator = Strategy.DUAL_PASSWORD, Strategy.ALTERNATING_USERS, "lockstep_rotator"
    credentials = [
        plans.credential(
            "multi-cloud/app-0", *servers, username="app_0", strategy=Strategy.ALTERNATING_USERS
        ),
        *(plans.credential(f"multi-cloud/app-{n}", "crm", username=f"app_{n}") for n in range(1, 8)),
        plans.credential(DUAL, "orders", "crm", username=rotator, strategy=dual),
        plans.credential(ALTERNATING, "ledger", username=rotator, strategy=alternating),
        plans.credential("shop/app", "orders", "crm", username="shop", strategy=dual),
        # On MariaDB, whose rotation user has two passwords, it has two users, too.
        plans.credential("shop/reports", *ADMINS, username="reports", strategy=alternating),
    ]
    folder = tmp_path_factory.mktemp("estate")
    settings = Settings(audit_tier="Standard", events=True, admins=ADMINS)
    with running_estate(credentials, servers, folder=folder, settings=settings) as running:
        yield running


@pytest.fixture(scope="module")
def function(estate: Estate) -> Iterator[FunctionProcess]:
    """The standby, which can call itself, with fdk's debug log on."""
    own = {FUNCTION_VARIABLE: FUNCTION_ID, REGION_VARIABLE: "eu-frankfurt-1", "FDK_DEBUG": "true"}
    with running_function({**estate.function_environment, **own}) as running:
        yield running


@pytest.fixture(scope="module")
def diagnosing(estate: Estate, function: FunctionProcess) -> Iterator[FunctionProcess]:
    """The same image as doctor; both functions are under the names that Terraform gives them."""
    with running_function({**estate.function_environment, DOCTOR_VARIABLE: "1"}) as running:
        know_functions(estate.oci, DEFAULT_STACK, function, running)
        yield running


@pytest.fixture(scope="module")
def supply(estate: Estate) -> list[Credential]:
    return list(estate.plan.credentials[1:-4])


@pytest.fixture
def credential(supply: list[Credential], estate: Estate) -> Credential:
    """One that no other test has used, and no event to be read yet."""
    estate.events.on_bus()
    estate.events.on_topic()
    return supply.pop()


def by_aws(estate: Estate, credential: Credential) -> Execution:
    """A rotation as if it were due: what Step Functions runs."""
    execution = Case(estate, credential).again()
    assert execution.status == "SUCCEEDED", execution.cause
    return execution


def by_oci(
    estate: Estate, function: FunctionProcess, credential: Credential, **more: object
) -> dict[str, Any]:
    """The same: what the function answers about the one credential that it was asked for."""
    estate.outside.expire_schedule(credential.id)
    [found] = function.call({"credential_id": credential.id, **more}).body["results"]
    assert isinstance(found, dict)
    return found


def entries(estate: Estate, credential: Credential) -> dict[str, list[Entry]]:
    """The verified chains."""
    found = estate.verify_now(credential)
    assert [v.problems for v in found] == [[] for _ in found]
    return {v.stream: v.entries for v in found}


def both_serve(estate: Estate, credential: Credential) -> Login:
    in_aws, in_oci = estate.stored_login(credential, "aws"), estate.stored_login(credential, "oci")
    assert in_aws == in_oci
    assert in_aws is not None
    return in_aws


def records(estate: Estate) -> dict[str, Any]:
    """Every item of the lock table."""
    items = estate.aws.client("dynamodb").scan(TableName=estate.plan.lock.table)["Items"]
    return {item["credential_id"]["S"]: item for item in items}


# Rotations


def test_rotations_on_every_engine_show_no_secret(estate: Estate, function: FunctionProcess) -> None:
    everywhere, runs = estate.plan.credentials[0], []
    logins, shown = [both_serve(estate, everywhere)], function.watch_log()
    for generation in (1, 2, 3):
        result = by_oci(estate, function, everywhere)
        assert (result["outcome"], result["generation"]) == ("rotated", generation)
        runs.append(result["rotation_id"])
        logins.append(both_serve(estate, everywhere))
        assert estate.locked_out(everywhere) == []
    assert logins.pop(0) == logins[0]  # What was imported works, and stays.
    passwords = {login.password.reveal() for login in logins}
    assert len(passwords) == 3
    events = [e.event for e in entries(estate, everywhere)["oci"]]
    details = [e["unmapped"]["lockstep"] for e in events]
    assert [(d["generation"], d["kind"]) for d in details] == [(1, "reconcile"), (2, "new"), (3, "new")]
    revoked = [d["revoked"] for d in details[2]["databases"].values()]
    assert revoked == [{"1": "refused"}] * len(everywhere.databases)
    assert [e["metadata"]["uid"] for e in events] == runs
    states = ["ReadPlan", "AcquireLock", "Generate", "ApplyDb", "UpdateSecrets", "Audit", "ReleaseLock"]
    assert [list(function.logged(run)["states_ms"]) for run in runs] == [states] * len(runs)
    text = shown.added() + json.dumps(estate.events.on_topic())
    assert '"outcome": "rotated"' in text
    assert [s for s in [*estate.confidential, *passwords] if s in text] == []


def test_both_runners_take_turns_and_tell_of_rotations_and_of_no_run_that_was_skipped(
    estate: Estate, function: FunctionProcess, credential: Credential
) -> None:
    estate.events.ended(by_aws(estate, credential))
    [first] = estate.events.on_bus()  # The activation's reconcile, after which nothing dies.
    assert (first["data"]["kind"], first["data"]["generation"]) == ("reconcile", 1)
    assert first["data"]["overlap_ends_at"] is None

    skipped = estate.rotate(credential.id)
    assert skipped.output == {"outcome": "skipped"}
    assert [r.function_error for r in estate.events.ended(skipped)] == [None]
    assert function.call({"credential_id": credential.id}).body["results"][0]["outcome"] == "skipped"
    assert (estate.events.on_bus(), estate.events.on_topic()) == ([], [])

    execution = by_aws(estate, credential)
    assert estate.events.on_bus() == []  # The rotation itself makes no call for it.
    estate.events.ended(execution)
    promoted, dies = on_bus = sorted(estate.events.on_bus(), key=lambda e: str(e["type"]), reverse=True)
    assert types(on_bus) == ["promoted", "previous-dies"]
    data = promoted["data"]
    expected = {"runner": "aws", "kind": "new", "generation": 2, "previous_generation": 1}
    assert data | expected | {"stores": ["aws", "oci"], "entry": execution.output["audit"]} == data
    assert data["overlap_ends_at"] == dies["data"]["dies_at"]

    assert by_oci(estate, function, credential)["generation"] == 3
    in_oci = estate.events.on_topic()
    assert (estate.events.on_bus(), types(in_oci)) == ([], ["promoted", "previous-dies"])
    assert [e["data"]["generation"] for e in in_oci] == [3, 3]
    assert (in_oci[0]["data"]["runner"], in_oci[0]["source"]) == ("oci", promoted["source"])

    login, sent = both_serve(estate, credential), json.dumps([*on_bus, *in_oci])
    for secret in (login.password.reveal(), *estate.confidential, "127.0.0.1", "localhost"):
        assert secret not in sent
    assert {stream: len(found) for stream, found in entries(estate, credential).items()} == {
        "aws": 2,
        "oci": 1,
    }
    assert estate.locked_out(credential) == []


def types(events: list[CloudEvent]) -> list[str]:
    return [event["type"].removeprefix(PREFIX) for event in events]


def test_what_operators_do_is_told_in_both_clouds(estate: Estate, credential: Credential) -> None:
    login, name = both_serve(estate, credential), credential.secret_names.app_user
    estate.aws.client("secretsmanager").put_secret_value(SecretId=name, SecretString=PLACEHOLDER_TEXT)
    shown = lockstep("import", credential.id, input=login_text(login))
    assert shown.exit_code == 0, shown.output
    [adopted] = estate.events.on_bus()
    assert (types([adopted]), types(estate.events.on_topic())) == (["adopted"], ["adopted"])
    assert (adopted["data"]["stores"], adopted["data"]["databases"]) == (["aws"], ["crm"])
    assert login.password.reveal() not in json.dumps(adopted)
    estate.events.ended(by_aws(estate, credential))
    estate.events.on_bus()

    for order in ("pause", "resume", "retire", "pause"):  # In the end it is paused already.
        assert lockstep(order, credential.id).exit_code == 0
    told = ["paused", "resumed", "paused", "retired"]  # To retire is to pause, too.
    on_bus, on_topic = estate.events.on_bus(), estate.events.on_topic()
    assert (sorted(types(on_bus)), types(on_topic)) == (sorted(told), told)
    assert {e["id"] for e in on_bus} == {e["id"] for e in on_topic}
    places = [(e["data"]["entry"]["stream"], e["data"]["entry"]["seq"]) for e in on_topic]
    assert places == sorted({("aws", seq) for _, seq in places})
    assert on_topic[-1]["data"]["left_valid"] == [1]

    estate.aws.event_fault = lambda: "InternalFailure"
    try:
        shown = lockstep("resume", credential.id)
    finally:
        estate.aws.event_fault = None
    assert shown.exit_code == 0
    assert f"{credential.id}: done, but events.aws did not take its event: InternalFailure" in shown.stderr
    assert types(estate.events.on_topic()) == ["resumed"]
    assert "paused" not in estate.outside.lock_item(credential.id)


# Digests


def test_a_digest_an_hour_names_every_chain_and_is_confirmed_by_that_of_aws(
    estate: Estate, function: FunctionProcess, credential: Credential
) -> None:
    """With a key and rights of its own, as Terraform makes them, and nothing else."""
    config = write_config_file(estate.folder, "digest", dict(estate.digests.identities.digest_key))
    variables = {
        **estate.function_environment,
        CONFIG_FILE_VARIABLE: str(config),
        DIGEST_VARIABLE: f"{estate.digests.keys.ocid}@{estate.oci.endpoint}",
    }
    storage = OciConsole(estate.oci).storage
    assert by_oci(estate, function, credential)["outcome"] == "rotated"
    entries = storage.list_objects(estate.oci.namespace, AUDIT_BUCKET).data.objects
    chains = len({found.name.split("/")[1] for found in entries})
    with running_function(variables) as digesting:
        inputs = [*NO_LOOKS, {"doctor": "look"}, {"credential_id": "multi-cloud/app-1"}, {"force": True}, []]
        answers = [digesting.call(body) for body in inputs]
        assert {(a.status, a.body["error"]) for a in answers} == {(502, "InvalidRequestError")}
        # AWS has made none yet.
        alone = digesting.call()
        estate.digests.make("aws")
        again = digesting.call({})
    assert [(a.status, a.body["confirms"]) for a in (alone, again)] == [(502, False), (200, True)]
    assert [(a.body["chains"], a.body["problems"]) for a in (alone, again)] == [(chains, [])] * 2


# The doctor


def test_the_doctor_looks_at_everything_that_it_uses_and_changes_nothing(
    estate: Estate, diagnosing: FunctionProcess
) -> None:
    before, logged = records(estate), diagnosing.watch_log()
    run = {"credential_id": "multi-cloud/app-1", "force": True}
    answers = [
        diagnosing.call(body) for body in (*NO_LOOKS, {}, run, {"credential_ids": ["multi-cloud/app-1"]})
    ]
    assert {(a.status, a.body["error"]) for a in answers} == {(502, "InvalidRequestError")}
    served = {c.id: estate.stored_login(c, "oci") for c in estate.plan.credentials}
    answer = diagnosing.call({"doctor": "look"})
    assert answer.status == 200, answer.text
    found = answer.body["findings"]
    assert [f for f in found if f["outcome"] != "passed"] == []
    assert {f["where"] for f in found} == {"oci/rotate"}
    databases = {f"database.{what}" for what in ("route", "tls", "admin", "accounts", "login")}
    assert {"inside.session", "inside.access", *databases} <= {f["check"] for f in found}
    subjects = {f["subject"] for f in found if f["check"] == "database.login"}
    assert len(subjects) >= len(estate.plan.credentials)
    assert answer.body["plans"] == {c.id: c.plan_digest for c in estate.plan.credentials}
    assert records(estate) == before
    assert {c.id: estate.stored_login(c, "oci") for c in estate.plan.credentials} == served
    shown = answer.text + logged.added()
    passwords = [login.password.reveal() for login in served.values() if login]
    assert [secret for secret in [*estate.confidential, *passwords] if secret in shown] == []


@pytest.mark.usefixtures("diagnosing")
def test_the_command_asks_the_function_and_no_second_place_shows_a_login_that_was_refused(
    estate: Estate,
) -> None:
    """Two refusals would lock an account that has a limit of two."""

    def doctor(*only: str) -> tuple[int, list[dict[str, str]]]:
        words = [word for check in only for word in ("--only", check)]
        shown = lockstep("doctor", "--in-cloud", "--json", *words)
        assert shown.exception is None or isinstance(shown.exception, SystemExit), shown.output
        return shown.exit_code, json.loads(shown.stdout)["findings"]

    code, found = doctor("inside", "database")
    functions = {f["where"]: f["outcome"] for f in found if f["check"] == "inside.function"}
    steps = ("generate", "apply_db", "update_secrets", "audit", "watch")
    assert functions == {"oci/rotate": "passed", **{f"aws/{step}": "not_asked" for step in steps}}
    assert code == 3
    assert {f["command"].partition(",")[0] for f in found if f["outcome"] != "passed"} == {"make deploy-aws"}
    assert {f["where"] for f in found if f["check"] == "database.login"} == {"here", "oci/rotate"}
    assert {f["outcome"] for f in found if f["check"] == "inside.plan"} == {"passed"}

    login = both_serve(estate, estate.plan.credentials[1])
    change = f"ALTER USER '{login.username}'@'%' IDENTIFIED BY "
    server = estate.servers["crm"]
    server.execute_as_superuser(f"{change}'changed outside'")
    try:
        _, found = doctor("database")
    finally:
        server.execute_as_superuser(f"{change}'{login.password.reveal()}'")
    logins = [f for f in found if f["check"] == "database.login"]
    about = {(f["where"], f["outcome"]) for f in logins if f["subject"] in {"crm", f"crm {login.username}"}}
    assert about >= {("here", "failed"), ("oci/rotate", "not_asked")}
    assert ("oci/rotate", "failed") not in about


# A fleet


@pytest.mark.usefixtures("diagnosing")
def test_all_that_aws_left_is_rotated_by_detached_calls(estate: Estate, function: FunctionProcess) -> None:
    # (protocol R5)
    everyone = sorted(c.id for c in estate.plan.credentials)
    for key in everyone:
        estate.outside.expire_schedule(key)
    # They come to another container of the function.
    with running_function(estate.function_environment) as another:
        estate.oci.functions.code[FUNCTION_ID] = partial(another.invoked, seconds=SECONDS)
        first = function.call()
        assert (first.status, first.body) == (200, {"results": [], "handed_on": len(everyone), "batches": 2})
        calls = estate.oci.functions.finish(seconds=SECONDS)
        done = [r for call in calls for r in json.loads(call.answer.result()[1])["results"]]
        assert sorted((r["credential_id"], r["outcome"]) for r in done) == [
            (key, "rotated") for key in everyone
        ]
        # Nothing is due now.
        assert function.call().body == {"results": []}
    assert refused(logins(estate, estate.plan.credentials)) == []


# Rotation users whose own login is a credential (protocol D22)


def logins(estate: Estate, credentials: Iterable[Credential]) -> Iterator[tuple[str, bool]]:
    """Each login that a store serves at that moment, with whether the server takes it.

    As the shipped code logs in: the admin's accounts have rights on no database.
    """
    for credential in credentials:
        for store in estate.settings.clouds:
            login = estate.stored_login(credential, store)
            assert login
            for server in credential.servers:
                accepts = operator(estate.plan).database(server, credential).accepts(login)
                yield f"{credential.id} of {store} at {server.name}", accepts


def refused(seen: Iterable[tuple[str, bool]]) -> list[str]:
    return [place for place, accepts in seen if not accepts]


def test_both_runners_rotate_the_admin_and_by_it_at_once(estate: Estate, function: FunctionProcess) -> None:
    own = dual, alternating, shop, reports = estate.plan.credentials[-4:]
    generations: dict[str, list[int]] = {c.id: [] for c in own}
    seen, over = list[tuple[str, bool]](), Event()

    def watch() -> None:
        while not over.is_set():
            seen.extend(logins(estate, own))

    with ThreadPoolExecutor(3) as pool:
        watching = pool.submit(watch)
        try:
            turns = [(dual, reports), (shop, alternating), (alternating, shop), (reports, dual)]
            for aws, oci in turns * 2:
                first, second = pool.submit(by_aws, estate, aws), pool.submit(by_oci, estate, function, oci)
                generations[aws.id].append(first.result().output["generation"])
                generations[oci.id].append(second.result()["generation"])
        finally:
            over.set()
    watching.result()
    assert refused(seen) == []
    assert len(seen) > 40
    # Each generation is the one after that before it.
    assert [[n - found[0] for n in found] for found in generations.values()] == [[0, 1, 2, 3]] * 4
    # While it is paused, others are rotated by it.
    assert lockstep("pause", dual.id).exit_code == 0
    assert by_aws(estate, shop).output["generation"] == generations[shop.id][-1] + 1
    assert lockstep("resume", dual.id).exit_code == 0


def test_the_admin_is_imported_first(estate: Estate) -> None:
    """Where no store has its login, nobody can take an advisory lock but by the login that is imported."""
    own = dual, _, shop, _ = estate.plan.credentials[-4:]
    known = both_serve(estate, dual)
    estate.aws.client("secretsmanager").put_secret_value(
        SecretId=dual.secret_names.app_user, SecretString=PLACEHOLDER_TEXT
    )
    estate.outside.expire_schedule(shop.id)
    failed = estate.rotate(shop.id)
    assert (failed.status, failed.error) == ("FAILED", "AdminCredentialRejectedError")
    wrong = Login(known.username, SecretStr("not it"))
    assert lockstep("import", dual.id, input=login_text(wrong)).exit_code == 1
    done = lockstep("import", dual.id, input=login_text(known))
    assert done.exit_code == 0, done.output
    assert both_serve(estate, dual) == known
    by_aws(estate, shop)
    by_aws(estate, dual)
    assert refused(logins(estate, own)) == []
    kept = lockstep("retire", dual.id)
    assert "not retired: it is the rotation user's login on orders, crm" in kept.stderr
