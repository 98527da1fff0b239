"""`make demo`: real rotations on this machine, under applications that log in all the while.

Ends with one line of JSON, and with status 1 if any claim of it does not hold: a login was refused, a rotation
failed, an audit chain does not verify.
"""

import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lockstep import wiring
from lockstep.audit.verify import Verification, verify
from lockstep.client import CredentialClient, aws_source
from sandbox.applications import Application, Applications
from sandbox.aws import Execution
from sandbox.databases import CertificateAuthority, MariaDbServer, PostgresServer, available
from sandbox.timeline import CALLS, duration_ms, spans
from sandbox.world import CredentialSpec, Server, World, default_servers, running_world

ROTATIONS_EACH = 4
CACHE_SECONDS = 5.0
OVERLAP = "7s"
"""Longer than the applications keep a value, as the plan of a real credential must have it."""

console = Console()


@dataclass
class Story:
    """What has happened so far, and what it proves."""

    rotations: list[tuple[str, Execution]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, credential_id: str, execution: Execution, *, expected: str) -> None:
        """Note a rotation, and whether it ended as it should."""
        self.rotations.append((credential_id, execution))
        outcome = execution.output["outcome"] if execution.output else execution.error
        if outcome != expected:
            self.problems.append(f"{credential_id}: {outcome} instead of {expected}")


