"""Rotation users whose own login is a credential: both runners rotate it, and others by it (protocol D22)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lockstep.cli import app as cli
from lockstep.operate.access import operator
from lockstep.protocol.model import Login, SecretStr, Strategy
from sandbox import plans
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer, MySqlServer, PostgresServer
from sandbox.estate import Estate, Settings, running_estate
from sandbox.fn import running_function
from sandbox.servers import default_servers, login_text
from tests.oci_fn.test_func import by_aws, by_oci
from tests.support.memory import PLACEHOLDER_TEXT
from tests.support.servers import require

DUAL, ALTERNATING = "rotators/dual", "rotators/alternating"
ADMINS = {"orders": DUAL, "crm": DUAL, "ledger": ALTERNATING}
"""Two passwords on MariaDB and MySQL, two users on PostgreSQL; the latter also on MariaDB, as an application's."""


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    for server in (MariaDbServer, MySqlServer, PostgresServer):
        require(server)
    credentials = [
        plans.credential(DUAL, "orders", "crm", username="lockstep_rotator"),
        plans.credential(
            ALTERNATING, "ledger", username="lockstep_rotator", strategy=Strategy.ALTERNATING_USERS
        ),
        plans.credential("shop/app", "orders", "crm", username="shop"),
        plans.credential("shop/reports", *ADMINS, username="reports", strategy=Strategy.ALTERNATING_USERS),
    ]
    servers = default_servers(CertificateAuthority(tmp_path_factory.mktemp("ca")))
    settings = Settings(audit_tier="Standard", admins=ADMINS)
    folder = tmp_path_factory.mktemp("estate")
    with running_estate(credentials, servers, folder=folder, settings=settings) as running:
        yield running


def logins(estate: Estate) -> Iterator[tuple[str, bool]]:
    """Each login that a store serves at that moment, with whether the server takes it.

    As the shipped code logs in: the admin's accounts have rights on no database.
    """
    for credential in estate.plan.credentials:
        for store in estate.settings.clouds:
            login = estate.stored_login(credential, store)
            assert login
            for server in credential.servers:
                accepts = operator(estate.plan).database(server, credential).accepts(login)
                yield f"{credential.id} of {store} at {server.name}", accepts


@contextmanager
def watched(estate: Estate) -> Iterator[list[tuple[str, bool]]]:
    """Look again and again inside; what was seen."""
    seen, over = list[tuple[str, bool]](), Event()

    def watch() -> None:
        while not over.is_set():
            seen.extend(logins(estate))

    thread = Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_both_runners_rotate_the_admin_and_by_it_at_once(estate: Estate) -> None:
    dual, alternating, app, reports = estate.plan.credentials
    generations: dict[str, list[int]] = {c.id: [] for c in estate.plan.credentials}

    with (
        watched(estate) as seen,
        running_function(estate.function_environment) as standby,
        ThreadPoolExecutor(2) as pool,
    ):
        turns = [(dual, reports), (app, alternating), (alternating, app), (reports, dual)]
        for aws, oci in turns * 2:
            first, second = pool.submit(by_aws, estate, aws), pool.submit(by_oci, estate, standby, oci)
            generations[aws.id].append(first.result().output["generation"])
            generations[oci.id].append(second.result()["generation"])
    assert [place for place, accepts in seen if not accepts] == []
    assert len(seen) > 40
    # The first one only serves the login of the first day under a generation.
    assert list(generations.values()) == [[1, 2, 3, 4]] * 4
    # While it is paused, others are rotated by it.
    assert command("pause", dual.id).exit_code == 0
    assert by_aws(estate, app).output["generation"] == 5
    assert command("resume", dual.id).exit_code == 0


def test_the_admin_is_imported_first(estate: Estate) -> None:
    """Where no store has its login, nobody can take an advisory lock but by the login that is imported."""
    dual, _, app, _ = estate.plan.credentials
    known = estate.stored_login(dual)
    assert known
    estate.aws.client("secretsmanager").put_secret_value(
        SecretId=dual.secret_names.app_user, SecretString=PLACEHOLDER_TEXT
    )
    estate.outside.expire_schedule(app.id)
    failed = estate.rotate(app.id)
    assert (failed.status, failed.error) == ("FAILED", "AdminCredentialRejectedError")
    wrong = Login(known.username, SecretStr("not it"))
    assert command("import", dual.id, input=login_text(wrong)).exit_code == 1
    done = command("import", dual.id, input=login_text(known))
    assert done.exit_code == 0, done.output
    assert estate.stored_login(dual) == known
    by_aws(estate, app)
    by_aws(estate, dual)
    assert [place for place, accepts in logins(estate) if not accepts] == []
    refused = command("retire", dual.id)
    assert "not retired: it is the rotation user's login on orders, crm" in refused.stderr


def command(*words: str, **more: Any) -> Result:  # noqa: ANN401 - its input
    return CliRunner().invoke(cli, words, **more)
