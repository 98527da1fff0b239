"""The rotation user's own login as a credential of the plan, on real servers (protocol D22)."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pg8000.native  # type: ignore[import-untyped]  # it ships no types

from lockstep.operate.plan_sql.scripts import provisioning
from lockstep.plan.file import parse_plan
from lockstep.plan.model import Plan
from lockstep.protocol.deadlines import DatabaseTimeouts as Timeouts
from lockstep.protocol.deadlines import DeadlineGuard, always
from lockstep.protocol.errors import AdminCredentialRejectedError, DeadlineExceededError
from lockstep.protocol.model import Credential, CredentialValue, Login, SecretStr
from lockstep.protocol.ports import Database
from lockstep.runtime.clouds import open_database
from sandbox import plans
from sandbox.servers import verifier_statement
from tests.contract.database_harness import (
    DATABASE,
    POSTGRESQL,
    Harness,
    SqlHarness,
    enter,
    every_server,
    fails,
    worlds,
)
from tests.support.app_sessions import connect

pytest_plugins = ["tests.contract.database_fixtures"]

_numbers = count(1)


@dataclass
class Rotated(Harness):
    """A credential, and what a store serves of it."""

    world: SqlHarness
    plan: Plan
    credential: Credential
    current: CredentialValue

    def next(self) -> CredentialValue:
        generation, usernames = self.current.generation + 1, self.credential.usernames
        login = Login(usernames[generation % len(usernames)], SecretStr(os.urandom(16).hex()))
        return CredentialValue(generation, login)

    def opened(self, admin: "Rotated", deadline_guard: DeadlineGuard = always) -> Database:
        """As a runner opens it that reads the admin's login from a store."""
        [server] = self.plan.databases
        return open_database(
            server,
            self.credential,
            lambda: admin.current.login,
            timeouts=Timeouts(lock_seconds=1),
            deadline_guard=deadline_guard,
        )

    def rotate(self, admin: "Rotated") -> CredentialValue:
        """A rotation of one database: stage, prove, promote; what was before."""
        pending, before = self.next(), self.current
        self.stage(before, pending, self.opened(admin))
        self.require(pending, before)
        self.current = pending
        return before

    def require(self, *values: CredentialValue) -> None:
        database = self.opened(self)
        assert all(database.accepts(value.login) for value in values)


def estate(world: SqlHarness) -> tuple[Rotated, Rotated]:
    """The rotation user's credential, and an application's, on a server where a DBA has run both scripts."""
    number, strategy = next(_numbers), world.kind.strategy
    database = plans.database(
        "main",
        world.engine,
        host="localhost",
        port=world.sandbox.port,
        tls=None if world.kind.plaintext else str(world.sandbox.ca_file),
        dbname=DATABASE,
        admin_secret=None,
        admin_credential=f"lockstep/rotator{number}",
    )
    credentials = [
        plans.credential(f"lockstep/rotator{number}", "main", username=f"rot{number}", strategy=strategy),
        plans.credential(f"shop/app{number}", "main", username=f"app{number}", strategy=strategy),
    ]
    plan = parse_plan(json.dumps(plans.plan_document([database], credentials)), base=Path())
    found = []
    for credential in plan.credentials:
        made = provisioning(plan, credential, plan.databases[0])
        login = Login(credential.usernames[0], SecretStr(os.urandom(16).hex()))
        world.execute(*made.statements, *made.statements, verifier_statement(world.engine, login))
        found.append(Rotated(world, plan, credential, CredentialValue(0, login)))
    admin, app = found
    return admin, app


@every_server
def test_the_admin_rotates_itself_and_others_and_what_it_was_can_be_ended(
    world: SqlHarness,
) -> None:
    admin, app = estate(world)
    for _ in range(3):
        before = admin.rotate(admin)
        # A run that has read the admin's login before the promotion still uses it.
        late = replace(admin, current=before)
        app.stage(app.current, app.next(), app.opened(late))
        app.rotate(admin)
        admin.require(before, admin.current)
        database = admin.opened(admin)
        with database.exclusive() as stager:
            stager.retire(drop=before, keep=admin.current)
            assert [database.accepts(v.login) for v in (before, admin.current)] == [False, True]
        with fails(AdminCredentialRejectedError):
            enter(app.opened(late))
        app.rotate(admin)


@every_server
def test_a_crash_before_any_statement_never_locks_the_admin_out(world: SqlHarness) -> None:
    """Every send of a staging is the last one of a run; what the stores serve works, and the next run finishes."""
    admin, app = estate(world)
    crashes = 0
    for permitted in count():
        pending = admin.next()
        sends = iter(range(permitted))

        def send(left: Iterator[int] = sends) -> None:
            if next(left, None) is None:
                raise DeadlineExceededError

        try:
            admin.stage(admin.current, pending, admin.opened(admin, send))
        except DeadlineExceededError:
            crashes += 1
            admin.require(admin.current)
            app.rotate(admin)
            admin.stage(admin.current, pending, admin.opened(admin))
        else:
            break
        admin.require(admin.current, pending)
        admin.current = pending
        app.rotate(admin)
    assert crashes >= 3


@worlds(*POSTGRESQL)
def test_the_function_changes_the_admin_s_own_roles_alone(world: SqlHarness) -> None:
    admin, app = estate(world)
    first, second = admin.credential.usernames
    verifier = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"

    def refused(login: Login, role: str, text: str) -> bool:
        with closing(connect(world.sandbox, login, DATABASE, "admin")) as connection:
            try:
                connection.run(f"SELECT \"{admin.credential.owner}\".change_own('{role}', '{text}')")
            except pg8000.native.DatabaseError as e:
                code = e.args[0]["C"]
            else:
                return False
        assert code == "42501"
        return True

    for role in ("postgres", app.credential.usernames[0], admin.credential.owner):
        assert refused(admin.current.login, role or "", verifier)
    assert refused(admin.current.login, second, "a password in clear text")
    assert refused(app.current.login, first, verifier)
    assert not refused(admin.current.login, second, verifier)
