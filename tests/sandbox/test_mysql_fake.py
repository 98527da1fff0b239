"""Logins and statements of the MySQL fake, as unmodified PyMySQL meets them."""

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import pymysql
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymysql.constants import CLIENT

from sandbox.mysql_fake import auth
from tests.sandbox.mysql_case import APP, FOOBAR_VERIFIER, MySqlCase, id_of, refused, run, value

ALTER = "ALTER USER app_user IDENTIFIED BY %s"


@pytest.fixture
def case(tmp_path: Path) -> Iterator[MySqlCase]:
    with MySqlCase(tmp_path) as case:
        yield case


class TestHash:
    @pytest.mark.parametrize(
        ("password", "digest"),
        [
            ("a", "3ebZWXwBB7DWi1DoxqV9LEZNtAH9JJIenscsAFKjvWD"),
            ("Hello world!", "i0ia03gSXmSvPKlyW8qZ6jni2/56uQFxZSX0ZfeK6w9"),
            ("x" * 32, ".6qAfNuQb4FXT72ITXFe8MKrXrX./4O3vuwRNvClLu7"),
            ("y" * 64, "0SYZJJ9QNguCrtPHegNcyFX.mSswICIhRe9Xh/tvSC0"),
            ("z" * 130, "9p3/uiNjn4L8rZ8zmhYO/.No213xvsuW2yBzDNM7h.6"),
        ],
    )
    def test_is_what_crypt_of_the_c_library_makes(self, password: str, digest: str) -> None:
        assert auth.sha256_crypt(password.encode(), b"sixteen-byte-slt") == digest.encode()

    def test_with_twenty_bytes_of_salt_is_what_mysql_stores(self) -> None:
        assert auth.matches(auth.CACHING_SHA2, FOOBAR_VERIFIER, b"foobar")
        assert not auth.matches(auth.CACHING_SHA2, FOOBAR_VERIFIER, b"foobaz")

    def test_nonces_and_salts_hold_neither_nul_nor_dollar(self) -> None:
        text = auth.random_text(256, lambda count: bytes(range(count)))
        assert not set(text) & {0, ord("$")}
        assert max(text) < 128


