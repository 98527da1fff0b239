"""MySQL: one account with a primary and a secondary password."""

from collections.abc import Callable
from typing import ClassVar

from lockstep.databases.base import AlternatingUsers
from lockstep.databases.mysql_family import MySqlFamilyDatabase, MySqlSession
from lockstep.databases.verifiers import RandomBytes, caching_sha2_password
from lockstep.errors import DatabaseRejectedError, PasswordRefusedByPolicyError
from lockstep.model import Login, Strategy
from lockstep.ports import Stager


class MySqlDatabase(MySqlFamilyDatabase):
    """MySQL since 8.0.14.

    Dual passwords travel as text, inside TLS: the documented grammar takes no verifier beside RETAIN, and only
    so does the account keep its plugin. The server puts `<secret>` or a verifier for it in all of its logs.
    """

    is_mariadb: ClassVar[bool] = False
    minimum_version: ClassVar[tuple[int, ...]] = (8, 0, 14)

    def _stager(self, session: MySqlSession) -> Stager:
        if self.credential.strategy is Strategy.DUAL_PASSWORD:
            return DualPassword(self.name, session, self.accepts)
        idle = _IdleAccount(session, self.random_bytes)
        return AlternatingUsers(self.credential, self.name, idle.set_only_password, self.random_bytes)


class DualPassword:
    """Staging into the two slots of an account, (primary, secondary).

    What the statements do (https://dev.mysql.com/doc/refman/8.4/en/password-management.html#dual-passwords):

    - BY x RETAIN:  (p, s) becomes (x, p), whatever p is at that moment
    - BY x:         (p, s) becomes (x, s)
    - DISCARD:      (p, s) becomes (p, -)

    Who logs in can be asked, which slot a password is in cannot, with the rotator admin's rights. So each
    operation first makes primary what must live, and so loses nothing that must, wherever it stood before.
    """

    def __init__(self, database: str, session: MySqlSession, accepts: Callable[[Login], bool]) -> None:
        self._database = database
        self._session = session
        self._accepts = accepts

    def stage(self, *, current: Login | None, pending: Login) -> None:
        """End with (pending, current), or leave these two in either order.

        Repeated without asking first, it would pass through (current, current) and shut out a pending value
        that may be promoted by then.
        """
        if current is None:
            self._identify(pending, retain=False)
            self._discard(pending)
        elif not (self._accepts(current) and self._accepts(pending)):
            self._make_primary(current, retain=True)
            self._identify(pending, retain=True)

    def retire(self, *, drop: Login, keep: Login) -> None:
        """End with (keep, -)."""
        del drop  # whatever is not kept is dead
        self._make_primary(keep, retain=False)
        self._discard(keep)

    def _make_primary(self, login: Login, *, retain: bool) -> None:
        try:
            self._identify(login, retain=retain)
        except PasswordRefusedByPolicyError as e:
            # The policy speaks of a password that is in use already: not of pending, which a new one could cure.
            raise DatabaseRejectedError(database=self._database, code=e.where["code"]) from None

    def _identify(self, login: Login, *, retain: bool) -> None:
        clause = " RETAIN CURRENT PASSWORD" if retain else ""
        self._session.run(
            f"ALTER USER %s@'%%' IDENTIFIED BY %s{clause}", login.username, login.password.reveal()
        )

    def _discard(self, login: Login) -> None:
        self._session.run("ALTER USER %s@'%%' DISCARD OLD PASSWORD", login.username)


class _IdleAccount:
    """The account of two that nobody uses: it gets `caching_sha2_password` and one verifier."""

    def __init__(self, session: MySqlSession, random_bytes: RandomBytes) -> None:
        self._session = session
        self._random_bytes = random_bytes

    def set_only_password(self, login: Login) -> None:
        verifier = caching_sha2_password(login.password, self._random_bytes).reveal()
        self._session.run(
            "ALTER USER %s@'%%' IDENTIFIED WITH caching_sha2_password AS %s", login.username, verifier
        )
        # A secondary password outlives the change of the primary.
        self._session.run("ALTER USER %s@'%%' DISCARD OLD PASSWORD", login.username)
