"""Both clouds and one database behind a wire that can hold a call, for functions under their real runtimes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lockstep.protocol.model import Credential
from sandbox import plans
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer
from sandbox.estate import Estate, running_estate
from sandbox.outside import Value, lets_in
from sandbox.wire import Fault, FaultKind, Wire
from tests.frozen.work import BOUND_SECONDS, GENERATION, PASSWORD, Signs, wait_until

ACTS = ("warm", "leave", "join", "hang", "look")


@dataclass(frozen=True)
class World:
    """An estate with a credential for each act, and its wire."""

    estate: Estate
    wire: Wire

    def credential(self, act: str) -> Credential:
        """Its id ends in the act."""
        found = self.estate.direct.credential(f"frozen/{act}")
        assert found
        return found

    @contextmanager
    def holding_the_first_call(self, signs: Signs, *, sent: int = 1) -> Iterator[threading.Event]:
        """The first call is under way until the event is set.

        Args:
            signs: Gets the sign `held` when everything has arrived that is sent without the first call's answer.
            sent: How many calls that is. A call that has passed the scope's check may still be on its way here; if it
                were counted before it has arrived, it would look as if it had been sent after the scope was closed.
        """
        release = threading.Event()

        def asleep() -> None:
            wait_until(lambda: len(self.wire.calls) >= sent, f"{self.sent()} of {sent} calls")
            signs.held.write_text("")
            release.wait(BOUND_SECONDS)

        self.wire.asleep = asleep
        with self.wire.run(Fault(FaultKind.OVERTAKEN, at=1)):
            try:
                yield release
            finally:
                release.set()

    def took_effect(self, call: str, act: str) -> bool:
        """Whether what `tests.frozen.work` would have staged is there."""
        credential = self.credential(act)
        if call == "database":
            [server] = credential.servers
            return lets_in(server, Value(credential.usernames[-1], PASSWORD))
        return (
            self.estate.outside.holds("aws" if call == "aws" else "oci", credential, GENERATION) is not None
        )

    def sent(self) -> list[str]:
        """Every call in order, without numbers."""
        return [f"{c.target} {c.operation}" for c in self.wire.calls]


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """What runs."""
    authority = CertificateAuthority(tmp_path_factory.mktemp("ca"))
    servers = {"orders": MariaDbServer(authority=authority, certificate=authority.issue())}
    credentials = [plans.credential(f"frozen/{act}", "orders", username=f"frozen_{act}") for act in ACTS]
    wire = Wire()
    with running_estate(credentials, servers, folder=tmp_path_factory.mktemp("estate"), wire=wire) as running:
        yield World(running, wire)


@pytest.fixture
def signs(tmp_path: Path) -> Signs:
    """None is given yet."""
    return Signs(tmp_path)
