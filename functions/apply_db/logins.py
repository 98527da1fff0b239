"""The order of logins on one account, so that no proof of ours brings it closer to being locked (protocol D9, D18)."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain

from functions.apply_db.reached import Reached
from lockstep.protocol.errors import (
    AccountMissingError,
    AccountUnusableError,
    CurrentCredentialRejectedError,
    DatabaseRejectedError,
    PendingCredentialRejectedError,
    PreviousCredentialAcceptedError,
    UnsupportedServerError,
)
from lockstep.protocol.messages import RevocationCheck, RevocationResult
from lockstep.protocol.model import CredentialValue, Login
from lockstep.protocol.ports import Database, Stager, lets_in
from lockstep.protocol.workers import SideBySide

BARRED = (AccountUnusableError, AccountMissingError, DatabaseRejectedError, UnsupportedServerError)
"""What bars an account from any login: another login of ours may work."""


def refusing(databases: Reached, kept: Mapping[str, Login]) -> tuple[str, ...]:
    """The databases that refuse what they are to keep, before anything changes (protocol D3).

    A database that refuses it outweighs another one that does not answer: tried again, the step would show it again.
    """
    answers = databases.attempt(partial(_accepts, databases, kept), kept)
    return tuple(name for name, is_accepted in answers.items() if not is_accepted)


def _accepts(databases: Reached, kept: Mapping[str, Login], name: str) -> bool:
    with suppress(*BARRED):
        return lets_in(databases.ports.databases[name], databases.stagers[name], kept[name])
    return False


def prove(
    database: Database,
    stager: Stager,
    side_by_side: SideBySide,
    *,
    pending: CredentialValue,
    base: CredentialValue | None,
    doomed: Mapping[int, CredentialValue | None],
) -> tuple[RevocationCheck, ...]:
    """See pending and base log in, and what is doomed refused (protocol D7, D9).

    The accounts are worked on side by side, the logins of one account one after the other (protocol D18).

    Raises:
        PendingCredentialRejectedError, CurrentCredentialRejectedError, PreviousCredentialAcceptedError: As
            `require_accepted` and `require_revoked`.
    """
    usernames = dict.fromkeys(value.login.username for value in (pending, base) if value)

    def prove_account(username: str) -> tuple[RevocationCheck, ...]:
        of_account = [
            value if value and value.login.username == username else None for value in (pending, base)
        ]
        require_accepted(database, stager, pending=of_account[0], base=of_account[1])
        shown = {g: value for g, value in doomed.items() if value and value.login.username == username}
        return require_revoked(database, shown, live=[value.login for value in of_account if value])

    checked = side_by_side([partial(prove_account, username) for username in usernames])
    unread = {generation: value for generation, value in doomed.items() if value is None}
    checks = chain(*checked, require_revoked(database, unread, live=()))
    return tuple(sorted(checks, key=lambda check: check.generation))


def require_accepted(
    database: Database, stager: Stager, *, pending: CredentialValue | None, base: CredentialValue | None
) -> None:
    """See pending and base log in, where they are given (protocol D7).

    Raises:
        AccountUnusableError, AccountMissingError: A second look at pending's refusal shows that (protocol D14).
        PendingCredentialRejectedError: The database refuses pending.
        CurrentCredentialRejectedError: It refuses base: it did not keep it.
    """
    if pending and not lets_in(database, stager, pending.login):
        raise PendingCredentialRejectedError(database=database.name, generation=pending.generation)
    if pending and base and base.login == pending.login:
        return
    if base and not database.accepts(base.login):
        raise CurrentCredentialRejectedError(database=database.name, generation=base.generation)


def require_revoked(
    database: Database, doomed: Mapping[int, CredentialValue | None], *, live: Sequence[Login]
) -> tuple[RevocationCheck, ...]:
    """See that generations are refused, each refusal followed by a login of the same account (protocol D9, I9).

    A refusal proves nothing where the account is locked, so it counts only if the next login succeeds. A login of an
    account that has no live one cannot be followed, so it is not tried: it stays valid on record.

    Args:
        database: The database.
        doomed: The generations, with their values where a store still has them.
        live: Logins that work, one for each account.

    Raises:
        PreviousCredentialAcceptedError: One still logs in.
        CurrentCredentialRejectedError: The login after a refusal is refused, too: nothing is known.
    """
    revoked = []
    for generation, value in doomed.items():
        if value is None:
            revoked.append(RevocationCheck(generation=generation, revocation=RevocationResult.UNREADABLE))
            continue
        followed_by = next((login for login in live if login.username == value.login.username), None)
        if value.login in live or followed_by is None:
            continue
        if _lets_in(database, value.login):
            raise PreviousCredentialAcceptedError(database=database.name, generation=generation)
        if not database.accepts(followed_by):
            raise CurrentCredentialRejectedError(database=database.name)
        revoked.append(RevocationCheck(generation=generation, revocation=RevocationResult.REFUSED))
    return tuple(revoked)


def _lets_in(database: Database, login: Login) -> bool:
    try:
        return database.accepts(login)
    except AccountUnusableError:
        return False  # The next login of the account shows whether that is so.
