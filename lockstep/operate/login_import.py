"""Import: the login that works now comes into every store, where the first rotation finds it (protocol O9).

    1. take the lock                    no run begins; none has left a promotion half done
    2. log in on every database         with each database's advisory lock held, as every probe
    3. make what a store lacks          as `lockstep secrets create` does
    4. append the audit entry           who, which username, where
    5. write it into every store        into each slot of a ring, the slot that is served last
    6. wait for the read sides
    7. give the lock back

Every step can be repeated: a place that serves the login already is not written again. The login is generation 0, as is
everything that Lockstep did not make; the next run gives it a generation.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from lockstep.audit.append import Chain, Operator, record_order
from lockstep.audit.entry import ORDER
from lockstep.protocol.deadlines import IMPORT_LEASE
from lockstep.protocol.errors import (
    AdminCredentialRejectedError,
    Environment,
    EnvironmentalError,
    FenceLostError,
    OrderRefusedError,
    ReadSideLaggingError,
    SecretMalformedError,
    SecretNotFoundError,
    StoreAccessDeniedError,
    StoreBusyError,
    UnknownUsernameError,
)
from lockstep.protocol.model import ChainHead, Credential, CredentialValue, Login, SecretStr
from lockstep.protocol.orders import Orders, accounts_of
from lockstep.protocol.ports import (
    BINARY,
    NOT_AN_OBJECT,
    Clock,
    Database,
    EditableSecret,
    lets_in,
)
from lockstep.stores.contents import (
    NO_EXTRAS,
    carried,
    decode_app_user,
    encode_app_user,
    fitting,
    object_in,
    require_known_format,
)
from lockstep.stores.credential import CredentialStore, wait_until


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """What an import works on.

    Attributes:
        databases: All of the credential.
        secrets: `app_user` in each store, by the store's name.
        stores: Both secrets in each store.
        make: Makes those of its secrets that a store lacks; their names.
        by: Who hands over.
    """

    credential: Credential
    databases: Sequence[Database]
    secrets: Mapping[str, EditableSecret]
    stores: Sequence[CredentialStore]
    make: Callable[[str], Sequence[str]]
    orders: Orders
    chain: Chain
    clock: Clock
    by: Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginImport:
    """What an import did.

    Attributes:
        entry: Its audit entry; None where every store served the login already.
        made: The secrets that were made, each after its store.
        written: The stores that did not serve it before.
    """

    entry: ChainHead | None = None
    made: tuple[tuple[str, str], ...] = ()
    written: tuple[str, ...] = ()


def import_login(login: Login, estate: Estate, *, replace: bool = False) -> LoginImport:
    """Prove a login on every database, and make every store serve it, beside the keys that the store has already.

    Args:
        login: What works now.
        estate: Where.
        replace: Also where a store has something that is no JSON object, and would be gone.

    Raises:
        UnknownUsernameError: As of `prove`.
        OrderRefusedError: Another credential has one of the accounts.
        OrderRefusedError: A database refuses it, a promotion is half done, the lock is held, a secret is missing and
            is not made from here, or has something that is no JSON object.
        SecretTooLargeError: A store does not keep that much.
        ReadSideLaggingError: It was written, but a store does not serve it yet. Repeat it.
        FenceLostError: The lock was lost on the way. Repeat it.
    """
    credential, now = estate.credential, estate.clock.now()
    holder = f"{ORDER}{estate.by.new_id()}"
    until = now + IMPORT_LEASE
    lease = estate.orders.hold(holder=holder, now=now, expires_at=until)
    if lease is None:
        raise OrderRefusedError(credential=credential.id, code="lock-held")
    try:
        record = estate.chain.lock.read()
        if record.claim and record.promoting:
            raise OrderRefusedError(
                credential=credential.id, generation=record.claim.generation, code="promoting"
            )
        prove(login, estate)
        for account in accounts_of(credential):
            estate.orders.register(account)
        made = [(store.name, name) for store in lacking(estate) for name in _made(store, estate)]
        done = _serve(login, estate, until, replace=replace)
        return dataclasses.replace(done, made=tuple(made))
    finally:
        estate.chain.lock.release(lease, None)


def prove(login: Login, estate: Estate) -> None:
    """Log in on every database, and stop at the first that refuses: a refusal brings an account nearer to its limit.

    Raises:
        UnknownUsernameError: The plan does not name its username.
        OrderRefusedError: A database refuses the login.
        AccountUnusableError: It would refuse any login of the account (protocol D14).
        DatabaseUnreachableError: A database cannot be asked; likewise the other errors of `Database`.
    """
    credential = estate.credential
    if login.username not in credential.usernames:
        raise UnknownUsernameError(credential=credential.id)
    for database in estate.databases:
        place, code = None, "login-refused"
        try:
            with database.exclusive() as stager:
                if not lets_in(database, stager, login):
                    place = database.name
                else:
                    place = next((r.name for r in database.replicas if not r.accepts(login)), None)
        except AdminCredentialRejectedError:
            # Where the login is the rotation user's own, it is the one that takes the advisory lock (protocol D22).
            if database.name not in credential.administers:
                raise
            place, code = database.name, "admin-refused"
        if place:
            raise OrderRefusedError(credential=credential.id, database=place, code=code)


def lacking(estate: Estate) -> list[CredentialStore]:
    """The stores that do not have both secrets."""
    return [store for store in estate.stores if not _has_both(store)]


def _has_both(store: CredentialStore) -> bool:
    # A secret without a current version is there.
    with suppress(SecretMalformedError):
        try:
            store.read_names()
        except SecretNotFoundError:
            return False
    return True


def _made(store: CredentialStore, estate: Estate) -> Sequence[str]:
    refusal = OrderRefusedError(credential=estate.credential.id, store=store.name, code="not-made")
    try:
        names = estate.make(store.name)
    except StoreAccessDeniedError:
        raise refusal from None
    except EnvironmentalError as error:
        raise (refusal if error.problem is Environment.AWS_ACTION_DENIED else error) from None
    try:
        wait_until(partial(_is_there, store, estate), estate.clock, store=store.name)
    except ReadSideLaggingError:
        raise refusal from None  # What is in the way is told by the command that the refusal names.
    return names


def _is_there(store: CredentialStore, estate: Estate) -> bool:
    try:
        return _has_both(store) and bool(estate.secrets[store.name].served())
    except (SecretNotFoundError, StoreBusyError):
        return False


def texts_to_write(login: Login, estate: Estate, *, replace: bool) -> dict[str, SecretStr]:
    """What each store will hold that does not serve the login in every place yet (protocol V20).

    Raises:
        OrderRefusedError: A store has something that is no JSON object, and it is not to be replaced.
        SecretTooLargeError: A store does not keep that much.
    """
    lacking = [name for name, secret in estate.secrets.items() if not secret.serves(_is(login, name))]
    return {name: _text(login, name, estate, replace=replace) for name in lacking}


def _text(login: Login, store: str, estate: Estate, *, replace: bool) -> SecretStr:
    credential, secret = estate.credential, estate.secrets[store]
    served = secret.served()
    wrong = [BINARY if v.text is None else NOT_AN_OBJECT for v in served if object_in(v.text or "") is None]
    if wrong and not replace:
        raise OrderRefusedError(credential=credential.id, store=store, code=wrong[0])
    extras = carried(served) or NO_EXTRAS
    text = encode_app_user(CredentialValue(0, login), credential, extras, only_strings=secret.only_strings)
    name = credential.secret_names.app_user
    return SecretStr(fitting(text, max_bytes=secret.max_bytes, store=store, secret=name))


def _serve(login: Login, estate: Estate, until: datetime, *, replace: bool) -> LoginImport:
    missing = texts_to_write(login, estate, replace=replace)
    if not missing:
        return LoginImport()
    credential, chain = estate.credential, estate.chain
    details = {
        "username": login.username,
        "databases": [database.name for database in estate.databases],
        "stores": list(missing),
    }
    entry = record_order("import", details, by=estate.by, chain=chain)
    for name, text in missing.items():
        if estate.clock.now() >= until:
            raise FenceLostError(credential=credential.id, store=name)
        estate.secrets[name].edit(text.reveal(), unless=_is(login, name))
    for name in missing:
        wait_until(partial(estate.secrets[name].serves, _is(login, name)), estate.clock, store=name)
    return LoginImport(entry=entry, written=tuple(missing))


def _is(login: Login, store: str) -> Callable[[str], bool]:
    def matches(text: str) -> bool:
        try:
            require_known_format(text, store=store, secret="")
            found, _ = decode_app_user(text, store=store, secret="")
        except SecretMalformedError:
            return False
        return found == login

    return matches
