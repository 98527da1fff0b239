"""The commands that give orders: pause, resume, take-over, retire; `lockstep lock`; and what they share.

Questions whether to go on; before an emergency also who would break.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import msgspec
import typer
from rich.prompt import Confirm

from lockstep.audit.append import Operator, OrderResult, give, record_order
from lockstep.cli import output
from lockstep.cli.output import (
    CredentialArgument,
    CredentialArguments,
    DryRun,
    NamedCredentials,
    chosen,
    complain,
    err,
    gave_json,
    in_our_words,
    matching,
    no,
    one,
    plan_or_exit,
    say,
    say_aside,
    say_fields,
    shown_ids,
    wrong_use,
)
from lockstep.operate.access import operator
from lockstep.operate.documents import FEW
from lockstep.operate.formatting import clock_time
from lockstep.operate.sessions import count_sessions, lines
from lockstep.operate.state import record_document, table_of
from lockstep.operate.verdict import next_step
from lockstep.plan.model import Plan
from lockstep.protocol.errors import EnvironmentalError, LockstepError, described, line_of
from lockstep.protocol.events import EventData, Paused, Resumed, Retired, event_of, source_of
from lockstep.protocol.lock_rule import is_held
from lockstep.protocol.messages import Entry
from lockstep.protocol.model import AdminCredential, ChainHead, Credential, Lease, LockRecord
from lockstep.protocol.orders import (
    Activate,
    CancelTakeOver,
    Order,
    Pause,
    Resume,
    Revoke,
    TakeOver,
    accounts_of,
)
from lockstep.protocol.workers import at_the_same_time
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import Cloud
from lockstep.runtime.system import SystemClock, new_id


def require_consent(clouds: Clouds, credential: Credential) -> None:
    """Show who would break, and ask; exit code 1 if the answer is no, 2 where nobody can be asked.

    Args:
        clouds: Where the credential is.
        credential: What is to be revoked.

    What cannot be read or counted is said, and does not stand in the way of an emergency.
    """
    if not sys.stdin.isatty():
        raise wrong_use(
            "not confirmed, since there is no terminal to ask: this revokes every login of the credential. To see who "
            f"would break: lockstep sessions {credential.id}. To go on without a question, add --yes"
        )
    try:
        for line in lines(count_sessions(clouds, credential), clouds.clock.now()):
            say_aside(line)
    except LockstepError as e:
        complain(f"who would break is not known: {line_of(e)}")
    say_aside(
        "Every login will be revoked, the current one too. Open sessions go on; their next login is refused until "
        "they read the new value. Applications that read it at their start alone must be restarted."
    )
    require_yes(f"Revoke every login of {credential.id}?", otherwise="not revoked")


def require_yes(question: str, *, otherwise: str) -> None:
    """Ask, on standard error altogether, since standard output may be JSON; exit code 1 if the answer is no.

    Args:
        question: What to ask.
        otherwise: What to say if the answer is no.
    """
    try:
        agreed = Confirm.ask(question, console=err)
    except EOFError:
        raise typer.Abort from None
    if not agreed:
        raise no(otherwise, name="NotConfirmed")


# What the commands that give orders share: who gives them, where they are recorded, how they fail.

RECORD_VARIABLE = "LOCKSTEP_RECORD_IN"
"""Names the cloud whose audit log records orders: `aws`, or `oci` where the log in AWS is unreachable."""

TOLD_EVERY = 500
"""After so many it is told how far it is."""
CLOUDS: tuple[Cloud, ...] = ("aws", "oci")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderContext:
    """From where an operator gives orders.

    Attributes:
        stream: The cloud whose audit stream records them.
    """

    plan: Plan
    clouds: Clouds
    stream: Cloud

    def give(self, order: Order, credential: Credential) -> OrderResult:
        """Record an order, then put it into the lock record; then tell of it, if it was not there before."""
        given = give(
            order,
            by=self.operator(),
            chain=self.clouds.chain(self.stream, credential),
            orders=self.clouds.orders(credential),
        )
        lifted = isinstance(order, Revoke) and given.was_paused and not given.record.paused
        if given.entry and (lifted or isinstance(order, Pause | Resume)):
            kind = Paused if isinstance(order, Pause) else Resumed
            self.publish(kind(credential=credential.id, entry=self.place(given.entry)), given.entry)
        return given

    def place(self, recorded: ChainHead) -> Entry:
        """An audit entry, as events name it."""
        return Entry(stream=self.stream, seq=recorded.seq)

    def publish(self, data: EventData, recorded: ChainHead) -> None:
        """Send an event to each place that the plan names. One that is not sent is complained of, and changes nothing.

        Args:
            data: What has been done.
            recorded: Its audit entry.
        """
        source = source_of(region=self.plan.lock.region, table=self.plan.lock.table)
        time = self.clouds.clock.now().replace(microsecond=0)
        event = event_of(data, source=source, cause=recorded.hash, time=time)
        for cloud in CLOUDS if self.plan.events else ():
            try:
                sink = self.clouds.event_sink(cloud)
                if sink:
                    sink.send([event])
            except Exception as error:  # noqa: BLE001 - what was ordered is done; an event changes no outcome (E18)
                ours = in_our_words(error)
                why = ours.where.get("code") or line_of(ours)
                complain(f"{data.credential}: done, but events.{cloud} did not take its event: {why}")

    def operator(self) -> Operator:
        """Who gives orders here."""
        return Operator(who=self.clouds.caller(), now=self.clouds.clock.now, new_id=new_id)

    def read(self, credential: Credential) -> LockRecord:
        """The lock record, with every order that stands in it."""
        return self.clouds.lock(credential).read()


def order_context(plan: Plan) -> OrderContext:
    """The desk of the person at the command line, or exit code 2 where the plan has no such audit log."""
    stream = os.environ.get(RECORD_VARIABLE) or "aws"
    for cloud in CLOUDS if plan.audit.oci else CLOUDS[:1]:
        if cloud == stream:
            return OrderContext(plan=plan, clouds=operator(plan), stream=cloud)
    raise wrong_use(f"{RECORD_VARIABLE}: the plan has no audit log in {stream!r}")


def gravest(acts: Mapping[str, Callable[[], None]], *, rate: float | None = None) -> int:
    """Do something for each credential or secret. One that fails does not stop the others.

    Equal errors are told once, with the names. For more than `FEW` several are done at the same time; how far it is
    goes to standard error, and it ends where `FEW` in a row fail for reasons in the environment.

    Args:
        acts: What is done, by the name of what it is done for.
        rate: No more than so many are begun a second; None: as many as can be.

    Returns:
        The gravest exit code.
    """
    names, clock, codes = list(acts), SystemClock(), list[int]()
    step, is_many, hopeless = max(1, int(rate or FEW)), len(names) > FEW, False
    failures: dict[str, tuple[LockstepError, list[str]]] = {}
    while (left := names[len(codes) :][:step]) and not hopeless:
        begun = clock.monotonic()
        tries = [partial(_tried, name, acts[name]) for name in left]
        outcomes = at_the_same_time(tries) if is_many else [one_try() for one_try in tries]
        for name, outcome in zip(left, outcomes, strict=True):
            if isinstance(outcome, LockstepError):
                error = _without_name(outcome)
                failures.setdefault(str(error), (error, []))[1].append(name)
        told = len(codes) // TOLD_EVERY
        codes += [o if isinstance(o, int) else output.exit_code_of(type(described(o))) for o in outcomes]
        if len(codes) // TOLD_EVERY > told:
            say_aside(f"{len(codes):,} of {len(names):,}")
        hopeless = is_many and len(codes) < len(names) and _is_of_this_machine(outcomes)
        if rate and len(codes) < len(names):
            clock.sleep(max(0.0, begun + len(left) / rate - clock.monotonic()))
    for error, failed in failures.values():
        output.tell(error)
        complain(f"{shown_ids(failed)}: not done")
    if is_many and (missing := len(names) - codes.count(0)):
        why = f": the last {len(outcomes):,} all failed, so no more were tried. Fix it and repeat"
        complain(
            f"{missing:,} of {len(names):,} not done{why if hopeless else '. Repeat'} the command: "
            "what is done stays as it is"
        )
    return max(codes, default=0)


def _without_name(error: LockstepError) -> LockstepError:
    """What a person is told of an error, whichever credential or secret it was met at."""
    shown = described(error)
    where = {key: value for key, value in shown.where.items() if key not in {"credential", "secret"}}
    return shown if where == shown.where else type(shown)(**where)


def _is_of_this_machine(outcomes: Sequence[int | LockstepError]) -> bool:
    """Whether each failed for a reason that lies in the environment."""
    return all(
        isinstance(o, LockstepError) and isinstance(described(o), EnvironmentalError) for o in outcomes
    )


def _tried(name: str, act: Callable[[], None]) -> int | LockstepError:
    """Do it for one; 0, the exit code of a refusal that has been told, or an error that has not."""
    try:
        act()
    except typer.Exit as stopped:
        complain(f"{name}: not done")
        return stopped.exit_code
    except LockstepError as error:
        return error
    return 0


def entry_text(entry: ChainHead | None, stream: str) -> str:
    """Where an order is on record, for a sentence's end."""
    return f"entry {entry.seq} of {stream}" if entry else "it was so already"


