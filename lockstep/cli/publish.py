"""`lockstep plan compile` and `lockstep plan publish`: the plan as the functions read it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from msgspec import structs
from rich.progress import BarColumn

from lockstep.cli.documents import CompiledPlan, PublishedIn, ShardOfPlan
from lockstep.cli.operator import operator
from lockstep.cli.output import (
    DEFAULT_PLAN,
    SHOWN_IDS,
    AsJson,
    DryRun,
    Exit,
    PlanFile,
    complain,
    print_json,
    say,
    say_aside,
    source_or_exit,
    wrong_use,
)
from lockstep.cli.progress import progress_bar
from lockstep.clouds import Clouds
from lockstep.errors import PlanAccessDeniedError
from lockstep.identity import DEPLOYER, Cloud
from lockstep.plan import Plan
from lockstep.plan_checks import publication_problems
from lockstep.plan_messages import in_order
from lockstep.published.compiling import Published, compile_plan
from lockstep.published.places import INDEX, folder_of, place_in_aws, place_in_oci
from lockstep.published.publishing import NO_BUCKET, PlanBucket, state_of, write, write_folder
from lockstep.wall_clock import cron_expression

_DEPLOYED = "functions read the plan that they were deployed with; whether that is this one: lockstep doctor --in-cloud"


def compile_(
    *,
    file: PlanFile = DEFAULT_PLAN,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Write the documents and CA files below this folder, as plans/<digest>/."),
    ] = None,
    digest: Annotated[bool, typer.Option("--digest", help="Print the digest alone, for programs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compile the plan into the documents that the functions read, and print its digest.

    This calls no cloud and no database. The digest stands for every document: the same plan has the same digest on any
    machine, and a function that was deployed with it takes no other document. It is not the plan digest of a
    credential, which `plan check` prints, and which only names what both clouds must agree on.

    Exit code: 0 compiled, 2 the plan is not valid, or cannot be published.
    """
    if digest and as_json:
        raise wrong_use("give --digest or --json, not both")
    plan, published = _compiled(file)
    if folder:
        named = {ca_file for server in plan.databases for ca_file in server.ca_files}
        write_folder(
            published,
            folder / folder_of(published.digest),
            {ca_file.relative_to(file.parent): ca_file for ca_file in named},
        )
    if as_json:
        print_json(_document(plan, published))
        return
    if digest:
        say(published.digest)
        return
    say(f"digest {published.digest}")
    say(
        f"{len(plan.credential_sections):,} credentials, {len(published.files):,} documents, "
        f"{published.size:,} bytes; index.json {len(published.files[INDEX]):,}"
    )
    for shard in plan.shards:
        count = len(shard.credential_ids)
        say(f"  shard {shard.name}: {count:,} credentials, {cron_expression(shard.interval, shard.phase)}")
    if folder:
        say(f"written to {folder / folder_of(published.digest)}")


