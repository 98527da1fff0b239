"""`lockstep secrets`: make the secrets of credentials in both clouds, and tag what people made."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Annotated, Literal

import typer

from lockstep.aws.reads import AwsReads
from lockstep.aws.reads import Client as AwsClient
from lockstep.cli.output import (
    CredentialArguments,
    DryRun,
    chosen,
    complain,
    err,
    json_in,
    no,
    plan_or_exit,
    print_json,
    progress_bar,
    say,
    say_aside,
    say_first,
    wrong_use,
)
from lockstep.operate import documents
from lockstep.operate.access import operator
from lockstep.operate.doctor.oci import vault_of
from lockstep.operate.documents import Exit
from lockstep.operate.formatting import wants_json
from lockstep.operate.secrets import (
    AWS_QUOTA,
    AWS_RATE,
    OCI_RATE,
    Action,
    Decision,
    Judgement,
    Outcome,
    Pace,
    Place,
    RingTerms,
    StackSettings,
    StackTerms,
    State,
    Wanted,
    Work,
    judge,
    ring_terms,
    rotated_in_aws,
    slots_in_oci,
    stack_settings,
    wanted,
)
from lockstep.operate.secrets_aws import StackSecrets, describe, tag
from lockstep.plan.admins import is_plain_name
from lockstep.plan.checks import awaited_values
from lockstep.plan.model import Plan
from lockstep.plan.stores import AwsSecretsManager, OciVault
from lockstep.protocol.model import AdminSecret
from lockstep.protocol.names import DEFAULT_STACK, KEY_OUTPUT
from lockstep.protocol.workers import at_the_same_time
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import DEPLOYER, Cloud
from lockstep.runtime.system import SystemClock

CDK_JSON = Path("cdk.json")
_OUTPUT = "terraform -chdir=oci_fn/terraform output -json secrets"
_STORES: Mapping[Cloud, type[AwsSecretsManager | OciVault]] = {"aws": AwsSecretsManager, "oci": OciVault}
_LINES = 10
"""Of progress, where nobody sees a bar."""
_STYLES = {State.READY: "green", State.TO_TAG: "yellow", State.TO_BE_MADE: ""}


def create(
    credentials: CredentialArguments = None,
    *,
    cloud: Annotated[Literal["aws", "oci", "both"], typer.Option(help="Where.")] = "both",
    dry_run: DryRun = False,
    stack: Annotated[
        str | None,
        typer.Option(envvar="LOCKSTEP_STACK", help="The stack in AWS.  [default: that of cdk.json]"),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="The cdk.json of the deployment.  [default: the one in this folder]")
    ] = None,
    terraform: Annotated[
        Path | None, typer.Option(help="For OCI: what `terraform output -json secrets` has printed.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, max=AWS_QUOTA, help="Writes a second.  [default: 25 in AWS, 5 in OCI]"),
    ] = None,
) -> None:
    """Make the secrets of credentials: in AWS two for each, in OCI the slots of their rings.

    `make deploy-aws` and `make deploy-oci` do this after each deployment, since the key must be there first. A secret
    gets the deployment's key, its tags, and a placeholder that the first rotation replaces. One that exists keeps its
    value; one of this stack gets the tags that it lacks. What is in the way is told with the command that fixes it: a
    secret of another stack, one that people made, one that is scheduled for deletion. Nothing is ever deleted.

    Repeating it is harmless, and makes what is new in the plan. Interrupt it as you like: what is made stays, and the
    next run goes on. It slows down while a service asks for that. With --dry-run it changes nothing.

    Exit code: 0 every secret is there, or would be, or the plan does not name the vault in OCI yet; 1 one is in the
    way, or the key is not known; 3 a service was unreachable, or throttles for minutes.
    """
    plan = plan_or_exit()
    ids = tuple(c.id for c in chosen(plan, credentials)) if credentials else ()
    clouds = operator(plan, identity=DEPLOYER)
    rooms: list[Target] = []
    if _is_meant(plan, "aws", cloud):
        terms = _stack_terms(plan, clouds, stack_of(settings, stack))
        rooms.append(aws_room(plan, clouds.aws, terms, ids, rate=rate or AWS_RATE))
    if _is_meant(plan, "oci", cloud) and (ring := terms_of(plan, terraform)):
        rooms.append(oci_room(plan, clouds, ring, ids, rate=rate or OCI_RATE))
    reports = [carried_out(room, is_dry=dry_run, is_quiet=wants_json()) for room in rooms]
    if wants_json():
        print_json(documents.Created(dry_run=dry_run, clouds=list(map(_report_document, reports))))
    else:
        for report in reports:
            show(report, is_dry=dry_run)
    if any(report.refused for report in reports):
        raise typer.Exit(Exit.NO)


def tag_command(
    credentials: CredentialArguments = None,
    *,
    stack: Annotated[str, typer.Option(help="`stack` in cdk.json.")] = DEFAULT_STACK,
    yes: Annotated[bool, typer.Option("--yes", help="Set the tags.")] = False,
) -> None:
    """Tag the secrets in AWS that people made, so that a stack's functions may use them.

    A stack's functions know its secrets by two tags. `lockstep secrets create` sets them on what it makes, and this
    command on what people made: the secrets of rotation users, the OCI API key, secrets of credentials that exist. It
    shows for each whether it exists, which KMS key encrypts it, and which tags it lacks. Without --yes it changes
    nothing. It never changes a tag that is there: a secret of another stack or of another kind is in the way.
    Repeating it is harmless. A key that is neither the stack's own nor that of Secrets Manager must be in
    `adopt.keys` of cdk.json.

    Exit code: 0 every secret is ready or is yet to be made by `lockstep secrets create`, 1 one is to be tagged, missing
    or in the way, 3 Secrets Manager was unreachable.
    """
    plan = plan_or_exit()
    ids: list[str | None] = [c.id for c in chosen(plan, credentials)] if credentials else [None]
    clouds = operator(plan)
    items = dict.fromkeys(item for id_ in ids for item in wanted(plan, id_))
    found = [_looked_up(clouds, item, stack=stack, yes=yes) for item in items]
    if wants_json():
        print_json(documents.Tagged(stack=stack, secrets=list(map(_judgement_document, found))))
    else:
        for item in found:
            _show_judgement(item)
        for secret in _listed_admins(plan):
            say(f"{secret}: admin, known by its ARN or its name of RDS: it needs no tags")
    states = {item.state for item in found}
    if State.TO_TAG in states and not wants_json():
        say("nothing was changed; to set the tags, repeat this with --yes")
    if states - {State.READY, State.TO_BE_MADE}:
        raise typer.Exit(Exit.NO)


@dataclass(frozen=True, kw_only=True)
class Target:
    """The secrets of one cloud.

    Attributes:
        names: Those that are to be there.
        rate: Writes a second.
    """

    cloud: Cloud
    place: Place
    names: Sequence[str]
    rate: float


@dataclass(kw_only=True)
class Report:
    """What has become of the secrets of one cloud.

    Attributes:
        total: How many there are.
        outcomes: What was seen, in no order.
    """

    cloud: Cloud
    total: int
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many of each kind."""
        done = Counter(o.decision.action for o in self.outcomes if o.is_done)
        left = Counter(o.decision.action for o in self.outcomes if not o.is_done)
        return {
            "made": done[Action.MAKE],
            "tagged": done[Action.TAG],
            "to_make": left[Action.MAKE],
            "to_tag": left[Action.TAG],
            "there": left[Action.NOTHING],
            "in_the_way": left[Action.REFUSE],
        }

    @property
    def described(self) -> list[tuple[Decision, bool]]:
        """All that was done, is to be done, or is to be known, by name."""
        found = [(o.decision, o.is_done) for o in self.outcomes]
        told = [one for one in found if one[0].action is not Action.NOTHING or one[0].problems]
        return sorted(told, key=lambda one: one[0].name)

    @property
    def refused(self) -> list[Decision]:
        """What is in the way."""
        return [decision for decision, _ in self.described if decision.action is Action.REFUSE]

    def line(self, *, is_dry: bool) -> str:
        """All of it in one line."""
        c = self.counts
        made, tagged = (c["to_make"], c["to_tag"]) if is_dry else (c["made"], c["tagged"])
        words = "to make, {} to tag" if is_dry else "made, {} tagged"
        same = "" if made or tagged else "; nothing " + ("is to be done" if is_dry else "was changed")
        return (
            f"{self.cloud}: {self.total:,} secrets: {c['there']:,} there already, {made:,} "
            f"{words.format(f'{tagged:,}')}, {c['in_the_way']:,} in the way{same}"
        )


