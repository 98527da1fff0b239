"""MySQL: one account with a primary and a secondary password."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar

from lockstep.databases.base import AlternatingUsers
from lockstep.databases.mysql_family import MySqlFamilyDatabase, MySqlSession, account_at
from lockstep.databases.verifiers import (
    RandomBytes,
    caching_sha2_password,
    mysql_native_password,
    sha256_password,
)
from lockstep.errors import (
    AccountPluginError,
    DatabaseRejectedError,
    PasswordRefusedByPolicyError,
    UnsupportedServerError,
)
from lockstep.model import ANY_HOST, CredentialValue, Login, SecretStr, Strategy
from lockstep.ports import Stager

_SYNTAX_ERROR = "1064"
_UNKNOWN_TABLE = "1109"

_VERIFIERS: Mapping[str, Callable[[SecretStr, RandomBytes], SecretStr]] = {
    "caching_sha2_password": caching_sha2_password,
    "mysql_native_password": lambda password, _: mysql_native_password(password),
    "sha256_password": sha256_password,
}
"""Per authentication plugin. The default comes first; 9.x has no `mysql_native_password`."""
_DEFAULT_PLUGIN = next(iter(_VERIFIERS))


class MySqlDatabase(MySqlFamilyDatabase):
    """MySQL since 8.0.14.

    Passwords travel as verifiers. An account keeps its authentication plugin, since its clients may know no other and
    the server lets two passwords live side by side only under one plugin.
    """

    is_mariadb: ClassVar[bool] = False
    minimum_version: ClassVar[tuple[int, ...]] = (8, 0, 14)

    def _stager(self, session: MySqlSession) -> Stager:
        account = MySqlAccount(session, self.random_bytes, host=self.credential.account_host)
        if self.credential.strategy is Strategy.DUAL_PASSWORD:
            return DualPassword(account, self.accepts)
        return AlternatingUsers(self.credential, self.name, account.set_only_password, self.random_bytes)


@dataclass(frozen=True, slots=True)
class Slots:
    """Which generations an account's two passwords are, and under which plugin, as recorded with the account.

    None: unknown, or no password. The record holds Lockstep's own changes. Others may have replaced a password
    since, but only Lockstep's statements put a staged value into a slot, and each of them updates the record.
    """

    primary: int | None = None
    secondary: int | None = None
    plugin: str = _DEFAULT_PLUGIN

    def rule_out(self, generation: int) -> bool:
        """Whether both slots are known to be of other generations."""
        return None not in (self.primary, self.secondary) and generation not in (self.primary, self.secondary)


class MySqlAccount:
    """`ALTER USER` for accounts under one host, with verifiers instead of passwords.

    Each change is one statement that also records, in the account's ATTRIBUTE, which generation each slot holds;
    what others keep there stays (https://dev.mysql.com/doc/refman/8.4/en/create-user.html#create-user-comments-attributes).
    The manual's grammar shows no verifier beside RETAIN; the server's has it since dual passwords exist. Where it
    or ATTRIBUTE (8.0.21) is unknown the server answers 1064, and the password travels as text, inside TLS.
    """

    def __init__(self, session: MySqlSession, random_bytes: RandomBytes, *, host: str = ANY_HOST) -> None:
        self._session = session
        self._random_bytes = random_bytes
        self._host = host
        self._account = account_at(host)

    def recorded(self, username: str) -> Slots:
        """The recorded slots; readable with the privilege CREATE USER."""
        try:
            row = self._session.run(
                "SELECT attribute FROM information_schema.user_attributes WHERE user = %s AND host = %s",
                username,
                self._host,
            )
        except DatabaseRejectedError as e:
            if e.where["code"] != _UNKNOWN_TABLE:
                raise
            return Slots()
        return _slots_in(json.loads(row[0])) if row and row[0] else Slots()

    def set_primary(self, value: CredentialValue, *, retain: bool, before: Slots) -> Slots:
        """Make a value the primary password; the record after it.

        Args:
            value: The value.
            retain: The secondary password becomes what was primary; else it stays.
            before: The record.

        Raises:
            AccountPluginError: The account has a plugin that Lockstep makes no verifiers for.
            PasswordRefusedByPolicyError: It travelled as text, and the server's policy refuses it.
        """
        after = Slots(value.generation, before.primary if retain else before.secondary, before.plugin)
        clause = " RETAIN CURRENT PASSWORD" if retain else ""
        try:
            return self._set_verifier(value.login, clause, after)
        except AccountPluginError as e:
            return self._try_other_plugins(value.login, clause, after, refusal=e)
        except DatabaseRejectedError as e:
            if e.where["code"] != _SYNTAX_ERROR:
                raise
            self._session.run(
                f"ALTER USER {self._account} IDENTIFIED BY %s{clause}",
                value.login.username,
                value.login.password.reveal(),
            )
            return Slots()

    def _set_verifier(self, login: Login, clause: str, after: Slots) -> Slots:
        self._session.run(
            f"ALTER USER {self._account} IDENTIFIED WITH {after.plugin} AS %s{clause} ATTRIBUTE %s",
            login.username,
            self._verifier(login, after.plugin),
            _record(after),
        )
        return after

    def _try_other_plugins(
        self, login: Login, clause: str, after: Slots, *, refusal: AccountPluginError
    ) -> Slots:
        """Set the verifier of the account's own plugin, which only an administrator of `mysql.user` could read."""
        for plugin in (p for p in _VERIFIERS if p != after.plugin):
            # The server lacks that plugin, or the account has yet another one: nothing was changed.
            with suppress(AccountPluginError, UnsupportedServerError):
                return self._set_verifier(login, clause, replace(after, plugin=plugin))
        raise refusal

    def discard_secondary(self, username: str, *, before: Slots) -> None:
        """Leave the account with its primary password."""
        if before == Slots():
            self._session.run(f"ALTER USER {self._account} DISCARD OLD PASSWORD", username)
        else:
            after = _record(Slots(before.primary, plugin=before.plugin))
            self._session.run(
                f"ALTER USER {self._account} DISCARD OLD PASSWORD ATTRIBUTE %s", username, after
            )

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
        return _VERIFIERS[plugin](login.password, self._random_bytes).reveal()


class DualPassword:
    """Staging into the two slots of an account, (primary, secondary).

    What the statements do (https://dev.mysql.com/doc/refman/8.4/en/password-management.html#dual-passwords):

    - x RETAIN:  (p, s) becomes (x, p), where p is what is primary at that moment
    - x:         (p, s) becomes (x, s)
    - DISCARD:   (p, s) becomes (p, -)

    A person may have changed the account, which the record does not show. So each operation first makes primary the
    password that must live, which keeps it whichever slot it was in. The record is believed in one case only: where it
    shows that pending is in no slot, no login with pending is tried, so none is refused.
    """

    def __init__(self, account: MySqlAccount, accepts: Callable[[Login], bool]) -> None:
        self._account = account
        self._accepts = accepts

    def stage(self, *, current: CredentialValue | None, pending: CredentialValue) -> None:
        """End with (pending, current), or leave these two in either order.

        Repeated without a look at the slots, it would pass through (current, current) and shut out a pending value
        that may be promoted by then.
        """
        slots = self._account.recorded(pending.login.username)
        if current is None:
            slots = self._account.set_primary(pending, retain=False, before=slots)
            self._account.discard_secondary(pending.login.username, before=slots)
        elif not self._are_staged(slots, current, pending):
            slots = self._make_primary(current, retain=True, before=slots)
            self._account.set_primary(pending, retain=True, before=slots)

    def retire(self, *, drop: CredentialValue, keep: CredentialValue) -> None:
        """End with (keep, -)."""
        del drop  # every password that is not kept is dead
        slots = self._account.recorded(keep.login.username)
        slots = self._make_primary(keep, retain=False, before=slots)
        self._account.discard_secondary(keep.login.username, before=slots)

    def _are_staged(self, slots: Slots, current: CredentialValue, pending: CredentialValue) -> bool:
        if current.login != pending.login and slots.rule_out(pending.generation):
            return False
        return self._accepts(current.login) and self._accepts(pending.login)

    def _make_primary(self, value: CredentialValue, *, retain: bool, before: Slots) -> Slots:
        try:
            return self._account.set_primary(value, retain=retain, before=before)
        except PasswordRefusedByPolicyError as e:
            # The password is in use already; another pending password would not change the policy's answer.
            raise DatabaseRejectedError(**e.where) from None


def _record(slots: Slots) -> str:
    """The record as a merge patch (RFC 7396), which is how the server takes ATTRIBUTE: null removes a key."""
    plugin = None if slots.plugin == _DEFAULT_PLUGIN else slots.plugin
    return json.dumps(
        {"lockstep": {"primary": slots.primary, "secondary": slots.secondary, "plugin": plugin}}
    )


def _slots_in(attribute: object) -> Slots:
    record = attribute.get("lockstep") if isinstance(attribute, dict) else None
    if not isinstance(record, dict):
        return Slots()
    primary, secondary, plugin = (record.get(name) for name in ("primary", "secondary", "plugin"))
    return Slots(
        primary if isinstance(primary, int) else None,
        secondary if isinstance(secondary, int) else None,
        # The plugin goes into a statement as it is, so only a known one is believed.
        plugin if isinstance(plugin, str) and plugin in _VERIFIERS else _DEFAULT_PLUGIN,
    )
