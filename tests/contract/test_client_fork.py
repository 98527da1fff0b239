"""The client in the child of a fork, as gunicorn's `--preload` and multiprocessing make it."""

import os
import threading
from collections.abc import Callable
from multiprocessing import get_context

from lockstep.client.sources import per_process
from tests.unit.test_client import SECONDS, Store, client_of


def in_child(work: Callable[[], int]) -> int:
    """What `work` gives in a child of a fork, which is ended if it hangs."""
    child = get_context("fork").Process(target=lambda: os._exit(work()))
    child.start()
    child.join(SECONDS)
    child.kill()
    assert child.exitcode is not None, "the child hangs"
    return child.exitcode


def test_a_child_reads_by_itself_while_threads_of_its_parent_read_and_hold_the_lock() -> None:
    store = Store(1)
    client = client_of(store)
    store.answers.clear()
    held = threading.Event()

    def hold() -> None:
        with client._lock:
            held.set()
            store.answers.wait(SECONDS)

    reader = threading.Thread(target=client.get)
    reader.start()
    assert store.asked.wait(SECONDS)
    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(SECONDS)

    def work() -> int:
        store.answers = threading.Event()
        store.answers.set()
        store.generation = 7
        return client.get().generation

    try:
        assert in_child(work) == 7
    finally:
        store.answers.set()
        for thread in (holder, reader):
            thread.join(SECONDS)
    assert client.get().generation == 1


def test_a_child_makes_its_own_client_of_a_store() -> None:
    made: list[int] = []

    def make() -> int:
        made.append(os.getpid())
        return len(made)

    client = per_process(make)
    assert (client(), client()) == (1, 1)
    assert in_child(lambda: 10 * client() + client()) == 22
    assert (client(), made) == (1, [os.getpid()])
