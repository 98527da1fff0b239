"""Counts the calls of rotations and of commands, by the step that makes them."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lockstep.plan.published import WholePlan
from lockstep.protocol.messages import RunInput
from lockstep.protocol.model import Credential, Strategy
from lockstep.runtime import wiring
from lockstep.runtime.identity import OCI_RUNNER
from oci_fn.retries import Retries
from oci_fn.sequence import rotate
from sandbox import plans
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.databases import CertificateAuthority
from sandbox.estate import Estate, Settings, running_estate
from sandbox.servers import default_servers

DATABASE = "orders"
MACHINE = "machine"
READ_BY_ANYONE = ("get_object", "anyone")


@dataclass
class World:
    """An estate with one credential and both runners, whose calls are counted by the step that makes them."""

    estate: Estate
    step: str = MACHINE
    seen: Counter[str] = field(default_factory=Counter)
    _number: int = 0

    def __post_init__(self) -> None:
        host = self.estate.aws.lambda_host
        host.before_call = lambda call, _event: self._go_on_in(call.function_name)
        host.after_call = lambda *_: self._go_on_in(MACHINE)
        self.estate.aws.on_request = self._see

    @property
    def credential(self) -> Credential:
        """The credential."""
        [found] = self.estate.plan.credentials
        return found

    def of(self, act: Callable[[], object], step: str = MACHINE) -> Counter[str]:
        """The calls of an act, as `step service operation`."""
        self._go_on_in(step)
        self.seen.clear()
        act()
        self._go_on_in(MACHINE)
        return Counter(self.seen)

    def by_aws(self) -> Counter[str]:
        """The calls of a rotation by the state machine."""

        def execute() -> None:
            done = self.estate.rotate(self.credential.id)
            assert done.status == "SUCCEEDED", done.cause

        self.estate.outside.expire_schedule(self.credential.id)
        return self.of(execute)

    def by_oci(self) -> Counter[str]:
        """The calls of a rotation by the function, whose process has just started."""
        self.estate.outside.expire_schedule(self.credential.id)
        runner = wiring.Runner(WholePlan(self.estate.plan.compiled), OCI_RUNNER)

        def run() -> None:
            self._number += 1
            given = RunInput(credential_id=self.credential.id, trigger="schedule")
            ports = runner.ports(self.credential.id)
            retries = Retries(ports.clock, deadline=ports.clock.monotonic() + 60)
            assert rotate(given, ports, retries, rotation_id=f"counted.{self._number}")

        return self.of(run, "function")

    def _see(self, service: str, operation: str) -> None:
        self.seen[f"{self.step} {service} {operation}"] += 1

    def _go_on_in(self, step: str) -> None:
        # It is AWS that reads the issuer's documents.
        records = [r for r in self.estate.oci.calls.records if (r.operation, r.principal) != READ_BY_ANYONE]
        self.seen.update(f"{self.step} {r.service} {r.operation}" for r in records)
        self.estate.oci.calls.clear()
        self.step = step


@contextmanager
def world() -> Iterator[World]:
    """An estate in both clouds with one database."""
    with tempfile.TemporaryDirectory(prefix="lockstep-count-") as folder:
        servers = {DATABASE: default_servers(CertificateAuthority(Path(folder)))[DATABASE]}
        credential = plans.credential(
            "multi-cloud/app_user", DATABASE, username="app_user", strategy=Strategy.ALTERNATING_USERS
        )
        settings = Settings(clouds=("aws", "oci"))
        # The back-off is not under test, so a retry follows at once.
        aws = AwsSandbox(retry_sleep=lambda _seconds: None)
        with running_estate([credential], servers, folder=Path(folder), settings=settings, aws=aws) as estate:
            yield World(estate)
