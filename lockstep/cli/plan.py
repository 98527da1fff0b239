"""`lockstep plan`: check the plan, print it, its schema and the SQL that a DBA reviews and runs."""

from typing import Annotated

import typer
from msgspec import structs

from lockstep import pace
from lockstep.cli import documents
from lockstep.cli.output import (
    DEFAULT_PLAN,
    FEW,
    AsJson,
    CredentialId,
    PlanFile,
    chosen,
    out,
    plan_or_exit,
    print_json,
    say,
    source_or_exit,
    wrong_use,
)
from lockstep.databases.provisioning import LiveRoleError, provisioning_sql
from lockstep.durations import format_duration
from lockstep.model import Credential
from lockstep.plan import Plan
from lockstep.plan_checks import example_values, missing_ca_files, publication_problems
from lockstep.plan_messages import Problem, in_order
from lockstep.plan_schema import plan_schema, schema_text
from lockstep.quotas import Use, Verdict, uses
from lockstep.store_kinds.oci_budget import version_budget
from lockstep.store_kinds.oci_vault import OciVault

app = typer.Typer(help="Check the plan file, print its SQL.", no_args_is_help=True)


@app.command()
def check(
    *,
    file: PlanFile = DEFAULT_PLAN,
    as_json: AsJson = False,
    before_oci: Annotated[
        bool,
        typer.Option(
            "--before-oci", help="What `make deploy-oci` prints, such as vault_id, may still be an example."
        ),
    ] = False,
) -> None:
    """Check the plan and show what it means: who may read its secrets, and how long a value works.

    This calls no cloud and no database. The plan digest of a credential must be the same in both clouds: compare what
    this command prints for the plan of each. Quotas of the clouds that the plan nears are shown, with --json all of
    them.

    Exit code: 0 valid, 2 not valid, or with a missing CA file, values of an example, or more than a quota that cannot
    be raised allows. Every mistake is listed with its line and column, with --json as `error.problems`.
    """
    source = source_or_exit(file)
    plan = source.plan
    found = uses(plan)
    told = (
        *example_values(plan, before_oci=before_oci),
        *missing_ca_files(plan),
        *publication_problems(plan, file.parent),
    )
    problems = in_order(map(source.located, told)) + [
        Problem("", str(use)) for use in found if use.verdict is Verdict.BREAKS
    ]
    if problems:
        text = f"{file} is a valid plan, but it cannot be deployed yet:"
        raise wrong_use(text, name="PlanNotDeployable", problems=problems)
    rows = [_row(plan, i) for i in range(len(plan.credentials))]
    if as_json:
        print_json(
            documents.Checked(
                valid=True,
                credentials=rows,
                starts=_starts(plan),
                quotas=[_quota(use) for use in found],
            )
        )
        return
    _show(plan, rows, found)
    say(f"{file}: valid")


def _show(plan: Plan, rows: list[documents.PlannedCredential], found: list[Use]) -> None:
    for row in rows[:FEW]:
        say(row.credential, style="bold")
        for name, value in structs.asdict(row).items():
            if name != "credential":
                say(f"  {name.replace('_', ' ')}: {value}")
    if len(rows) > FEW:
        say(f"and {len(rows) - FEW:,} more credentials: --json has them all")
    for server in plan.databases:
        if server.plaintext:
            say(f"{server.name}: {server.plaintext}", style="yellow")
    for use in found:
        if use.verdict is not Verdict.FITS:
            say(str(use), style="yellow")
    starts = _starts(plan)
    if starts.shards > 1:
        say(
            f"{starts.shards} shards; at the busiest minute, "
            f"{starts.busiest_minute}, {starts.rotations:,} rotations begin"
        )


def _starts(plan: Plan) -> documents.Starts:
    busiest = pace.busiest(plan.shards)
    return documents.Starts(
        shards=len(plan.shards),
        busiest_minute=str(busiest),
        rotations=busiest.rotations,
        concurrency=pace.concurrency(plan),
        every_ms=pace.every_ms(plan),
    )


