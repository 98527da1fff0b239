"""`lockstep plan`: check the plan, print the SQL that a DBA reviews and runs."""

from typing import Annotated

import typer
from rich.table import Table

from lockstep.cli.output import (
    AsJson,
    CredentialId,
    Exit,
    PlanFile,
    chosen,
    err,
    out,
    plan_or_exit,
    print_json,
)
from lockstep.databases.provisioning import provisioning_sql
from lockstep.oci.budget import version_budget
from lockstep.plan import OciVault, Plan

app = typer.Typer(help="The plan file.", no_args_is_help=True)


@app.command()
def check(file: PlanFile = "lockstep.yaml", as_json: AsJson = False) -> None:  # type: ignore[assignment]  # noqa: FBT002 - typer's way of a flag
    """Check the plan and say what it means; no cloud or database is asked."""
    plan = plan_or_exit(file)
    rows = [_row(plan, i) for i in range(len(plan.credentials))]
    if as_json:
        print_json({"valid": True, "credentials": rows})
        return
    table = Table("credential", "strategy", "logins", "databases", "every", "overlap", "OCI versions, peak")
    for row in rows:
        table.add_row(*(str(v) for v in row.values()))
    out.print(table)
    for server in plan.databases:
        if server.plaintext:
            out.print(f"[yellow]{server.name}: {server.plaintext}[/]", highlight=False)
    out.print(f"{file}: valid", highlight=False)


def _row(plan: Plan, index: int) -> dict[str, str]:
    credential = plan.credentials[index]
    vault = plan.store(OciVault)
    peak = "no OCI store"
    if isinstance(vault, OciVault):
        budget = version_budget(credential.interval, vault.ring)
        peak = f"{budget.peak_in_use} in use, {budget.peak_pending} pending deletion, of 30 each"
    return {
        "credential": credential.id,
        "strategy": credential.strategy.value,
        "logins": ", ".join(credential.usernames),
        "databases": ", ".join(credential.databases),
        "every": str(credential.schedule.interval),
        "overlap": str(credential.schedule.overlap),
        "oci_versions": peak,
    }


@app.command()
def sql(
    file: PlanFile = "lockstep.yaml",  # type: ignore[assignment]
    credential_id: CredentialId = None,
    database: Annotated[str | None, typer.Option("--database", "-d", help="Only this database.")] = None,
) -> None:
    """Print the one-time SQL per database: logins with equal rights, and a rotator that can do no more than rotate.

    Review it, put passwords in, run it as an administrator. Rotation itself never creates users or grants.
    """
    plan = plan_or_exit(file)
    printed = False
    for credential in chosen(plan, credential_id):
        for server in credential.servers:
            if database in {None, server.name}:
                out.print(
                    provisioning_sql(plan, credential, server), markup=False, highlight=False, soft_wrap=True
                )
                printed = True
    if not printed:
        known = ", ".join(d.name for d in plan.databases)
        err.print(f"no database {database!r} for this; there are: {known}", markup=False)
        raise typer.Exit(Exit.USAGE)
