"""`lockstep plan activate`: make the plan file's plan of a credential the one under which runs act."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lockstep.audit.chain import Entry
from lockstep.audit.end import newest_numbers
from lockstep.audit.reading import read_object
from lockstep.cli.giving import (
    AllCredentials,
    CredentialArguments,
    Desk,
    RecordIn,
    desk,
    each,
    entry_text,
    named,
    would,
)
from lockstep.cli.operator import streams
from lockstep.cli.output import DEFAULT_PLAN, FEW, DryRun, Exit, PlanFile, complain, plan_or_exit, say
from lockstep.errors import AuditLogAccessDeniedError, AuditLogUnreachableError
from lockstep.model import ChainHead, Credential
from lockstep.orders import Activate
from lockstep.ports import AuditLog, Signer

LOOK_BACK = 100
"""How many entries of a stream are searched for the last rotation: more than a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rotated:
    """What the last rotation on record used."""

    usernames: tuple[str, ...]
    places: frozenset[str]


def activate(  # noqa: PLR0913 - each is an option of the command
    credentials: CredentialArguments = None,
    *,
    everything: AllCredentials = False,
    replaced: Annotated[
        list[str] | None,
        typer.Option("--from", help="The digest of the plan that is active now. Once for each digest."),
    ] = None,
    from_plan: Annotated[
        Path | None,
        typer.Option(
            "--from-plan",
            help="The plan file that is active now: of each credential, its digest is replaced.",
        ),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option("--drop", help="A database or store that leaves, after its readers. Once for each."),
    ] = None,
    dry_run: DryRun = False,
    stream: RecordIn = "aws",
    file: PlanFile = DEFAULT_PLAN,
) -> None:
    """Make this plan file's plan of a credential the active one, in both clouds.

    Runs act under the active plan only. `plan check` prints the digest of the plan file, `status` the active one.
    Deploy the plan to both clouds first. The next run of a cloud that has it proves the login on every database and
    makes the plan active; from then on, runs under the old one change nothing. Applications may use a new database only
    after that, and must leave a dropped one before. To activate the plan that is active withdraws the order for another
    one.

    For many credentials give a pattern or --all, and the plan file that is active now: git show HEAD~:lockstep.yaml >
    before.yaml; lockstep plan activate --all --from-plan before.yaml. Repeat the command after a failure: what is
    ordered stays ordered. Each is activated by its next run.

    Exit code: 0 ordered (or active already), 1 refused, 3 the lock table or the audit log was unreachable.
    """
    plan = plan_or_exit(file)
    found, at = named(plan, credentials, everything=everything), desk(plan, stream)
    dropped = frozenset(drop or [])
    before = {c.id: c.plan_digest for c in plan_or_exit(from_plan).credentials} if from_plan else {}

    def act(credential: Credential) -> None:
        record = at.read(credential)
        active = record.plan
        if active is None and replaced:
            _refuse(f"{credential.id}: no plan is active, so leave out --from")
        if active not in {None, credential.plan_digest, before.get(credential.id), *(replaced or [])}:
            _refuse(
                f"{credential.id}: the active plan is {active}; "
                f"to replace it: lockstep plan activate {credential.id} --from {active}"
            )
        leaving = _leaving(at, credential, dropped) if active else ()
        order = Activate(digest=credential.plan_digest, replaces=active, leaving=leaving)
        if dry_run:
            would(credential, order, record)
            return
        given = at.give(order, credential)
        if given.record.plan == credential.plan_digest:
            say(f"{credential.id}: active ({entry_text(given.entry, at.stream)})", style="green")
            return
        say(f"{credential.id}: ordered {order.digest} ({entry_text(given.entry, at.stream)})", style="green")
        if len(found) <= FEW:
            say(f"next: lockstep rotate --force {credential.id}")

    each(found, act)


def _leaving(at: Desk, credential: Credential, dropped: frozenset[str]) -> tuple[str, ...]:
    """The databases and stores that leave, each of which must be named in `--drop`."""
    last = _last_rotation(at, credential)
    if last is None:
        complain(
            f"{credential.id}: no rotation on record can be read, so what leaves the plan is not checked"
        )
        return tuple(sorted(dropped))
    kept = last.usernames == credential.usernames[: len(last.usernames)]
    if not kept or (len(last.usernames) == 1) != (len(credential.usernames) == 1):
        _refuse(
            f"{credential.id}: the active plan has the usernames {', '.join(last.usernames)}; they and the strategy "
            "never change. Append usernames, or make a credential with another id"
        )
    here = {*credential.databases, *(store.name for store in at.plan.stores)}
    leaving = last.places - here
    if unnamed := sorted(leaving - dropped):
        options = " ".join(f"--drop {name}" for name in unnamed)
        _refuse(
            f"{credential.id}: {', '.join(unnamed)} would leave. When no application uses it any more, add: {options}"
        )
    if unknown := sorted(dropped - leaving):
        _refuse(f"{credential.id}: {', '.join(unknown)} does not leave")
    return tuple(sorted(leaving))


def _last_rotation(at: Desk, credential: Credential) -> _Rotated | None:
    """The newest rotation on record, in any stream that can be read; archived entries cannot."""
    found: list[Entry] = []
    heads = at.clouds.lock(credential).read().heads
    for log, signer in streams(at.plan, at.clouds, credential):
        try:
            found += [
                next(
                    e
                    for e in _newest_first(log, signer, credential, heads.get(log.stream))
                    if _is_rotation(e)
                )
            ]
        except (StopIteration, AuditLogUnreachableError, AuditLogAccessDeniedError):
            continue
    if not found:
        return None
    details = max(found, key=lambda e: e.time).details
    return _Rotated(
        usernames=tuple(details["usernames"]), places=frozenset({*details["databases"], *details["stores"]})
    )


def _newest_first(
    log: AuditLog, signer: Signer, credential: Credential, head: ChainHead | None
) -> Iterator[Entry]:
    """The entries whose signature is valid; an entry that is not valid is for `audit verify`."""
    for seq in newest_numbers(log, head, LOOK_BACK):
        found = read_object(credential.id, log, signer, seq)
        if found.archived:
            return
        if found.entry:
            yield found.entry


def _is_rotation(entry: Entry) -> bool:
    return entry.event.get("status") == "Success" and {"generation", "usernames"} <= entry.details.keys()


def _refuse(text: str) -> None:
    complain(text)
    raise typer.Exit(Exit.NO)
