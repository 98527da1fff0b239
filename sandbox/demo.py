"""`make demo`: real rotations in both clouds on this machine, while applications log in without a pause.

Some read the stores through `lockstep.client`. One asks the agent over HTTP, and one is a script that runs psql with
the `.pgpass` file that the agent keeps. Afterwards, without them: a database that was restored from a backup is
enrolled, and a leaked password is revoked. It writes the audit report as a page, and ends with one line of JSON. The
status is 1 if a login was refused, a rotation did not end as expected, or an audit chain does not verify.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.live import Live

from lockstep.audit.report.build import build
from lockstep.audit.report.evidence import evidence
from lockstep.audit.report.page import page
from lockstep.audit.verify import Verification
from lockstep.client import CredentialClient, Source, aws_source, oci_ring_source
from lockstep.identity import CONFIG_FILE_VARIABLE
from lockstep.model import Credential, Engine
from lockstep.plan import Plan
from lockstep.store_kinds import OciVault
from lockstep.system import SystemClock
from sandbox.acts import Story, play, recover
from sandbox.agent import READER_MAY, running_agent
from sandbox.applications import (
    CACHE_SECONDS,
    Application,
    Applications,
    address_of,
    by_client,
    by_file,
    over_http,
)
from sandbox.databases import (
    CertificateAuthority,
    DatabaseServer,
    MariaDbServer,
    MySqlServer,
    PostgresServer,
    available,
)
from sandbox.estate import Estate, running_estate
from sandbox.fn import running_function
from sandbox.oci import write_config_file
from sandbox.screen import screen
from sandbox.servers import default_credentials, default_servers

OVERLAP = "7s"
"""Longer than the applications keep a value, as the plan of a real credential must have it."""

REPORT = Path(__file__).resolve().parent.parent / "build" / "demo-report.html"

console = Console()


def main() -> int:
    """Run the demo; its exit code."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lockstep-demo-") as folder:
        servers = default_servers(CertificateAuthority(Path(folder)))
        _say_what_is_missing(servers)
        products = ", ".join(f"{s.product} {s.version}" for s in servers.values())
        console.print(f"Starting AWS (moto), OCI (emulator), {products} …", highlight=False)
        credentials = default_credentials(servers, overlap=OVERLAP)
        with (
            running_estate(credentials, servers, folder=Path(folder)) as estate,
            running_function(estate.function_environment) as function,
            _beside_an_agent(estate) as others,
        ):
            story = Story(function=function, say=_say)
            applications = Applications([*_with_client(estate), *others])
            with Live(
                console=console, refresh_per_second=8, get_renderable=lambda: screen(story, applications)
            ):
                with applications:
                    play(story, estate)
                    # Each application reads its store once more.
                    time.sleep(CACHE_SECONDS + 1)
                recover(story, estate)
            chains = estate.verify()
            _write_report(estate.plan, chains)
    return _report(story, applications, chains, seconds=time.monotonic() - began)


def _say(line: str) -> None:
    if not console.is_terminal:  # Without a live screen, lines show the progress.
        console.print(line, highlight=False, soft_wrap=True)


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
        console.print("[red]No database server can be started here.[/]")
        sys.exit(2)


def _with_client(estate: Estate) -> list[Application]:
    """For each credential one application per store and database, so that each store's value is tried everywhere."""
    return [
        by_client(
            f"{_short(credential)} from {store} at {server.name}",
            CredentialClient([source], max_age_seconds=CACHE_SECONDS),
            server,
        )
        for credential in estate.plan.credentials
        for store, source in _sources(estate, credential).items()
        for server in credential.servers
    ]


@contextmanager
def _beside_an_agent(estate: Estate) -> Iterator[list[Application]]:
    """An agent that reads both clouds, and an application for each way to read it, where its database can be had."""
    scripts = [(c, s) for c in estate.plan.credentials for s in c.servers if s.engine is Engine.POSTGRESQL][
        :1
    ]
    askers = [
        (c, s) for c in estate.plan.credentials for s in c.servers if s.engine is not Engine.POSTGRESQL
    ][:1]
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
                    f"{_short(credential)} from agent at {server.name}",
                    port=agent.port,
                    token=agent.token,
                    secret=credential.secret_names.app_user,
                    address=address_of(server),
                )
                for credential, server in askers
            ),
            *(
                by_file(
                    f"{_short(credential)} from .pgpass at {server.name}",
                    pgpass,
                    address=address_of(server),
                    folder=copies,
                )
                for credential, server in scripts
            ),
        ]


def _sources(estate: Estate, credential: Credential) -> dict[str, Source]:
    secret = credential.secret_names.app_user
    vault = estate.plan.store(OciVault)
    if not isinstance(vault, OciVault):
        raise TypeError("the plan of both clouds has an OCI store")
    return {
        "aws": aws_source(secret, region=estate.aws.region),
        "oci": oci_ring_source(
            secret,
            region=vault.region,
            compartment_id=vault.compartment_id,
            vault_id=vault.vault_id,
            slots=vault.ring,
            credential_id=credential.id,
        ),
    }


def _short(credential: Credential) -> str:
    return credential.id.rpartition("/")[2]


def _write_report(plan: Plan, chains: dict[str, list[Verification]]) -> None:
    now = SystemClock().now()
    report = build(
        [evidence(credential, chains[credential.id]) for credential in plan.credentials],
        since=now - timedelta(days=1),
        now=now,
        lock=f"{plan.lock.table}, {plan.lock.region}",
    )
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(page(report), encoding="utf-8")


def _report(
    story: Story, applications: Applications, chains: dict[str, list[Verification]], *, seconds: float
) -> int:
    console.print()
    verifications = [v for found in chains.values() for v in found]
    for credential_id, found in chains.items():
        for v in found:
            verdict = "[green]verified[/]" if v.verified else f"[red]{'; '.join(map(str, v.problems))}[/]"
            console.print(
                f"audit chain of {credential_id}, stream {v.stream}: "
                f"{len(v.entries)} entries, {v.witnessed} witnesses, {verdict}",
                highlight=False,
                soft_wrap=True,
            )
    for problem in story.problems:
        console.print(f"[red]{problem}[/]", highlight=False)
    console.print(f"audit report: {REPORT}", highlight=False, soft_wrap=True)
    figures = {
        "rotations": sum(run.outcome == "rotated" for run in story.runs),
        "by_aws": sum(run.outcome == "rotated" and run.runner == "aws" for run in story.runs),
        "by_oci": sum(run.outcome == "rotated" and run.runner == "oci" for run in story.runs),
        "adopted": sum(run.adopted for run in story.runs),
        "logins": applications.logins,
        "refused": len(applications.refusals),
        "troubles": len(applications.troubles),
        "audit_entries": sum(len(v.entries) for v in verifications),
        "audit_witnesses": sum(v.witnessed for v in verifications),
        "audit_verified": all(v.verified for v in verifications),
        "slowest_login_ms": round(max(a.slowest_seconds for a in applications.all) * 1000),
        "seconds": round(seconds, 1),
    }
    sys.stdout.flush()
    print(json.dumps(figures))  # noqa: T201 - for other programs, so not wrapped or coloured
    nothing_refused = not applications.refusals and not applications.troubles
    every_application_worked = all(a.logins for a in applications.all)
    holds = not story.problems and nothing_refused and every_application_worked and figures["audit_verified"]
    return 0 if holds else 1


if __name__ == "__main__":
    argparse.ArgumentParser(
        prog="python -m sandbox.demo", description=__doc__.partition("\n")[0]
    ).parse_args()
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
