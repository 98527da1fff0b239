"""The client for applications: its cache, its sources, and what it does when a login is refused."""

import ast
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pymysql
import pytest

from lockstep import client as client_module
from lockstep.client import (
    RETRY_SECONDS,
    ClientCredential,
    CredentialClient,
    decode,
    sqlalchemy_creator,
)
from lockstep.engines import is_mysql_refusal, is_postgresql_refusal
from lockstep.errors import (
    LockstepError,
    NotBootstrappedError,
    SecretMalformedError,
    StoreAccessDeniedError,
    StoreThrottledError,
    StoreUnreachableError,
)
from lockstep.model import SecretStr
from tests.support.memory import FakeClock

MAX_AGE_SECONDS = 300.0


class Store:
    """A store that serves a generation, or fails."""

    def __init__(self, generation: int = 1) -> None:
        self.generation = generation
        self.trouble: LockstepError | None = None
        self.reads = 0

    def __call__(self) -> ClientCredential:
        self.reads += 1
        if self.trouble:
            raise self.trouble
        return value(self.generation)


class RefusedError(Exception):
    pass


class Database:
    """A database that accepts some generations."""

    def __init__(self, *accepted: int) -> None:
        self.accepted = set(accepted)
        self.tried: list[int] = []

    def connect(self, credential: ClientCredential) -> str:
        self.tried.append(credential.generation)
        if credential.generation not in self.accepted:
            raise RefusedError(credential.generation)
        return f"connection with generation {credential.generation}"


def value(generation: int) -> ClientCredential:
    return ClientCredential(
        username="app", password=SecretStr(f"password {generation}"), generation=generation
    )


def is_refusal(error: Exception) -> bool:
    return isinstance(error, RefusedError)


def client_of(*stores: Store, clock: FakeClock | None = None) -> CredentialClient:
    monotonic = (clock or FakeClock()).monotonic
    return CredentialClient(stores, max_age_seconds=MAX_AGE_SECONDS, monotonic=monotonic)


# The cache


def test_a_value_is_cached_until_its_maximum_age() -> None:
    store, clock = Store(), FakeClock()
    client = client_of(store, clock=clock)
    assert client.get().generation == 1
    store.generation = 2
    clock.sleep(MAX_AGE_SECONDS - 0.001)
    assert (client.get().generation, store.reads) == (1, 1)
    clock.sleep(0.001)
    assert (client.get().generation, store.reads) == (2, 2)
    assert (client.get().generation, store.reads) == (2, 2)


def test_a_maximum_age_of_zero_reads_each_time() -> None:
    store = Store()
    client = CredentialClient([store], max_age_seconds=0)
    assert [client.get().generation for _ in range(3)] == [1, 1, 1]
    assert store.reads == 3


def test_a_client_needs_a_source() -> None:
    with pytest.raises(ValueError, match="at least one"):
        CredentialClient([])


# The sources


@pytest.mark.parametrize(
    "trouble", [StoreUnreachableError(), StoreAccessDeniedError(), SecretMalformedError()]
)
def test_the_second_source_is_read_if_the_first_fails(trouble: LockstepError) -> None:
    near, far = Store(1), Store(2)
    near.trouble = trouble
    assert client_of(near, far).get().generation == 2
    assert (near.reads, far.reads) == (1, 1)


def test_the_second_source_is_not_read_while_the_first_answers() -> None:
    near, far = Store(1), Store(2)
    assert client_of(near, far).get().generation == 1
    assert far.reads == 0


def test_the_first_source_is_read_again_once_the_value_is_old() -> None:
    near, far, clock = Store(1), Store(2), FakeClock()
    client = client_of(near, far, clock=clock)
    near.trouble = StoreUnreachableError()
    assert client.get().generation == 2
    near.trouble = None
    clock.sleep(MAX_AGE_SECONDS)
    assert client.get().generation == 1


@pytest.mark.parametrize("trouble", [StoreThrottledError(), StoreAccessDeniedError(), SecretMalformedError()])
def test_an_old_value_is_used_if_every_source_fails(trouble: LockstepError) -> None:
    store, clock = Store(), FakeClock()
    client = client_of(store, clock=clock)
    client.get()
    store.trouble = trouble
    clock.sleep(100 * MAX_AGE_SECONDS)
    assert client.get().generation == 1


def test_failing_sources_are_not_read_on_every_call() -> None:
    store, clock = Store(), FakeClock()
    client = client_of(store, clock=clock)
    client.get()
    store.trouble = StoreUnreachableError()
    clock.sleep(MAX_AGE_SECONDS)
    for _ in range(50):
        client.get()
    assert store.reads == 2
    store.trouble, store.generation = None, 2
    clock.sleep(RETRY_SECONDS)
    assert client.get().generation == 2


def test_without_a_cached_value_the_last_sources_error_is_raised() -> None:
    near, far = Store(), Store()
    near.trouble, far.trouble = StoreUnreachableError(), StoreAccessDeniedError()
    client = client_of(near, far)
    with pytest.raises(StoreAccessDeniedError):
        client.get()
    far.trouble = None
    assert client.get().generation == 1


# Refused logins


def test_a_refused_login_is_retried_once_with_a_fresh_value() -> None:
    store, database = Store(1), Database(2)
    client = client_of(store)
    client.get()
    store.generation = 2
    assert client.login(database.connect, is_refusal) == "connection with generation 2"
    assert database.tried == [1, 2]
    assert client.login(database.connect, is_refusal) == "connection with generation 2"
    assert (database.tried, store.reads) == ([1, 2, 2], 2)


