"""`make demo`: real rotations in both clouds on this machine, while applications log in without a pause.

They read the stores through `lockstep.client`. Afterwards, without them: a database that was restored from a backup is
repaired, and a leaked password is revoked. Each act says what is about to happen; what fails on purpose is called so.
Then the clouds' clocks go on by an hour, in which each makes digests and confirms those of the other one. It writes
the audit report as a page, and ends with three sentences and one line of JSON. The status is 1 if a login was refused,
a rotation did not end as expected, or the audit log is not verified and confirmed.
"""

import json
import sys
import textwrap
import time
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lockstep.audit.verify import Verification, Verifier
from lockstep.client import CredentialClient
from lockstep.operate.report.build import build, page, report_on
from lockstep.plan.model import Plan
from sandbox.acts import WITH_APPLICATIONS, WITHOUT_APPLICATIONS, Stage, play
from sandbox.applications import CACHE_SECONDS, Application, Applications, by_client, sources
from sandbox.emulators.databases import (
    CertificateAuthority,
    DatabaseServer,
    MariaDbServer,
    MySqlServer,
    PostgresServer,
    available,
)
from sandbox.estate import Estate, running_estate, temporary_folder
from sandbox.fn import running_function
from sandbox.servers import default_credentials, default_servers
from sandbox.story import CLOUDS, Line, Story, failures, figures, sentences, short

OVERLAP = "7s"
"""Longer than the applications keep a value, as the plan of a real credential must have it."""

REPORT = Path(__file__).resolve().parent.parent / "build" / "demo-report.html"

console = Console()


def main() -> int:
    """Run the demo; its exit code."""
    began = time.monotonic()
    with temporary_folder() as folder:
        servers = default_servers(CertificateAuthority(Path(folder)))
        _say_what_is_missing(servers)
        story = Story(tell=_tell, acts=len(WITH_APPLICATIONS + WITHOUT_APPLICATIONS))
        _tell(Line(_opening(servers)))
        _tell(
            Line("A password's number is its generation; runs that make no new password leave numbers out.")
        )
        credentials = default_credentials(servers, overlap=OVERLAP)
        with (
            running_estate(credentials, servers, folder=Path(folder)) as estate,
            running_function(estate.function_environment) as function,
        ):
            stage = Stage(story, estate, function)
            applications = Applications(_with_client(estate))
            with Live(
                console=console, refresh_per_second=8, get_renderable=lambda: screen(story, applications)
            ):
                with applications:
                    play(stage, WITH_APPLICATIONS)
                    story.note(
                        f"waiting {CACHE_SECONDS + 1:.0f} seconds until every application has read its store once more"
                    )
                    time.sleep(CACHE_SECONDS + 1)
                story.now = "the applications have stopped"
            if not console.is_terminal:  # rich ends a live display's last line on terminals only.
                console.line()
            play(stage, WITHOUT_APPLICATIONS)
            _tell(Line(""))
            _tell(
                Line(
                    "The clouds' clocks go on by an hour, in which each makes a digest of its audit log and confirms "
                    "the other one's. Then the log is verified, as an auditor does …"
                )
            )
            verifier, chains = estate.verify()
            now = estate.digests.clock.now()
            _write_report(estate.plan, verifier, chains, now)
    keys = len(estate.plan.runners.secrets)
    return tell_end(story, applications, verifier, chains, seconds=time.monotonic() - began, runner_keys=keys)


def _tell(line: Line) -> None:
    print_line(console, line)


def _opening(servers: dict[str, DatabaseServer]) -> str:
    products = ", ".join(f"{s.product} {s.version}" for s in servers.values())
    return (
        "For two to three minutes Lockstep rotates real passwords on this machine, while applications log in without "
        f"a pause. Starting AWS (moto), OCI (emulator), {products}, which takes up to a minute …"
    )


def _say_what_is_missing(servers: dict[str, DatabaseServer]) -> None:
    there = available()
    for kind in (MariaDbServer, MySqlServer, PostgresServer):
        if not there[kind]:
            console.print(f"[yellow]{there[kind].missing}[/]", highlight=False)
    if not servers:
        console.print("[red]No database server can be started here. Install them with `make setup`.[/]")
        sys.exit(2)


def _with_client(estate: Estate) -> list[Application]:
    """For each credential one application per store and database, so that each store's value is tried everywhere."""
    return [
        by_client(
            f"{short(credential.id)} from {store} at {server.name}",
            CredentialClient([source], max_age_seconds=CACHE_SECONDS),
            server,
        )
        for credential in estate.plan.credentials
        for store, source in sources(estate.plan, credential).items()
        for server in credential.servers
    ]


def _write_report(
    plan: Plan, verifier: Verifier, chains: dict[str, list[Verification]], now: datetime
) -> None:
    since = now - timedelta(days=1)
    report = build(
        [report_on(c, chains[c.id], since=since, now=now) for c in plan.credentials],
        verifier.digests.values(),
        since=since,
        now=now,
        lock=f"{plan.lock.table}, {plan.lock.region}",
    )
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(page(report), encoding="utf-8")


def tell_end(
    story: Story,
    applications: Applications,
    verifier: Verifier,
    chains: dict[str, list[Verification]],
    *,
    seconds: float,
    runner_keys: int,
) -> int:
    """Tell the end; the exit code."""
    for digests in verifier.digests.values():
        problems, until = "; ".join(digests.problems) or digests.unreadable, digests.confirmed
        told = problems or (f"confirmed until {until.moment:%H:%M} UTC" if until else "none is confirmed")
        style = "bold red" if problems or not until else "green"
        _tell(Line(f"digests of {CLOUDS[digests.stream]}: {len(digests.genuine)}; {told}", 2, style))
    for credential_id, verifications in chains.items():
        for v in verifications:
            verdict = "; ".join(map(str, v.problems)) or v.verdict
            text = f"{credential_id}, log of {CLOUDS[v.stream]}: {len(v.entries)} entries: {verdict}"
            _tell(Line(text, 2, "bold red" if v.problems or v.unreadable else "green"))
    found = figures(
        story, applications, verifier, list(chain(*chains.values())), seconds=seconds, runner_keys=runner_keys
    )
    failed = failures(story, applications, found)
    for line in sentences(found, failed, applications=len(applications.all), report=REPORT):
        _tell(Line(""))
        _tell(line)
    _tell(Line(""))
    sys.stdout.flush()
    print(json.dumps(found))  # noqa: T201 - for other programs, so not wrapped or coloured
    return 1 if failed else 0


def print_line(console: Console, line: Line) -> None:
    """Print a line within the console's width, wrapped at words only, so that a path stays whole."""
    indent = " " * line.indent
    text = textwrap.fill(
        line.text,
        width=console.width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    console.print(text, style=line.style or None, markup=False, highlight=False, soft_wrap=True)


def screen(story: Story, applications: Applications) -> Group:
    """What changes, at this moment."""
    return Group(Text(f"\nnow: {story.now}", style="bold"), _logins(applications))


def _logins(applications: Applications) -> Table:
    table = Table("application that logs in", box=None, header_style="dim")
    for name in ("generation", "logins", "refused", "slowest"):
        table.add_column(name, justify="right")
    for a in applications.all:
        refused = len(a.refusals)
        table.add_row(
            a.name,
            str(a.generation or ""),
            str(a.logins),
            Text(str(refused), style="bold red" if refused else "green"),
            f"{a.slowest_seconds * 1000:.0f} ms",
        )
    return table


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