def stack_of(settings: Path | None, stack: str | None) -> StackSettings:
    """The settings of the stack in AWS, or exit code 2."""
    file = settings or (CDK_JSON if CDK_JSON.exists() else None)
    try:
        found = stack_settings(json_in(file)) if file else StackSettings()
    except (OSError, ValueError) as error:
        raise wrong_use(f"{file} is no file of settings such as cdk.json: {error}") from None
    return StackSettings(stack=stack or found.stack, key=found.key, tags=found.tags)


def _stack_terms(plan: Plan, clouds: Clouds, settings: StackSettings) -> StackTerms:
    """What the stack gives its secrets, or exit code 1 where its key is not known."""
    region = rotated_in_aws(plan)[0].region
    key = settings.key or AwsReads(clouds.aws, region).stack_outputs(settings.stack).get(KEY_OUTPUT)
    if key is None:
        text = (
            f"stack {settings.stack} is not deployed in {region}, so the key of its secrets is not known; deploy it "
            "first (`make deploy-aws`), or name a key as adopt.encryption_key in cdk.json"
        )
        raise no(text, name="KeyUnknown")
    return StackTerms(stack=settings.stack, key=key, tags=settings.tags)


def aws_room(
    plan: Plan, client: AwsClient, terms: StackTerms, ids: tuple[str, ...] = (), *, rate: float = AWS_RATE
) -> Target:
    """The secrets of a stack.

    Args:
        plan: The plan, with a store in AWS.
        client: Gives a client of a service in a region, which tries each call once.
        terms: What the stack gives its secrets.
        ids: Of these credentials; none: of all.
        rate: Writes a second.
    """
    items = rotated_in_aws(plan, ids)
    place = StackSecrets(
        client=client("secretsmanager", items[0].region),
        terms=terms,
        wanted={item.name: item for item in items},
    )
    return Target(cloud="aws", place=place, names=[item.name for item in items], rate=rate)


