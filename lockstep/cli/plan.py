"""`lockstep plan`: check the plan, print it, its schema and the SQL that a DBA reviews and runs."""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lockstep.audit.chain import Entry, newest_numbers
from lockstep.audit.verify import read_object
from lockstep.aws.clients import known_regions
from lockstep.cli.orders import OrderContext, give_each, order_context
from lockstep.cli.output import (
    CredentialArguments,
    DryRun,
    NamedCredentials,
    chosen,
    complain,
    gave_json,
    no,
    out,
    plan_file,
    plan_or_exit,
    progress,
    say,
    say_aside,
    say_fields,
    shown_ids,
    source_or_exit,
    wrong_use,
)
from lockstep.operate.access import operator, running, streams
from lockstep.operate.documents import FEW, Exit
from lockstep.operate.plan_sql.scripts import LiveRoleError, provisioning
from lockstep.plan import limits
from lockstep.plan.checks import (
    awaited_values,
    example_values,
    missing_ca_files,
    publication_problems,
    unknown_regions,
)
from lockstep.plan.diff import plan_changes
from lockstep.plan.fields import format_duration
from lockstep.plan.file import Problem, in_order, plan_schema, schema_text
from lockstep.plan.published import (
    INDEX,
    NO_BUCKET,
    PlanInBucket,
    Published,
    compile_plan,
    place_in_aws,
    place_in_oci,
    state_of,
    write_plan,
)
from lockstep.protocol.errors import (
    AuditLogAccessDeniedError,
    AuditLogUnreachableError,
    PlanAccessDeniedError,
)
from lockstep.protocol.model import Credential
from lockstep.protocol.orders import Activate, Order
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import DEPLOYER


def check() -> None:
    """Check the plan, and show what it means for each credential.

    This calls no cloud and no database. The plan digest of a credential must be the same in both clouds: compare what
    this command prints for the plan of each. Quotas that the account must have raised are shown, with --json all of
    them.

    Exit code: 0 valid, 2 not valid, or with a missing CA file, values of an example, or more than a quota that cannot
    be raised allows. Every mistake is listed with its line and column, with --json as `error.problems`. What only
    `make deploy-oci` prints, such as vault_id, may be an example until then: it is listed too.
    """
    file, source = plan_file(), source_or_exit()
    plan = source.plan
    told = (
        *example_values(plan),
        *unknown_regions(plan, {"aws": known_regions(), "oci": _regions_of_oci()}),
        *missing_ca_files(plan),
        *publication_problems(plan, file.parent),
    )
    problems = in_order(map(source.located, told))
    problems += [Problem("", str(use)) for use in limits.broken(plan)]
    if problems:
        text = f"{file} is a valid plan, but it cannot be deployed yet:"
        raise wrong_use(text, name="PlanNotDeployable", problems=problems)
    rows = [_row(credential) for credential in plan.credentials]
    awaited = [str(source.located(text)) for text in awaited_values(plan)]
    uses = list(limits.uses(plan))
    if gave_json({"awaited": awaited, "credentials": rows, "quotas": uses}):
        return
    for row in rows[:FEW]:
        say_fields(row["credential"], {name: row[name] for name in row if name != "credential"})
    if len(rows) > FEW:
        say(f"and {len(rows) - FEW:,} more credentials: --json has them all")
    plaintext = [f"{server.name}: {server.plaintext}" for server in plan.databases if server.plaintext]
    for text in (*plaintext, *(str(use) for use in uses if use.exceeded), *awaited):
        say(text, style="yellow")
    say(f"{file}: valid")


def _row(credential: Credential) -> dict[str, str]:
    return {
        "credential": credential.id,
        "strategy": credential.strategy.value,
        "logins": ", ".join(credential.usernames),
        "databases": ", ".join(credential.databases),
        "every": format_duration(credential.schedule.interval),
        "overlap": format_duration(credential.schedule.overlap),
        "plan_digest": credential.plan_digest,
    }


def _regions_of_oci() -> Sequence[str]:
    try:
        from lockstep.oci.clients import KNOWN_REGIONS  # noqa: PLC0415 - the extra may be missing
    except ModuleNotFoundError:
        return ()
    return KNOWN_REGIONS


