"""Rotation users whose own login is a credential: both runners rotate it, and others by it (protocol D22)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lockstep.cli import app as cli
from lockstep.operate.access import operator
from lockstep.protocol.model import Credential, DatabaseServer, Login, SecretStr, Strategy
from lockstep.protocol.ports import Database
from sandbox import plans
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer, MySqlServer, PostgresServer
from sandbox.estate import Estate, Settings, running_estate
from sandbox.fn import FunctionProcess
from sandbox.outside import StoreName
from sandbox.servers import default_servers, login_text
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


@dataclass
class Watch:
    """Logs in without a pause, with what each store serves of each credential at that moment."""

    estate: Estate
    refused: list[str] = field(default_factory=list)
    logins: int = 0

    def look(self) -> None:
        for credential in self.estate.plan.credentials:
            for store in self.estate.settings.clouds:
                self._log_in(credential, store)

    def _log_in(self, credential: Credential, store: StoreName) -> None:
        login = self.estate.stored_login(credential, store)
        assert login
        for server in credential.servers:
            self.logins += 1
            if not database(self.estate, server, credential).accepts(login):
                self.refused.append(f"{credential.id} of {store} at {server.name}")

    def require_all(self) -> None:
        """Everything that any store serves logs in."""
        self.look()
        assert self.refused == []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look again and again inside."""
        over = Event()

        def watch() -> None:
            while not over.is_set():
                self.look()

        thread = Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def database(estate: Estate, server: DatabaseServer, credential: Credential) -> Database:
    """A server as the shipped code logs in to it: the admin's accounts have rights on no database."""
    return operator(estate.plan).database(server, credential)


def by_aws(estate: Estate, credential: Credential) -> int:
    estate.outside.expire_schedule(credential.id)
    execution = estate.rotate(credential.id)
    assert execution.status == "SUCCEEDED", execution.cause
    return int(execution.output["generation"])


def by_oci(estate: Estate, function: FunctionProcess, credential: Credential) -> int:
    estate.outside.expire_schedule(credential.id)
    answer = function.call({"credential_id": credential.id, "force": True})
    assert answer.status == 200, answer.text
    [result] = answer.body["results"]
    assert result["outcome"] == "rotated", result
    return int(result["generation"])


def test_both_runners_rotate_the_admin_and_by_it_at_once(estate: Estate, function: FunctionProcess) -> None:
    dual, alternating, app, reports = estate.plan.credentials
    watch = Watch(estate)
    generations: dict[str, list[int]] = {c.id: [] for c in estate.plan.credentials}

    def together(aws: Credential, oci: Credential) -> None:
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.submit(by_aws, estate, aws), pool.submit(by_oci, estate, function, oci)
            generations[aws.id].append(first.result())
            generations[oci.id].append(second.result())

    with watch.running():
        for _ in range(2):
            together(dual, reports)
            together(app, alternating)
            together(alternating, app)
            together(reports, dual)
    assert watch.refused == []
    assert watch.logins > 40
    # The first one only serves the login of the first day under a generation.
    assert list(generations.values()) == [[1, 2, 3, 4]] * 4
    # While it is paused, others are rotated by it.
    assert command("pause", dual.id).exit_code == 0
    assert by_aws(estate, app) == 5
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
    Watch(estate).require_all()
    refused = command("retire", dual.id)
    assert "not retired: it is the rotation user's login on orders, crm" in refused.stderr


def command(*words: str, **more: Any) -> Result:  # noqa: ANN401 - its input
    return CliRunner().invoke(cli, words, **more)