def terms_of(plan: Plan, terraform: Path | None) -> RingTerms | None:
    """What Terraform gives each slot, or exit code 2; None, and said, where the plan does not name the vault yet."""
    vault = vault_of(plan)
    if terraform is None:
        raise wrong_use(
            "for the rings in OCI, Terraform says which key and tags they get; after its first apply run "
            f"`{_OUTPUT} > secrets.json`, and add --terraform secrets.json; for AWS alone, add --cloud aws"
        )
    try:
        found = ring_terms(json_in(terraform), region=vault.region)
    except (OSError, ValueError) as error:
        raise wrong_use(f"{terraform} is not what `{_OUTPUT}` prints: {error}") from None
    if examples := [text for text in awaited_values(plan) if text.startswith("stores")]:
        say_aside("\n".join(["oci: no slot is made yet; complete the plan, and repeat this:", *examples]))
        return None
    for name in ("compartment_id", "vault_id"):
        if (ours := getattr(vault, name)) != (theirs := getattr(found, name)):
            raise wrong_use(
                f"{terraform} is of another plan: its {name} is {theirs}, and the plan's is {ours}"
            )
    return found


def oci_room(
    plan: Plan, clouds: Clouds, terms: RingTerms, ids: tuple[str, ...] = (), *, rate: float = OCI_RATE
) -> Target:
    """The rings of a plan.

    Args:
        plan: The plan, with a store in OCI.
        clouds: Where they are.
        terms: What Terraform gives each slot.
        ids: Of these credentials; none: of all.
        rate: Writes a second.
    """
    from lockstep.operate.secrets_oci import RingSlots  # noqa: PLC0415 - the SDK is an extra

    vault = vault_of(plan)
    place = RingSlots(
        clouds.oci(vault.region),
        terms,
        own_compartment_id=vault.compile().compartment_of_own_secrets,
        store=vault.compile().name,
    )
    return Target(cloud="oci", place=place, names=slots_in_oci(plan, ids), rate=rate)


