"""The client says which generation it uses, and no login waits for that or fails because of it."""

import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lockstep.client import CredentialClient, UsageFile
from lockstep.client import usage as usage_module
from lockstep.usage import Usage, in_directory
from tests.support.memory import FakeClock
from tests.unit.client_world import MAX_AGE_SECONDS, SECONDS, Store, is_refusal
from tests.unit.test_client_fork import in_child

ID = "multi-cloud/app_user"


class Connection:
    """What a driver gives."""


def client_of(store: Store, clock: FakeClock, directory: Path) -> CredentialClient:
    return CredentialClient(
        [store],
        max_age_seconds=MAX_AGE_SECONDS,
        clock=clock.monotonic,
        usage=UsageFile(ID, name="shop", directory=directory, now=clock.now),
    )


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def told(directory: Path, generation: int) -> Usage:
    """What is told of it, once it is."""
    until(lambda: generation in {usage.generation for usage in in_directory(directory)})
    [found] = in_directory(directory)
    return found


def test_it_says_what_it_uses_after_each_read(tmp_path: Path) -> None:
    store, clock = Store(40), FakeClock()
    client = client_of(store, clock, tmp_path)
    assert list(in_directory(tmp_path)) == []
    client.get()
    first = told(tmp_path, 40)
    assert (first.credential, first.name, first.pid, first.since) == (ID, "shop", os.getpid(), first.at)
    clock.sleep(MAX_AGE_SECONDS)
    client.get(wait_seconds=SECONDS)
    until(lambda: told(tmp_path, 40).at > first.at)
    assert told(tmp_path, 40).since == first.since
    store.generation = 41
    clock.sleep(MAX_AGE_SECONDS)
    client.get(wait_seconds=SECONDS)
    assert told(tmp_path, 41).since == clock.now()


def test_it_says_which_connections_are_older(tmp_path: Path) -> None:
    store, clock = Store(40), FakeClock()
    client = client_of(store, clock, tmp_path)
    connection: Connection | None = client.login(lambda _: Connection(), is_refusal)
    assert client.generation_of(connection) == 40
    store.generation = 41
    clock.sleep(MAX_AGE_SECONDS)
    client.get(wait_seconds=SECONDS)
    assert told(tmp_path, 41).oldest_connection == 40
    del connection
    clock.sleep(MAX_AGE_SECONDS)
    client.get(wait_seconds=SECONDS)
    until(lambda: told(tmp_path, 41).oldest_connection is None)


def test_the_file_has_no_password(tmp_path: Path) -> None:
    client_of(Store(40), FakeClock(), tmp_path).get()
    told(tmp_path, 40)
    [file] = tmp_path.iterdir()
    assert "password" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_child_of_a_fork_has_a_file_of_its_own(tmp_path: Path) -> None:
    store, clock = Store(40), FakeClock()
    client = client_of(store, clock, tmp_path)
    client.get()
    told(tmp_path, 40)

    def work() -> int:
        store.generation = 41
        clock.sleep(MAX_AGE_SECONDS)
        client.get(wait_seconds=SECONDS)
        until(lambda: len(list(in_directory(tmp_path))) == 2)
        return sum(usage.generation for usage in in_directory(tmp_path))

    assert in_child(work) == 81
    assert {usage.generation for usage in in_directory(tmp_path)} == {40, 41}
    # A process that begins to write removes what has ended.
    client_of(Store(40), clock, tmp_path).get()
    until(lambda: {usage.generation for usage in in_directory(tmp_path)} == {40})


def test_two_clients_of_a_process_have_two_files(tmp_path: Path) -> None:
    clock = FakeClock()
    client_of(Store(40), clock, tmp_path).get()
    client_of(Store(41), clock, tmp_path).get()
    until(lambda: {usage.generation for usage in in_directory(tmp_path)} == {40, 41})


@pytest.mark.parametrize(
    ("name", "why"), [("not-there", "No such file or directory"), ("a\0b", "ValueError")]
)
def test_a_directory_that_cannot_be_written_is_logged_once_and_fails_no_login(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, why: str
) -> None:
    store, clock = Store(40), FakeClock()
    client = client_of(store, clock, tmp_path / name)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert client.login(lambda value: value.generation, is_refusal) == 40
            clock.sleep(MAX_AGE_SECONDS)
            client.get(wait_seconds=SECONDS)
        until(lambda: bool(caplog.records))
    assert [r.getMessage() for r in caplog.records] == [f"usage is not written to {tmp_path / name}: {why}"]


def test_a_file_system_that_hangs_delays_no_login_and_holds_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, writes = threading.Event(), []

    def hang(*_arguments: object, **_more: object) -> None:
        writes.append(1)
        assert answers.wait(SECONDS)

    monkeypatch.setattr(usage_module, "replace_file", hang)
    store, clock = Store(40), FakeClock()
    client = client_of(store, clock, tmp_path)
    try:
        for _ in range(5):
            assert client.get(wait_seconds=SECONDS).generation == 40
            clock.sleep(MAX_AGE_SECONDS)
        until(lambda: bool(writes))
        assert len(writes) == 1
    finally:
        answers.set()


def test_a_name_of_any_length_is_read_again(tmp_path: Path) -> None:
    usage = UsageFile(ID, name="n" * 10_000, directory=tmp_path, now=lambda: datetime.now(UTC))
    usage.tell(40, None)
    assert len(list(in_directory(tmp_path))) == 1
