"""The sandbox's estate as the proof runs it: with a wire, a clock that jumps, and credentials of every kind."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from lockstep.protocol.deadlines import CloudTimeouts, DatabaseTimeouts, Timeouts
from lockstep.protocol.model import Credential, Strategy
from sandbox import plans
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer, MySqlServer, PostgresServer
from sandbox.emulators.oci import OciSandbox, SandboxClock
from sandbox.estate import Estate, Settings, running_estate
from sandbox.wire import Wire
from tests.proof.clock import JumpingClock

INTERVAL_SECONDS = 60 * 60
"""Longer than any lease."""

PATIENT = Timeouts(
    cloud=CloudTimeouts(read_seconds=60.0),
    database=DatabaseTimeouts(connect_seconds=10.0, io_seconds=60.0, lock_seconds=1),
)
"""So that a runner that is put to sleep in the middle of a call does not wake up by itself."""
IMPATIENT = Timeouts(
    cloud=CloudTimeouts(read_seconds=0.6),
    database=DatabaseTimeouts(connect_seconds=2.0, io_seconds=1.2, lock_seconds=1),
)
"""So that a hang costs a second; the shipped time-outs are 5 and 10."""

SERVERS: Mapping[str, type[MariaDbServer | MySqlServer | PostgresServer]] = {
    "orders": MariaDbServer,
    "ledger": PostgresServer,
    "crm": MySqlServer,
}
KINDS: Mapping[str, tuple[Strategy, tuple[str, ...]]] = {
    "mariadb": (Strategy.DUAL_PASSWORD, ("orders",)),
    "mysql": (Strategy.DUAL_PASSWORD, ("crm",)),
    "alternating": (Strategy.ALTERNATING_USERS, ("orders", "ledger")),
}
"""Kinds of credential: strategy and databases."""


class WiredEstate(NamedTuple):
    """An estate, what is in front of it, and its time."""

    running: Estate
    wire: Wire
    clock: JumpingClock

    def credential(self, kind: str) -> Credential:
        """The credential of a kind, with the servers' own ports."""
        found = self.running.direct.credential(f"proof/{kind}")
        assert found
        return found


@contextmanager
def estate(kinds: Sequence[str], timeouts: Timeouts = PATIENT) -> Iterator[WiredEstate]:
    """Start what the credentials of these kinds need."""
    with ExitStack() as stack:
        authority = CertificateAuthority(Path(stack.enter_context(TemporaryDirectory(prefix="lockstep-ca-"))))
        certificate = authority.issue()
        names = sorted({name for kind in kinds for name in KINDS[kind][1]})
        servers = {name: SERVERS[name](authority=authority, certificate=certificate) for name in names}
        credentials = [
            plans.credential(
                f"proof/{kind}",
                *KINDS[kind][1],
                username=f"proof_{kind}",
                strategy=KINDS[kind][0],
                interval=f"{INTERVAL_SECONDS // 3600}h",
            )
            for kind in kinds
        ]
        clock, wire = JumpingClock(), Wire()
        aws = AwsSandbox(retry_sleep=clock.jump, wall_clock=lambda: clock.now().timestamp())
        oci, settings = (
            OciSandbox(SandboxClock(clock.now), aws.names),
            Settings(timeouts=timeouts, clock=clock),
        )
        running = running_estate(credentials, servers, settings=settings, aws=aws, oci=oci, wire=wire)
        yield WiredEstate(stack.enter_context(running), wire, clock)
