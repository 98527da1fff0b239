"""`lockstep status`: what every store serves, who holds the lock, what the next run would do."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import typer

from lockstep.cli.forecast import Forecast, forecast, in_step
from lockstep.cli.operator import operator
from lockstep.cli.output import (
    DEFAULT_PLAN,
    AsJson,
    CredentialId,
    Exit,
    PlanFile,
    chosen,
    plan_or_exit,
    print_json,
    say,
)
from lockstep.cli.times import clock_time, moment
from lockstep.cli.usage import UsagePlaces, problems_document, show_problems, show_usage, usage_document
from lockstep.environment import line_of, told
from lockstep.errors import LockstepError, SecretMalformedError, SecretNotFoundError
from lockstep.model import Credential, LockRecord, StoredValue
from lockstep.ports import Store
from lockstep.system import SystemClock
from lockstep.usage import usage_at

_NO_ANSWER = "not known, because not every store returned a credential"


@dataclass(frozen=True, kw_only=True)
class State:
    """The state of one credential.

    Attributes:
        plan_digest: That of the plan file.
        stores: What each serves, or why that is not known.
        is_in_step: None if a store was unreachable.
        next_run: None unless every store answered with a credential.
    """

    record: LockRecord
    plan_digest: str
    stores: dict[str, StoredValue | LockstepError]
    is_in_step: bool | None
    next_run: Forecast | None


def status(
    *,
    file: PlanFile = DEFAULT_PLAN,
    credential_id: CredentialId = None,
    usage: UsagePlaces = None,
    as_json: AsJson = False,
) -> None:
    """Show whether the stores are in step.

    Shows what every store serves, who holds the lock, and what the next run would do. This changes nothing and calls
    no database.

    Exit code: 0 in step, 1 not in step, 3 a store, the lock table or a place of --usage was unreachable.
    """
    plan = plan_or_exit(file)
    clouds, now = operator(plan), SystemClock().now()
    states = []
    for credential in chosen(plan, credential_id):
        record = clouds.lock(credential).read()
        served = {s.name: _asked(s) for s in clouds.stores(credential)}
        states.append(_state(record, credential, served, now))
    answers = [s.is_in_step for s in states]
    found = usage_at(usage, now=now) if usage else None
    if as_json:
        documents = [_document(s) | (usage_document(found, s.record) if found else {}) for s in states]
        problems = problems_document(found) if found else {}
        print_json({"in_step": all(answers), "credentials": documents} | problems)
    else:
        for state in states:
            _show(state, now)
            if found:
                show_usage(found, state.record, now)
    if found:
        show_problems(found)
    if False in answers:
        raise typer.Exit(Exit.NO)
    if None in answers or (found and found.problems):
        raise typer.Exit(Exit.UNREACHABLE)


def _asked(store: Store) -> StoredValue | LockstepError:
    try:
        return store.read_current()
    except LockstepError as e:
        return e


def _state(
    record: LockRecord,
    credential: Credential,
    stores: dict[str, StoredValue | LockstepError],
    now: datetime,
) -> State:
    current = {name: v for name, v in stores.items() if isinstance(v, StoredValue)}
    is_wrong = any(isinstance(v, SecretMalformedError | SecretNotFoundError) for v in stores.values())
    is_in_step, next_run = (False if is_wrong else None), None
    if len(current) == len(stores):
        is_in_step, next_run = in_step(record, current), forecast(record, current, credential, now=now)
    return State(
        record=record,
        plan_digest=credential.plan_digest,
        stores=stores,
        is_in_step=is_in_step,
        next_run=next_run,
    )


def _show(state: State, now: datetime) -> None:
    record = state.record
    verdict, style = {
        True: ("in step", "green"),
        False: ("NOT IN STEP", "bold red"),
        None: ("NOT KNOWN", "bold yellow"),
    }[state.is_in_step]
    say(f"{record.credential_id}: {verdict}", style=style)
    for name, value in state.stores.items():
        say(f"  store {name}: {_value(value)}")
    say(f"  lock: {_lock(record, now)}")
    if record.claim:
        claim = record.claim
        say(f"  in flight: generation {claim.generation} on {claim.base_generation}, by {claim.rotation_id}")
    if record.next_due_at and record.not_before:
        due, earliest = (clock_time(t, now) for t in (record.next_due_at, record.not_before))
        say(f"  next due: {due}, not before {earliest}")
    for line in _order_lines(state):
        say(f"  {line}", style="yellow")
    if state.next_run is None:
        say(f"  next run: {_NO_ANSWER}")
    elif state.next_run.waits_for:
        say(f"  next run: skipped now ({state.next_run.waits_for}); then {state.next_run.meaning}")
    else:
        say(f"  next run: {state.next_run.meaning}")


def _order_lines(state: State) -> Iterator[str]:
    orders, wanted = state.record, state.plan_digest
    if orders.paused:
        yield "paused: no scheduled run begins, in either cloud"
    if orders.is_revoking:
        yield f"emergency: every generation up to {orders.revoke_through} must die"
    if orders.enrol:
        yield f"enrolled, until proven: {', '.join(sorted(orders.enrol))}"
    if orders.muted:
        yield f"muted after refused logins: {', '.join(sorted(orders.muted))}; see `lockstep retry --help`"
    if orders.activate:
        yield f"to become the active plan: {orders.activate}"
    if wanted not in {orders.plan, orders.activate}:
        yield f"active plan: {orders.plan or 'none'}; this plan file is {wanted}"


def _value(value: StoredValue | LockstepError) -> str:
    if isinstance(value, LockstepError):
        return line_of(value)
    if value.login is None:
        return "a placeholder; the first rotation replaces it"
    if value.generation != value.blob_generation:
        return f"generation {value.generation}, but connection_blob has {value.blob_generation}"
    return f"generation {value.generation}" if value.generation else "a value that Lockstep did not write"


def _lock(record: LockRecord, now: datetime) -> str:
    if record.holder is None or record.expires_at is None:
        return f"free, fence {record.fence}"
    verb, until = ("holds it", "until") if record.expires_at >= now else ("held it", "which ended at")
    return f"{record.holder} {verb} under fence {record.fence}, {until} {clock_time(record.expires_at, now)}"


def _document(state: State) -> dict[str, Any]:
    return {
        **record_document(state.record),
        "orders": orders_document(state.record),
        "plan_digest": state.plan_digest,
        "in_step": state.is_in_step,
        "stores": [
            {"store": name, "error": type(told(v)).__name__}
            if isinstance(v, LockstepError)
            else {
                "store": name,
                "generation": v.generation,
                "blob_generation": v.blob_generation,
                "version": v.version,
                "placeholder": v.login is None,
            }
            for name, v in state.stores.items()
        ],
        "next_run": {
            "action": state.next_run.action,
            "meaning": state.next_run.meaning,
            "waits_for": state.next_run.waits_for,
        }
        if state.next_run
        else None,
    }


def orders_document(orders: LockRecord) -> dict[str, Any]:
    """What an operator wants, for JSON."""
    return {
        "active_plan": orders.plan,
        "activate": orders.activate,
        "paused": orders.paused,
        "revoke_through": orders.revoke_through if orders.is_revoking else None,
        "enrol": sorted(orders.enrol),
        "muted": sorted(orders.muted),
    }


def record_document(record: LockRecord) -> dict[str, Any]:
    """The lock record, for JSON."""
    claim = record.claim
    return {
        "credential": record.credential_id,
        "holder": record.holder,
        "fence": record.fence,
        "expires_at": moment(record.expires_at) if record.expires_at else None,
        "current_generation": record.current_generation,
        "alive": sorted(record.alive),
        "claim": {
            "kind": claim.kind.value,
            "generation": claim.generation,
            "base_generation": claim.base_generation,
            "promoting": record.promoting,
            "rotation_id": claim.rotation_id,
        }
        if claim
        else None,
        "next_due_at": moment(record.next_due_at) if record.next_due_at else None,
        "not_before": moment(record.not_before) if record.not_before else None,
        "heads": {stream: {"seq": head.seq, "hash": head.hash} for stream, head in record.heads.items()},
    }
