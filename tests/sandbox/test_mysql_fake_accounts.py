"""Accounts of the MySQL fake: two passwords each, ready verifiers, the password policy and privileges."""

import json
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from sandbox.mysql_fake import PasswordPolicy, auth
from tests.sandbox.mysql_case import (
    APP,
    FOOBAR_VERIFIER,
    ROTATOR,
    ROTATOR_PASSWORD,
    MySqlCase,
    refused,
    run,
    value,
)

ALTER = "ALTER USER app_user IDENTIFIED BY %s"
RETAIN = f"{ALTER} RETAIN CURRENT PASSWORD"
DISCARD = "ALTER USER 'app_user'@'%' DISCARD OLD PASSWORD"


@pytest.fixture
def case(tmp_path: Path) -> Iterator[MySqlCase]:
    with MySqlCase(tmp_path) as case:
        yield case


def verifier(password: str) -> bytes:
    return auth.make_verifier(auth.CACHING_SHA2, password.encode(), bytes)


class TestDualPassword:
    def test_retain_keeps_the_current_one(self, case: MySqlCase) -> None:
        run(case.rotator(), RETAIN, "two")
        assert case.accepted("one", "two") == ["one", "two"]

    def test_the_same_retain_twice_loses_the_current_one(self, case: MySqlCase) -> None:
        rotator = case.rotator()
        run(rotator, RETAIN, "two")
        run(rotator, RETAIN, "two")
        assert case.accepted("one", "two") == ["two"]
        run(rotator, DISCARD)
        assert case.accepted("one", "two") == ["two"]

    def test_retain_replaces_the_secondary(self, case: MySqlCase) -> None:
        rotator = case.rotator()
        run(rotator, RETAIN, "two")
        run(rotator, RETAIN, "three")
        assert case.accepted("one", "two", "three") == ["two", "three"]

    def test_without_retain_the_secondary_stays(self, case: MySqlCase) -> None:
        rotator = case.rotator()
        run(rotator, RETAIN, "two")
        run(rotator, ALTER, "three")
        assert case.accepted("one", "two", "three") == ["one", "three"]

    def test_discard_removes_the_secondary_also_from_the_fast_path(self, case: MySqlCase) -> None:
        rotator = case.rotator()
        run(rotator, RETAIN, "two")
        assert case.accepted("one", "two") == ["one", "two"]
        run(rotator, DISCARD)
        assert case.accepted("one", "two") == ["two"]
        run(rotator, DISCARD)
        assert case.accepted("one", "two") == ["two"]

    def test_an_empty_password_takes_the_secondary_along(self, case: MySqlCase) -> None:
        rotator = case.rotator()
        run(rotator, RETAIN, "two")
        run(rotator, ALTER, "")
        assert case.accepted("", "one", "two") == [""]

    def test_no_empty_password_is_retained_or_retains(self, case: MySqlCase) -> None:
        rotator = case.rotator()
        with refused(3895):
            run(rotator, RETAIN, "")
        assert case.accepted("one", "") == ["one"]
        run(rotator, ALTER, "")
        with refused(3878):
            run(rotator, RETAIN, "two")
        assert case.accepted("", "two") == [""]

    def test_no_password_is_retained_for_another_plugin(self, case: MySqlCase) -> None:
        rotator, with_plugin = case.rotator(), "ALTER USER app_user IDENTIFIED WITH {} BY 'two'"
        with refused(3894):
            run(rotator, with_plugin.format("mysql_native_password") + " RETAIN CURRENT PASSWORD")
        run(rotator, with_plugin.format("caching_sha2_password") + " RETAIN CURRENT PASSWORD")
        assert case.accepted("one", "two") == ["one", "two"]
        case.settings.mysql_native_password = True
        run(rotator, with_plugin.format("mysql_native_password"))
        assert case.accepted("one", "two") == ["two"]
        assert case.server.accounts[APP].secondary is None

    def test_sessions_outlive_their_password(self, case: MySqlCase) -> None:
        client = case.connect("one")
        run(case.rotator(), ALTER, "two")
        assert value(client, "SELECT 1") == 1

    def test_user_attributes_show_the_secondary_without_its_verifier(self, case: MySqlCase) -> None:
        root, rotator = case.superuser(), case.rotator()
        sql = "SELECT User_attributes FROM mysql.user WHERE User = %s AND Host = %s"
        assert value(root, sql, *APP) is None
        run(rotator, RETAIN, "two")
        assert json.loads(value(root, sql, *APP)) == {"additional_password": "<masked>"}
        run(rotator, DISCARD)
        assert value(root, sql, *APP) is None
        with refused(1142):
            run(rotator, sql, *APP)
        assert run(root, "SELECT user, Plugin, account_locked FROM mysql.user WHERE user = 'rotator'") == [
            ("rotator", "caching_sha2_password", "N")
        ]

    def test_the_accounts_can_be_looked_into(self, case: MySqlCase) -> None:
        run(case.rotator(), RETAIN, "two")
        account = case.server.accounts[APP]
        assert account.accepts("one")
        assert account.accepts("two")
        assert not account.accepts("three")
        assert verifier("x") != account.primary
        assert "$A$" not in repr(account)


