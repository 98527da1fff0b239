"""`lockstep identity rotate-key`: replace the long-lived keys of the runners, without a gap."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, NoReturn

import typer

from lockstep.aws.clients import AwsKeys, aws_client
from lockstep.cli.consent import require_stdin, require_yes
from lockstep.cli.operator import operator
from lockstep.cli.output import (
    DEFAULT_PLAN,
    AsJson,
    DryRun,
    PlanFile,
    no,
    plan_or_exit,
    print_json,
    say,
    say_aside,
    wrong_use,
)
from lockstep.cli.times import clock_time, moment, moment_or_none
from lockstep.clouds import Clouds, Endpoints
from lockstep.environment import OciExtraMissingError
from lockstep.identity import DEPLOYER, Cloud
from lockstep.plan import Plan
from lockstep.ports import Clock
from lockstep.runner_keys import (
    ForeignOwnerError,
    KeyState,
    Phase,
    Registered,
    RunnerKey,
    UnknownOwnerError,
    coming_key,
    ends_at,
    old_key,
    phase_of,
)
from lockstep.store_kinds.oci_names import oci_name
from lockstep.wiring import endpoints_from_environment


def rotate_key(  # noqa: PLR0913 - an option each
    runner: Annotated[
        Literal["aws", "oci"] | None,
        typer.Argument(
            metavar="[aws|oci]",
            help="aws: the API keys of the runner in AWS, for OCI. oci: the access key of the runner in OCI, for AWS. "
            " [default: every key of the plan]",
        ),
    ] = None,
    *,
    delete: Annotated[
        list[str] | None,
        typer.Option(
            "--delete",
            metavar="KEY",
            help="First delete this key of the owner, which no secret has: its fingerprint, or its id. Repeat it.",
        ),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option("--user", help="The IAM user of the access key, where AWS is not to be asked."),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait/--no-wait", help="Wait until the old key may be deleted, or leave that to another run."
        ),
    ] = True,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    dry_run: DryRun = False,
    file: PlanFile = DEFAULT_PLAN,
    as_json: AsJson = False,
) -> None:
    """Replace the long-lived keys by which the runners reach the other cloud.

    A new key is made, registered beside the old one and proven by a signed call; the secret gets it, and what is
    stored is proven. The old key works for seven minutes more, longer than any run that has read it, and is deleted
    then. At every moment what a runner reads works: no rotation is stopped for this.

    Interrupt it as you like, and run it again: it reads from the secret and from the owner's keys what was done, and
    goes on there. A key that no secret has had is never deleted, unless --delete names it: an owner in OCI may have
    three, a user of AWS two. The private key and the secret are shown nowhere and written to no file.

    With `federation` in the plan there is no such key, and nothing to rotate (docs/how-to/rotate-keys.md).

    Exit code: 0 every key is new and every old one deleted, with --no-wait or --dry-run also where that is still to
    be done; 1 you said no, or an owner has too many keys; 2 the plan has no such key; 3 a service was unreachable or
    denied, or a new key did not work.
    """
    plan = plan_or_exit(file)
    clouds = operator(plan, identity=DEPLOYER)
    keys = list(_keys(plan, clouds, runner, user))
    if not keys:
        _end_without(runner, as_json=as_json)
    walk = _begun(keys, clouds.clock, user, is_quiet=as_json)
    walk.require_deletable(delete or ())
    if not dry_run:
        if not yes:
            require_stdin("this replaces keys", "To go on without a question, add --yes")
            for line in walk.intentions(delete or ()):
                say_aside(line)
            require_yes("Replace them?", otherwise="nothing was changed")
        walk.delete(delete or ())
        walk.go(wait=wait)
    elif not as_json:
        for line in walk.intentions(delete or ()):
            say(line)
    if as_json:
        print_json({"dry_run": dry_run, "keys": [one.document for one in walk.ones]})
    if (blocked := walk.blocked()) and not (dry_run and delete):
        _refuse_full(*blocked)


def _begun(
    keys: Sequence[tuple[Cloud, RunnerKey]], clock: Clock, user: str | None, *, is_quiet: bool
) -> "_Walk":
    """The walk, once each key was looked at; exit code 2 where it is not clear whose a key is."""
    try:
        return _Walk(keys, clock, is_quiet=is_quiet)
    except UnknownOwnerError as error:
        raise wrong_use(
            f"AWS does not say whose access key {error.key} is, which the secret has: it is deleted, perhaps. Name its "
            "user: --user NAME"
        ) from None
    except ForeignOwnerError as error:
        raise wrong_use(
            f"--user {user}: the access key {error.key}, which the secret has, is a key of {error.owner}; with keys of "
            "another user the runner would have other rights"
        ) from None


def _end_without(runner: Cloud | None, *, as_json: bool) -> NoReturn:
    if runner:
        raise wrong_use(f"the plan has no key in runners.{runner}: there is no long-lived key to replace")
    if as_json:
        print_json({"dry_run": False, "keys": []})
    else:
        say("no long-lived key: nothing to replace")
    raise typer.Exit


def _refuse_full(one: "_One", others: Sequence[Registered]) -> NoReturn:
    state = one.state
    listed = "; ".join(f"{key.id}, made {moment(key.made_at)}" for key in others)
    text = (
        f"{state.owner} has {len(state.registered)} keys of {state.most}, so there is no room for a new one. No secret "
        f"of the plan has {listed}. Delete one that nothing uses: "
        f"lockstep identity rotate-key {one.runner} --delete {others[0].id}"
    )
    raise no(text, name="TooManyKeys")


@dataclass(kw_only=True)
class _One:
    """A key on its way."""

    runner: Cloud
    key: RunnerKey
    state: KeyState
    phase: Phase = Phase.DONE
    has_begun: bool = False
    new: str | None = None
    deleted: list[str]

    @property
    def document(self) -> dict[str, Any]:
        """For other programs."""
        return {
            "runner": self.runner,
            "secret": self.key.secret,
            "owner": self.state.owner,
            "key": self.state.current.id,
            "since": moment(self.state.current.since),
            "replaced": self.new is not None,
            "deleted": self.deleted,
            "next": self.phase.name.lower(),
            "old_key": old_key(self.state),
            "old_key_until": moment_or_none(ends_at(self.state) if old_key(self.state) else None),
        }


class _Walk:
    """All keys, each to its end."""

    def __init__(self, keys: Sequence[tuple[Cloud, RunnerKey]], clock: Clock, *, is_quiet: bool) -> None:
        self._clock = clock
        self._say: Callable[[str], None] = say_aside if is_quiet else say
        self.ones = [_One(runner=runner, key=key, state=key.look(), deleted=[]) for runner, key in keys]
        self._judge()

    def look(self) -> None:
        """What is there now, and what is next for each key."""
        for one in self.ones:
            one.state = one.key.look()
        self._judge()

    def _judge(self) -> None:
        in_use = self._in_use
        now = self._clock.now()
        for one in self.ones:
            one.phase = phase_of(one.state, now, in_use=in_use, has_begun=one.has_begun)

    @property
    def _in_use(self) -> frozenset[str]:
        held = (held for one in self.ones for held in (one.state.current, one.state.pending) if held)
        return frozenset(h.id for h in held)

    def require_deletable(self, wanted: Sequence[str]) -> None:
        """Exit code 2 where a key that is to be deleted is not there, or a secret has it."""
        for name in wanted:
            if not any(name in one.state.ids for one in self.ones):
                raise wrong_use(f"no owner of the plan's keys has a key {name}")
            if name in self._in_use:
                raise wrong_use(f"{name} stays: a secret has it, so a runner uses it")

    def intentions(self, delete: Sequence[str]) -> Iterator[str]:
        """What would be done."""
        now = self._clock.now()
        for name in delete:
            yield f"delete {name}, which no secret has"
        for one in self.ones:
            state, what = one.state, f"the {one.key.kind} of {one.key.secret}"
            age = (now - state.current.since).days
            match one.phase:
                case Phase.REPLACE if coming := coming_key(state):
                    yield f"go on with {coming}, which is to replace {what}, {state.current.id}"
                case Phase.REPLACE | Phase.FULL:
                    yield f"replace {what}, {state.current.id}, {age} days old; later delete it"
                case Phase.WAIT | Phase.DELETE:
                    yield f"{what} was replaced by {state.current.id}: delete the old one, {old_key(state)}"
            if one.phase is Phase.FULL and not delete:
                yield f"  but {state.owner} has {len(state.registered)} keys of {state.most}"

    def blocked(self) -> tuple[_One, Sequence[Registered]] | None:
        """A key for which there is no room, with the keys of its owner that no secret has or had."""
        kept = {*self._in_use, *(old_key(one.state) for one in self.ones)}
        for one in self.ones:
            others = [key for key in one.state.registered if key.id not in kept]
            if one.phase is Phase.FULL and others:
                return one, others
        return None

    def delete(self, wanted: Sequence[str]) -> None:
        """Delete keys that were named."""
        for name in wanted:
            one = next(one for one in self.ones if name in one.state.ids)
            one.key.delete(name)
            one.deleted.append(name)
            self._say(f"deleted {name} of {one.state.owner}")

    def go(self, *, wait: bool) -> None:
        """Bring every key to its end, or as far as it comes without waiting."""
        while True:
            self.look()
            if one := next((one for one in self.ones if one.phase in {Phase.REPLACE, Phase.DELETE}), None):
                self._advance(one)
            elif until := min((ends_at(o.state) for o in self.ones if o.phase is Phase.WAIT), default=None):
                if not wait:
                    self._say_unfinished(until)
                    return
                self._wait(until)
            else:
                return

    def _advance(self, one: _One) -> None:
        one.has_begun = True
        if one.phase is Phase.REPLACE:
            one.new = one.key.replace(one.state)
            self._say(f"{one.key.secret}: has a new {one.key.kind}, {one.new}, which works")
            return
        if old := old_key(one.state):
            one.key.delete(old)
            one.deleted.append(old)
            self._say(f"{one.key.secret}: the old {one.key.kind} is deleted, {old}")

    def _wait(self, until: datetime) -> None:
        now = self._clock.now()
        shown = clock_time(until, now)
        for one in self.ones:
            one.has_begun = one.has_begun or one.phase is Phase.WAIT
        self._say(
            f"the old key works until {shown}, for runs that have read it; this waits, and may be interrupted: the "
            "same command then goes on here"
        )
        self._clock.sleep(max((until - now).total_seconds(), 0))

    def _say_unfinished(self, until: datetime) -> None:
        shown = clock_time(until, self._clock.now())
        self._say(
            f"not finished: the old key works until {shown}; then run the same command again, which deletes it"
        )


@dataclass(frozen=True, kw_only=True)
class _Signed:
    """Clients that sign with a key of a runner: `lockstep.cli.identity_kinds.SignedClients`."""

    clock: Clock
    endpoints: Endpoints
    region: str

    def oci(self, identity: Any, region: str) -> Any:  # noqa: ANN401 - its module is loaded late
        """Of a region of OCI."""
        from lockstep.oci.clients import OciClients  # noqa: PLC0415 - the extra may be missing

        return OciClients(lambda: identity, region, endpoint=self.endpoints.oci)

    def sts(self, keys: AwsKeys) -> Any:  # noqa: ANN401 - botocore makes its clients' types at run time
        """Of STS."""
        return aws_client("sts", self.region, keys=keys, endpoint=self.endpoints.aws)


def _keys(
    plan: Plan, clouds: Clouds, runner: Cloud | None, user: str | None
) -> Iterator[tuple[Cloud, RunnerKey]]:
    """The keys of the plan."""
    try:
        from lockstep.aws.key_secret import KeySecret  # noqa: PLC0415 - as the next
        from lockstep.cli.identity_kinds import AccessKeyInOci, ApiKeyInAws  # noqa: PLC0415 - the extra may be missing
        from lockstep.oci.vault import Vault  # noqa: PLC0415 - likewise
    except ModuleNotFoundError:
        raise OciExtraMissingError from None
    compiled = plan.compiled
    signed = _Signed(clock=clouds.clock, endpoints=endpoints_from_environment(), region=compiled.lock.region)
    aws, in_oci = plan.runners.aws, plan.runners.oci
    regions = [place.region for place in (compiled.vault, compiled.oci_stream) if place]
    if runner in {None, "aws"}:
        names = dict.fromkeys(name for name in (aws.oci_key_secret, aws.oci_reader_key_secret) if name)
        for name in names:
            client = clouds.aws("secretsmanager", compiled.region_of(name))
            yield (
                "aws",
                ApiKeyInAws(
                    store=KeySecret(client, name), regions=regions, operator=clouds.oci, signed=signed
                ),
            )
    config = compiled.vault
    if runner in {None, "oci"} and in_oci and in_oci.aws_key_secret and config:
        vault = Vault(
            clouds.oci(config.region),
            compartment_id=config.compartment_of_own_secrets,
            vault_id=config.vault_id,
            store=config.name,
        )
        iam = clouds.aws("iam", compiled.lock.region)
        yield (
            "oci",
            AccessKeyInOci(
                vault=vault, secret=oci_name(in_oci.aws_key_secret), iam=iam, signed=signed, user=user
            ),
        )
