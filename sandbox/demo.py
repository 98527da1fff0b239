"""`make demo`: real rotations in both clouds on this machine, while applications log in without a pause.

Some read the stores through `lockstep.client`. One asks the agent over HTTP, and one is a script that runs psql with
the `.pgpass` file that the agent keeps. Afterwards, without them: a database that was restored from a backup is
repaired, and a leaked password is revoked. Each act says what is about to happen; what fails on purpose is called so.
Then the clouds' clocks go on by an hour, in which each makes digests and confirms those of the other one. It writes
the audit report as a page, and ends with three sentences and one line of JSON. The status is 1 if a login was refused,
a rotation did not end as expected, or the audit log is not verified and confirmed.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.live import Live

from lockstep.audit.verify import Verification, Verifier
from lockstep.client import CredentialClient
from lockstep.operate.report.build import build, report_on
from lockstep.operate.report.forms import page
from lockstep.plan.model import Plan
from lockstep.protocol.model import Engine
from lockstep.runtime.identity import CONFIG_FILE_VARIABLE
from sandbox.acts import WITH_APPLICATIONS, WITHOUT_APPLICATIONS, Stage, play, recover
from sandbox.agent import READER_MAY, running_agent
from sandbox.applications import (
    CACHE_SECONDS,
    Application,
    Applications,
    address_of,
    by_client,
    by_file,
    over_http,
    sources,
)
from sandbox.emulators.databases import (
    CertificateAuthority,
    DatabaseServer,
    MariaDbServer,
    MySqlServer,
    PostgresServer,
    available,
)
from sandbox.emulators.oci import write_config_file
from sandbox.ending import failures, figures, sentences
from sandbox.estate import Estate, running_estate
from sandbox.fn import running_function
from sandbox.page import running_page
from sandbox.screen import print_line, screen
from sandbox.servers import default_credentials, default_servers
from sandbox.story import CLOUDS, Line, Story, short

OVERLAP = "7s"
"""Longer than the applications keep a value, as the plan of a real credential must have it."""

REPORT = Path(__file__).resolve().parent.parent / "build" / "demo-report.html"

console = Console()


def main(*, serves: bool = False) -> int:
    """Run the demo; its exit code.

    Args:
        serves: Keep `lockstep serve` open meanwhile.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lockstep-demo-") as folder:
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
            _beside_an_agent(estate) as others,
            running_page(estate.folder, estate.plan_file) if serves else nullcontext() as page_of_all,
        ):
            if page_of_all:
                _tell(
                    Line(
                        f"Open {page_of_all.url} in a browser: it shows what follows, live, until the demo ends."
                    )
                )
            stage = Stage(story, estate, function)
            applications = Applications([*_with_client(estate), *others])
            with Live(
                console=console, refresh_per_second=8, get_renderable=lambda: screen(story, applications)
            ):
                with applications:
                    play(stage)
                    story.note(
                        f"waiting {CACHE_SECONDS + 1:.0f} seconds until every application has read its store once more"
                    )
                    time.sleep(CACHE_SECONDS + 1)
                story.now = "the applications have stopped"
            if not console.is_terminal:  # rich ends a live display's last line on terminals only.
                console.line()
            recover(stage)
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
    keys = len(list(estate.plan.runners.keys))
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
    if "ledger" in servers and servers["ledger"].ca_file is None:
        console.print(
            "[yellow]Using the PostgreSQL from PyPI, which has no TLS: "
            "the plan consents to plaintext, on loopback only.[/]"
        )
    if "ledger" in servers and not shutil.which("psql"):
        console.print("[yellow]There is no psql here: the agent's .pgpass is read by libpq in Python.[/]")
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


@contextmanager
def _beside_an_agent(estate: Estate) -> Iterator[list[Application]]:
    """An agent that reads both clouds, and an application for each way to read it, where its database can be had."""
    pairs = [(c, s) for c in estate.plan.credentials for s in c.servers]
    scripts = [(c, s) for c, s in pairs if s.engine is Engine.POSTGRESQL][:1]
    askers = [(c, s) for c, s in pairs if s.engine is not Engine.POSTGRESQL][:1]
    pgpass, copies = estate.folder / ".pgpass", estate.folder / "script"
    copies.mkdir(mode=0o700)
    settings = {
        "plan": str(estate.plan_file),
        "nearest": "oci",
        "files": [
            {"path": str(pgpass), "format": "pgpass", "credential": credential.id, "database": server.name}
            for credential, server in scripts
        ],
    }
    key = estate.oci.new_api_key("agent", *READER_MAY, compartment=estate.oci.compartment_id)
    identity = {CONFIG_FILE_VARIABLE: str(write_config_file(estate.folder, "agent", key))}
    with running_agent(estate.folder, settings, {**os.environ, **identity}) as agent:
        yield [
            *(
                over_http(
                    f"{short(credential.id)} from agent at {server.name}",
                    port=agent.port,
                    token=agent.token,
                    secret=credential.secret_names.app_user,
                    address=address_of(server),
                )
                for credential, server in askers
            ),
            *(
                by_file(
                    f"{short(credential.id)} from .pgpass at {server.name}",
                    pgpass,
                    address=address_of(server),
                    folder=copies,
                )
                for credential, server in scripts
            ),
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m sandbox.demo", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--serve",
        action="store_true",
        default=os.environ.get("DEMO_SERVE", "") not in {"", "0"},
        help="keep a page open that shows it live; DEMO_SERVE=1 does the same",
    )
    try:
        sys.exit(main(serves=parser.parse_args().serve))
    except KeyboardInterrupt:
        sys.exit(130)