# An order as a command: pause, resume, take-over, apply.


def give_each(
    credentials: Sequence[Credential],
    at: OrderContext,
    order_for: Callable[[Credential], Order],
    *,
    dry_run: bool,
) -> None:
    """Give an order for every credential, as `gravest`, and end the command with that exit code, unless it is 0.

    Args:
        credentials: Those that it concerns.
        at: From where.
        order_for: Makes the order, or says why not.
        dry_run: Only say what would be done.
    """
    act = _would if dry_run else partial(_give, is_few=len(credentials) <= FEW)
    if code := gravest({c.id: partial(act, at, order_for, c) for c in credentials}):
        raise typer.Exit(code)


def _would(at: OrderContext, order_for: Callable[[Credential], Order], credential: Credential) -> None:
    order, record = order_for(credential), at.read(credential)
    if order.is_applied(record):
        say(f"{credential.id}: it is so already")
        return
    order.check(record)
    say(f"{credential.id}: would give the order {order.name}")


def _give(
    at: OrderContext, order_for: Callable[[Credential], Order], credential: Credential, *, is_few: bool
) -> None:
    order = order_for(credential)
    if isinstance(order, TakeOver):
        # The accounts become this credential's before anything may change them (protocol O8).
        for account in accounts_of(credential):
            if account.database in order.databases:
                at.clouds.orders(credential).register(account)
    given = at.give(order, credential)
    record = given.record
    say(f"{credential.id}: order {order.name} given ({entry_text(given.entry, at.stream)})", style="green")
    now = at.clouds.clock.now()
    if isinstance(order, Pause) and is_held(record, now) and record.expires_at:
        until = clock_time(record.expires_at, now)
        say(f"  {record.holder} may still be running, until {until} at the latest")
    if is_few and (isinstance(order, TakeOver) or (isinstance(order, Activate) and record.activate)):
        say(f"next: {next_step(record, credential, now)}")