def sql(
    credentials: CredentialArguments = None,
    *,
    database: Annotated[str | None, typer.Option("--database", "-d", help="Only this database.")] = None,
    existing: Annotated[
        bool, typer.Option("--existing", help="For live accounts of MySQL and MariaDB.")
    ] = False,
) -> None:
    """Print the one-time SQL of each database.

    It creates what is missing: logins with equal rights, and a rotation user that can only rotate. It first checks that
    nothing on the server would lock an account out, and stops if something would. With --existing it shows what
    changes for running applications; PostgreSQL has no such script, since a DBA prepares a live role there
    (docs/how-to/postgresql-live-login.md). It holds no password and changes none. Review it, and run it as an
    administrator. Rotation itself never creates users or grants.

    Exit code: 0 printed, 2 the plan is not valid or has no such credential, database or script.
    """
    plan = plan_or_exit()
    try:
        scripts = [
            provisioning(plan, credential, server, existing=existing).text()
            for credential in chosen(plan, credentials)
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


def render() -> None:
    """Print the plan with its variables replaced.

    CDK, Terraform and the bundles take such a file only, so that both clouds get what was reviewed. CA files stay
    relative: write it into the folder of the plan.

    Exit code: 0 printed, 2 the plan is not valid.
    """
    typer.echo(source_or_exit().text, nl=False)


def schema() -> None:
    """Print the JSON Schema of the plan file, for editors.

    Write it beside the plan, as lockstep.schema.json, and let the plan begin with the line
    `# yaml-language-server: $schema=lockstep.schema.json`.

    Exit code: 0.
    """
    typer.echo(schema_text(plan_schema()), nl=False)


# `lockstep plan diff`: what changes between two plans, in the order in which it is safe.


def diff(
    old: Annotated[Path, typer.Argument(help="The file of the plan that is active.")],
    new: Annotated[Path, typer.Argument(help="The file of the plan that is to become active.")],
) -> None:
    """Show what must happen, and in which order, so that a new plan locks no application out.

    This calls no cloud and no database. It compares two files, so the first one must be the plan under which runs act:
    `status` shows its digest, `check` that of a file.

    Exit code: 0 safe in the order that is printed, 1 refused, 2 one of the plans is not valid.
    """
    changes = plan_changes(plan_or_exit(old), plan_or_exit(new))
    if not gave_json(changes):
        for refusal in changes.refusals:
            complain(f"{refusal.what}: {refusal.why}")
        for number, step in enumerate(changes.steps if changes.safe else (), start=1):
            say(f"{number}. {step.what}: {step.do}")
        if changes.safe and not changes.steps:
            say("nothing changes that readers or both runners must agree on")
    if not changes.safe:
        raise typer.Exit(Exit.NO)


# `lockstep apply`: make the plan file's plan of a credential the one under which runs act.

_no = partial(no, name="NotActivated")
_DIGEST = re.compile("[0-9a-f]{64}")
LOOK_BACK = 100
"""How many entries of a stream are searched for the last rotation: more than a day."""


def apply(
    credentials: NamedCredentials,
    *,
    replaced: Annotated[
        list[str] | None,
        typer.Option("--from", help="The plan that is active now: its digest, or its file. Once for each."),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(help="A database or store that leaves, after its readers. Once for each."),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Make this plan file's plan of a credential the active one, in both clouds.

    Runs act under the active plan only. `check` prints the digest of the plan file, `status` the active one.
    Deploy the plan to both clouds first. The next run of a cloud that has it proves the login on every database and
    makes the plan active; from then on, runs under the old one change nothing. Applications may use a new database only
    after that, and must leave a dropped one before. To activate the plan that is active withdraws the order for another
    one.

    For many credentials give a pattern, and the plan file that is active now: git show HEAD~:lockstep.yaml >
    before.yaml; lockstep apply '*' --from before.yaml. Repeat the command after a failure: what is
    ordered stays ordered. Each is activated by its next run.

    Exit code: 0 ordered (or active already), 1 refused, 3 the lock table or the audit log was unreachable.
    """
    plan = plan_or_exit()
    at = order_context(plan)
    wanted, dropped = chosen(plan, credentials), frozenset(drop or [])
    stores = {store.name for store in plan.stores}
    if kept := sorted(d for d in dropped if d in stores or all(d in c.databases for c in wanted)):
        raise wrong_use(f"--drop {', '.join(kept)}: this plan keeps it, so leave that out")
    digests = {name for name in replaced or () if _DIGEST.fullmatch(name)}
    files = [Path(name) for name in replaced or () if name not in digests]
    before = {(c.id, c.plan_digest) for before in files for c in plan_or_exit(before).credentials}

    order_for = partial(_activation, at, digests, before, dropped)
    give_each(wanted, at, order_for, dry_run=dry_run)


def _activation(
    at: OrderContext,
    digests: Collection[str],
    before: Collection[tuple[str, str]],
    dropped: frozenset[str],
    credential: Credential,
) -> Order:
    """The order, or exit code 1 where another plan is active than those that the operator has named."""
    active = at.read(credential).plan
    if active is None and digests:
        raise _no(f"{credential.id}: no plan is active, so leave out --from")
    if active not in {None, credential.plan_digest, *digests} and (credential.id, active) not in before:
        raise _no(
            f"{credential.id}: the active plan is {active}; "
            f"to replace it: lockstep apply {credential.id} --from {active}"
        )
    leaving = _leaving(at, credential, dropped) if active else ()
    return Activate(digest=credential.plan_digest, replaces=active, leaving=leaving)


def _leaving(at: OrderContext, credential: Credential, dropped: frozenset[str]) -> tuple[str, ...]:
    """The databases and stores that leave, each of which must be named in `--drop`."""
    last = _last_rotation(at, credential)
    if last is None:
        complain(
            f"{credential.id}: no rotation on record can be read, so what leaves the plan is not checked"
        )
        return tuple(sorted(dropped))
    if (usernames := tuple(last["usernames"])) != credential.usernames:
        raise _no(
            f"{credential.id}: the active plan has the usernames {', '.join(usernames)}; they and the strategy "
            "never change. Make a credential with another id"
        )
    here = {*credential.databases, *(store.name for store in at.plan.stores)}
    leaving = {*last["databases"], *last["stores"]} - here
    if unnamed := sorted(leaving - dropped):
        options = " ".join(f"--drop {name}" for name in unnamed)
        raise _no(
            f"{credential.id}: {', '.join(unnamed)} would leave. When no application uses it any more, add: {options}"
        )
    return tuple(sorted(leaving))


def _last_rotation(at: OrderContext, credential: Credential) -> Mapping[str, Any] | None:
    """What the newest rotation on record says, in any stream that can be read; archived entries cannot."""
    found: list[Entry] = []
    heads = at.clouds.lock(credential).read().heads
    for log, signer in streams(at.plan, at.clouds, credential):
        with suppress(AuditLogUnreachableError, AuditLogAccessDeniedError):
            for seq in newest_numbers(log, heads.get(log.stream), LOOK_BACK):
                # An entry whose signature is not valid is for `audit verify`.
                read = read_object(credential.id, log, signer, seq)
                if read.archived:
                    break
                if read.entry and read.entry.promoted is not None:
                    found.append(read.entry)
                    break
    newest = max(found, key=lambda entry: entry.time, default=None)
    return newest.details if newest else None


# `lockstep plan publish`: the plan as the functions read it, in the bucket of each cloud.

_DEPLOYED = "functions read the plan that they were deployed with; whether that is this one: lockstep doctor --in-cloud"


def publish(
    *,
    cloud: Annotated[Literal["aws", "oci", "both"], typer.Option(help="Where to.")] = "both",
    dry_run: DryRun = False,
    digest: Annotated[
        bool, typer.Option("--digest", help="Only print the digest, for programs; call no cloud.")
    ] = False,
    if_there: Annotated[
        bool, typer.Option("--if-there", help="Do nothing where the bucket does not exist yet.")
    ] = False,
) -> None:
    """Publish the compiled plan to the bucket from which the functions of a cloud read it.

    Nothing is written over, and what is there is skipped: repeat the command after an interruption. Nothing that runs
    changes: a function reads the documents of the digest that it was deployed with. The digest stands for every
    document, and the same plan has the same one on any machine. It is not the plan digest of a credential, which only
    names what both clouds must agree on.

    The bucket is named after the audit bucket, with `-plans` at its end; `make deploy-aws` and `make deploy-oci` make
    it, and call this command. Where a document has other content than the plan's, somebody else wrote it. Functions
    refuse it; delete it, and publish again.

    Exit code: 0 everything is there, or with --dry-run could be, 1 a document has other content, 2 the plan is not
    valid, or cannot be published, 3 a bucket was unreachable, missing (without --if-there) or denied.
    """
    file, source = plan_file(), source_or_exit()
    plan = source.plan
    if told := list(publication_problems(plan, file.parent)):
        problems = in_order(map(source.located, told))
        raise wrong_use(f"{file} cannot be published:", name="PlanNotDeployable", problems=problems)
    published = compile_plan(plan.compiled, plan.shards, file.parent)
    if digest:
        say(published.digest)
        return
    say(f"digest {published.digest}")
    say(
        f"{len(plan.credentials):,} credentials, {len(published.files):,} documents, {published.size:,} bytes"
    )
    wanted = [c for c in running(plan) if cloud in (c, "both")]
    if not wanted:
        say("nothing to publish: the plan has no runners.oci, so no function in OCI reads it")
        return
    clouds = operator(plan, identity=DEPLOYER)
    places = {"aws": place_in_aws, "oci": place_in_oci}
    forged = False
    for one_cloud in wanted:
        place = places[one_cloud](plan.compiled, published.digest)
        try:
            forged |= _publish(place, published, clouds, dry_run=dry_run)
        except PlanAccessDeniedError as error:
            if not if_there or error.where.get("code") not in NO_BUCKET:
                raise
            say_aside(f"{place}: its bucket does not exist yet")
    say(_DEPLOYED)
    if forged:
        raise typer.Exit(Exit.NO)


def _publish(place: PlanInBucket, published: Published, clouds: Clouds, *, dry_run: bool) -> bool:
    """Publish in one cloud, and show what became of it; whether a document has other content."""
    bucket = clouds.published(place)
    state = state_of(bucket, published)
    names, different = state.missing, state.different
    if not dry_run:
        with progress("writing") as done:
            different |= write_plan(bucket, published, names, clock=clouds.clock, done=done)
    # The index is kept back as long as something else is in a place.
    written = names - different - ({INDEX} if different else set())
    verb = "would be written" if dry_run else "written"
    say(str(place))
    say(f"  {len(state.same):,} documents were there, {len(written):,} {verb}")
    if different:
        complain(f"  {len(different):,} have other content than the plan's, so functions refuse them:")
        complain(f"    {shown_ids(sorted(different))}")
        complain(f"  find out who wrote them, delete them below {place}, and publish again")
    return bool(different)
