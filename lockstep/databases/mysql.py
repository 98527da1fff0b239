"""MySQL: one account with a primary and a secondary password."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

from lockstep.databases.base import AlternatingUsers, StagingStrategy
from lockstep.databases.mysql_family import (
    KnownAccount,
    Matched,
    MySqlFamilyDatabase,
    MySqlSession,
    account_at,
)
from lockstep.databases.verifiers import (
    RandomBytes,
    caching_sha2_password,
    mysql_native_password,
    sha256_password,
)
from lockstep.protocol.errors import AccountPluginError, UnsupportedServerError
from lockstep.protocol.model import ANY_HOST, CredentialValue, Login, SecretStr, Strategy

VERIFIERS: Mapping[str, Callable[[SecretStr, RandomBytes], SecretStr]] = {
    "caching_sha2_password": caching_sha2_password,
    "mysql_native_password": lambda password, _: mysql_native_password(password),
    "sha256_password": sha256_password,
}
"""Per authentication plugin. The default comes first; 9.x has no `mysql_native_password`."""
_DEFAULT_PLUGIN = next(iter(VERIFIERS))

# `CREATE USER `app`@`%` IDENTIFIED WITH … FAILED_LOGIN_ATTEMPTS 2 PASSWORD_LOCK_TIME 1 …`
_SHOWN_ACCOUNT = re.compile(r"CREATE USER [`'\"]?(.*?)[`'\"]?@[`'\"]?(.*?)[`'\"]? ")
_SHOWN_LIMIT = re.compile(r" FAILED_LOGIN_ATTEMPTS (\d+) ")


class MySqlDatabase(MySqlFamilyDatabase):
    """MySQL since 8.0.21, which has ATTRIBUTE.

    Passwords travel as verifiers. An account keeps its authentication plugin, since its clients may know no other and
    the server lets two passwords live side by side only under one plugin.
    """

    is_mariadb: ClassVar[bool] = False
    minimum_version: ClassVar[tuple[int, ...]] = (8, 0, 21)

    def matched(self, session: MySqlSession) -> Matched:
        """See `MySqlFamilyDatabase`."""
        # Every account may see itself; the server shows <secret> in place of the verifier.
        (shown,) = session.run("SHOW CREATE USER CURRENT_USER()") or ("",)
        account, limit = _SHOWN_ACCOUNT.match(shown), _SHOWN_LIMIT.search(shown)
        return Matched("@".join(account.groups()) if account else "", int(limit[1]) if limit else None)

    def accounts(self, session: MySqlSession) -> Sequence[KnownAccount]:
        """See `MySqlFamilyDatabase`."""
        rows = session.rows(
            "SELECT user, host, attribute FROM information_schema.user_attributes WHERE user IN %s",
            self.credential.usernames,
        )
        return [KnownAccount(*row) for row in rows]

    def _accepts_after_all(self, session: MySqlSession, login: Login) -> bool:
        del session, login  # A refusal of this server is a wrong password: a blocked account answers 3955.
        return False

    def _staging_strategy(self, session: MySqlSession, accounts: Sequence[KnownAccount]) -> StagingStrategy:
        attributes = {known.username: known.attribute for known in accounts}
        account = MySqlAccount(
            session, self.random_bytes, host=self.credential.account_host, attributes=attributes
        )
        if self.credential.strategy is Strategy.DUAL_PASSWORD:
            return DualPassword(account, self.credential.usernames[0], self.accepts)
        return AlternatingUsers(self.credential, self.name, account.set_only_password, self.random_bytes)


@dataclass(frozen=True, slots=True)
class Slots:
    """Which generations an account's two passwords are, and under which plugin, as recorded with the account.

    None: unknown, or no password. The record holds Lockstep's own changes. Others may have replaced a password
    since, but only Lockstep's statements put a staged value into a slot, and each of them updates the record.
    A reconcile gives a login another generation and changes no database, so a slot may be recorded under the earlier
    one.
    """

    primary: int | None = None
    secondary: int | None = None
    plugin: str = _DEFAULT_PLUGIN

    def name(self, generation: int) -> bool:
        """Whether one of the slots is recorded as of this generation."""
        return generation in (self.primary, self.secondary)


class MySqlAccount:
    """`ALTER USER` for accounts under one host, with verifiers instead of passwords.

    Each change is one statement that also records, in the account's ATTRIBUTE, which generation each slot holds;
    what others keep there stays (https://dev.mysql.com/doc/refman/8.4/en/create-user.html#create-user-comments-attributes).
    The manual's grammar shows no verifier beside RETAIN; the server's has it since dual passwords exist.

    Args:
        session: Holds the advisory lock.
        random_bytes: For the salts of verifiers.
        host: Under which the accounts exist.
        attributes: What ATTRIBUTE held of each account when the lock was taken, which is believed until the account is
            altered; one that is not among them is asked for.
    """

    def __init__(
        self,
        session: MySqlSession,
        random_bytes: RandomBytes,
        *,
        host: str = ANY_HOST,
        attributes: Mapping[str, str | None] = MappingProxyType({}),
    ) -> None:
        self._attributes = dict(attributes)
        self._session = session
        self._random_bytes = random_bytes
        self._host = host
        self._account = account_at(host)

    def recorded(self, username: str) -> Slots:
        """The recorded slots; readable with the privilege CREATE USER."""
        if username in self._attributes:  # It is altered from now on.
            return _slots_in(self._attributes.pop(username))
        row = self._session.run(
            "SELECT attribute FROM information_schema.user_attributes WHERE user = %s AND host = %s",
            username,
            self._host,
        )
        return _slots_in(row[0] if row else None)

    def set_primary(self, value: CredentialValue, *, retain: bool, before: Slots) -> Slots:
        """Make a value the primary password; the record after it.

        Which plugin the account has, only an administrator of `mysql.user` could read: the verifiers of the others are
        tried where the recorded one is refused.

        Args:
            value: The value.
            retain: The secondary password becomes what was primary; else it stays.
            before: The record.

        Raises:
            AccountPluginError: The account has a plugin that Lockstep makes no verifiers for.
        """
        after = Slots(value.generation, before.primary if retain else before.secondary, before.plugin)
        clause = " RETAIN CURRENT PASSWORD" if retain else ""
        try:
            return self._set_verifier(value.login, clause, after)
        except AccountPluginError as refusal:
            for plugin in (p for p in VERIFIERS if p != after.plugin):
                # The server lacks that plugin, or the account has yet another one: nothing was changed.
                with suppress(AccountPluginError, UnsupportedServerError):
                    return self._set_verifier(value.login, clause, replace(after, plugin=plugin))
            raise refusal from None

    def _set_verifier(self, login: Login, clause: str, after: Slots) -> Slots:
        self._session.run(
            f"ALTER USER {self._account} IDENTIFIED WITH {after.plugin} AS %s{clause} ATTRIBUTE %s",
            login.username,
            self._verifier(login, after.plugin),
            _record(after),
        )
        return after

    def discard_secondary(self, username: str, *, before: Slots) -> None:
        """Leave the account with its primary password."""
        after = _record(Slots(before.primary, plugin=before.plugin))
        self._session.run(f"ALTER USER {self._account} DISCARD OLD PASSWORD ATTRIBUTE %s", username, after)

    def set_only_password(self, login: Login) -> None:
        """Take all other passwords, and another plugin, from an idle account."""
        self._session.run(
            f"ALTER USER {self._account} IDENTIFIED WITH {_DEFAULT_PLUGIN} AS %s",
            login.username,
            self._verifier(login, _DEFAULT_PLUGIN),
        )
        # A secondary password outlives the change of the primary.
        self._session.run(f"ALTER USER {self._account} DISCARD OLD PASSWORD", login.username)

    def _verifier(self, login: Login, plugin: str) -> str:
        return VERIFIERS[plugin](login.password, self._random_bytes).reveal()


class DualPassword:
    """Staging into the two slots of an account, (primary, secondary).

    What the statements do (https://dev.mysql.com/doc/refman/8.4/en/password-management.html#dual-passwords):

    - x RETAIN:  (p, s) becomes (x, p), where p is what is primary at that moment
    - x:         (p, s) becomes (x, s)
    - DISCARD:   (p, s) becomes (p, -)

    A person may have changed the account, which the record does not show. So each operation first makes primary the
    password that must live, which keeps it whichever slot it was in. The record is believed where it does not name
    pending, since only Lockstep's statements make pending a password: then no login with pending is tried, so none is
    refused. Where it names pending, the order of logins is base, pending, base, so that a refusal has a success before
    and after it (protocol D12).
    """

    def __init__(self, account: MySqlAccount, username: str, accepts: Callable[[Login], bool]) -> None:
        self._account = account
        self._username = username
        self._accepts = accepts

    def stage(self, *, current: CredentialValue | None, pending: CredentialValue) -> None:
        """End with (pending, current), or leave these two in either order.

        Repeated without a look at the slots, it would pass through (current, current) and shut out a pending value
        that may be promoted by then.
        """
        slots = self._account.recorded(pending.login.username)
        if current is None or current.login == pending.login:
            slots = self._account.set_primary(pending, retain=False, before=slots)
            self._account.discard_secondary(pending.login.username, before=slots)
        elif not self._are_staged(slots, current, pending):
            slots = self._account.set_primary(current, retain=True, before=slots)
            self._account.set_primary(pending, retain=True, before=slots)

    def recorded(self) -> frozenset[int]:
        """What the two slots are recorded as. A password that others have set is not among them."""
        slots = self._account.recorded(self._username)
        return frozenset(g for g in (slots.primary, slots.secondary) if g is not None)

    def retire(self, *, drop: CredentialValue, keep: CredentialValue) -> Login:
        """End with (keep, -)."""
        del drop  # every password that is not kept is revoked
        slots = self._account.recorded(keep.login.username)
        slots = self._account.set_primary(keep, retain=False, before=slots)
        self._account.discard_secondary(keep.login.username, before=slots)
        return keep.login

    def _are_staged(self, slots: Slots, current: CredentialValue, pending: CredentialValue) -> bool:
        if not slots.name(pending.generation):
            return False
        if not self._accepts(current.login):
            return False
        if self._accepts(pending.login):
            return True
        self._accepts(current.login)
        return False


def _record(slots: Slots) -> str:
    """The record as a merge patch (RFC 7396), which is how the server takes ATTRIBUTE: null removes a key."""
    plugin = None if slots.plugin == _DEFAULT_PLUGIN else slots.plugin
    return json.dumps(
        {"lockstep": {"primary": slots.primary, "secondary": slots.secondary, "plugin": plugin}}
    )


def _slots_in(text: str | None) -> Slots:
    attribute = json.loads(text) if text else None
    record = attribute.get("lockstep") if isinstance(attribute, dict) else None
    if not isinstance(record, dict):
        return Slots()
    primary, secondary, plugin = (record.get(name) for name in ("primary", "secondary", "plugin"))
    return Slots(
        primary if isinstance(primary, int) else None,
        secondary if isinstance(secondary, int) else None,
        # The plugin goes into a statement as it is, so only a known one is believed.
        plugin if isinstance(plugin, str) and plugin in VERIFIERS else _DEFAULT_PLUGIN,
    )