def pause(credentials: NamedCredentials, *, dry_run: DryRun = False) -> None:
    """Switch scheduled rotations off, in both clouds.

    Nothing expires: every password stays as it is, and what is valid stays valid. A run that is under way finishes.
    `lockstep rotate --force` still rotates.

    Exit code: 0 paused, 3 the lock table or the audit log was unreachable.
    """
    plan = plan_or_exit()
    give_each(chosen(plan, credentials), order_context(plan), lambda _: Pause(), dry_run=dry_run)


def resume(credentials: NamedCredentials, *, dry_run: DryRun = False) -> None:
    """Switch scheduled rotations on again.

    What is due rotates with the next trigger of either cloud.

    Exit code: 0 resumed, 3 the lock table or the audit log was unreachable.
    """
    plan = plan_or_exit()
    give_each(chosen(plan, credentials), order_context(plan), lambda _: Resume(), dry_run=dry_run)


def take_over(
    credential_id: CredentialArgument,
    databases: Annotated[
        list[str], typer.Argument(metavar="DATABASE", help="Databases, by their names in the plan.")
    ],
    *,
    cancel: Annotated[bool, typer.Option("--cancel", help="Take the permission back.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Let Lockstep take over the accounts of a credential on a database.

    Needed where no login that Lockstep knows works: a new account, a database restored from a backup, a password that
    was changed by hand. The next run sets the account's password, whatever it is now. Once the login is proven there,
    the permission is gone. An account that belongs to another credential is refused.

    A pattern stands for those of its credentials that are on all of the databases. After the restore of a database
    that many use: lockstep take-over '*' DATABASE

    Exit code: 0 taken over (or cancelled), 1 refused, 3 the lock table or the audit log was unreachable.
    """
    plan, wanted = plan_or_exit(), frozenset(databases)
    found = _on(plan, credential_id, wanted)
    if not cancel:
        for credential in found:
            require_databases(credential, wanted)
    order = CancelTakeOver(databases=wanted) if cancel else TakeOver(databases=wanted)
    give_each(found, order_context(plan), lambda _: order, dry_run=dry_run)


def _on(plan: Plan, written: str, databases: frozenset[str]) -> list[Credential]:
    """The credential of that id; or of a pattern, those that are on all of these databases, or exit code 2."""
    found = matching(plan, written)
    if [c.id for c in found] == [written]:
        return found
    on_them = [c for c in found if databases <= set(c.databases)]
    if not on_them:
        raise wrong_use(f"no credential that matches {written!r} is on {', '.join(sorted(databases))}")
    return on_them


def require_databases(credential: Credential, databases: frozenset[str]) -> None:
    """Exit code 2 where the credential is not on all of these databases."""
    if unknown := sorted(databases - set(credential.databases)):
        has = ", ".join(credential.databases)
        raise wrong_use(f"{credential.id} has no database {', '.join(unknown)} in the plan; it has: {has}")


# `lockstep retire`: end the rotation of a credential, and put on record what is left valid (protocol O11).


def retire(credential_id: CredentialArgument, *, dry_run: DryRun = False) -> None:
    """End the rotation of a credential.

    Pauses it in both clouds, puts on record which generations may still log in and where, and frees its accounts, so
    that another credential may have them. No store and no database is changed: applications keep the login that they
    have. Take the credential out of the plan afterwards. `lockstep resume` undoes the pause.

    Exit code: 0 retired, 1 a run or a generation is in flight, 3 the lock table or the audit log was unreachable.
    """
    plan = plan_or_exit()
    credential, at = one(plan, credential_id), order_context(plan)
    _require_no_admin(plan, credential)
    if not dry_run:
        at.give(Pause(), credential)
    found, stores = at.read(credential), [store.name for store in plan.stores]
    _require_rest(found, at)
    say(f"{credential.id}: {', '.join(credential.usernames)} on {', '.join(credential.databases)}")
    say(f"  {_left(found, stores)}; when no application uses them any more, a DBA drops the accounts")
    if dry_run:
        say("nothing was changed")
        return
    details = {
        "left_valid": sorted(found.valid),
        "revoked_through": found.revoke_through,
        "usernames": list(credential.usernames),
        "databases": list(credential.databases),
        "stores": stores,
    }
    entry = record_order("retire", details, by=at.operator(), chain=at.clouds.chain(at.stream, credential))
    orders = at.clouds.orders(credential)
    for account in accounts_of(credential):
        orders.unregister(account)
    retired = Retired(credential=credential.id, left_valid=tuple(sorted(found.valid)), entry=at.place(entry))
    at.publish(retired, entry)
    say(f"{credential.id}: retired ({entry_text(entry, at.stream)})", style="green")
    say("next: take it out of the plan and deploy; its secrets and its audit entries stay")


def _require_no_admin(plan: Plan, credential: Credential) -> None:
    """Exit code 1 where the credential is a rotation user's login: the plan cannot do without it."""
    own = AdminCredential(credential=credential.id)
    if of := [server.name for server in plan.databases if server.admin == own]:
        text = f"not retired: it is the rotation user's login on {', '.join(of)}; first give these databases another "
        raise no(f"{text}admin, in both clouds", name="NotRetired")


def _require_rest(found: LockRecord, at: OrderContext) -> None:
    """Exit code 1 where something is under way: what is valid would not be known."""
    holder = found.holder if is_held(found, at.clouds.clock.now()) else None
    if holder is None and found.claim is None:
        return
    what = f"{holder} holds the lock" if holder else "a generation is in flight"
    then = f"lockstep rotate {found.credential_id} --force; then repeat this"
    raise no(f"not retired: {what}. When no run is under way: {then}", name="NotRetired")


def _left(found: LockRecord, stores: Sequence[str]) -> str:
    """What still logs in."""
    if found.current_generation is None:
        return "no generation was ever promoted: the login is what it was before Lockstep"
    stays = f"generation {found.current_generation} stays current in {', '.join(stores)}, and logs in"
    if not (older := sorted(found.valid - {found.current_generation})):
        return stays
    names = ", ".join(map(str, older))
    return f"{stays}; {names} may log in, too; to end that: lockstep revoke {found.credential_id}"


# `lockstep lock`: show who holds the lock; free it after its holder has died.


def show(credentials: CredentialArguments = None) -> None:
    """Show who holds the lock and what is in flight.

    Exit code: 0 shown, 3 the lock table was unreachable.
    """
    plan = plan_or_exit()
    wanted, clouds = chosen(plan, credentials), operator(plan)
    table = table_of(clouds, wanted)
    for credential in (c for c in wanted if c.id in table.unreadable):
        clouds.lock(credential).read()  # Says why.
    records = [record_document(table.record(c.id)) for c in wanted]
    if gave_json({"locks": records}):
        return
    for record in records:
        fields = {name: _shown(value) for name, value in msgspec.to_builtins(record).items()}
        say_fields(fields.pop("credential"), fields)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k.replace('_', ' ')} {_shown(v)}" for k, v in value.items())
    return "none" if value is None else str(value)


def release(
    credential_id: CredentialArgument,
    *,
    holder: Annotated[str, typer.Option(help="The holder, exactly as `lock show` prints it.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Break glass: release the lock of a run that died.

    A lease ends by itself within 7 minutes, so this is seldom needed. The lock is freed only if this holder still
    has it. Its claim stays: the next run finishes the generation in flight. If the holder is still alive, it can
    change nothing from then on.

    Exit code: 0 freed, 1 not freed, 3 the lock table was unreachable.
    """
    plan = plan_or_exit()
    credential = one(plan, credential_id)
    lock = operator(plan).lock(credential)
    record = lock.read()
    if record.holder != holder:
        found = f"the holder is {record.holder}" if record.holder else "the lock is free already"
        raise no(f"not freed: {found}", name="NotFreed")
    until = f" until {clock_time(record.expires_at, SystemClock().now())}" if record.expires_at else ""
    say(f"{holder} holds the lock of {credential.id} under fence {record.fence}{until}.")
    say("Make sure that this run has ended: otherwise it ends with FenceLostError.")
    if record.claim:
        say(
            f"Generation {record.claim.generation} stays in flight: the next run is due at once and finishes it."
        )
    if not yes:
        require_yes("Free it?", otherwise="not freed")
    lock.release(Lease(credential_id=credential.id, holder=holder, fence=record.fence), None)
    say(f"{credential.id}: the lock is free", style="green")
