"""What a DBA does to accounts behind Lockstep's back, on real servers: the next run ends it, or says what ends it.

Stores serve a login that works after one run, wherever one of ours works (protocol I13); else the run names what is
wrong, and changes nothing. MariaDB locks an account after two refusals in a row, MySQL after three.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

import pytest

from lockstep.databases.base import quoted
from lockstep.protocol import errors
from lockstep.protocol.model import ClaimKind, Engine
from tests.contract import database_harness as db
from tests.support.world import orders, rotate_again

pytest_plugins = ["tests.contract.database_harness"]

NEW, RECONCILE = ClaimKind.NEW, ClaimKind.RECONCILE
REFUSED, MISSING, LOCKED, DENIED = (
    errors.CurrentCredentialRejectedError,
    errors.AccountMissingError,
    errors.AccountLockedError,
    errors.AccountDeniedError,
)
LIMIT, READ_ONLY, NO_RIGHT = (
    errors.AccountSetupError,
    errors.DatabaseReadOnlyError,
    errors.PrivilegeMissingError,
)
MYSQL_DUAL, MARIADB_DUAL, POSTGRESQL = ("mysql-dual",), ("mariadb-dual",), ("postgresql",)
DUAL, ALTERNATING = ("mysql-dual", "mariadb-dual"), ("mysql-alternating", "mariadb-alternating")


def applications_are_refused(world: db.Life) -> None:
    """So often that the server locks the account."""
    for _ in range(3):
        with suppress(errors.AccountLockedError):
            assert not world.harness.open().accepts(world.served()[0])


class Change(NamedTuple):
    """Something that a DBA does after some rotations.

    In the statements stand names of `words`: {current} and {other} for the accounts, {p1} to {p3} for the passwords of
    generations.

    Attributes:
        name: What it is.
        does: The statements, with semicolons between them.
        holds: What the next run is, or the error that it ends with.
        then: The error that the rotation after it ends with, for what no run can repair.
        ends: The statements that end it. None: no run needs any, or an order to take the account over does.
        act: What applications do then.
    """

    name: str
    does: str
    holds: ClaimKind | type[errors.LockstepError]
    then: type[errors.LockstepError] | None = None
    ends: str = ""
    act: Callable[[db.Life], None] = lambda _: None


# {alter} and {alter_other} begin a change of the two accounts.
RETAIN, SET = "RETAIN CURRENT PASSWORD", "{alter} IDENTIFIED BY 'theirs'"
LOCK, UNLOCK = "{alter} ACCOUNT LOCK", "{alter} ACCOUNT UNLOCK"
WIPE = "{alter} ATTRIBUTE '{{\"lockstep\": null}}'"
UNLOCK_BOTH = f"{UNLOCK}; {{alter_other}} ACCOUNT UNLOCK"
DROP, MAKE = "DROP USER {current}", "CREATE USER {current} IDENTIFIED BY 'theirs'"
GRANT, REVOKE = "GRANT SELECT ON {db}.* TO {current}", "REVOKE ALL PRIVILEGES, GRANT OPTION FROM {current}"
SHA256 = "{alter} IDENTIFIED WITH sha256_password BY 'theirs'"
ED25519 = "INSTALL SONAME 'auth_ed25519'; {alter} IDENTIFIED VIA ed25519 USING PASSWORD({p3})"
NO_ED25519 = "{alter} IDENTIFIED BY {p3}; UNINSTALL SONAME 'auth_ed25519'"
CHECK, LAX = "SONAME 'simple_password_check'", "SET GLOBAL strict_password_validation"
TWO_ERRORS, STRICT = "SET GLOBAL max_password_errors = 2", "'file://component_validate_password'"
PER_HOUR, CONNECTIONS = "{alter} WITH MAX_CONNECTIONS_PER_HOUR", "{alter} CONNECTION LIMIT"
ROTATOR, RIGHT = "ALTER USER {rotator} ACCOUNT", "GRANT CREATE USER ON *.* TO {rotator}"
PG_SET, UNTIL, PG_RENAME = "{alter} PASSWORD 'theirs'", "{alter} VALID UNTIL", "{alter} RENAME TO {new}"
PG_ROTATOR, PG_READ_ONLY = "ALTER ROLE {rotator}", "default_transaction_read_only"
# What a fail-over leaves that has lost the last change.
LOSE = "{alter} IDENTIFIED BY {p1}"
LOSE_MYSQL = (
    f"{LOSE}; {{alter}} IDENTIFIED BY {{p2}} {RETAIN} "
    'ATTRIBUTE \'{{"lockstep": {{"primary": 2, "secondary": 1}}}}\''
)
NATIVE = "mysql_native_password USING PASSWORD"
LOSE_MARIADB = f"{{alter}} IDENTIFIED VIA {NATIVE}({{p2}}) OR {NATIVE}({{p1}})"

CHANGES: Mapping[tuple[str, ...], Sequence[Change]] = {
    db.MARIADB: (
        Change("limit of 1", "SET GLOBAL max_password_errors = 1", LIMIT, ends=TWO_ERRORS),
        Change("read-only", "SET GLOBAL read_only = 1", READ_ONLY, ends="SET GLOBAL read_only = 0"),
        # With a validation plugin the server takes no verifiers, unless what is on by default is off.
        Change("validation", f"INSTALL {CHECK}", LIMIT, ends=f"UNINSTALL {CHECK}"),
        Change("no strict one", f"{LAX} = 0; INSTALL {CHECK}", NEW, ends=f"{LAX} = 1; UNINSTALL {CHECK}"),
    ),
    MYSQL_DUAL: (
        Change("set with RETAIN", f"{SET} {RETAIN}", NEW),
        Change("the second one discarded", "{alter} DISCARD OLD PASSWORD", NEW),
        Change("ATTRIBUTE wiped", WIPE, NEW),
        Change("plugin", "{alter} IDENTIFIED WITH sha256_password BY {p3}", NEW),
        Change("set", SET, RECONCILE),
        Change("set twice", f"{SET} {RETAIN}; {SET} {RETAIN}", REFUSED, ends=UNLOCK),
        Change("dropped", DROP, REFUSED, ends=f"{MAKE}; {GRANT}"),
        Change("lost", LOSE_MYSQL, errors.AccountLockedError, ends=UNLOCK, act=applications_are_refused),
    ),
    MARIADB_DUAL: (
        Change("set", SET, REFUSED),
        Change("set to what is served", "{alter} IDENTIFIED BY {p3}", NEW),
        Change("ed25519", ED25519, errors.UnsupportedServerError, ends=NO_ED25519),
        Change("dropped", DROP, MISSING, ends=f"{MAKE}; {GRANT}"),
        Change("lost", LOSE_MARIADB, RECONCILE, act=applications_are_refused),
    ),
    DUAL: (
        Change("made again", f"{DROP}; {MAKE}; {GRANT}", REFUSED),
        Change("locked", LOCK, LOCKED, ends=UNLOCK),
        Change("expired", "{alter} PASSWORD EXPIRE", errors.AccountExpiredError),
    ),
    ALTERNATING: (
        Change("set", SET, RECONCILE),
        Change("the other one set", "{alter_other} IDENTIFIED BY 'x'", NEW),
        Change("both set", f"{SET}; {{alter_other}} IDENTIFIED BY 'x'", REFUSED, ends=UNLOCK_BOTH),
        Change("locked", LOCK, RECONCILE, LOCKED, UNLOCK),
        Change("the other one locked", "{alter_other} ACCOUNT LOCK", LOCKED, ends=UNLOCK_BOTH),
        Change("dropped", DROP, RECONCILE, MISSING, f"{MAKE}; {GRANT}"),
        Change("rights taken", REVOKE, RECONCILE, DENIED, GRANT),
    ),
    ("mysql-alternating",): (
        Change("plugin and set", SHA256, RECONCILE),
        Change("lost", LOSE, RECONCILE, errors.AccountLockedError, UNLOCK, applications_are_refused),
    ),
    ("mariadb-alternating",): (
        Change("ed25519", ED25519, RECONCILE, ends="UNINSTALL SONAME 'auth_ed25519'"),
        Change("lost", LOSE, RECONCILE, act=applications_are_refused),
    ),
    db.MYSQL: (
        Change(
            "limit of 1", "{alter} FAILED_LOGIN_ATTEMPTS 1", LIMIT, ends="{alter} FAILED_LOGIN_ATTEMPTS 3"
        ),
        Change("history", "{alter_other} PASSWORD HISTORY 5 PASSWORD REUSE INTERVAL 365 DAY", NEW),
        Change("strict", f"INSTALL COMPONENT {STRICT}", NEW, ends=f"UNINSTALL COMPONENT {STRICT}"),
        Change("read-only", "SET GLOBAL super_read_only = 1", READ_ONLY, ends="SET GLOBAL read_only = 0"),
    ),
    db.FAMILY: (
        Change("one connection", "{alter} WITH MAX_USER_CONNECTIONS 1", NEW),
        Change("none left", f"{PER_HOUR} 1", errors.DatabaseBusyError, ends=f"{PER_HOUR} 0"),
        Change("privilege taken", "REVOKE CREATE USER ON *.* FROM {rotator}", NO_RIGHT, ends=RIGHT),
        Change(
            "rotation user locked",
            f"{ROTATOR} LOCK",
            errors.AdminCredentialRejectedError,
            ends=f"{ROTATOR} UNLOCK",
        ),
    ),
    POSTGRESQL: (
        Change("set", PG_SET, RECONCILE),
        Change("the other one set", "{alter_other} PASSWORD 'x'", NEW),
        Change("both set", f"{PG_SET}; {{alter_other}} PASSWORD 'x'", REFUSED),
        Change("md5", f"SET password_encryption = md5; {PG_SET}", RECONCILE),
        Change(
            "expired", f"{UNTIL} '2000-01-01'", RECONCILE, errors.AccountExpiredError, f"{UNTIL} 'infinity'"
        ),
        Change("NOLOGIN", "{alter} NOLOGIN", RECONCILE, LOCKED, "{alter} LOGIN"),
        Change("the other one NOLOGIN", "{alter_other} NOLOGIN", LOCKED, ends="{alter_other} LOGIN"),
        Change("none left", f"{CONNECTIONS} 0", errors.DatabaseBusyError, ends=f"{CONNECTIONS} -1"),
        Change("renamed", PG_RENAME, RECONCILE, MISSING, "ALTER ROLE {new} RENAME TO {current}"),
        Change("owner role taken", "{alter} RESET role", RECONCILE),
        Change("the other's owner role taken", "{alter_other} RESET role", NEW),
        Change(
            "owner role taken in the database",
            "{alter} IN DATABASE {db} SET role TO none",
            RECONCILE,
            DENIED,
            "{alter} IN DATABASE {db} RESET role",
        ),
        Change("both owner roles taken", "{alter} RESET role; {alter_other} RESET role", DENIED),
        Change("no member", "REVOKE {owner} FROM {current}", RECONCILE, DENIED, "GRANT {owner} TO {current}"),
        Change(
            "read-only", f"{PG_ROTATOR} SET {PG_READ_ONLY} = on", READ_ONLY, ends=f"{PG_ROTATOR} RESET ALL"
        ),
        Change(
            "rotation user locked",
            f"{PG_ROTATOR} NOLOGIN",
            errors.AdminCredentialRejectedError,
            ends=f"{PG_ROTATOR} LOGIN",
        ),
        Change("privilege taken", f"{PG_ROTATOR} NOCREATEROLE", NO_RIGHT, ends=f"{PG_ROTATOR} CREATEROLE"),
    ),
}


def words(harness: db.SqlHarness, world: db.Life) -> Mapping[str, str]:
    """What stands in the statements."""
    current = world.served()[0].username
    other = next((u for u in harness.credential.usernames if u != current), current)
    values = [world.memory.stores["aws"].read_generation(n) for n in range(1, db.STEADY + 1)]
    passwords = {f"p{v.generation}": quoted(v.login.password.reveal()) for v in values if v}
    of_current, of_other = harness.names(current), harness.names(other)
    return {
        **of_current,
        **passwords,
        "current": of_current["account"],
        "alter_other": of_other["alter"],
        "new": harness.names(f"{current}_new")["account"],
    }


ROWS = [
    pytest.param(name, change, id=f"{name}: {change.name}")
    for names, changes in CHANGES.items()
    for change in changes
    for name in names
]


@pytest.mark.parametrize(("world", "change"), ROWS, indirect=["world"])
def test_the_next_run_ends_it_or_says_what_does(world: db.SqlHarness, change: Change) -> None:
    with world.limited(3 if world.engine is Engine.MYSQL else 2):
        life = db.Life(world)
        spelled, served = words(world, life), life.served()
        with life.failed_over(world.server.port):  # to itself: refusals are counted from here on
            with ExitStack() as ended:
                ended.callback(world.run, change.ends, **spelled)
                world.run(change.does, **spelled)
                change.act(life)
                if isinstance(change.holds, ClaimKind):
                    assert life.run() is change.holds
                    life.assert_cured()
                else:
                    with db.fails(change.holds):
                        life.run()
                    assert life.served() == served
                if change.holds is not MISSING:
                    assert life.refusals.most <= (db.MAX_REFUSALS if change.holds is REFUSED else 1)
                if change.then:
                    with db.fails(change.then):
                        rotate_again(life.memory, "again")
            if not isinstance(change.holds, ClaimKind):
                orders(life.memory, take_over=frozenset({"main"}))
            rotate_again(life.memory, "ended")
            life.refusals.most = 0
            life.assert_goes_on()
