"""What the functions of these tests do; one side of it runs in their process, the other in the test's."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lockstep.protocol.errors import LockstepError
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from lockstep.stores.credential import Ports

FOLDER_VARIABLE, CALL_VARIABLE = "TESTS_FROZEN_FOLDER", "TESTS_FROZEN_CALL"
BOUND_SECONDS = 60.0
GENERATION = 1000
PASSWORD = "Late-hands-0000-aaaa"


def stage_in(store: str) -> Callable[[Ports], object]:
    """Stages a value in a store: several requests, of which the last one writes."""

    def call(ports: Ports) -> object:
        [found] = [s for s in ports.stores if s.name == store]
        return found.prepare(_value(ports).generation)(_value(ports))

    return call


def stage_on_database(ports: Ports) -> None:
    """Makes every database accept a value: reads the administrator's login, connects, takes a lock, stages."""
    for database in ports.databases.values():
        with database.exclusive() as stager:
            stager.stage(current=None, pending=_value(ports))


CALLS: dict[str, Callable[[Ports], object]] = {
    "aws": stage_in("aws"),
    "oci": stage_in("oci"),
    "database": stage_on_database,
}
"""Calls that are under way when their step ends, by name."""


def _value(ports: Ports) -> CredentialValue:
    return CredentialValue(GENERATION, Login(ports.credential.usernames[-1], SecretStr(PASSWORD)))


class Signs:
    """Files by which a function and its test tell each other how far they are."""

    def __init__(self, folder: Path) -> None:
        self.held = folder / "held"
        self.outcome = folder / "outcome"
        self.endless = folder / "endless"

    @classmethod
    def from_environment(cls) -> "Signs":
        """Those of this function."""
        return cls(Path(os.environ[FOLDER_VARIABLE]))


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Return when a condition holds."""
    give_up = time.monotonic() + BOUND_SECONDS
    while not holds():
        assert time.monotonic() < give_up, what
        time.sleep(0.01)


def wait_for(sign: Path) -> str:
    """The text of a sign, when it is there."""
    wait_until(sign.exists, sign.name)
    return sign.read_text()


def late_call(ports: Ports) -> Callable[[], None]:
    """The call that the environment names; its outcome becomes a sign."""

    def call() -> None:
        outcome = "done"
        try:
            CALLS[os.environ[CALL_VARIABLE]](ports)
        except LockstepError as error:
            outcome = type(error).__name__
        _write(Signs.from_environment().outcome, outcome)

    return call


def _write(sign: Path, text: str) -> None:
    draft = sign.with_suffix(".draft")
    draft.write_text(text)
    draft.rename(sign)


def environment(folder: Path, call: str) -> dict[str, Any]:
    """What a function of these tests is started with, besides what every function is."""
    return {FOLDER_VARIABLE: str(folder), CALL_VARIABLE: call}