def main() -> int:
    """Run the demo; its exit code."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lockstep-demo-") as folder:
        servers = default_servers(CertificateAuthority(Path(folder)))
        _say_what_is_missing(servers)
        console.print(
            f"Starting AWS (moto), {', '.join(f'{s.product} {s.version}' for s in servers.values())} …",
            highlight=False,
        )
        with running_world(_credentials(servers), servers, folder=Path(folder)) as world:
            story, applications = _rotate(world)
            chains = _verify(world)
    return _report(story, applications, chains, seconds=time.monotonic() - began)


def _say_what_is_missing(servers: dict[str, Server]) -> None:
    there = available()
    for kind in (MariaDbServer, PostgresServer):
        if not there[kind]:
            console.print(f"[yellow]{there[kind].missing}[/]", highlight=False)
    if "ledger" in servers and servers["ledger"].ca_file is None:
        console.print(
            "[yellow]Using the PostgreSQL that comes from PyPI: it speaks no TLS, "
            "so the plan says plaintext, on loopback only.[/]"
        )
    if not servers:
        console.print("[red]No database server can be started here.[/]")
        sys.exit(2)


def _credentials(servers: dict[str, Server]) -> list[CredentialSpec]:
    found = []
    if "orders" in servers:
        found.append(
            CredentialSpec(
                id="multi-cloud/app_user",
                username="app_user",
                strategy="dual_password",
                databases=("orders",),
                taken_over=True,
                more={"overlap": OVERLAP},
            )
        )
    if "ledger" in servers:
        found.append(
            CredentialSpec(
                id="multi-cloud/ledger_user",
                username="ledger",
                strategy="alternating_users",
                databases=tuple(servers),
                taken_over=True,
                more={"overlap": OVERLAP},
            )
        )
    return found


def _applications(world: World) -> list[Application]:
    return [
        Application(
            name=f"{credential.id.rpartition('/')[2]} at {server.name}",
            client=CredentialClient(
                [aws_source(credential.secret_names.app_user, region=world.aws.region)],
                max_age_seconds=CACHE_SECONDS,
            ),
            server=server,
        )
        for credential in world.plan.credentials
        for server in credential.servers
    ]


def _rotate(world: World) -> tuple[Story, Applications]:
    story = Story()
    applications = Applications(_applications(world))
    with (
        Live(console=console, refresh_per_second=8, get_renderable=lambda: _screen(story, applications)),
        applications,
    ):
        for _ in range(ROTATIONS_EACH):
            for credential in world.plan.credentials:
                execution = _forced_rotation(world, credential.id)
                story.add(credential.id, execution, expected="rotated")
                _say(credential.id, execution)
        # The applications go on for longer than they keep a value.
        time.sleep(CACHE_SECONDS + 1)
    return story, applications


def _forced_rotation(world: World, credential_id: str) -> Execution:
    """Rotate before it is due, but never before the overlap is over: until then the state machine skips."""
    deadline = time.monotonic() + 60
    while True:
        execution = world.rotate(credential_id, force=True, trigger="demo")
        skipped = execution.output and execution.output["outcome"] == "skipped"
        if not skipped or time.monotonic() > deadline:
            return execution
        time.sleep(0.5)


def _say(credential_id: str, execution: Execution) -> None:
    if not console.is_terminal:  # Where nobody sees the live screen, a line tells of the progress.
        output = execution.output or {"outcome": execution.error}
        console.print(
            f"{credential_id}: {output['outcome']} {output.get('generation', '')}, {duration_ms(execution)} ms",
            highlight=False,
        )


def _screen(story: Story, applications: Applications) -> Group:
    logins = Table(
        "application", "generation", "logins", "refused", "slowest", title="Applications, logging in"
    )
    for a in applications.all:
        logins.add_row(
            a.name,
            str(a.generation),
            str(a.logins),
            Text(str(len(a.refusals)), style="bold red" if a.refusals else "green"),
            f"{a.slowest_seconds * 1000:.0f} ms",
        )
    return Group(logins, _timeline(story))


def _timeline(story: Story) -> Table:
    took_ms = [{s.state: s.end_ms - s.begin_ms for s in spans(e)} for _, e in story.rotations]
    states = [state for state in CALLS if any(state in took for took in took_ms)]
    table = Table("credential", "outcome", "gen.", "ms", *states, title="Rotations, milliseconds per state")
    for (credential_id, execution), took in zip(story.rotations, took_ms, strict=True):
        output = execution.output or {}
        table.add_row(
            credential_id.rpartition("/")[2],
            str(output.get("outcome", execution.error)),
            str(output.get("generation", "")),
            str(duration_ms(execution)),
            *(str(took.get(state, "")) for state in states),
        )
    return table


def _verify(world: World) -> dict[str, list[Verification]]:
    found = {}
    for credential in world.plan.credentials:
        ports = wiring.build_aws_ports(world.plan, credential.id)
        found[credential.id] = verify(
            credential.id, [(ports.audit_log, ports.signer)], ports.lock.read().heads
        )
    return found


def _report(
    story: Story, applications: Applications, chains: dict[str, list[Verification]], *, seconds: float
) -> int:
    console.print()
    for credential_id, verifications in chains.items():
        for v in verifications:
            verdict = "[green]verified[/]" if v.verified else f"[red]{'; '.join(v.problems)}[/]"
            console.print(
                f"audit chain of {credential_id}, stream {v.stream}: {len(v.entries)} entries, {verdict}"
            )
    for problem in story.problems:
        console.print(f"[red]{problem}[/]")
    refused = len(applications.refusals)
    verified = all(v.verified for verifications in chains.values() for v in verifications)
    figures = {
        "rotations": sum(1 for _, e in story.rotations if e.output and e.output["outcome"] == "rotated"),
        "logins": applications.logins,
        "refused": refused,
        "troubles": len(applications.troubles),
        "audit_entries": sum(len(v.entries) for verifications in chains.values() for v in verifications),
        "audit_verified": verified,
        "slowest_login_ms": round(max(a.slowest_seconds for a in applications.all) * 1000),
        "rotation_ms": [duration_ms(e) for _, e in story.rotations],
        "seconds": round(seconds, 1),
    }
    sys.stdout.flush()
    print(json.dumps(figures))  # noqa: T201 - for other programs, so never wrapped or coloured
    every_application_worked = all(a.logins for a in applications.all)
    holds = not story.problems and not refused and not applications.troubles and verified
    return 0 if holds and every_application_worked else 1


if __name__ == "__main__":
    sys.exit(main())