class TestLogin:
    def test_over_verified_tls(self, case: MySqlCase) -> None:
        client = case.connect("one", database="appdb")
        assert run(client, "SELECT 1, VERSION(), @@version, CURRENT_USER(), DATABASE()") == [
            (1, "8.4.7", "8.4.7", "app_user@%", "appdb")
        ]
        assert value(client, "SELECT CONNECTION_ID()") == id_of(client)
        client.ping(reconnect=False)

    @pytest.mark.parametrize(
        ("user", "password", "used"),
        [
            ("app_user", "wrong", "YES"),
            ("nobody", "one", "YES"),
            ("app_user", "", "NO"),
            ("nobody", "", "NO"),
        ],
    )
    def test_with_a_wrong_password_or_user_is_refused_alike(
        self, case: MySqlCase, user: str, password: str, used: str
    ) -> None:
        with pytest.raises(pymysql.err.OperationalError) as caught:
            case.connect(password, user)
        assert caught.value.args == (
            1045,
            f"Access denied for user '{user}'@'127.0.0.1' (using password: {used})",
        )

    def test_needs_the_full_proof_once_and_a_scramble_after_that(
        self, case: MySqlCase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hashed: list[bytes] = []

        def noting(password: bytes, salt: bytes) -> bytes:
            hashed.append(password)
            return slow(password, salt)

        slow = auth.sha256_crypt
        monkeypatch.setattr(auth, "sha256_crypt", noting)
        assert case.accepted("one") == ["one"]
        assert hashed == [b"one"]
        assert case.accepted("one", "wrong") == ["one"]
        assert hashed == [b"one", b"wrong"]

        def start_again() -> None:
            case.server.stop()
            case.server.start()

        for forget in (
            lambda: case.server.execute_as_superuser("FLUSH PRIVILEGES"),
            lambda: case.server.execute_as_superuser(
                "ALTER USER app_user IDENTIFIED BY 'two' RETAIN CURRENT PASSWORD"
            ),
            start_again,
        ):
            forget()
            hashed.clear()
            assert case.accepted("one") == ["one"]
            assert b"one" in hashed

    def test_takes_less_than_10_ms(self, case: MySqlCase) -> None:
        def seconds() -> float:
            start = perf_counter()
            case.connect("one").close()
            return perf_counter() - start

        assert min(seconds() for _ in range(10)) < 0.010

    def test_without_tls_is_refused(self, case: MySqlCase) -> None:
        assert case.login_error("one", tls=False) == 3159

    def test_without_tls_is_refused_to_an_account_that_requires_it(self, case: MySqlCase) -> None:
        case.settings.require_secure_transport = False
        # The scramble of a password that is proven already would do without TLS.
        assert case.login_error("one") is None
        assert case.login_error("one", tls=False) == 1045
        case.server.execute_as_superuser("ALTER USER 'app_user'@'%' REQUIRE NONE")
        assert case.login_error("one", tls=False) is None

    def test_is_never_proven_by_a_password_without_tls(
        self, case: MySqlCase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        case.settings.require_secure_transport = False
        case.server.execute_as_superuser("ALTER USER 'app_user'@'%' REQUIRE NONE")
        assert case.login_error("one", tls=False) == 1045
        # A client that sends its password all the same.
        monkeypatch.setattr(pymysql.Connection, "_secure", True)
        assert case.login_error("one", tls=False) == 1045

    def test_of_a_locked_account_is_refused_after_the_proof(self, case: MySqlCase) -> None:
        case.server.execute_as_superuser("ALTER USER 'app_user'@'%' ACCOUNT LOCK")
        assert case.login_error("one") == 3118
        assert case.login_error("wrong") == 1045
        case.server.execute_as_superuser("ALTER USER 'app_user'@'%' ACCOUNT UNLOCK")
        assert case.login_error("one") is None

    def test_with_an_expired_password_is_good_for_its_change_alone(self, case: MySqlCase) -> None:
        case.server.execute_as_superuser("ALTER USER 'app_user'@'%' PASSWORD EXPIRE")
        assert case.login_error("one") == 1862
        client = case.connect("one", client_flag=CLIENT.HANDLE_EXPIRED_PASSWORDS)
        with refused(1820):
            run(client, "SELECT 1")
        run(client, "ALTER USER USER() IDENTIFIED BY 'two'")
        assert value(client, "SELECT 1") == 1
        assert case.accepted("one", "two") == ["two"]

    def test_into_a_database(self, case: MySqlCase) -> None:
        assert case.login_error("one", database="other") == 1044
        assert case.login_error("one", database="mysql") == 1044
        assert case.login_error(case.server.superuser_password, "root", database="other") == 1049

    def test_by_the_old_plugin_where_it_is_loaded(self, case: MySqlCase) -> None:
        create = "CREATE USER 'old'@'%' IDENTIFIED WITH mysql_native_password BY 'Old-1'"
        with refused(1524):
            case.server.execute_as_superuser(create)
        case.settings.mysql_native_password = True
        case.server.execute_as_superuser(create)
        assert case.login_error("Old-1", "old") is None
        assert case.login_error("wrong", "old") == 1045
        assert case.login_error("", "old") == 1045

    def test_with_an_empty_password(self, case: MySqlCase) -> None:
        case.server.execute_as_superuser("CREATE USER empty")
        assert case.login_error("", "empty") is None
        assert case.login_error("x", "empty") == 1045


class TestStrings:
    @given(
        password=st.text(st.characters(exclude_categories=["Cs"]), max_size=64),
        sql_mode=st.sampled_from(["", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES"]),
    )
    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_password_arrives_as_pymysql_escapes_it(
        self, case: MySqlCase, password: str, sql_mode: str
    ) -> None:
        with case.rotator(sql_mode=sql_mode) as rotator:
            run(rotator, ALTER, password)
        assert case.server.accounts[APP].accepts(password)
        # PyMySQL sends text at the login as Latin-1, but in statements as UTF-8.
        assert case.login_error(password.encode()) is None

    @pytest.mark.parametrize(
        ("literal", "meaning"),
        [
            (r"'a''b'", "a'b"),
            (r"'a\'b'", "a'b"),
            (r"'a\\b'", "a\\b"),
            (r"'\%\_\n\t\Z\0\x'", "\\%\\_\n\t\x1a\0x"),
            ('"a""b\'c"', "a\"b'c"),
        ],
    )
    def test_literals(self, case: MySqlCase, literal: str, meaning: str) -> None:
        assert value(case.superuser(), f"SELECT {literal}") == meaning

    def test_double_quotes_mean_what_the_sql_mode_says(self, case: MySqlCase) -> None:
        root = case.superuser(sql_mode="ANSI_QUOTES")
        with refused(1064):
            run(root, 'SELECT "x"')
        run(root, 'DROP USER "app_user"@"%"')
        assert APP not in case.server.accounts

    @pytest.mark.parametrize(
        "name", ["it's", 'say "x"', "back`tick", "a@b", "spa ce", "back\\slash", "-- x", "ünï"]
    )
    def test_user_names_with_special_characters(self, case: MySqlCase, name: str) -> None:
        root = case.superuser()
        run(root, "CREATE USER %s@'%%' IDENTIFIED BY 'x'", name)
        assert (name, "%") in case.server.accounts
        assert case.login_error("x", name) is None
        quoted = name.replace("`", "``")
        run(root, f"DROP USER `{quoted}`@`%`")
        assert (name, "%") not in case.server.accounts

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT 'open",
            "SELECT 1; SELECT 2",
            "SELECT * FROM appdb.orders",
            "UPDATE mysql.user SET plugin = 'x'",
            "SET PASSWORD FOR 'app_user'@'%' = 'x'",
            "SET GLOBAL max_connections = 1",
            "ALTER USER 'app_user'@'%' IDENTIFIED BY RANDOM PASSWORD",
            "ALTER USER 'app_user'@'%' RETAIN CURRENT PASSWORD",
            "ALTER USER 'app_user'@'%' IDENTIFIED BY 'x' DISCARD OLD PASSWORD",
            "ALTER USER 'app_user'@'%' IDENTIFIED VIA mysql_native_password USING 'x'",
            "ALTER USER 'app_user'@% IDENTIFIED BY 'x'",
            "GRANT SELECT ON appdb.* TO 'app_user'@'%' IDENTIFIED BY 'x'",
            "/*! SELECT 1 */",
            "SELECT SLEEP(1)",
        ],
    )
    def test_what_is_not_modelled_is_a_syntax_error(self, case: MySqlCase, sql: str) -> None:
        with refused(1064):
            case.server.execute_as_superuser(sql)

    def test_a_syntax_error_quotes_the_statement_secrets_and_all(self, case: MySqlCase) -> None:
        with pytest.raises(pymysql.err.ProgrammingError, match="near 'IDENTIFED BY 'secret'' at line 1"):
            run(case.rotator(), "ALTER USER 'app_user'@'%%' IDENTIFED BY %s", "secret")

    def test_session_variables(self, case: MySqlCase) -> None:
        client = case.connect("one")
        run(client, "SET SESSION lock_wait_timeout = 5, @@wait_timeout = 0, time_zone = '+00:00'")
        assert run(client, "SELECT @@lock_wait_timeout, @@session.wait_timeout AS w, @@time_zone") == [
            (5, 1, "+00:00")
        ]
        run(client, "SET time_zone = DEFAULT")
        assert value(client, "SELECT @@time_zone") == "SYSTEM"
        for sql, number in (
            ("SET no_such_variable = 1", 1193),
            ("SELECT @@no_such_variable", 1193),
            ("SET version = '9'", 1238),
            ("SET sql_mode = 'NO_SUCH_MODE'", 1231),
            ("SET wait_timeout = 'x'", 1232),
            ("SET NAMES latin1", 1115),
        ):
            with refused(number):
                run(client, sql)
        client.commit()
        client.rollback()
        client.begin()