def carried_out(room: Target, *, is_dry: bool = False, is_quiet: bool = False) -> Report:
    """Do it, and show how far it is. If it ends early, what was done is said first.

    Raises:
        LockstepError: The first error of a service that does not pass.
    """
    report = Report(cloud=room.cloud, total=len(room.names))
    stop, clock = Event(), SystemClock()
    with _progress(report, is_quiet=is_quiet) as advance:

        def see(outcome: Outcome) -> None:
            report.outcomes.append(outcome)
            advance()

        work = Work(
            place=room.place,
            pace=Pace(room.rate, monotonic=clock.monotonic, sleep=stop.wait),
            side_by_side=at_the_same_time,
            sleep=stop.wait,
            see=see,
            stop=stop,
            is_dry=is_dry,
        )
        try:
            work.do(room.names)
        except BaseException:
            say_aside(
                f"stopped after {len(report.outcomes):,} of {report.total:,}; {report.line(is_dry=is_dry)}"
            )
            say_aside("what was made stays; repeat the command to go on")
            raise
    return report


@contextmanager
def _progress(report: Report, *, is_quiet: bool) -> Iterator[Callable[[], None]]:
    """A bar on a terminal; elsewhere a line for each tenth, unless there is little to do."""
    if not err.is_terminal:
        each = max(report.total // _LINES, _LINES)

        def tell() -> None:
            if not is_quiet and len(report.outcomes) % each == 0:
                say_aside(f"{report.cloud}: {len(report.outcomes):,} of {report.total:,}")

        yield tell
        return
    with progress_bar() as progress:
        task = progress.add_task(report.cloud, total=report.total)
        yield lambda: progress.update(task, advance=1)


def _is_meant(plan: Plan, one: Cloud, cloud: str) -> bool:
    """Whether the secrets of a cloud are to be made, or exit code 2 where the plan has no store there."""
    has_store = plan.store(_STORES[one]) is not None
    if cloud == one and not has_store:
        raise wrong_use(f"the plan has no store in {one.upper()}")
    return has_store and cloud in {one, "both"}


def show(report: Report, *, is_dry: bool = False) -> None:
    """What has become of the secrets of one cloud, for people; what is in the way goes to standard error."""
    for what, action in (("make", Action.MAKE), ("tag", Action.TAG)) if is_dry else ():
        names = [d.name for d, is_done in report.described if d.action is action and not is_done]
        say_first(say, names, before=f"would {what}: ", more="{} more; --json lists all")
    for decision in report.refused:
        complain(f"{decision.name}: {'; '.join(decision.problems)}")
        if decision.command:
            say(f"    {decision.command}", style="bold")
    for decision, _ in report.described:
        if decision.action is not Action.REFUSE and decision.problems:
            say(f"{decision.name}: {'; '.join(decision.problems)}", style="yellow")
    say(report.line(is_dry=is_dry), style="bold red" if report.refused else "green")


def _report_document(report: Report) -> documents.CreatedIn:
    return documents.CreatedIn(
        cloud=report.cloud,
        counts=report.counts,
        secrets=[
            documents.CreatedSecret(
                secret=decision.name,
                state=decision.action.value,
                done=is_done,
                problems=decision.problems,
                command=decision.command,
            )
            for decision, is_done in report.described
        ],
    )


def _looked_up(clouds: Clouds, item: Wanted, *, stack: str, yes: bool) -> Judgement:
    client = clouds.aws("secretsmanager", item.region)
    found = judge(item, describe(client, item.name), stack=stack)
    if found.state is not State.TO_TAG or not yes:
        return found
    tag(client, item.name, found.missing_tags)
    return judge(item, describe(client, item.name), stack=stack)


def _show_judgement(item: Judgement) -> None:
    say(f"{item.wanted.name}: {item.wanted.kind}, {item.state}", style=_STYLES.get(item.state, "bold red"))
    if item.found:
        say(f"  key: {item.found.key or 'that of Secrets Manager'}")
    for key, value in item.missing_tags.items():
        say(f"  lacks the tag {key}={value}")
    for problem in item.problems:
        say(f"  {problem}")
    if item.state is State.MISSING:
        say("  create it; docs/iam.md shows how")


def _listed_admins(plan: Plan) -> list[str]:
    admins = {server.admin for server in plan.databases}
    return sorted(a.aws for a in admins if isinstance(a, AdminSecret) and not is_plain_name(a.aws))


def _judgement_document(item: Judgement) -> documents.TaggedSecret:
    return documents.TaggedSecret(
        secret=item.wanted.name,
        kind=item.wanted.kind.value,
        region=item.wanted.region,
        state=item.state.value,
        arn=item.found.arn if item.found else None,
        key=item.found.key if item.found else None,
        missing_tags=item.missing_tags,
        problems=item.problems,
    )
