"""`lockstep retire`: end the rotation of a credential, and put on record what is left alive (protocol O11)."""

from typing import Any

import typer

from lockstep.cli.giving import CredentialArgument, Desk, RecordIn, desk, entry_text
from lockstep.cli.output import (
    DEFAULT_PLAN,
    DryRun,
    Exit,
    PlanFile,
    complain,
    one,
    plan_or_exit,
    say,
)
from lockstep.events.happenings import Retired
from lockstep.lock_rule import is_held
from lockstep.model import AdminCredential, Credential, LockRecord
from lockstep.orders import Pause, accounts_of, record
from lockstep.plan import Plan


def retire(
    credential_id: CredentialArgument,
    *,
    dry_run: DryRun = False,
    stream: RecordIn = "aws",
    file: PlanFile = DEFAULT_PLAN,
) -> None:
    """End the rotation of a credential.

    Pauses it in both clouds, puts on record which generations may still log in and where, and frees its accounts, so
    that another credential may have them. No store and no database is changed: applications keep the login that they
    have. Take the credential out of the plan afterwards. `lockstep resume` undoes the pause.

    Exit code: 0 retired, 1 a run or a generation is in flight, 3 the lock table or the audit log was unreachable.
    """
    plan = plan_or_exit(file)
    credential, at = one(plan, credential_id), desk(plan, stream)
    _require_no_admin(plan, credential)
    if not dry_run:
        at.give(Pause(), credential)
    found = at.read(credential)
    _require_rest(found, at)
    details = _details(found, credential, at)
    _explain(details, found)
    if dry_run:
        say("nothing was changed")
        return
    entry = record("retire", details, by=at.operator(), chain=at.clouds.chain(at.stream, credential))
    orders = at.clouds.orders(credential)
    for account in accounts_of(credential):
        orders.unregister(account)
    retired = Retired(
        credential=credential.id, left_alive=tuple(details["left_alive"]), entry=at.place(entry)
    )
    at.tell(retired, entry)
    say(f"{credential.id}: retired ({entry_text(entry, at.stream)})", style="green")
    say("next: take it out of the plan and deploy; its secrets and its audit entries stay")


def _require_no_admin(plan: Plan, credential: Credential) -> None:
    """Exit code 1 where the credential is a rotator admin's login: the plan cannot do without it."""
    own = AdminCredential(credential=credential.id)
    if of := [server.name for server in plan.databases if server.admin == own]:
        complain(
            f"not retired: it is the rotator admin's login on {', '.join(of)}; first give these databases another "
            "admin, in both clouds"
        )
        raise typer.Exit(Exit.NO)


def _require_rest(found: LockRecord, at: Desk) -> None:
    """Exit code 1 where something is under way: what is alive would not be known."""
    holder = found.holder if is_held(found, at.clouds.clock.now()) else None
    if holder is None and found.claim is None:
        return
    what = f"{holder} holds the lock" if holder else "a generation is in flight"
    complain(
        f"not retired: {what}. When no run is under way: "
        f"lockstep rotate --force {found.credential_id}; then repeat this"
    )
    raise typer.Exit(Exit.NO)


def _details(found: LockRecord, credential: Credential, at: Desk) -> dict[str, Any]:
    return {
        "left_alive": sorted(found.alive),
        "revoked_through": found.revoke_through,
        "usernames": list(credential.usernames),
        "databases": list(credential.databases),
        "stores": [store.name for store in at.plan.stores],
    }


def _explain(details: dict[str, Any], found: LockRecord) -> None:
    say(f"{found.credential_id}: {', '.join(details['usernames'])} on {', '.join(details['databases'])}")
    if found.current_generation is None:
        say("  no generation was ever promoted: the login is what it was before Lockstep")
        return
    say(
        f"  generation {found.current_generation} stays current in {', '.join(details['stores'])}, and logs in"
    )
    for generation in details["left_alive"]:
        if generation != found.current_generation:
            say(
                f"  generation {generation} may log in, too; to end that first: "
                f"lockstep rotate --revoke-previous {found.credential_id}"
            )
    say("  when no application uses them any more, a DBA drops the accounts")