def publish(
    *,
    file: PlanFile = DEFAULT_PLAN,
    cloud: Annotated[
        Literal["aws", "oci", "both"],
        typer.Option("--cloud", help="Where to. In OCI only where the plan has runners.oci."),
    ] = "both",
    dry_run: DryRun = False,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Delete what is in the place of a document, and write the plan's own."
        ),
    ] = False,
    if_there: Annotated[
        bool,
        typer.Option(
            "--if-there", help="Do nothing where the bucket does not exist: a deployment makes it first."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the compiled plan into the bucket from which the functions of a cloud read it.

    Nothing is written over, and what is there is skipped: repeat the command after an interruption, and it goes on
    where it was. Nothing that runs changes: a function reads the documents of the digest that it was deployed with.

    The bucket is named after the audit bucket, with `-plans` at its end; `make deploy-aws` and `make deploy-oci` make
    it, and call this command. Where a document has other content than the plan's, somebody else wrote it. Functions
    refuse it; with --replace it is deleted, and stays as an older version of its object.

    Exit code: 0 everything is there, or with --dry-run could be, 1 a document has other content, 2 the plan is not
    valid, or cannot be published, 3 a bucket was unreachable, missing (without --if-there) or denied.
    """
    plan, published = _compiled(file)
    clouds = operator(plan, identity=DEPLOYER)
    found, wanted = [], _wanted(plan, cloud)
    for each in wanted:
        bucket, address = _bucket(plan, clouds, each, published.digest)
        try:
            outcome = _published(bucket, published, clouds, each, address, dry_run=dry_run, replace=replace)
        except PlanAccessDeniedError as error:
            if not if_there or error.where.get("code") not in NO_BUCKET:
                raise
            say_aside(f"{address}: its bucket does not exist yet")
            continue
        found.append(outcome)
        if not as_json:
            _show(found[-1], dry_run=dry_run)
    if not as_json:
        say(
            _DEPLOYED
            if wanted
            else "nothing to publish: the plan has no runners.oci, so no function in OCI reads it"
        )
    if as_json:
        print_json(structs.replace(_document(plan, published), dry_run=dry_run, clouds=found))
    if any(each.different for each in found):
        raise typer.Exit(Exit.NO)


def _compiled(file: Path) -> tuple[Plan, Published]:
    source = source_or_exit(file)
    if told := list(publication_problems(source.plan, file.parent)):
        problems = in_order(map(source.located, told))
        raise wrong_use(f"{file} cannot be published:", name="PlanNotDeployable", problems=problems)
    return source.plan, compile_plan(source.plan.compiled, source.plan.shards, file.parent)


def _document(plan: Plan, published: Published) -> CompiledPlan:
    return CompiledPlan(
        digest=published.digest,
        credentials=len(plan.credential_sections),
        documents=len(published.files),
        bytes=published.size,
        shards=[
            ShardOfPlan(
                name=shard.name,
                credentials=len(shard.credential_ids),
                schedule=cron_expression(shard.interval, shard.phase),
            )
            for shard in plan.shards
        ],
    )


def _wanted(plan: Plan, cloud: Literal["aws", "oci", "both"]) -> tuple[Cloud, ...]:
    running: tuple[Cloud, ...] = ("aws", "oci") if plan.runners.oci else ("aws",)
    return tuple(each for each in running if cloud in (each, "both"))


def _bucket(plan: Plan, clouds: Clouds, cloud: Cloud, digest: str) -> tuple[PlanBucket, str]:
    """The folder of the plan in a cloud, and its address."""
    if cloud == "aws":
        from lockstep.aws.plan_bucket import S3PlanBucket  # noqa: PLC0415 - the other cloud needs none of it

        in_aws = place_in_aws(plan.compiled, digest)
        client = clouds.aws("s3", plan.audit.aws.region)
        return S3PlanBucket(client, in_aws.bucket, folder_of(digest)), str(in_aws)
    from lockstep.oci.plan_bucket import ObjectStoragePlanBucket  # noqa: PLC0415 - likewise

    in_oci = place_in_oci(plan.compiled, digest)
    return (
        ObjectStoragePlanBucket(
            clouds.oci(in_oci.region or ""),
            namespace=in_oci.namespace,
            bucket=in_oci.bucket,
            folder=folder_of(digest),
        ),
        str(in_oci),
    )


def _published(
    bucket: PlanBucket,
    published: Published,
    clouds: Clouds,
    cloud: Cloud,
    address: str,
    *,
    dry_run: bool,
    replace: bool,
) -> PublishedIn:
    """Publish in one cloud; what became of it."""
    state = state_of(bucket, published)
    replacing = state.different if replace else frozenset[str]()
    names, different = state.wanting(replace=replace), state.different - replacing
    if not dry_run:
        with _progress(cloud, total=len(published.files), there=len(state.same)) as done:
            different |= write(bucket, published, names, clock=clouds.clock, done=done, replacing=replacing)
    # The index is kept back as long as something else is in a place.
    written = names - different - ({INDEX} if different else set())
    return PublishedIn(
        cloud=cloud,
        there=len(state.same),
        written=len(written),
        replaced=len(written & state.different),
        different=sorted(different),
        address=address,
    )


@contextmanager
def _progress(cloud: str, *, total: int, there: int) -> Iterator[Callable[[str], None]]:
    """Shows how many documents are there."""
    with progress_bar(BarColumn()) as progress:
        task = progress.add_task(cloud, total=total, completed=there)
        yield lambda _name: progress.advance(task)


def _show(found: PublishedIn, *, dry_run: bool) -> None:
    verb = "would be written" if dry_run else "written"
    say(f"{found.address}")
    say(f"  {found.there:,} documents were there, {found.written:,} {verb}")
    if found.replaced:
        say(f"  {found.replaced:,} of these in the place of something else", style="yellow")
    different = found.different
    if different:
        complain(f"  {len(different):,} have other content than the plan's, so functions refuse them:")
        for name in different[:SHOWN_IDS]:
            complain(f"    {name}")
        if len(different) > SHOWN_IDS:
            complain(f"    and {len(different) - SHOWN_IDS:,} more")
        complain("  find out who wrote them, and put the plan's own there: lockstep plan publish --replace")
