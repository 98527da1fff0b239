"""What the commands that give orders share: who gives them, where they are recorded, how they fail."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Annotated, Literal

import typer

from lockstep.cli import failures
from lockstep.cli.operator import operator
from lockstep.cli.output import FEW, chosen, complain, matching, say, say_aside, shown_ids, wrong_use
from lockstep.cli.telling import tell
from lockstep.clouds import Clouds
from lockstep.environment import EnvironmentalError, told
from lockstep.errors import LockstepError
from lockstep.events.happenings import Entry, Happening, Paused, Resumed
from lockstep.identity import Cloud
from lockstep.model import ChainHead, Credential, LockRecord
from lockstep.orders import Given, Operator, Order, Pause, Resume, Revoke, give
from lockstep.plan import Plan
from lockstep.system import new_id
from lockstep.workers import at_the_same_time

CredentialArgument = Annotated[str, typer.Argument(metavar="CREDENTIAL", help="The credential, by its id.")]
CredentialArguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="CREDENTIAL", help="Credentials, by their ids or by patterns such as 'team/*'."),
]
AllCredentials = Annotated[bool, typer.Option("--all", help="Every credential of the plan.")]
RecordIn = Annotated[
    Literal["aws", "oci"],
    typer.Option("--stream", help="The audit stream that records it: that of the cloud you are in."),
]

TOLD_EVERY = 500
"""Of more, after so many it is told how far it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """From where an operator gives orders.

    Attributes:
        stream: The cloud whose audit stream records them.
    """

    plan: Plan
    clouds: Clouds
    stream: Cloud

    def give(self, order: Order, credential: Credential) -> Given:
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
            self.tell(kind(credential=credential.id, entry=self.place(given.entry)), given.entry)
        return given

    def place(self, recorded: ChainHead) -> Entry:
        """An audit entry, as events name it."""
        return Entry(stream=self.stream, seq=recorded.seq)

    def tell(self, happening: Happening, recorded: ChainHead) -> None:
        """Send the event of what an operator has done, if the plan sends events. Raises nothing (protocol E18).

        Args:
            happening: What has been done.
            recorded: Its audit entry.
        """
        if self.plan.events:
            tell(self.plan, happening, cause=recorded.rotation_id, time=self.clouds.clock.now())

    def operator(self) -> Operator:
        """Who gives orders here."""
        return Operator(who=self.clouds.caller(), now=self.clouds.clock.now, new_id=new_id)

    def read(self, credential: Credential) -> LockRecord:
        """The lock record, with every order that stands in it."""
        return self.clouds.lock(credential).read()


def desk(plan: Plan, stream: Cloud) -> Desk:
    """The desk of the person at the command line, or exit code 2 where the plan has no such stream."""
    if stream == "oci" and plan.audit.oci is None:
        raise wrong_use("the plan has no audit stream in oci")
    return Desk(plan=plan, clouds=operator(plan), stream=stream)


def named(plan: Plan, ids: list[str] | None, *, everything: bool) -> list[Credential]:
    """The credentials that the command is about, each once, or exit code 2."""
    if everything == bool(ids):
        raise wrong_use("name credentials, or give --all")
    if everything:
        return chosen(plan, None)
    found = {c.id: c for written in ids or [] for c in matching(plan, written)}
    return list(found.values())


def each(credentials: Sequence[Credential], act: Callable[[Credential], None]) -> None:
    """Do it for every credential. One that fails does not stop the others; the exit code is the gravest.

    For more than `FEW`, several at the same time; how far it is goes to standard error.
    """
    if len(credentials) <= FEW:
        codes = [_done(credential, act) for credential in credentials]
    else:
        codes = _many(credentials, act)
    if any(codes):
        raise typer.Exit(max(codes))


def _many(credentials: Sequence[Credential], act: Callable[[Credential], None]) -> list[int]:
    """As `each`, with equal errors told once. It ends where a whole batch fails for one reason in the environment."""
    codes: list[int] = []
    failures_of: dict[str, _Failures] = {}
    for begin, end in pairwise((0, FEW, *range(TOLD_EVERY, len(credentials), TOLD_EVERY), len(credentials))):
        outcomes = at_the_same_time([partial(_tried, c, act) for c in credentials[begin:end]])
        for credential, outcome in zip(credentials[begin:end], outcomes, strict=True):
            if isinstance(outcome, LockstepError):
                error = _without_credential(outcome)
                failures_of.setdefault(str(error), _Failures(error, [])).ids.append(credential.id)
        codes += [o if isinstance(o, int) else failures.code_of(o) for o in outcomes]
        if hopeless := _is_of_this_machine(outcomes):
            break
        if end > FEW:
            say_aside(f"{end:,} of {len(credentials):,}")
    for failed in failures_of.values():
        failed.tell()
    missing = len(credentials) - codes.count(0)
    if hopeless:
        complain(
            f"{missing:,} of {len(credentials):,} not done: the last {len(outcomes):,} all failed in this way, so no "
            "more were tried. Mend it and repeat the command: what is done stays as it is"
        )
    elif missing:
        complain(
            f"{missing:,} of {len(credentials):,} not done. Repeat the command: what is done stays as it is"
        )
    return codes


@dataclass(frozen=True, slots=True)
class _Failures:
    """The credentials at which one error was met."""

    error: LockstepError
    ids: list[str]

    def tell(self) -> None:
        failures.tell(self.error)
        complain(f"not done, {len(self.ids):,} credentials: {shown_ids(self.ids)}")


def _without_credential(error: LockstepError) -> LockstepError:
    """What a person is told of an error, whichever credential it was met at."""
    shown = told(error)
    if "credential" not in shown.where:
        return shown
    return type(shown)(**{key: value for key, value in shown.where.items() if key != "credential"})


def _is_of_this_machine(outcomes: Sequence[int | LockstepError]) -> bool:
    """Whether every credential failed for one reason that lies in the environment."""
    reasons = {str(told(o)) if isinstance(o, LockstepError) else "" for o in outcomes}
    return len(reasons) == 1 and all(
        isinstance(o, LockstepError) and isinstance(told(o), EnvironmentalError) for o in outcomes
    )


def _tried(credential: Credential, act: Callable[[Credential], None]) -> int | LockstepError:
    """Do it for one; 0, the exit code of a refusal that has been told, or an error that has not."""
    try:
        act(credential)
    except typer.Exit as stopped:
        complain(f"{credential.id}: not done")
        return stopped.exit_code
    except LockstepError as error:
        return error
    return 0


def _done(credential: Credential, act: Callable[[Credential], None]) -> int:
    """Do it for one; 0, or the exit code of its failure, which has been told."""
    outcome = _tried(credential, act)
    if isinstance(outcome, int):
        return outcome
    code = failures.tell(outcome)
    complain(f"{credential.id}: not done")
    return code


def entry_text(entry: ChainHead | None, stream: str) -> str:
    """Where an order is on record, for a sentence's end."""
    return f"entry {entry.seq} of {stream}" if entry else "it was so already"


def would(credential: Credential, order: Order, record: LockRecord) -> None:
    """Say what a dry run would do, or raise what it would raise."""
    if order.stands_in(record):
        say(f"{credential.id}: it is so already")
        return
    order.check(record)
    say(f"{credential.id}: would record and give the order {order.name}")
