"""The rotation user's own login as a credential of the plan, on real servers (protocol D22)."""

import json
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pg8000.native  # type: ignore[import-untyped]  # it ships no types
import pytest

from lockstep.operate.plan_sql.scripts import provisioning
from lockstep.plan.file import parse_plan
from lockstep.plan.model import Plan
from lockstep.protocol.deadlines import DeadlineGuard, always
from lockstep.protocol.errors import AdminCredentialRejectedError, DeadlineExceededError
from lockstep.protocol.model import Credential, CredentialValue, DatabaseServer, Login, SecretStr
from lockstep.protocol.ports import Database
from lockstep.runtime.databases import open_database
from sandbox import plans
from sandbox.servers import verifier_statement
from tests.contract.database_harness import DATABASE, SQL_WORLDS, SqlHarness, fails

pytest_plugins = ["tests.contract.database_fixtures"]
every_server = pytest.mark.parametrize("world", [*SQL_WORLDS], indirect=True)
postgresql = pytest.mark.parametrize("world", ["postgresql", "postgresql-18-plaintext"], indirect=True)

_numbers = count(1)


@dataclass
class Rotated:
    """A credential, and what a store serves of it."""

    world: SqlHarness
    plan: Plan
    credential: Credential
    current: CredentialValue

    @property
    def server(self) -> DatabaseServer:
        [server] = self.plan.databases
        return server

    def value(self, generation: int) -> CredentialValue:
        usernames = self.credential.usernames
        login = Login(usernames[generation % len(usernames)], SecretStr(os.urandom(16).hex()))
        return CredentialValue(generation, login)

    def opened(self, admin: "Rotated", deadline_guard: DeadlineGuard = always) -> Database:
        """As a runner opens it that reads the admin's login from a store."""
        return open_database(
            self.server,
            self.credential,
            lambda: admin.current.login,
            timeouts=self.world.database.timeouts,  # type: ignore[attr-defined]  # of every real one
            deadline_guard=deadline_guard,
        )

    def stage(
        self, admin: "Rotated", pending: CredentialValue, deadline_guard: DeadlineGuard = always
    ) -> None:
        with self.opened(admin, deadline_guard).exclusive() as stager:
            stager.stage(current=self.current, pending=pending)

    def rotate(self, admin: "Rotated") -> CredentialValue:
        """A rotation of one database: stage, prove, promote; what was before."""
        pending, before = self.value(self.current.generation + 1), self.current
        self.stage(admin, pending)
        self.require(pending, before)
        self.current = pending
        return before

    def require(self, *values: CredentialValue) -> None:
        database = self.opened(self)
        assert all(database.accepts(value.login) for value in values)


def estate(world: SqlHarness) -> tuple[Rotated, Rotated]:
    """The rotation user's credential, and an application's, on a server where a DBA has run both scripts."""
    number = next(_numbers)
    strategy = world.credential.strategy
    tls = None if world.plaintext else str(world.sandbox.ca_file)
    database = plans.database(
        "main",
        world.engine,
        host="localhost",
        port=world.sandbox.port,
        tls=tls,
        dbname=DATABASE,
        admin_secret=None,
        admin_credential=f"lockstep/rotator{number}",
    )
    document = plans.plan_document(
        [database],
        [
            plans.credential(f"lockstep/rotator{number}", "main", username=f"rot{number}", strategy=strategy),
            plans.credential(f"shop/app{number}", "main", username=f"app{number}", strategy=strategy),
        ],
    )
    plan = parse_plan(json.dumps(document), base=Path())
    found = []
    for credential in plan.credentials:
        made = provisioning(plan, credential, plan.databases[0])
        for _ in range(2):
            world.execute(*made.statements)
        first = Rotated(
            world, plan, credential, CredentialValue(0, Login(credential.usernames[0], SecretStr("x")))
        )
        first.current = first.value(0)
        login = first.current.login
        world.execute(verifier_statement(plan.databases[0].engine, login))
        found.append(first)
    admin, app = found
    return admin, app


@every_server
def test_the_admin_rotates_itself_and_others_meanwhile(world: SqlHarness) -> None:
    admin, app = estate(world)
    for _ in range(3):
        before = admin.rotate(admin)
        # A run that has read the admin's login before the promotion still uses it.
        late = replace(admin, current=before)
        app.stage(late, app.value(app.current.generation + 1))
        app.rotate(admin)
        admin.require(before, admin.current)


@every_server
def test_what_the_admin_was_before_can_be_ended_by_what_it_is(world: SqlHarness) -> None:
    admin, app = estate(world)
    for _ in range(3):
        before = admin.rotate(admin)
        database = admin.opened(admin)
        with database.exclusive() as stager:
            stager.retire(drop=before, keep=admin.current)
            assert not database.accepts(before.login)
            assert database.accepts(admin.current.login)
        with fails(AdminCredentialRejectedError), app.opened(replace(admin, current=before)).exclusive():
            pass
        app.rotate(admin)


@every_server
def test_a_crash_before_any_statement_never_locks_the_admin_out(world: SqlHarness) -> None:
    """Every send of a staging is the last one of a run; what the stores serve works, and the next run finishes."""
    admin, app = estate(world)
    crashes = 0
    for permitted in count():
        pending = admin.value(admin.current.generation + 1)
        sends = Sends(permitted)
        try:
            admin.stage(admin, pending, sends)
        except DeadlineExceededError:
            crashes += 1
            admin.require(admin.current)
            app.rotate(admin)
            admin.stage(admin, pending)
        admin.require(admin.current, pending)
        admin.current = pending
        app.rotate(admin)
        if not sends.ended:
            break
    assert crashes >= 3


@dataclass
class Sends:
    """A `DeadlineGuard` of a process that dies after some sends."""

    permitted: int
    ended: bool = False

    def __call__(self) -> None:
        self.permitted -= 1
        if self.permitted < 0:
            self.ended = True
            raise DeadlineExceededError


@postgresql
def test_the_function_changes_the_admin_s_own_roles_alone(world: SqlHarness) -> None:
    admin, app = estate(world)
    first, second = admin.credential.usernames
    function = f'"{admin.credential.owner}".change_own'
    verifier = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"

    def refused(login: Login, *arguments: str) -> bool:
        with_tls = {} if world.plaintext else {"ssl_context": admin.opened(admin).tls}  # type: ignore[attr-defined]  # of every real one
        connection = pg8000.native.Connection(
            login.username,
            host="localhost",
            port=world.sandbox.port,
            database=DATABASE,
            password=login.password.reveal(),
            **with_tls,
        )
        code = ""
        with closing(connection):
            try:
                connection.run(f"SELECT {function}({', '.join(_quoted(arguments))})")
            except pg8000.native.DatabaseError as e:
                code = e.args[0]["C"]
        assert code in ("", "42501")
        return code != ""

    for role in ("postgres", app.credential.usernames[0], admin.credential.owner):
        assert refused(admin.current.login, role, verifier)
    assert refused(admin.current.login, second, "a password in clear text")
    assert refused(app.current.login, first, verifier)
    assert not refused(admin.current.login, second, verifier)


def _quoted(texts: Sequence[str]) -> list[str]:
    return [f"'{text}'" for text in texts]