def _quota(use: Use) -> documents.Quota:
    return documents.Quota(
        quota=use.name,
        limit=use.limit,
        unit=use.unit,
        need=round(float(use.need), 2),
        verdict=use.verdict.value,
        adjustable=use.adjustable,
        change=use.change,
        source=use.source,
    )


def _row(plan: Plan, index: int) -> documents.PlannedCredential:
    credential = plan.credentials[index]
    vault = plan.store(OciVault)
    peak = "no OCI store"
    if isinstance(vault, OciVault):
        budget = version_budget(credential.schedule.interval, vault.ring)
        peak = f"{budget.peak_in_use} in use, {budget.peak_pending} pending deletion, of 30 each"
    return documents.PlannedCredential(
        credential=credential.id,
        strategy=credential.strategy.value,
        logins=", ".join(credential.usernames),
        databases=", ".join(credential.databases),
        every=format_duration(credential.schedule.interval),
        overlap=format_duration(credential.schedule.overlap),
        a_value_works=_life(credential),
        readers=_readers(credential, vault),
        oci_versions=peak,
        plan_digest=credential.plan_digest,
    )


def _life(credential: Credential) -> str:
    """How long a value logs in: until its username's, or its password slot's, next turn."""
    interval, turns = credential.schedule.interval, max(2, len(credential.usernames))
    whole, leaked = format_duration(interval * turns), format_duration(interval * (turns - 1))
    return (
        f"for up to {whole}, and a leaked one for up to {leaked} after it was replaced, unless it is revoked"
    )


def _readers(credential: Credential, vault: OciVault | None) -> str:
    """What may read the secrets: whether the login of any one slot of a ring works (protocol V18)."""
    if vault is None or vault.slots_of_readers == 1:
        return "anything that reads the secret"
    if credential.lets_read_any_slot:
        return "anything that reads any one slot in OCI, or the secret in AWS"
    return (
        "in AWS anything that reads the secret; in OCI only what looks for the newest slot: lockstep agent or "
        f"lockstep.client. With users: {vault.slots_of_readers + 1} (alternating_users) anything may read any one slot"
    )


@app.command()
def sql(
    *,
    file: PlanFile = DEFAULT_PLAN,
    credential_id: CredentialId = None,
    database: Annotated[str | None, typer.Option("--database", "-d", help="Only this database.")] = None,
    existing: Annotated[
        bool,
        typer.Option(
            "--existing", help="For live accounts of MySQL and MariaDB that come under Lockstep's management."
        ),
    ] = False,
) -> None:
    """Print the one-time SQL of each database.

    It creates what is missing: logins with equal rights, and a rotator that can only rotate. It first checks that
    nothing on the server would lock an account out, and stops if something would. With --existing it shows what
    changes for running applications; PostgreSQL has no such script, since a DBA prepares a live role there
    (docs/how-to/postgresql-live-login.md). It holds no password and changes none. Review it, and run it as an
    administrator. Rotation itself never creates users or grants.

    Exit code: 0 printed, 2 the plan is not valid or has no such credential, database or script.
    """
    plan = plan_or_exit(file)
    try:
        scripts = [
            provisioning_sql(plan, credential, server, existing=existing)
            for credential in chosen(plan, credential_id)
            for server in credential.servers
            if database in {None, server.name}
        ]
    except LiveRoleError as error:
        raise wrong_use(str(error)) from None
    if not scripts:
        known = ", ".join(d.name for d in plan.databases)
        raise wrong_use(f"no database {database!r} for these credentials; the plan has: {known}")
    for script in scripts:
        out.print(script, markup=False, highlight=False, soft_wrap=True)


@app.command()
def render(*, file: PlanFile = DEFAULT_PLAN) -> None:
    """Print the plan with its variables replaced.

    CDK, Terraform and the bundles take such a file only, so that both clouds get what was reviewed. CA files stay
    relative: write it into the folder of the plan.

    Exit code: 0 printed, 2 the plan is not valid.
    """
    typer.echo(source_or_exit(file).text, nl=False)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the plan file, for editors.

    Write it beside the plan, as lockstep.schema.json, and let the plan begin with the line
    `# yaml-language-server: $schema=lockstep.schema.json`.

    Exit code: 0.
    """
    typer.echo(schema_text(plan_schema()), nl=False)
