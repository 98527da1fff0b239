"""The client for applications: its cache, its sources and its threads."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lockstep.client import ClientCredential, CredentialClient
from lockstep.client.cache import RETRY_SECONDS, decode
from lockstep.client.drivers import MYSQL, POSTGRESQL, address
from lockstep.protocol.errors import (
    SecretMalformedError,
    StoreAccessDeniedError,
    StoreThrottledError,
    StoreUnreachableError,
)
from lockstep.protocol.model import SecretStr
from lockstep.stores.contents import decode_databases
from tests.support.memory import FakeClock
from tests.unit.client_world import (
    MAX_AGE_SECONDS,
    SECONDS,
    Database,
    Store,
    begun,
    client_of,
    is_refusal,
    renewed,
    settle,
)

# The cache


def test_a_value_is_read_again_in_the_background_from_half_of_its_maximum_age() -> None:
    client, clock, [store] = begun(1)
    store.generation = 2
    clock.sleep(MAX_AGE_SECONDS / 2 - 0.001)
    assert (client.get().generation, store.reads) == (1, 1)
    clock.sleep(0.001)
    assert client.get().generation == 1
    settle(client)
    assert (client.get().generation, store.reads) == (2, 2)


def test_nobody_waits_for_a_store_that_does_not_answer_while_there_is_a_value() -> None:
    client, clock, [store] = begun(1)
    store.answers.clear()
    store.asked.clear()
    clock.sleep(100 * MAX_AGE_SECONDS)
    try:
        assert {client.get().generation for _ in range(50)} == {1}
        assert store.asked.wait(SECONDS)
        assert client.get().generation == 1
        assert store.reads == 2  # One thread reads, however many ask.
    finally:
        store.answers.set()


def test_the_age_is_that_of_the_read_that_gave_the_value() -> None:
    store, clock = Store(3, name="near"), FakeClock()
    client = client_of(store, clock=clock)
    assert (client.kept, client.age_seconds) == (None, float("inf"))
    client.get()
    clock.sleep(7)
    assert client.kept
    assert (client.kept.source, client.age_seconds) == ("near", 7.0)


def test_a_value_that_is_too_old_is_not_given_if_the_application_wants_that() -> None:
    store, clock = Store(), FakeClock()
    client = client_of(store, clock=clock, refuse_after_seconds=2 * MAX_AGE_SECONDS)
    client.get()
    store.trouble = StoreThrottledError()
    clock.sleep(2 * MAX_AGE_SECONDS - 0.001)
    assert renewed(client) == 1
    clock.sleep(RETRY_SECONDS)
    for _ in range(2):
        with pytest.raises(StoreThrottledError):
            client.get()
    assert store.reads == 3  # A dead store is not waited for by every caller.
    store.trouble, store.generation = None, 2
    clock.sleep(RETRY_SECONDS)
    assert client.get().generation == 2, "it is waited for"


def test_what_a_client_cannot_be_made_of() -> None:
    with pytest.raises(ValueError, match="at least one"):
        CredentialClient([])
    with pytest.raises(ValueError, match="refuse_after_seconds"):
        client_of(Store(), refuse_after_seconds=MAX_AGE_SECONDS - 1)
    with pytest.raises(ValueError, match="one name"):
        client_of(Store(name="aws"), Store(name="aws"))


def test_failing_sources_are_not_read_on_every_call() -> None:
    client, clock, [store] = begun(1)
    store.trouble = StoreUnreachableError()
    clock.sleep(MAX_AGE_SECONDS)
    assert {renewed(client) for _ in range(50)} == {1}
    assert (store.reads, client.failures) == (2, 1)
    store.trouble, store.generation = None, 2
    clock.sleep(RETRY_SECONDS)
    assert renewed(client) == 2


def test_without_a_cached_value_the_last_sources_error_is_raised() -> None:
    near, far = Store(), Store()
    near.trouble, far.trouble = StoreUnreachableError(), StoreAccessDeniedError()
    client = client_of(near, far)
    with pytest.raises(StoreAccessDeniedError):
        client.get()
    far.trouble = None
    assert client.get().generation == 1


def at_once(work: Callable[[], int], *, threads: int = 16) -> set[int]:
    start = threading.Barrier(threads)

    def begin() -> int:
        start.wait(timeout=SECONDS)
        return work()

    with ThreadPoolExecutor(threads) as pool:
        return {f.result(timeout=SECONDS) for f in [pool.submit(begin) for _ in range(threads)]}


def test_many_threads_read_once_and_many_refused_ones_once_more() -> None:
    store, database = Store(1), Database(2)
    client = client_of(store)
    assert at_once(lambda: client.get().generation) == {1}
    assert store.reads == 1
    store.generation = 2
    assert at_once(lambda: client.login(database.connect, is_refusal)) == {2}
    assert store.reads == 2


# The texts of secrets


def test_a_secret_is_decoded() -> None:
    text = '{"username":"app","password":"p","generation":7,"host":"h","port":3306,"dbname":"d","engine":"mysql"}'
    found = decode(text, store="aws", secret="s")
    assert (found.username, found.password.reveal(), found.generation) == ("app", "p", 7)
    assert found.connection == {"host": "h", "port": 3306, "dbname": "d", "engine": "mysql"}
    assert "'p'" not in repr(found)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"databases": 7}', '{"databases": {"orders": 7}}', '{"placeholder": true}']
)
def test_a_text_without_databases_is_malformed(text: str) -> None:
    with pytest.raises(SecretMalformedError):
        decode_databases(text, store="aws", secret="s")


# Which address a login goes to

AT_ORDERS = {"host": "orders.example", "port": 3306, "dbname": "orders"}
AT_LEDGER = {"host": "ledger.example", "port": 5432, "dbname": "ledger"}
ORDERS, LEDGER = {"engine": "mariadb", **AT_ORDERS}, {"engine": "postgresql", **AT_LEDGER}


def credential(connection: Mapping[str, Any], **databases: Mapping[str, Any]) -> ClientCredential:
    return ClientCredential(
        username="app", password=SecretStr("p"), generation=1, connection=connection, databases=databases
    )


BOTH, WITHOUT_BLOB = credential(ORDERS, orders=ORDERS, ledger=LEDGER), credential(ORDERS)


def test_the_address_of_a_login() -> None:
    assert address(BOTH, None, MYSQL, {}) == AT_ORDERS, "the first database is the default"
    assert address(BOTH, "ledger", POSTGRESQL, {}) == AT_LEDGER
    assert address(BOTH, None, POSTGRESQL, {"host": "replica.example"}) == {}, (
        "port and dbname in the secret are another server's"
    )
    some = address(BOTH, "ledger", POSTGRESQL, {"dbname": "archive", "connect_timeout": 5})
    assert some == {"host": "ledger.example", "port": 5432}, "other options override one field each"
    plain = credential({"host": "h"})
    assert address(plain, None, POSTGRESQL, {}) == {"host": "h"}, "a secret without an engine is as it is"


def test_a_login_that_has_no_address() -> None:
    with pytest.raises(ValueError, match="first database is of the engine mariadb; name another"):
        address(BOTH, None, POSTGRESQL, {})
    with pytest.raises(ValueError, match="ledger is of the engine postgresql"):
        address(BOTH, "ledger", MYSQL, {})
    with pytest.raises(LookupError, match="no database 'ledgr'; known are: ledger, orders"):
        address(BOTH, "ledgr", POSTGRESQL, {})
    with pytest.raises(LookupError, match="reads no connection_blob"):
        address(WITHOUT_BLOB, "ledger", POSTGRESQL, {})
    with pytest.raises(ValueError, match="has its own host"):
        address(BOTH, "ledger", POSTGRESQL, {"host": "replica.example"})


def test_credentials_are_the_same_value_wherever_they_were_read() -> None:
    assert BOTH == WITHOUT_BLOB
