"""The MySQL fake as a server: TLS, user-level locks, faults, limits and the general log."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import pymysql
import pytest
import trustme

from sandbox.mysql_fake import auth
from tests.sandbox.mysql_case import (
    APP,
    PROVISIONING,
    ROTATOR_PASSWORD,
    MySqlCase,
    eventually,
    id_of,
    lost,
    refused,
    run,
    value,
)

RETAIN = "ALTER USER app_user IDENTIFIED BY %s RETAIN CURRENT PASSWORD"
GET_LOCK = "SELECT GET_LOCK(%s, %s)"


@pytest.fixture
def case(tmp_path: Path) -> Iterator[MySqlCase]:
    with MySqlCase(tmp_path) as case:
        yield case


@pytest.fixture
def background() -> Iterator[Callable[..., Future[Any]]]:
    with ThreadPoolExecutor(4) as pool:
        yield pool.submit


class TestTls:
    def test_a_certificate_of_another_authority_is_not_trusted(self, case: MySqlCase) -> None:
        other = case.folder / "other.pem"
        trustme.CA().cert_pem.write_to_path(other)
        assert case.login_error("one", ssl=None, ssl_ca=str(other), ssl_verify_identity=True) == 2003

    def test_a_certificate_for_another_host_or_of_the_past_is_not_trusted(self, case: MySqlCase) -> None:
        past = datetime(2001, 1, 1, tzinfo=UTC).replace(tzinfo=None)
        for files in (case.issue("elsewhere", "db.example.org"), case.issue("expired", not_after=past)):
            case.server.stop()
            case.server.tls_cert_file, case.server.tls_key_file = files
            case.server.start()
            assert case.login_error("one") == 2003

    def test_a_server_may_hide_that_it_has_it(self, case: MySqlCase) -> None:
        case.settings.offers_tls = False
        assert case.login_error("one") == 2026

    def test_a_client_that_gives_up_in_the_middle_does_no_harm(self, case: MySqlCase) -> None:
        for farewell in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(36)):
            with socket.create_connection(("127.0.0.1", case.server.port), timeout=5) as raw:
                assert raw.recv(5)[4] == 10
                raw.sendall(farewell)
        assert case.login_error("one") is None
        assert eventually(lambda: case.server.connection_count() == 0)


class TestUserLocks:
    def test_has_one_owner(self, case: MySqlCase) -> None:
        one, two = case.rotator(), case.rotator()
        assert value(one, GET_LOCK, "lockstep", 0) == 1
        assert value(two, GET_LOCK, "LockStep", 0) == 0
        assert value(two, "SELECT IS_USED_LOCK('lockstep')") == id_of(one)
        assert run(one, "SELECT IS_USED_LOCK('lockstep') = CONNECTION_ID(), IS_FREE_LOCK('lockstep')") == [
            (1, 0)
        ]
        assert value(two, "SELECT RELEASE_LOCK('lockstep')") == 0
        assert value(one, "SELECT RELEASE_LOCK('lockstep')") == 1
        assert value(one, "SELECT RELEASE_LOCK('lockstep')") is None
        assert value(one, "SELECT IS_USED_LOCK('lockstep')") is None
        assert value(two, GET_LOCK, "lockstep", 0) == 1

    def test_is_given_back_as_often_as_it_was_taken(self, case: MySqlCase) -> None:
        one, two = case.rotator(), case.rotator()
        assert [value(one, GET_LOCK, name, 0) for name in ("a", "a", "b")] == [1, 1, 1]
        assert value(one, "SELECT RELEASE_LOCK('a')") == 1
        assert value(two, GET_LOCK, "a", 0) == 0
        assert value(one, "SELECT RELEASE_ALL_LOCKS()") == 2
        assert value(two, GET_LOCK, "a", 0) == 1

    def test_wakes_the_next_in_line(self, case: MySqlCase, background: Callable[..., Future[Any]]) -> None:
        one, two = case.rotator(), case.rotator()
        value(one, GET_LOCK, "a", 0)
        waiting = background(value, two, GET_LOCK, "a", 5)
        assert eventually(lambda: "GET_LOCK('a', 5)" in case.server.general_log_text())
        assert value(one, "SELECT IS_USED_LOCK('a')") == id_of(one)
        value(one, "SELECT RELEASE_LOCK('a')")
        assert waiting.result(5) == 1

    def test_waits_as_long_as_was_asked(self, case: MySqlCase) -> None:
        one, two = case.rotator(), case.rotator()
        value(one, GET_LOCK, "a", 0)
        start = perf_counter()
        assert value(two, GET_LOCK, "a", 1) == 0
        assert 1 <= perf_counter() - start < 3

    @pytest.mark.parametrize("end", ["quit", "vanish", "cut"])
    def test_is_free_when_its_connection_ends(self, case: MySqlCase, end: str) -> None:
        one = case.rotator()
        value(one, GET_LOCK, "a", 0)
        if end == "quit":
            one.close()
        elif end == "vanish":
            one._force_close()  # type: ignore[attr-defined]  # how PyMySQL leaves after a time-out
        else:
            case.server.cut_connections()
            with lost():
                run(one, "SELECT 1")
        assert value(case.rotator(), GET_LOCK, "a", 5) == 1

    def test_is_not_given_to_a_client_that_is_gone(
        self, case: MySqlCase, background: Callable[..., Future[Any]]
    ) -> None:
        one, two, three = case.rotator(), case.rotator(patience_seconds=0.2), case.rotator()
        value(one, GET_LOCK, "a", 0)
        with lost():
            run(two, GET_LOCK, "a", -1)
        assert eventually(lambda: case.server.connection_count() == 2)
        value(one, "SELECT RELEASE_LOCK('a')")
        assert background(value, three, GET_LOCK, "a", 0).result(5) == 1

    def test_a_deadlock_is_noticed(self, case: MySqlCase, background: Callable[..., Future[Any]]) -> None:
        one, two = case.rotator(), case.rotator()
        value(one, GET_LOCK, "a", 0)
        value(two, GET_LOCK, "b", 0)
        waiting = background(value, one, GET_LOCK, "b", 5)
        assert eventually(lambda: "GET_LOCK('b', 5)" in case.server.general_log_text())
        with refused(3058):
            run(two, GET_LOCK, "a", 5)
        value(two, "SELECT RELEASE_LOCK('b')")
        assert waiting.result(5) == 1

    @pytest.mark.parametrize(
        ("name", "number"), [("", 3057), (None, 3057), ("\U0001f512", 3057), ("x" * 65, 4163)]
    )
    def test_names_are_checked(self, case: MySqlCase, name: str | None, number: int) -> None:
        with refused(number):
            run(case.rotator(), GET_LOCK, name, 0)

    def test_names_of_64_characters_pass(self, case: MySqlCase) -> None:
        assert value(case.rotator(), GET_LOCK, "ü" * 64, 0.4) == 1

    def test_arguments_are_counted(self, case: MySqlCase) -> None:
        with refused(1582):
            run(case.rotator(), "SELECT GET_LOCK('a')")


class TestFaults:
    def test_dropped_before_the_effect(self, case: MySqlCase) -> None:
        fault = case.server.drop_connection_before("alter user")
        rotator = case.rotator()
        with lost():
            run(rotator, RETAIN, "two")
        assert fault.struck
        assert case.accepted("one", "two") == ["one"]
        run(case.rotator(), RETAIN, "two")
        assert case.accepted("one", "two") == ["one", "two"]

    def test_dropped_after_the_effect(self, case: MySqlCase) -> None:
        fault = case.server.drop_connection_after("ALTER USER")
        rotator = case.rotator()
        assert value(rotator, GET_LOCK, "a", 0) == 1
        with lost():
            run(rotator, RETAIN, "two")
        assert fault.struck
        assert case.accepted("one", "two") == ["one", "two"]
        assert value(case.rotator(), GET_LOCK, "a", 5) == 1

    def test_held_until_its_client_is_gone(
        self, case: MySqlCase, background: Callable[..., Future[Any]]
    ) -> None:
        hold = case.server.hold("ALTER USER")
        rotator = case.rotator(patience_seconds=0.3)
        value(rotator, GET_LOCK, "a", 0)
        statement = background(run, rotator, RETAIN, "two")
        assert hold.wait_until_reached()
        with lost():
            statement.result(5)
        # The server is still at it: no effect yet, and the lock is not free.
        assert case.accepted("one", "two") == ["one"]
        assert value(case.rotator(), GET_LOCK, "a", 0) == 0
        hold.release()
        assert value(case.rotator(), GET_LOCK, "a", 5) == 1
        assert case.accepted("one", "two") == ["one", "two"]

    def test_a_paused_server_accepts_connections_and_answers_nothing(self, case: MySqlCase) -> None:
        client = case.connect("one", patience_seconds=0.3)
        case.server.pause()
        with lost():
            run(client, "SELECT 1")
        assert case.login_error("one", connect_timeout=0.3, read_timeout=0.3) in {2003, 2013}
        with (
            socket.create_connection(("127.0.0.1", case.server.port), timeout=0.1) as raw,
            pytest.raises(TimeoutError),
        ):
            raw.recv(1)
        case.server.resume()
        assert case.login_error("one") is None

    def test_what_arrived_in_a_pause_takes_effect_after_it(self, case: MySqlCase) -> None:
        rotator = case.rotator(patience_seconds=0.3)
        case.server.pause()
        with lost():
            run(rotator, RETAIN, "two")
        assert not case.server.accounts[APP].accepts("two")
        case.server.resume()
        assert eventually(lambda: case.server.accounts[APP].accepts("two"))

    def test_a_server_killed_in_a_pause_does_no_more(self, case: MySqlCase) -> None:
        rotator = case.rotator(patience_seconds=0.3)
        case.server.pause()
        with lost():
            run(rotator, RETAIN, "two")
        case.server.kill()
        case.server.start()
        assert case.accepted("one", "two") == ["one"]

    def test_refused_connections(self, case: MySqlCase) -> None:
        client = case.connect("one")
        case.server.refuse_connections()
        assert case.login_error("two") == 2003
        assert value(client, "SELECT 1") == 1
        case.server.admit_connections()
        assert case.login_error("one") is None

    @pytest.mark.parametrize("end", ["stop", "kill"])
    def test_a_server_that_ends_and_starts_again_keeps_accounts_and_log(
        self, case: MySqlCase, end: str
    ) -> None:
        client, port = case.rotator(), case.server.port
        value(client, GET_LOCK, "a", 0)
        run(client, RETAIN, "two")
        getattr(case.server, end)()
        assert not case.server.is_running()
        with lost():
            run(client, "SELECT 1")
        assert case.login_error("one") == 2003
        case.server.start()
        assert case.server.port == port
        assert case.accepted("one", "two") == ["one", "two"]
        assert value(case.rotator(), GET_LOCK, "a", 0) == 1
        assert "RETAIN" in case.server.general_log_text()

    def test_a_server_that_does_not_run_cannot_be_paused_nor_one_that_does_started(
        self, case: MySqlCase
    ) -> None:
        with pytest.raises(RuntimeError):
            case.server.start()
        case.server.stop()
        case.server.stop()
        with pytest.raises(RuntimeError):
            case.server.pause()


class TestLimits:
    def test_one_connection_too_many(self, case: MySqlCase) -> None:
        assert eventually(lambda: case.server.connection_count() == 0)
        case.settings.max_connections = 2
        case.connect("one")
        case.connect("one")
        assert case.login_error("one") == 1040
        # The last place is kept for who can mend it.
        root = case.superuser()
        assert case.login_error(case.server.superuser_password, "root") == 1040
        root.close()
        assert eventually(lambda: case.server.connection_count() == 2)
        assert value(case.superuser(), "SELECT @@max_connections") == 2

    def test_a_silent_client_is_disconnected(self, case: MySqlCase) -> None:
        client = case.connect("one")
        run(client, "SET SESSION wait_timeout = 1")
        assert eventually(lambda: case.server.connection_count() == 0)
        with lost():
            run(client, "SELECT 1")

    def test_a_client_that_does_not_log_in_is_disconnected(self, case: MySqlCase) -> None:
        case.settings.connect_timeout_seconds = 0.2
        with socket.create_connection(("127.0.0.1", case.server.port), timeout=5) as raw:
            raw.recv(4096)
            assert raw.recv(4096) == b""

    def test_threads_and_port_are_given_back(self, case: MySqlCase) -> None:
        clients = [case.connect("one") for _ in range(5)]
        assert threading.active_count() > 5
        case.server.stop()
        assert not [thread for thread in threading.enumerate() if str(case.server) in thread.name]
        with socket.create_server(("127.0.0.1", case.server.port)):
            pass
        for client in clients:
            with lost():
                run(client, "SELECT 1")

    def test_a_huge_packet_ends_the_connection(self, case: MySqlCase) -> None:
        client = case.connect("one")
        with pytest.raises(pymysql.err.OperationalError):
            run(client, "SELECT %s", "x" * (1 << 21))
        assert eventually(lambda: case.server.connection_count() == 0)

    def test_many_clients_at_once(self, case: MySqlCase, background: Callable[..., Future[Any]]) -> None:
        def log_in_and_lock(n: int) -> int:
            with case.rotator() as client:
                got = value(client, GET_LOCK, f"lock-{n % 3}", 10)
                return int(got and value(client, "SELECT RELEASE_LOCK(%s)", f"lock-{n % 3}"))

        assert [future.result(20) for future in [background(log_in_and_lock, n) for n in range(24)]] == [
            1
        ] * 24


class TestGeneralLog:
    def test_holds_statements_without_their_passwords(self, case: MySqlCase) -> None:
        run(case.rotator(), RETAIN, "it's \\ secret")
        log = case.server.general_log_text()
        assert "ALTER USER app_user IDENTIFIED BY <secret> RETAIN CURRENT PASSWORD\n" in log
        assert "CREATE USER IF NOT EXISTS 'rotator'@'%' IDENTIFIED BY <secret> REQUIRE SSL\n" in log
        assert "Connect\trotator@127.0.0.1 on  using SSL/TLS\n" in log
        for secret in ("secret", ROTATOR_PASSWORD, case.server.superuser_password):
            assert secret not in log.replace("<secret>", "")

    def test_holds_refused_logins_and_refused_statements(self, case: MySqlCase) -> None:
        assert case.login_error("wrong") == 1045
        with refused(1396):
            run(case.rotator(), "ALTER USER nobody IDENTIFIED BY 'pass-word'")
        log = case.server.general_log_text()
        assert "Connect\tAccess denied for user 'app_user'@'127.0.0.1' (using password: YES)\n" in log
        assert "ALTER USER nobody IDENTIFIED BY <secret>\n" in log
        assert "pass-word" not in log

    def test_leaves_out_what_cannot_be_parsed(self, case: MySqlCase) -> None:
        with refused(1064):
            run(case.rotator(), "ALTER USER app_user IDENTIFED BY %s", "pass-word")
        assert "IDENTIFED" not in case.server.general_log_text()

    def test_shows_a_ready_verifier(self, case: MySqlCase) -> None:
        verifier = auth.make_verifier(auth.CACHING_SHA2, b"two", lambda count: b"s" * count).decode()
        run(case.rotator(), "ALTER USER app_user IDENTIFIED WITH caching_sha2_password AS %s", verifier)
        assert f"IDENTIFIED WITH caching_sha2_password AS '{verifier}'\n" in case.server.general_log_text()


def test_provisioning_may_be_run_again(case: MySqlCase) -> None:
    case.server.execute_as_superuser(PROVISIONING)
    assert case.accepted("one") == ["one"]
    assert case.server.execute_as_superuser("SELECT DATABASE()", database="appdb") == [("appdb",)]


def test_nobody_is_locked_out_for_an_instant(case: MySqlCase, background: Callable[..., Future[Any]]) -> None:
    """A change of passwords is seen whole or not at all, also by a login under way."""

    def log_in_all_the_while() -> list[int | None]:
        return [case.login_error("one") for _ in range(60)]

    clients = [background(log_in_all_the_while) for _ in range(2)]
    rotator = case.rotator()
    while not all(client.done() for client in clients):
        run(rotator, RETAIN, "two")
        run(rotator, "ALTER USER app_user IDENTIFIED BY 'one' RETAIN CURRENT PASSWORD")
    assert [error for client in clients for error in client.result() if error] == []
