"""The order of logins on one account, so that no proof of ours brings it closer to being locked (protocol D9, D19)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

from lockstep.errors import (
    AccountMissingError,
    AccountUnusableError,
    CurrentCredentialRejectedError,
    DatabaseRejectedError,
    PendingCredentialRejectedError,
    PreviousCredentialAcceptedError,
    StoresDivergedError,
)
from lockstep.messages import CandidateRef, Dead, Death
from lockstep.model import CredentialValue, Lease, Login
from lockstep.ports import Database, Ports, Stager

REFUSALS_AT_MOST = 2
"""Refused logins in a row, in the search for a login that works, after which a database is muted (protocol D20)."""


def require_live(database: Database, stager: Stager, login: Login, generation: int) -> None:
    """See log in what applications use, before anything changes (protocol D3).

    Raises:
        CurrentCredentialRejectedError: The database refuses it.
        AccountUnusableError, AccountMissingError: Whatever the password.
    """
    if not (database.accepts(login) or stager.accepts_after_all(login)):
        raise CurrentCredentialRejectedError(database=database.name, generation=generation)


def require_accepted(database: Database, *, pending: CredentialValue, base: CredentialValue | None) -> None:
    """See pending and base log in (protocol D7, D8).

    Raises:
        PendingCredentialRejectedError: The database refuses pending.
        CurrentCredentialRejectedError: It refuses base: it did not keep it.
    """
    if not database.accepts(pending.login):
        raise PendingCredentialRejectedError(database=database.name, generation=pending.generation)
    if base and base.login != pending.login and not database.accepts(base.login):
        raise CurrentCredentialRejectedError(database=database.name, generation=base.generation)


def require_dead(
    database: Database, doomed: Mapping[int, CredentialValue | None], *, live: Sequence[Login]
) -> tuple[Dead, ...]:
    """See that generations are refused, each refusal followed by a login of the same account (protocol D9, I9).

    A refusal proves nothing where the account is locked, so it counts only if the next login succeeds. A login of an
    account that has no live one cannot be followed, so it is not tried: it stays alive on record.

    Args:
        database: The database.
        doomed: The generations, with their values where a store still has them.
        live: Logins that work, one for each account.

    Raises:
        PreviousCredentialAcceptedError: One still logs in.
        CurrentCredentialRejectedError: The login after a refusal is refused, too: nothing is known.
    """
    dead = []
    for generation, value in doomed.items():
        if value is None:
            dead.append(Dead(generation=generation, death=Death.UNREADABLE))
            continue
        followed_by = next((login for login in live if login.username == value.login.username), None)
        if value.login in live or followed_by is None:
            continue
        if _lets_in(database, value.login):
            raise PreviousCredentialAcceptedError(database=database.name, generation=generation)
        if not database.accepts(followed_by):
            raise CurrentCredentialRejectedError(database=database.name)
        dead.append(Dead(generation=generation, death=Death.REFUSED))
    return tuple(dead)


def first_that_works(
    ports: Ports, lease: Lease, stagers: Mapping[str, Stager], candidates: Mapping[CandidateRef, Login]
) -> CandidateRef:
    """The first candidate that logs in on every one of the databases (protocol C5).

    One that cannot be tried does not work. A database that refuses twice in a row, or refuses the last candidate, is
    muted, so that the refusals of several runs do not add up (protocol D20).

    Raises:
        StoresDivergedError: None does (protocol C6).
    """
    refusals = Counter[str]()
    for candidate, login in candidates.items():
        accepted = ports.side_by_side(
            [partial(_works, ports.databases[name], stager, login) for name, stager in stagers.items()]
        )
        if all(accepted):
            return candidate
        for name, is_accepted in zip(stagers, accepted, strict=True):
            refusals[name] = 0 if is_accepted else refusals[name] + 1
        if max(refusals.values()) >= REFUSALS_AT_MOST:
            break
    if refused := [name for name, count in refusals.items() if count]:
        ports.lock.mute(lease, refused)
    raise StoresDivergedError(credential=ports.credential.id)


def _lets_in(database: Database, login: Login) -> bool:
    try:
        return database.accepts(login)
    except AccountUnusableError:
        return False  # The next login of the account shows whether that is so.


def _works(database: Database, stager: Stager, login: Login) -> bool:
    try:
        return database.accepts(login) or stager.accepts_after_all(login)
    except (AccountUnusableError, AccountMissingError, DatabaseRejectedError):
        return False
