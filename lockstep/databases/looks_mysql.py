"""What MySQL can be asked, for `lockstep doctor` (see `lockstep.databases.looks`)."""

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from lockstep.databases.looks import POLICY, Answers, of_account
from lockstep.databases.looks_mysql_family import FamilyLooks, Grants, Shown
from lockstep.databases.mysql import VERIFIERS
from lockstep.databases.mysql_family import KnownAccount, MySqlFamilyDatabase, MySqlSession
from lockstep.doctor.findings import Answer, failed, passed, warning
from lockstep.errors import AccountPluginError
from lockstep.model import Strategy

_DEFAULT_PLUGIN = next(iter(VERIFIERS))


class MySqlLooks(FamilyLooks):
    """See `lockstep.databases.looks.Looks`."""

    own_tables = frozenset({"performance_schema.threads", "performance_schema.session_connect_attrs"})

    def as_admin(self, session: MySqlSession, database: MySqlFamilyDatabase) -> Answers:
        """See `Looks`."""
        yield from super().as_admin(session, database)
        yield POLICY, self._policy(session, database)

    def _grant_rows(self, session: MySqlSession) -> list[tuple[Any, ...]]:
        (roles,) = session.run("SELECT CURRENT_ROLE()") or ("NONE",)
        # As the server itself quotes them.
        using = "" if roles == "NONE" else f" USING {roles}".replace("%", "%%")
        return list(session.rows(f"SHOW GRANTS FOR CURRENT_USER(){using}"))

    def _lesser_rights(self, held: Grants, to: str, name: str) -> Iterator[Answer]:
        if not held.everywhere & {"PROCESS", "ALL PRIVILEGES", "SELECT"} and not held.on(
            "performance_schema.threads"
        ):
            yield warning(
                name,
                f"{to} may not read performance_schema.threads, so `lockstep sessions` counts nothing",
                "run the statements of `lockstep plan sql` for the rotator admin again",
            )

    def _known(self, session: MySqlSession, database: MySqlFamilyDatabase) -> Sequence[KnownAccount] | None:
        """See `FamilyLooks`: without this right an account sees itself alone, and no error."""
        sees_all = self.held(session).everywhere & {"CREATE USER", "ALL PRIVILEGES", "SUPER"}
        return super()._known(session, database) if sees_all else None

    def _policy(self, session: MySqlSession, database: MySqlFamilyDatabase) -> Answer:
        checked = session.rows("SHOW GLOBAL VARIABLES LIKE %s", "validate_password%policy")
        if not checked:
            return passed(database.name, "the server checks no passwords")
        return passed(database.name, "validate_password is not asked about verifiers, which Lockstep sends")

    def as_user(self, session: MySqlSession, database: MySqlFamilyDatabase, username: str) -> Answers:
        """See `Looks`."""
        yield from super().as_user(session, database, username)
        (statement,) = session.run("SHOW CREATE USER CURRENT_USER()") or ("",)
        (by_default,) = session.run("SELECT @@GLOBAL.password_require_current") or (0,)
        demanded = re.search(r" PASSWORD REQUIRE CURRENT(?: (DEFAULT|OPTIONAL))?", str(statement))
        if demanded and (demanded[1] is None or (demanded[1] == "DEFAULT" and by_default)):
            subject = of_account(database, username)
            yield (
                POLICY,
                passed(
                    subject, "PASSWORD REQUIRE CURRENT does not bind the rotator admin, who has CREATE USER"
                ),
            )

    def _plugin(self, subject: str, account: Shown, database: MySqlFamilyDatabase) -> Answer:
        plugin = next(iter(sorted(account.plugins)), "")
        if plugin not in VERIFIERS:
            return failed(
                subject,
                f"Lockstep makes no verifiers for its plugin {plugin}",
                AccountPluginError.advice,
            )
        if account.factors > 1:
            return failed(
                subject,
                "it needs a second factor, which applications of Lockstep do not have",
                f"ALTER USER '{subject.rpartition(' ')[2]}'@'{database.credential.account_host}' DROP 2 FACTOR",
            )
        if database.credential.strategy is Strategy.ALTERNATING_USERS and plugin != _DEFAULT_PLUGIN:
            return warning(
                subject,
                f"it has {plugin}, and gets {_DEFAULT_PLUGIN} at its next turn: its clients must know that one",
                f"make sure that its clients speak {_DEFAULT_PLUGIN}; the next rotation then ends this warning",
            )
        return passed(subject, f"it has {plugin}")

    def position(self, session: MySqlSession) -> str | None:
        """See `Looks`: the server's own newest transaction; None where it numbers none.

        Older ones tell nothing: a replica that was made of a copy may never have had them.
        """
        (uuid, executed) = session.run("SELECT @@server_uuid, @@GLOBAL.gtid_executed") or ("", "")
        return newest(str(uuid), str(executed))

    def behind(self, session: MySqlSession, position: str) -> bool | None:
        """See `Looks`."""
        row = session.run(
            "SELECT @@GLOBAL.gtid_executed = '', GTID_SUBSET(%s, @@GLOBAL.gtid_executed)", position
        )
        return None if row is None or row[0] else not row[1]


def newest(uuid: str, executed: str) -> str | None:
    """The newest of a server's own transactions in a set, `uuid:1-5:8,uuid2:1-3`; those with a tag left out."""
    for transactions in executed.replace("\n", "").replace(" ", "").split(","):
        source, *intervals = transactions.split(":")
        untagged = list(takewhile(lambda interval: interval[:1].isdigit(), intervals))
        if source.lower() == uuid.lower() and untagged:
            return f"{uuid}:{untagged[-1].rpartition('-')[2]}"
    return None


LOOKS = MySqlLooks()
