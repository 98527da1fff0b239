"""`lockstep secrets`: make the secrets of credentials in both clouds, and tag what people made."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from msgspec import json, structs

from lockstep.aws.reads import AwsReads
from lockstep.aws.reads import Client as AwsClient
from lockstep.cli.orders import gravest
from lockstep.cli.output import (
    CredentialArguments,
    DryRun,
    chosen,
    complain,
    gave_json,
    no,
    plan_or_exit,
    say,
    say_aside,
    shown_ids,
    wrong_use,
)
from lockstep.operate.access import operator
from lockstep.operate.doctor.clouds import vault_of
from lockstep.operate.documents import Exit
from lockstep.operate.formatting import wants_json
from lockstep.operate.secrets import (
    AWS_RATE,
    OCI_RATE,
    Action,
    Decision,
    Place,
    RingTerms,
    StackSecrets,
    StackTerms,
    Wanted,
    looked_at,
    made,
    ring_terms,
    rotated_in_aws,
    settled,
    slots_in_oci,
    stack_terms,
    wanted,
)
from lockstep.plan.checks import awaited_values
from lockstep.plan.model import Plan
from lockstep.plan.stores import AwsSecretsManager, OciVault
from lockstep.protocol.errors import StoreAccessDeniedError
from lockstep.protocol.model import Credential
from lockstep.protocol.names import KEY_OUTPUT
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import DEPLOYER, Cloud
from lockstep.runtime.system import SystemClock

CDK_JSON = Path("cdk.json")
SECRETS_OCI = Path("build/secrets-oci.json")
"""Where `make deploy-oci` leaves what Terraform gives each slot."""
_OUTPUT = "terraform -chdir=oci_fn/terraform output -json secrets"

Stack = Annotated[
    str | None, typer.Option(envvar="LOCKSTEP_STACK", help="The stack in AWS.  [default: that of cdk.json]")
]


def create(
    credentials: CredentialArguments = None,
    *,
    cloud: Annotated[Literal["aws", "oci", "both"], typer.Option(help="Where.")] = "both",
    dry_run: DryRun = False,
    stack: Stack = None,
    terraform: Annotated[
        Path | None, typer.Option(help="For OCI: what `terraform output -json secrets` has printed.")
    ] = None,
) -> None:
    """Make the secrets of credentials: in AWS two for each, in OCI the slots of their rings.

    `make deploy-aws` and `make deploy-oci` do this after each deployment, since the key must be there first. A secret
    gets the deployment's key, its tags, and a placeholder that the first rotation replaces. One that exists keeps its
    value; one of this stack gets the tags that it lacks. A conflict is shown with the command that fixes it: a secret
    of another stack, one that people made, one that is scheduled for deletion. Nothing is ever deleted.

    It can be repeated and interrupted: a later run makes what is missing. It makes 25 a second in AWS and 5 in OCI,
    and waits while a service throttles. With --dry-run it changes nothing.

    Exit code: 0 every secret is there, or would be, or the plan does not name the vault in OCI yet; 1 one is in the
    way, or the key is not known; 3 a service was unreachable, or throttles for half a minute.
    """
    plan = plan_or_exit()
    whose, clouds = chosen(plan, credentials), operator(plan, identity=DEPLOYER)
    stores = {"aws": plan.store(AwsSecretsManager), "oci": plan.store(OciVault)}
    there = [one for one, store in stores.items() if store and cloud in (one, "both")]
    if not there:
        raise wrong_use(f"the plan has no store in {cloud.upper()}")
    rooms: list[Room] = []
    if "aws" in there:
        terms = _with_key(plan, clouds, _terms(stack))
        rooms.append(aws_room(clouds.aws, terms, rotated_in_aws(plan, whose)))
    if "oci" in there and (ring := terms_of(plan, terraform)):
        rooms.append(oci_room(plan, clouds, ring, whose))
    _carry_out_all(rooms, is_dry=dry_run)
    if any(room.refused for room in rooms):
        raise typer.Exit(Exit.NO)


def tag_command(
    credentials: CredentialArguments = None,
    *,
    stack: Stack = None,
    yes: Annotated[bool, typer.Option("--yes", help="Set the tags.")] = False,
) -> None:
    """Tag existing AWS secrets, so that the stack may use them.

    A stack's functions know its secrets by two tags. `lockstep secrets create` sets them on what it makes, and this
    command on what people made: the secrets of rotation users, the OCI API key, secrets of credentials that exist. It
    shows which tags each lacks. Without --yes it changes nothing. It never changes a tag that is there: a secret of
    another stack or of another kind is in the way. Repeating it is harmless. A key that is neither the stack's own nor
    that of Secrets Manager must be in `adopt.keys` of cdk.json.

    Exit code: 0 every secret is ready or is yet to be made by `lockstep secrets create`, 1 one is to be tagged, missing
    or in the way, 3 Secrets Manager was unreachable.
    """
    plan = plan_or_exit()
    items = wanted(plan, chosen(plan, credentials))
    room = aws_room(operator(plan).aws, _terms(stack), items, consent=True)
    _carry_out_all([room], is_dry=not yes)
    untagged = room.counts[Action.TAG]
    if untagged and not wants_json():
        say("nothing was changed; to set the tags, repeat this with --yes")
    if untagged or room.refused:
        raise typer.Exit(Exit.NO)


@dataclass(kw_only=True)
class Room:
    """The secrets of one cloud, and what has become of them.

    Attributes:
        names: Those that are to be there.
        rate: Writes a second.
        seen: What was decided for each that was looked at, and what of it is done; by the names.
    """

    cloud: Cloud
    place: Place
    names: Sequence[str]
    rate: float
    seen: dict[str, Decision] = field(default_factory=dict)

    def look(self, name: str) -> None:
        """See a secret as it is now."""
        self.seen[name] = looked_at(self.place, name, SystemClock().sleep)

    def settle(self, name: str) -> None:
        """Make or tag one that was looked at."""
        self.seen[name] = settled(self.place, self.seen[name], SystemClock().sleep)

    @property
    def counts(self) -> Counter[str]:
        """How many of each state; of what was done, without `to be`."""
        return Counter(d.action.removeprefix("to be ") if d.is_done else d.action for d in self.seen.values())

    @property
    def described(self) -> list[Decision]:
        """All that was done, is to be done, or is to be known, by name."""
        told = [d for d in self.seen.values() if d.action is not Action.NOTHING or d.problems]
        return sorted(told, key=lambda decision: decision.name)

    @property
    def refused(self) -> list[Decision]:
        """What is in the way."""
        return [decision for decision in self.described if decision.action is Action.REFUSE]

    @property
    def line(self) -> str:
        """All of it in one line."""
        counts = ", ".join(f"{number:,} {state}" for state, number in sorted(self.counts.items()))
        return f"{self.cloud}: {len(self.names):,} secrets: {counts}"


def _terms(stack: str | None) -> StackTerms:
    """What `cdk.json` in this folder says, or exit code 2."""
    try:
        found = stack_terms(json.decode(CDK_JSON.read_bytes())) if CDK_JSON.exists() else StackTerms()
    except (OSError, ValueError, RecursionError) as error:
        raise wrong_use(f"{CDK_JSON} is not a settings file: {error}") from None
    return structs.replace(found, stack=stack or found.stack)


def _with_key(plan: Plan, clouds: Clouds, terms: StackTerms) -> StackTerms:
    """The same with the key of the stack, or exit code 1 where it is not known."""
    region = plan.compiled.secrets_region
    key = terms.key or AwsReads(clouds.aws, region).stack_outputs(terms.stack).get(KEY_OUTPUT)
    if key is None:
        text = (
            f"stack {terms.stack} is not deployed in {region}, so the key of its secrets is not known; deploy it "
            "first (`make deploy-aws`), or name a key as adopt.encryption_key in cdk.json"
        )
        raise no(text, name="KeyUnknown")
    return structs.replace(terms, key=key)


def aws_room(client: AwsClient, terms: StackTerms, items: Sequence[Wanted], *, consent: bool = False) -> Room:
    """The secrets of a stack.

    Args:
        client: Gives a client of a service in a region, which tries each call once.
        terms: What the stack gives its secrets.
        items: Those that the plan names.
        consent: Whether what people made is tagged, and nothing is made.
    """
    by_name = {item.name: item for item in items}
    place = StackSecrets(client=client, terms=terms, wanted=by_name, consent=consent)
    return Room(cloud="aws", place=place, names=[*by_name], rate=AWS_RATE)


def terms_of(plan: Plan, terraform: Path | None) -> RingTerms | None:
    """What Terraform gives each slot, or exit code 2; None, and said, where the plan does not name the vault yet."""
    vault = vault_of(plan)
    if terraform is None:
        raise wrong_use(
            "for the rings in OCI, Terraform says which key and tags they get; after its first apply run "
            f"`{_OUTPUT} > secrets.json`, and add --terraform secrets.json; for AWS alone, add --cloud aws"
        )
    try:
        found = ring_terms(json.decode(terraform.read_bytes()), region=vault.region)
    except (OSError, ValueError, RecursionError) as error:
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


def oci_room(plan: Plan, clouds: Clouds, terms: RingTerms, credentials: Sequence[Credential] = ()) -> Room:
    """The rings of a plan.

    Args:
        plan: The plan, with a store in OCI.
        clouds: Where they are.
        terms: What Terraform gives each slot.
        credentials: Whose they are; none: of all.
    """
    from lockstep.operate.secrets_oci import RingSlots  # noqa: PLC0415 - the SDK is an extra

    vault = vault_of(plan)
    place = RingSlots(
        clouds.oci(vault.region), terms, own_compartment_id=vault.compartment_of_own_secrets, store=vault.name
    )
    return Room(cloud="oci", place=place, names=slots_in_oci(plan, credentials), rate=OCI_RATE)


def make_missing(plan: Plan, clouds: Clouds, credential: Credential, store: str) -> list[str]:
    """Make what a store lacks of a credential's secrets, by what `cdk.json` and Terraform say in this folder.

    Raises:
        StoreAccessDeniedError: This identity may not, or Terraform's output is not here.
        LockstepError: Another error that does not pass.
    """
    if store == AwsSecretsManager.name:
        terms = _with_key(plan, clouds, _terms(os.environ.get("LOCKSTEP_STACK")))
        room = aws_room(clouds.aws, terms, rotated_in_aws(plan, [credential]))
    elif SECRETS_OCI.exists() and (ring := terms_of(plan, SECRETS_OCI)):
        room = oci_room(plan, clouds, ring, [credential])
    else:
        raise StoreAccessDeniedError(store=store, code="no-terms")
    return made(room.place, room.names, SystemClock().sleep)


def carried_out(room: Room, *, is_dry: bool = False) -> Room:
    """Do it, and tell errors and how far it is. If it ends early, what was done is said first.

    Raises:
        typer.Exit: An error was told; the others are done.
    """
    code = None
    try:
        looked = gravest({name: partial(room.look, name) for name in room.names})
        left = [d.name for d in room.seen.values() if d.action in {Action.MAKE, Action.TAG}]
        acts = {name: partial(room.settle, name) for name in left if not is_dry}
        code = max(looked, gravest(acts, rate=room.rate))
    finally:
        if code != 0 and room.seen:
            say_aside(f"stopped: {room.line}")
            say_aside("what was made stays; repeat the command to go on")
    if code:
        raise typer.Exit(code)
    return room


def _carry_out_all(rooms: Sequence[Room], *, is_dry: bool) -> None:
    """Do it in each, and show what has become of it."""
    for room in rooms:
        carried_out(room, is_dry=is_dry)
    clouds = [{"cloud": r.cloud, "counts": r.counts, "secrets": r.described} for r in rooms]
    if gave_json({"dry_run": is_dry, "clouds": clouds}):
        return
    for room in rooms:
        show(room)


def show(room: Room) -> None:
    """What has become of the secrets of one cloud, for people; what is in the way goes to standard error."""
    for action in (Action.MAKE, Action.TAG):
        names = [
            " ".join([d.name, *(f"{k}={v}" for k, v in d.tags.items() if action is Action.TAG)])
            for d in room.described
            if d.action is action and not d.is_done
        ]
        if names:
            say(f"{action}: {shown_ids(names)}")
    for decision in room.described:
        told = f"{decision.name}: {'; '.join(decision.problems)}"
        if decision.action is Action.REFUSE:
            complain(told)
        elif decision.problems:
            say(told, style="yellow")
        if decision.command:
            say(f"    {decision.command}", style="bold")
    say(room.line, style="bold red" if room.refused else "green")
