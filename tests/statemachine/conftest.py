"""One sandbox for all tests of the deployed state machine; each test takes fresh credentials from its plan."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lockstep.audit.chain import Entry
from lockstep.aws.dynamodb_lock import FAR_FUTURE, DynamoDbLock
from lockstep.cli import app
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
from tests.support.statement_faults import FrontedMySqlServer

KINDS: Mapping[str, tuple[Strategy, tuple[str, ...]]] = {
    "mariadb": (Strategy.DUAL_PASSWORD, ("orders",)),
    "mysql": (Strategy.DUAL_PASSWORD, ("crm",)),
    "spanning": (Strategy.ALTERNATING_USERS, ("orders", "ledger")),
    "plain": (Strategy.DUAL_PASSWORD, ("crm",)),
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

    def edit_secret(self, text: str, *, secret: str | None = None) -> None:
        """Put a new current version of a secret by hand, by default of app_user."""
        self.world.aws.client("secretsmanager").put_secret_value(
            SecretId=secret or self.credential.secret_names.app_user, SecretString=text
        )

    def stored(self, secret: str) -> dict[str, object]:
        """What one of the two secrets holds."""
        reply = self.world.aws.client("secretsmanager").get_secret_value(SecretId=secret)
        found: dict[str, object] = json.loads(reply["SecretString"])
        return found

    def hold_lock(self, holder: str, *, expires_at: int = FAR_FUTURE) -> None:
        """Let a run acquire the lock and die."""
        self.world.aws.client("dynamodb").update_item(
            TableName=LOCK_TABLE,
            Key={"credential_id": {"S": self.credential.id}},
            UpdateExpression="SET holder = :holder, expires_at = :at ADD fence :one",
            ExpressionAttributeValues={
                ":holder": {"S": holder},
                ":at": {"N": str(expires_at)},
                ":one": {"N": "1"},
            },
        )

    @property
    def lock(self) -> dict[str, object]:
        """The lock item without the types of its values."""
        item = self.world.outside.lock_item(self.credential.id)
        return {name: next(iter(value.values())) for name, value in item.items()}

    def record(self) -> LockRecord:
        """The same, read as the library does."""
        return DynamoDbLock(self.world.aws.client("dynamodb"), LOCK_TABLE, self.credential.id).read()

    def recorded(self) -> list[dict[str, Any]]:
        """What the verified chain says of orders."""
        found = [e.event["unmapped"]["lockstep"] for e in self.entries()]
        return [details for details in found if "order" in details]

    def forced(self) -> Result:
        """Rotate by hand, as the commands say."""
        return lockstep(
            "rotate",
            self.credential.id,
            "--force",
            env={"LOCKSTEP_STATE_MACHINE_ARN": self.world.machine_arn},
        )


def lockstep(*words: str, **more: Any) -> Result:  # noqa: ANN401 - input or environment
    """Run a command; the plan is in the environment."""
    return CliRunner().invoke(app, words, **more)


def failure_names(entries: list[Entry]) -> list[str | None]:
    """For each entry the error that it records; None for a success."""
    return [e.event.get("status_code") for e in entries]


def login_text(login: Login, **more: object) -> str:
    """A secret's text as an operator writes it by hand."""
    return json.dumps({"username": login.username, "password": login.password.reveal(), **more})


@pytest.fixture(scope="package")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    """The plan's certificate authority."""
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="package")
def world(
    request: pytest.FixtureRequest, authority: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Estate]:
    """MariaDB, PostgreSQL and MySQL, all over verified TLS, their statements logged; a credential for each test."""
    require(MySqlServer)
    mysql = FrontedMySqlServer(authority=authority, certificate=authority.issue(), general_log=True)
    servers: dict[str, DatabaseServer] = {
        "orders": MariaDbServer(authority=authority, general_log=True),
        "ledger": PostgresServer(authority=authority, general_log=True),
        "crm": mysql,
    }
    needed = Counter(kind for item in request.session.items for kind in _needs(item))
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


def _needs(item: pytest.Item) -> set[str]:
    """The kinds of credential that a test takes."""
    names = set(getattr(item, "fixturenames", ()))
    if "any_kind" in names:
        names.add(item.callspec.params["any_kind"])  # type: ignore[attr-defined]  # a function's
    return names & KINDS.keys()


class _Supply:
    def __init__(self, world: Estate) -> None:
        self._world = world
        self._left = {c.id: c for c in world.plan.credentials}

    def take(self, kind: str) -> Case:
        name = next(n for n in self._left if n.startswith(f"multi-cloud/{kind}-"))
        return Case(self._world, self._left.pop(name))


@pytest.fixture(scope="package")
def supply(world: Estate) -> _Supply:
    """Hands out each credential once."""
    return _Supply(world)


def _of(kind: str) -> Any:  # noqa: ANN401 - a fixture
    """A fixture: a credential of a kind, which no other test has."""

    @pytest.fixture(name=kind)
    def taken(supply: _Supply) -> Case:
        return supply.take(kind)

    return taken


mariadb, mysql, spanning, plain, everywhere = map(_of, KINDS)


@pytest.fixture(params=["mariadb", "mysql", "spanning", "everywhere"])
def any_kind(request: pytest.FixtureRequest, supply: _Supply) -> Case:
    """A credential of each kind in turn."""
    return supply.take(request.param)
