"""Which database a credential logs in to: by its name in the plan, and never another engine's by mistake."""

import json

import pytest

from lockstep.client import ClientCredential
from lockstep.client.drivers import MYSQL, POSTGRESQL, address
from lockstep.protocol.errors import SecretMalformedError
from lockstep.protocol.model import SecretStr
from lockstep.stores.contents import decode_databases, encode_connection_blob
from tests.support.memory import make_plan

ORDERS = {"engine": "mariadb", "host": "orders.example", "port": 3306, "dbname": "orders"}
LEDGER = {"engine": "postgresql", "host": "ledger.example", "port": 5432, "dbname": "ledger"}
CREDENTIAL = ClientCredential(
    username="app",
    password=SecretStr("p"),
    generation=1,
    connection=ORDERS,
    databases={"orders": ORDERS, "ledger": LEDGER},
)
WITHOUT_BLOB = ClientCredential(username="app", password=SecretStr("p"), generation=1, connection=ORDERS)


def test_the_first_database_is_the_default() -> None:
    assert address(CREDENTIAL, None, MYSQL, {}) == {
        "host": "orders.example",
        "port": 3306,
        "dbname": "orders",
    }


def test_a_database_is_chosen_by_its_name() -> None:
    found = address(CREDENTIAL, "ledger", POSTGRESQL, {})
    assert found == {"host": "ledger.example", "port": 5432, "dbname": "ledger"}


def test_the_first_database_is_not_taken_for_another_engines() -> None:
    with pytest.raises(ValueError, match="first database is of the engine mariadb; name another"):
        address(CREDENTIAL, None, POSTGRESQL, {})
    with pytest.raises(ValueError, match="ledger is of the engine postgresql"):
        address(CREDENTIAL, "ledger", MYSQL, {})


def test_an_unknown_database_is_an_error_that_names_those_that_are_known() -> None:
    with pytest.raises(LookupError, match="no database 'ledgr'; known are: ledger, orders"):
        address(CREDENTIAL, "ledgr", POSTGRESQL, {})
    with pytest.raises(LookupError, match="reads no connection_blob"):
        address(WITHOUT_BLOB, "ledger", POSTGRESQL, {})


def test_a_host_of_the_applications_own_is_not_mixed_with_the_secrets_port() -> None:
    """The port and dbname in the secret are those of another server."""
    assert address(CREDENTIAL, None, POSTGRESQL, {"host": "replica.example"}) == {}
    with pytest.raises(ValueError, match="has its own host"):
        address(CREDENTIAL, "ledger", POSTGRESQL, {"host": "replica.example"})


def test_other_options_override_one_field_each() -> None:
    found = address(CREDENTIAL, "ledger", POSTGRESQL, {"dbname": "archive", "connect_timeout": 5})
    assert found == {"host": "ledger.example", "port": 5432}


def test_a_secret_without_an_engine_is_taken_as_it_is() -> None:
    plain = ClientCredential(username="app", password=SecretStr("p"), generation=0, connection={"host": "h"})
    assert address(plain, None, POSTGRESQL, {}) == {"host": "h"}


def test_credentials_are_the_same_value_wherever_they_were_read() -> None:
    assert CREDENTIAL == WITHOUT_BLOB


# The text of connection_blob


def test_every_database_of_a_blob_is_read() -> None:
    credential = make_plan().credentials[0]
    found = decode_databases(encode_connection_blob(1, credential), store="aws", secret="s")
    assert found == {
        s.name: {"engine": s.engine.value, "host": s.host, "port": s.port, "dbname": s.dbname}
        for s in credential.servers
    }


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"databases": 7}', '{"databases": {"orders": 7}}', json.dumps({"placeholder": True})],
)
def test_a_text_without_databases_is_malformed(text: str) -> None:
    with pytest.raises(SecretMalformedError):
        decode_databases(text, store="aws", secret="s")
