"""What `lockstep provision` does in one cloud: who makes what, at which pace, and what has become of it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event

from lockstep.aws.made_secrets import StackSecrets, listed
from lockstep.aws.reads import AwsReads
from lockstep.cli.output import err, json_in, no, say_aside, wrong_use
from lockstep.cli.progress import progress_bar
from lockstep.clouds import Clouds
from lockstep.doctor.oci_tenancy import vault_of
from lockstep.identity import Cloud
from lockstep.plan import Plan
from lockstep.provision import orphans
from lockstep.provision.content import aws_text
from lockstep.provision.decide import Decision, Deed, RingTerms, StackTerms, rotated_in_aws, slots_in_oci
from lockstep.provision.imports import import_blocks
from lockstep.provision.orphans import Orphan
from lockstep.provision.pace import Pace
from lockstep.provision.settings import StackSettings, ring_terms, stack_settings
from lockstep.provision.work import Outcome, Place, Work
from lockstep.stack_names import KEY_OUTPUT
from lockstep.system import SystemClock, SystemPasswords
from lockstep.workers import at_the_same_time

CDK_JSON = Path("cdk.json")
_OUTPUT = "terraform -chdir=oci_fn/terraform output -json provision"
_FORGET = "terraform -chdir=oci_fn/terraform state rm oci_vault_secret.slot"
_LINES = 10
"""Of progress, where nobody sees a bar."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """The secrets of one cloud.

    Attributes:
        names: Those that are to be there.
        rate: Writes a second.
        list_orphans: Lists what the plan does not name.
        last: What is done after all of it.
    """

    cloud: Cloud
    place: Place
    names: Sequence[str]
    rate: float
    list_orphans: Callable[[], Iterator[Orphan]]
    last: Callable[[], None] = lambda: None


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
        done = Counter(o.decision.deed for o in self.outcomes if o.is_done)
        left = Counter(o.decision.deed for o in self.outcomes if not o.is_done)
        return {
            "made": done[Deed.MAKE],
            "tagged": done[Deed.TAG],
            "to_make": left[Deed.MAKE],
            "to_tag": left[Deed.TAG],
            "there": left[Deed.NOTHING],
            "in_the_way": left[Deed.REFUSE],
        }

    @property
    def told(self) -> list[tuple[Decision, bool]]:
        """All that was done, is to be done, or is to be known, by name."""
        found = [(o.decision, o.is_done) for o in self.outcomes]
        told = [one for one in found if one[0].deed is not Deed.NOTHING or one[0].problems]
        return sorted(told, key=lambda one: one[0].name)

    @property
    def refused(self) -> list[Decision]:
        """What is in the way."""
        return [decision for decision, _ in self.told if decision.deed is Deed.REFUSE]

    @property
    def noted(self) -> list[Decision]:
        """What is as it should not be, and stays."""
        return [
            decision for decision, _ in self.told if decision.deed is not Deed.REFUSE and decision.problems
        ]

    @property
    def to_make(self) -> list[Decision]:
        """What a dry run would make."""
        return [decision for decision, is_done in self.told if decision.deed is Deed.MAKE and not is_done]

    @property
    def to_tag(self) -> list[Decision]:
        """What a dry run would tag."""
        return [decision for decision, is_done in self.told if decision.deed is Deed.TAG and not is_done]

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


def aws_room(
    plan: Plan, clouds: Clouds, settings: StackSettings, ids: tuple[str, ...], *, rate: float
) -> Room:
    """The secrets of a stack, or exit code 1 where its key is not known."""
    wanted = rotated_in_aws(plan, ids)
    region = wanted[0].region
    key = settings.key or _key_of_stack(clouds, settings.stack, region)
    client = clouds.aws("secretsmanager", region)
    place = StackSecrets(
        client=client,
        terms=StackTerms(stack=settings.stack, key=key, tags=settings.tags),
        wanted={one.name: one for one in wanted},
        new_text=partial(aws_text, SystemPasswords()),
    )
    named = {one.name for one in rotated_in_aws(plan)}
    return Room(
        cloud="aws",
        place=place,
        names=[one.name for one in wanted],
        rate=rate,
        list_orphans=lambda: orphans.in_aws(listed(client, settings.stack), named, region=region),
    )


def _key_of_stack(clouds: Clouds, stack: str, region: str) -> str:
    if key := AwsReads(clouds.aws, region).stack_outputs(stack).get(KEY_OUTPUT):
        return key
    text = (
        f"stack {stack} is not deployed in {region}, so the key of its secrets is not known; deploy it first "
        "(`make deploy-aws`), or name a key as adopt.encryption_key in cdk.json"
    )
    raise no(text, name="KeyUnknown")


def terms_of(plan: Plan, terraform: Path | None) -> RingTerms:
    """What Terraform gives each slot, or exit code 2."""
    vault = vault_of(plan)
    if terraform is None:
        raise wrong_use(
            "for the rings in OCI, Terraform says which key and tags they get; after its first apply run "
            f"`{_OUTPUT} > provision.json`, and add --terraform provision.json; for AWS alone, add --cloud aws"
        )
    try:
        found = ring_terms(json_in(terraform), region=vault.region)
    except (OSError, ValueError) as error:
        raise wrong_use(f"{terraform} is not what `{_OUTPUT}` prints: {error}") from None
    for name in ("compartment_id", "vault_id"):
        if (ours := getattr(vault, name)) != (theirs := getattr(found, name)):
            raise wrong_use(
                f"{terraform} is of another plan: its {name} is {theirs}, and the plan's is {ours}"
            )
    return found


def oci_room(
    plan: Plan,
    clouds: Clouds,
    terms: RingTerms,
    ids: tuple[str, ...],
    *,
    rate: float,
    imports: Path | None,
) -> Room:
    """The rings of a plan.

    Args:
        plan: The plan.
        clouds: Where they are.
        terms: What Terraform gives each slot.
        ids: Of these credentials; none: of all.
        rate: Writes a second.
        imports: The file that gets import blocks of Terraform.
    """
    from lockstep.oci.made_slots import RingSlots  # noqa: PLC0415 - the SDK is an extra

    vault = vault_of(plan)
    place = RingSlots(
        clouds.oci(vault.region),
        terms,
        own_compartment_id=vault.compile().compartment_of_own_secrets,
        store=vault.compile().name,
    )
    named = frozenset(slots_in_oci(plan, vault))

    def last() -> None:
        if terms.managed:
            say_aside(
                f"oci: Terraform manages {terms.managed:,} slots. Before it is applied with secrets = provision, let "
                f"it forget them: `{_FORGET}`; that deletes none"
            )
        if imports:
            living = ((name, slot.id) for name, slot in place.listed() if name in named and slot.is_usable)
            imports.write_text(import_blocks(living), encoding="utf-8")
            say_aside(
                f"oci: {imports}: Terraform takes the slots with secrets = terraform; delete the file after that"
            )

    return Room(
        cloud="oci",
        place=place,
        names=slots_in_oci(plan, vault, ids),
        rate=rate,
        list_orphans=lambda: orphans.in_oci(place.listed(), named, region=vault.region),
        last=last,
    )


def orphans_of(room: Room) -> tuple[Orphan, ...]:
    """What the plan does not name, by name."""
    return tuple(sorted(room.list_orphans(), key=lambda orphan: orphan.name))


def carried_out(room: Room, *, is_dry: bool, is_quiet: bool) -> Report:
    """Do it, and show how far it is. If it ends early, what was done is said first."""
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