class TestReadyVerifier:
    def test_is_stored_as_it_is(self, case: MySqlCase) -> None:
        rotator = case.rotator()
        run(
            rotator, f"ALTER USER app_user IDENTIFIED WITH caching_sha2_password AS 0x{FOOBAR_VERIFIER.hex()}"
        )
        assert case.server.accounts[APP].primary == FOOBAR_VERIFIER
        assert case.accepted("one", "foobar") == ["foobar"]
        run(
            rotator,
            "ALTER USER app_user IDENTIFIED WITH 'caching_sha2_password' AS %s",
            verifier("two").decode(),
        )
        assert case.accepted("one", "foobar", "two") == ["two"]

    def test_leaves_the_secondary_alone(self, case: MySqlCase) -> None:
        rotator = case.rotator()
        run(rotator, RETAIN, "two")
        run(
            rotator,
            "ALTER USER app_user IDENTIFIED WITH caching_sha2_password AS %s",
            verifier("three").decode(),
        )
        assert case.accepted("one", "two", "three") == ["one", "three"]

    @pytest.mark.parametrize(
        "text", ["x", "*" + "0" * 40, "$A$005$" + "s" * 20 + "d" * 42, "$B$005$" + "s" * 63]
    )
    def test_of_another_form_is_refused(self, case: MySqlCase, text: str) -> None:
        with refused(1827):
            run(case.rotator(), "ALTER USER app_user IDENTIFIED WITH caching_sha2_password AS %s", text)

    def test_with_retain_is_a_syntax_error_unless_allowed(self, case: MySqlCase) -> None:
        rotator = case.rotator()
        sql = "ALTER USER app_user IDENTIFIED WITH caching_sha2_password AS %s RETAIN CURRENT PASSWORD"
        with refused(1064):
            run(rotator, sql, verifier("two").decode())
        case.settings.retain_with_hash = True
        run(rotator, sql, verifier("two").decode())
        assert case.accepted("one", "two") == ["one", "two"]
        with refused(3895):
            run(rotator, sql, "")

    def test_passes_any_policy(self, case: MySqlCase) -> None:
        case.settings.password_policy = PasswordPolicy()
        run(
            case.rotator(),
            "ALTER USER app_user IDENTIFIED WITH caching_sha2_password AS %s",
            verifier("x").decode(),
        )
        assert case.accepted("x") == ["x"]


class TestPolicy:
    @pytest.mark.parametrize(
        "password",
        [
            "",
            "Short-1",
            "no-upper-case-1",
            "NO-LOWER-CASE-1",
            "No-number",
            "NoSpecial1",
        ],
    )
    def test_refuses_a_weak_password_and_changes_nothing(self, case: MySqlCase, password: str) -> None:
        case.settings.password_policy = PasswordPolicy()
        with refused(1819):
            run(case.rotator(), RETAIN, password)
        assert case.server.accounts[APP].secondary is None
        assert case.accepted("one") == ["one"]

    def test_compares_with_the_session_s_user(self, case: MySqlCase) -> None:
        case.settings.password_policy = PasswordPolicy(0, 0, 0, 0)
        for name in ("root", "toor"):
            with refused(1819):
                run(case.superuser(), ALTER, name)
        run(case.superuser(), ALTER, "app_user")

    def test_allows_a_strong_password(self, case: MySqlCase) -> None:
        case.settings.password_policy = PasswordPolicy()
        run(case.rotator(), RETAIN, "Strong-enough-1")
        assert case.accepted("one", "Strong-enough-1") == ["one", "Strong-enough-1"]

    def test_new_accounts_need_a_password_too(self, case: MySqlCase) -> None:
        case.settings.password_policy = PasswordPolicy()
        with refused(1819):
            run(case.rotator(), "CREATE USER 'new'@'%'")

    def test_longer_than_the_plugin_takes(self, case: MySqlCase) -> None:
        with refused(1396):
            run(case.rotator(), ALTER, "x" * 257)
        run(case.rotator(), ALTER, "x" * 256)
        assert case.login_error("x" * 256) is None


