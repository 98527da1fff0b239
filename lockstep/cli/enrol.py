"""`lockstep enrol` and `lockstep retry`: databases whose accounts Lockstep may take over, or must try again."""

from typing import Annotated

import typer

from lockstep.cli.giving import Desk, RecordIn, desk, each, entry_text, would
from lockstep.cli.output import (
    DEFAULT_PLAN,
    FEW,
    DryRun,
    PlanFile,
    matching,
    plan_or_exit,
    say,
    wrong_use,
)
from lockstep.model import Credential
from lockstep.orders import CancelEnrolment, Enrol, Order, Retry, accounts_of
from lockstep.plan import Plan

CredentialOrPattern = Annotated[
    str,
    typer.Argument(
        metavar="CREDENTIAL",
        help="The credential, by its id; or a pattern such as '*', for those on all of the databases.",
    ),
]
Databases = Annotated[
    list[str], typer.Argument(metavar="DATABASE", help="Databases, by their names in the plan.")
]


def enrol(
    credential_id: CredentialOrPattern,
    databases: Databases,
    *,
    cancel: Annotated[bool, typer.Option("--cancel", help="Take the permission back.")] = False,
    dry_run: DryRun = False,
    stream: RecordIn = "aws",
    file: PlanFile = DEFAULT_PLAN,
) -> None:
    """Let Lockstep take over the accounts of a credential on a database.

    Needed where no login that Lockstep knows works: a new account, a database restored from a backup, a password that
    was changed by hand. The next run sets the account's password, whatever it is now. Once the login is proven there,
    the permission is gone. An account that belongs to another credential is refused.

    After the restore of a database that many credentials use: lockstep enrol '*' DATABASE

    Exit code: 0 enrolled (or cancelled), 1 refused, 3 the lock table or the audit log was unreachable.
    """
    plan = plan_or_exit(file)
    wanted = frozenset(databases)
    found, at = _on(plan, credential_id, wanted), desk(plan, stream)
    order = CancelEnrolment(databases=wanted) if cancel else Enrol(databases=wanted)

    def act(credential: Credential) -> None:
        if not cancel:
            _require_known(credential, wanted)
        if not cancel and not dry_run:
            _register(at, credential, wanted)
        text = _given(at, credential, order, dry_run=dry_run)
        if text:
            say(
                f"{credential.id}: {'cancelled' if cancel else 'enrolled'} {_list(wanted)} ({text})",
                style="green",
            )
            if not cancel and len(found) <= FEW:
                say(f"next: lockstep rotate --force {credential.id}")

    each(found, act)


def retry(
    credential_id: CredentialOrPattern,
    database: Annotated[str, typer.Argument(metavar="DATABASE", help="Its name in the plan.")],
    *,
    dry_run: DryRun = False,
    stream: RecordIn = "aws",
    file: PlanFile = DEFAULT_PLAN,
) -> None:
    """Let runs log in to a database again that they had muted.

    A run mutes a database whose account refuses a login twice, before the server locks the account. Find out first why
    it refused: if the password was changed there, use `lockstep enrol`.

    Exit code: 0 it is tried again, 3 the lock table or the audit log was unreachable.
    """
    plan = plan_or_exit(file)
    found, at = _on(plan, credential_id, frozenset({database})), desk(plan, stream)

    def act(credential: Credential) -> None:
        if database not in at.read(credential).muted:
            _require_known(credential, frozenset({database}))
        text = _given(at, credential, Retry(database=database), dry_run=dry_run)
        if text:
            say(f"{credential.id}: {database} is tried again ({text})", style="green")

    each(found, act)


def _on(plan: Plan, written: str, databases: frozenset[str]) -> list[Credential]:
    """The credential of that id; or of a pattern, those that are on all of these databases, or exit code 2."""
    found = matching(plan, written)
    if [c.id for c in found] == [written]:
        return found
    on_them = [c for c in found if databases <= set(c.databases)]
    if not on_them:
        raise wrong_use(f"no credential that matches {written!r} is on {_list(databases)}")
    return on_them


def _given(at: Desk, credential: Credential, order: Order, *, dry_run: bool) -> str | None:
    """Where the order is on record; None after a dry run."""
    if dry_run:
        would(credential, order, at.read(credential))
        return None
    return entry_text(at.give(order, credential).entry, at.stream)


def _register(at: Desk, credential: Credential, databases: frozenset[str]) -> None:
    """Make the accounts this credential's before anything may change them (protocol O8)."""
    orders = at.clouds.orders(credential)
    for account in accounts_of(credential):
        if account.database in databases:
            orders.register(account)


def _require_known(credential: Credential, databases: frozenset[str]) -> None:
    if unknown := sorted(databases - set(credential.databases)):
        has = ", ".join(credential.databases)
        raise wrong_use(f"{credential.id} has no database {', '.join(unknown)} in the plan; it has: {has}")


def _list(databases: frozenset[str]) -> str:
    return ", ".join(sorted(databases))