def test_a_second_refusal_is_raised() -> None:
    store, database = Store(1), Database(3)
    client = client_of(store)
    client.get()
    store.generation = 2
    with pytest.raises(RefusedError):
        client.login(database.connect, is_refusal)
    assert (database.tried, store.reads) == ([1, 2], 2)


def test_an_unchanged_value_is_not_tried_again() -> None:
    store, database = Store(1), Database()
    with pytest.raises(RefusedError):
        client_of(store).login(database.connect, is_refusal)
    assert (database.tried, store.reads) == ([1], 2)


def test_a_failure_that_is_not_a_refusal_reads_nothing() -> None:
    store = Store()

    def broken(_credential: ClientCredential) -> str:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        client_of(store).login(broken, is_refusal)
    assert store.reads == 1


def test_a_refusal_is_raised_if_no_source_answers_afterwards() -> None:
    store, database = Store(1), Database(2)
    client = client_of(store)
    client.get()
    store.trouble = StoreUnreachableError()
    with pytest.raises(RefusedError) as caught:
        client.login(database.connect, is_refusal)
    assert caught.value.__cause__ is store.trouble


def test_sqlalchemys_creator_uses_the_client_for_each_connection() -> None:
    store, database = Store(1), Database(1, 2)
    client = client_of(store)

    def connect(client: CredentialClient, *, database: Database) -> str:
        return client.login(database.connect, is_refusal)

    creator = sqlalchemy_creator(client, connect, database=database)
    first = creator()
    store.generation = 2
    client.refresh(value(1))
    assert [first, creator()] == [f"connection with generation {n}" for n in (1, 2)]


# Threads


def at_once(work: Callable[[], str], *, threads: int = 16) -> Sequence[str]:
    start = threading.Barrier(threads)

    def begin() -> str:
        start.wait(timeout=10)
        return work()

    with ThreadPoolExecutor(threads) as pool:
        return [f.result(timeout=10) for f in [pool.submit(begin) for _ in range(threads)]]


def test_many_threads_read_once() -> None:
    store = Store()
    client = client_of(store)
    assert set(at_once(lambda: str(client.get().generation))) == {"1"}
    assert store.reads == 1


def test_many_refused_threads_read_a_fresh_value_once() -> None:
    store, database = Store(1), Database(2)
    client = client_of(store)
    client.get()
    store.generation = 2
    logged_in = at_once(lambda: client.login(database.connect, is_refusal))
    assert set(logged_in) == {"connection with generation 2"}
    assert store.reads == 2


# Which errors are refusals

REFUSALS = {
    "1045": (pymysql.OperationalError(1045, "Access denied for user 'app'@'h' (using password: YES)"), True),
    "unknown database": (pymysql.OperationalError(1049, "Unknown database 'app'"), False),
    "unreachable": (pymysql.OperationalError(2003, "Can't connect to MySQL server"), False),
    "too many connections": (pymysql.OperationalError(1040, "Too many connections"), False),
    "locked": (pymysql.OperationalError(3118, "Account is locked"), False),
    "nothing": (OSError(), False),
}


@pytest.mark.parametrize(("error", "expected"), REFUSALS.values(), ids=REFUSALS)
def test_mysqls_refusals(error: Exception, *, expected: bool) -> None:
    assert is_mysql_refusal(error) is expected


PG_REFUSALS = {
    "by code": (psycopg.errors.InvalidPassword(), True),
    "by text": (
        psycopg.OperationalError('connection failed: FATAL:  password authentication failed for user "app"'),
        True,
    ),
    "no such database": (psycopg.OperationalError('FATAL:  database "app" does not exist'), False),
    "refused connection": (psycopg.OperationalError("connection refused"), False),
    "too many": (psycopg.errors.TooManyConnections(), False),
    "time": (TimeoutError(), False),
}


@pytest.mark.parametrize(("error", "expected"), PG_REFUSALS.values(), ids=PG_REFUSALS)
def test_postgresqls_refusals(error: Exception, *, expected: bool) -> None:
    assert is_postgresql_refusal(error) is expected


# The text of a secret


def test_a_secret_is_decoded() -> None:
    text = '{"username":"app","password":"p","generation":7,"host":"h","port":3306,"dbname":"d","engine":"mysql"}'
    found = decode(text, store="aws", secret="s")
    assert (found.username, found.password.reveal(), found.generation) == ("app", "p", 7)
    assert found.connection == {"host": "h", "port": 3306, "dbname": "d", "engine": "mysql"}
    assert "'p'" not in repr(found)


def test_a_placeholder_is_an_error() -> None:
    with pytest.raises(NotBootstrappedError):
        decode('{"placeholder": true}', store="aws", secret="s")


def test_the_examples_are_python_and_import_existing_names() -> None:
    page = Path(__file__).parents[2] / "docs" / "client.md"
    examples = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(examples) >= 6
    imports = [
        node
        for example in examples
        for node in ast.walk(ast.parse(example))
        if isinstance(node, ast.ImportFrom) and node.module == "lockstep.client"
    ]
    names = {alias.name for node in imports for alias in node.names}
    assert {n for n in names if not hasattr(client_module, n)} == set()
    assert {"connect_pymysql", "connect_psycopg", "sqlalchemy_creator", "oci_ring_source"} <= names