class TestPrivileges:
    def test_to_change_others_create_user_is_needed(self, case: MySqlCase) -> None:
        client = case.connect("one")
        for sql in (
            "ALTER USER 'rotator'@'%' IDENTIFIED BY 'x'",
            "ALTER USER 'rotator'@'%' DISCARD OLD PASSWORD",
            "ALTER USER 'app_user'@'%' ACCOUNT UNLOCK",
            "CREATE USER 'x'@'%'",
            "DROP USER 'rotator'@'%'",
        ):
            with pytest.raises(pymysql.err.OperationalError, match="CREATE USER privilege") as caught:
                run(client, sql)
            assert caught.value.args[0] == 1227
        assert case.login_error(ROTATOR_PASSWORD, ROTATOR[0]) is None

    def test_the_own_password_may_be_changed_but_not_retained(self, case: MySqlCase) -> None:
        client = case.connect("one")
        with refused(1227):
            run(client, RETAIN, "two")
        with refused(1227):
            run(client, DISCARD)
        run(client, "ALTER USER CURRENT_USER IDENTIFIED BY 'two'")
        assert case.accepted("one", "two") == ["two"]

    def test_application_password_admin_retains_the_own_password_in_new_sessions(
        self, case: MySqlCase
    ) -> None:
        client = case.connect("one")
        case.server.execute_as_superuser("GRANT APPLICATION_PASSWORD_ADMIN ON *.* TO 'app_user'@'%'")
        with refused(1227):
            run(client, RETAIN, "two")
        client = case.connect("one")
        run(client, "ALTER USER USER() IDENTIFIED BY 'two' RETAIN CURRENT PASSWORD")
        assert case.accepted("one", "two") == ["one", "two"]
        run(client, "ALTER USER USER() DISCARD OLD PASSWORD")
        assert case.accepted("one", "two") == ["two"]
        with refused(1227):
            run(client, "ALTER USER 'rotator'@'%' IDENTIFIED BY 'x' RETAIN CURRENT PASSWORD")

    def test_system_accounts_are_changed_by_their_like_alone(self, case: MySqlCase) -> None:
        with refused(1227):
            run(case.rotator(), "ALTER USER 'root'@'%' IDENTIFIED BY 'x'")
        with refused(1227):
            run(case.rotator(), "DROP USER 'root'@'%'")

    def test_grants_come_from_those_who_have_them(self, case: MySqlCase) -> None:
        with refused(1045):
            run(case.rotator(), "GRANT CREATE USER ON *.* TO 'app_user'@'%'")
        with refused(1044):
            run(case.connect("one"), "GRANT SELECT ON appdb.* TO 'rotator'@'%'")
        with refused(1227):
            run(case.rotator(), "FLUSH PRIVILEGES")

    @pytest.mark.parametrize(
        ("sql", "number"),
        [
            ("GRANT SELECT ON appdb.* TO 'nobody'@'%'", 1410),
            ("GRANT CREATE USER ON appdb.* TO 'app_user'@'%'", 1221),
            ("GRANT APPLICATION_PASSWORD_ADMIN ON appdb.* TO 'app_user'@'%'", 3619),
            ("GRANT MISSPELT_ADMIN ON *.* TO 'app_user'@'%'", 3929),
            ("GRANT MISSPELT ADMIN ON *.* TO 'app_user'@'%'", 1064),
            ("REVOKE SELECT ON other.* FROM 'app_user'@'%'", 1141),
            ("CREATE USER 'app_user'@'%' IDENTIFIED BY 'x'", 1396),
            ("ALTER USER 'nobody'@'%' IDENTIFIED BY 'x' RETAIN CURRENT PASSWORD", 1396),
            ("DROP USER 'nobody'@'%'", 1396),
            ("CREATE USER 'longer_than_thirty_two_characters'@'%'", 1470),
        ],
    )
    def test_mistakes_in_account_statements(self, case: MySqlCase, sql: str, number: int) -> None:
        with refused(number):
            case.server.execute_as_superuser(sql)

    def test_all_privileges_are_those_of_the_level_without_the_right_to_grant(self, case: MySqlCase) -> None:
        case.server.execute_as_superuser(
            ["GRANT ALL ON mysql.* TO app_user", "GRANT ALL PRIVILEGES ON *.* TO rotator"]
        )
        app = case.connect("one", database="mysql")
        assert value(app, "SELECT host FROM mysql.user WHERE user = 'root'") == "%"
        with refused(1227):
            run(app, "CREATE USER x")
        with refused(1045):
            run(case.rotator(), "GRANT SELECT ON *.* TO app_user")
        case.server.execute_as_superuser("GRANT SELECT ON *.* TO rotator WITH GRANT OPTION")
        run(case.rotator(), "GRANT SELECT ON *.* TO app_user")

    def test_revoke_takes_away(self, case: MySqlCase) -> None:
        case.server.execute_as_superuser("REVOKE CREATE USER ON *.* FROM 'rotator'@'%'")
        with refused(1227):
            run(case.rotator(), ALTER, "two")
        case.server.execute_as_superuser("REVOKE ALL PRIVILEGES, GRANT OPTION FROM 'app_user'@'%'")
        assert case.login_error("one", database="appdb") == 1044

    def test_what_exists_or_does_not_is_a_note_where_that_is_expected(self, case: MySqlCase) -> None:
        root = case.superuser()
        for sql, number in (
            ("CREATE USER IF NOT EXISTS 'app_user'@'%' IDENTIFIED BY 'other'", 3163),
            ("ALTER USER IF EXISTS 'nobody'@'%' IDENTIFIED BY 'other'", 3162),
            ("DROP USER IF EXISTS 'nobody'@'%'", 3162),
        ):
            run(root, sql)
            ((level, code, _),) = run(root, "SHOW WARNINGS")
            assert (level, code) == ("Note", number)
        assert case.accepted("one", "other") == ["one"]
        run(root, "DROP USER app_user")
        assert case.login_error("one") == 1045
