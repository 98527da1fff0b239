"""One sandbox for all tests of the deployed state machine; each test takes fresh credentials from its plan."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lockstep.audit.chain import Entry
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.aws.dynamodb_orders import DynamoDbOrders
from lockstep.cli import app
from lockstep.protocol.deadlines import LEASE
from lockstep.protocol.model import Credential, LockRecord, Login, SecretStr, Strategy
from lockstep.protocol.orders import Order
from sandbox import plans
from sandbox.emulators.aws import AwsSandbox, Execution
from sandbox.emulators.databases import (
    CertificateAuthority,
    DatabaseServer,
    MariaDbServer,
    MySqlServer,
    PostgresServer,
)
from sandbox.estate import Estate, Settings, running_estate
from sandbox.outside import Value, lets_in
from sandbox.plans import LOCK_TABLE
from sandbox.servers import set_password
from tests.support.servers import require

KINDS: Mapping[str, tuple[Strategy, tuple[str, ...]]] = {
    "mysql": (Strategy.DUAL_PASSWORD, ("crm",)),
    "dual": (Strategy.DUAL_PASSWORD, ("orders", "crm")),
    "spanning": (Strategy.ALTERNATING_USERS, ("orders", "ledger")),
    "everywhere": (Strategy.ALTERNATING_USERS, ("orders", "ledger", "crm")),
}
"""Kinds of credential: strategy and databases."""


@dataclass
class Case:
    """A credential of the world, for one test."""

    world: Estate
    credential: Credential

    def rotate(self, **more: bool) -> Execution:
        """Run an execution."""
        return self.world.rotate(self.credential.id, **more)

    def again(self, **more: bool) -> Execution:
        """Run an execution as if the interval had passed."""
        self.world.outside.expire_schedule(self.credential.id)
        return self.rotate(**more)

    def settle(self) -> None:
        """Run the activation, which serves the login of the first day under generation 1; make the next run due."""
        execution = self.rotate()
        assert execution.status == "SUCCEEDED", execution.cause
        self.world.outside.expire_schedule(self.credential.id)

    def order(self, order: Order) -> None:
        """Give an order."""
        self.world.order(self.credential, order)

    def set_password(self, database: str, password: str) -> None:
        """Change the current account's password in a database by hand, as a restored backup does."""
        login = Login(self.stored_login().username, SecretStr(password))
        set_password(self.world.servers[database], login)

    def locked_out(self) -> list[str]:
        """The databases on which the store's current value does not log in."""
        return [place.removeprefix("aws at ") for place in self.world.locked_out(self.credential)]

    def accepted(self, login: Login) -> list[str]:
        """The databases that accept a login."""
        value = Value(login.username, login.password.reveal())
        return [server.name for server in self.credential.servers if lets_in(server, value)]

    def stored_login(self) -> Login:
        """The login that the store serves."""
        login = self.world.stored_login(self.credential)
        assert login is not None
        return login

    def entries(self) -> list[Entry]:
        """The verified audit chain."""
        [found] = self.world.verify_now(self.credential)
        assert found.problems == []
        return found.entries

    def edit_secret(self, text: str) -> None:
        """Put a new current version of app_user by hand."""
        self.world.aws.client("secretsmanager").put_secret_value(
            SecretId=self.credential.secret_names.app_user, SecretString=text
        )

    def hold_lock(self, holder: str, *, for_time: timedelta = LEASE) -> None:
        """Let a run acquire the lock and die."""
        orders = DynamoDbOrders(self.world.aws.client("dynamodb"), LOCK_TABLE, self.credential.id)
        now = datetime.now(UTC)
        assert orders.hold(holder=holder, now=now, expires_at=now + for_time)

    def record(self) -> LockRecord:
        """The lock item, read as the library does."""
        return DynamoDbLock(self.world.aws.client("dynamodb"), LOCK_TABLE, self.credential.id).read()

    def set_attribute(self, name: str, value: dict[str, Any]) -> None:
        """Set an attribute of the lock item."""
        self.world.aws.client("dynamodb").update_item(
            TableName=LOCK_TABLE,
            Key={"credential_id": {"S": self.credential.id}},
            UpdateExpression="SET #name = :value",
            ExpressionAttributeNames={"#name": name},
            ExpressionAttributeValues={":value": value},
        )

    def run(self, *words: str, **more: Any) -> Result:  # noqa: ANN401 - its input
        """Run a command for this credential."""
        return lockstep(*words, self.credential.id, **more)


def lockstep(*words: str, **more: Any) -> Result:  # noqa: ANN401 - input or environment
    """Run a command; the plan is in the environment."""
    return CliRunner().invoke(app, words, **more)


def login_text(login: Login, **more: object) -> str:
    """A secret's text as an operator writes it by hand."""
    return json.dumps({"username": login.username, "password": login.password.reveal(), **more})


@pytest.fixture(scope="package")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """MariaDB, PostgreSQL and MySQL, all over verified TLS, their statements logged; a credential for each test."""
    require(MySqlServer)
    authority = CertificateAuthority(tmp_path_factory.mktemp("ca"))
    servers: dict[str, DatabaseServer] = {
        "orders": MariaDbServer(authority=authority, general_log=True),
        "ledger": PostgresServer(authority=authority, general_log=True),
        "crm": MySqlServer(authority=authority, general_log=True),
    }
    needed = Counter(name for item in request.session.items for name in getattr(item, "fixturenames", ()))
    needed["dual"] = needed["everywhere"] = needed["any_kind"]
    credentials = [
        plans.credential(f"multi-cloud/{kind}-{n}", *databases, username=f"{kind}_{n}", strategy=strategy)
        for kind, (strategy, databases) in KINDS.items()
        for n in range(needed[kind])
    ]
    folder = tmp_path_factory.mktemp("world")
    # The backoff is not under test, so a retry follows at once.
    with running_estate(
        credentials,
        servers,
        settings=Settings(clouds=("aws",)),
        folder=folder,
        aws=AwsSandbox(retry_sleep=lambda _seconds: None),
    ) as running:
        yield running


@pytest.fixture(scope="package")
def left(world: Estate) -> dict[str, Credential]:
    """The credentials that no test has taken."""
    return {c.id: c for c in world.plan.credentials}


def _of(kind: str) -> Any:  # noqa: ANN401 - a fixture
    """A fixture: a credential of a kind, which no other test has."""

    @pytest.fixture(name=kind)
    def taken(world: Estate, left: dict[str, Credential]) -> Case:
        return Case(world, left.pop(next(n for n in left if n.startswith(f"multi-cloud/{kind}-"))))

    return taken


mysql, dual, spanning, everywhere = map(_of, KINDS)


@pytest.fixture(params=["dual", "everywhere"])
def any_kind(request: pytest.FixtureRequest) -> Any:  # noqa: ANN401 - of a fixture
    """A credential of each strategy, on every server that knows it."""
    return request.getfixturevalue(request.param)
