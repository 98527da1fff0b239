"""Which verifiers MySQL's driver tries, on a session that answers as a server with one plugin."""

import re

import pytest

from lockstep.databases.mysql import MySqlAccount, Slots
from lockstep.protocol.errors import AccountPluginError, LockstepError, UnsupportedServerError
from lockstep.protocol.model import CredentialValue, Login, SecretStr

VALUE = CredentialValue(7, Login("app", SecretStr("s3cret")))
VERIFIERS = {
    "caching_sha2_password": r"\$A\$005\$.{63}",
    "mysql_native_password": r"\*B865CAE8F340F6CE1485A06F4492BB49718DF1EC",
    "sha256_password": r"\$5\$.{20}\$.{43}",
}


class Session:
    """The account's plugin is `plugin`; the server lacks `missing`."""

    def __init__(self, plugin: str, missing: str = "") -> None:
        self.plugin, self.missing = plugin, missing
        self.tried: list[str] = []
        self.verifier = ""

    def run(self, sql: str, *arguments: str | int) -> None:
        found = re.search(r"IDENTIFIED WITH (\w+) AS %s RETAIN", sql)
        assert found
        self.tried.append(found[1])
        error: type[LockstepError] | None = None
        if found[1] == self.missing:
            error = UnsupportedServerError
        elif found[1] != self.plugin:
            error = AccountPluginError
        if error:
            raise error(database="crm", code=0)
        self.verifier = str(arguments[1])


def account(session: Session) -> MySqlAccount:
    return MySqlAccount(session, lambda n: bytes(range(n)))  # type: ignore[arg-type]


@pytest.mark.parametrize("plugin", VERIFIERS)
def test_the_account_keeps_its_plugin_and_the_record_names_it(plugin: str) -> None:
    session = Session(plugin)
    after = account(session).set_primary(VALUE, retain=True, before=Slots(6))
    assert after == Slots(7, 6, plugin)
    assert re.fullmatch(VERIFIERS[plugin], session.verifier)
    account(session).set_primary(VALUE, retain=True, before=after)
    assert session.tried[-1:] == [plugin]
    assert session.tried.count(plugin) == 2


def test_a_plugin_that_the_server_lacks_is_passed_over() -> None:
    session = Session("sha256_password", missing="mysql_native_password")
    after = account(session).set_primary(VALUE, retain=True, before=Slots())
    assert after
    assert after.plugin == "sha256_password"


def test_an_account_of_another_plugin_is_refused() -> None:
    session = Session("auth_socket")
    with pytest.raises(AccountPluginError):
        account(session).set_primary(VALUE, retain=True, before=Slots())
    assert session.tried == list(VERIFIERS)
