"""What a script is made of: the rotation user, and the template of an engine, which tells the rest."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from lockstep.databases.base import CHANGE_OWN, identifier, listed, quoted
from lockstep.databases.rules import DEAD, rules
from lockstep.databases.sessions import MARIADB_GRANT, MYSQL_GRANTS, POSTGRESQL_GRANT
from lockstep.databases.verifiers import (
    RandomBytes,
    caching_sha2_password,
    mysql_native_password,
    scram_sha_256,
)
from lockstep.protocol.model import ANY_HOST, Credential, DatabaseServer, Engine, SecretStr, Strategy

HOW_TO = "docs/how-to/postgresql-live-login.md"
"""How a DBA moves what a live login of PostgreSQL owns and may do to an owner role."""
Face = Literal["fresh", "existing", "itself"]
"""For accounts that the script makes, for live ones, or for the rotation user that is a credential of the plan.

An account that has a password already is left as it is; beside a live one the script makes what is missing.
"""
_GRANTED = frozenset({"missing", "membership", "rights"})
"""What the rules are about that the script itself makes so."""
_CREATE_USER = "GRANT CREATE USER ON *.* TO {account}"


class LiveRoleError(Exception):
    """There is no script for a live role of PostgreSQL: what it owns and may do moves to an owner role by hand."""

    def __init__(self, credential: Credential, server: DatabaseServer) -> None:
        super().__init__(
            f"{credential.id} on {server.name}: there is no script for a live role of PostgreSQL. Let it act as "
            f"{credential.owner}, as {HOW_TO} shows; then leave out --existing"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationUser:
    """The rotation user of a server, as the scripts need it.

    Attributes:
        usernames: Its accounts; empty where it is whoever runs the script, the master user of RDS.
        host: The host part of its accounts on MySQL and MariaDB.
        iam: Whether it has no password, and logs in by RDS IAM authentication.
        is_planned: Whether it is a credential of the plan, for which a script of its own makes the accounts.
        last_steps: How it gets its login.
    """

    usernames: tuple[str, ...]
    host: str = ANY_HOST
    iam: bool = False
    is_planned: bool = False
    last_steps: tuple[str, ...]

    @property
    def shown(self) -> str:
        """Its name in a sentence."""
        return " and ".join(self.usernames) or "the master user"

    @property
    def accounts(self) -> list[str]:
        """Its accounts, as statements of MySQL and MariaDB name them."""
        return [f"{quoted(username)}@{quoted(self.host)}" for username in self.usernames]


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a dialect says about a credential on a server.

    Attributes:
        notes: What the DBA must know.
        statements: One after the other, on one connection. Each may begin with comment lines.
        password: How the DBA gives the rotation user a password.
        afterwards: What the DBA does by hand afterwards, or decides about.
    """

    notes: list[str]
    statements: list[str]
    password: list[str]
    afterwards: list[str]


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How an engine is provisioned.

    Attributes:
        template: The name of the template. It has a part for each attribute of `Script`, which begins with `%%`.
            Statements are its paragraphs.
        set_password: The statement that gives an account a password, as a verifier.
        grants: What the rotation user may do; on PostgreSQL what a DBA may let it do, too.
        values: More that the template knows.
        in_client: A statement as the engine's command-line client takes it, with its end.
    """

    template: str
    set_password: Callable[[str, SecretStr, RandomBytes], str]
    grants: tuple[str, ...]
    values: Mapping[str, object] = field(default_factory=dict)
    in_client: Callable[[str], str] = lambda statement: f"{statement};\n"

    def script(
        self, face: Face, credential: Credential, server: DatabaseServer, user: RotationUser
    ) -> Script:
        """The script for a credential on a server."""
        # What rotates itself changes each other by a function that acts as the owner role.
        who = (
            (credential.owner,) if server.engine is Engine.POSTGRESQL and face == "itself" else user.usernames
        )
        known = rules(
            server.engine, credential, rotation_users=who, rotation_host=user.host, with_iam=user.iam
        )
        text = (
            _templates()
            .get_template(self.template)
            .render(
                face=face,
                credential=credential,
                alternating=credential.strategy is Strategy.ALTERNATING_USERS,
                server=server,
                user=user,
                grants=self.grants,
                stops=[r.sql for r in known if r.kind != "warning" and r.about not in _GRANTED],
                granted=[r.sql for r in known if r.about == "rights"],
                notes=[r.sql for r in known if r.kind == "warning"],
                dead=DEAD.get(server.engine),
                **self.values,
            )
        )
        _, *parts = re.split(r"^%% \w+\n", text, flags=re.MULTILINE)
        notes, statements, password, afterwards = parts
        return Script(
            notes=_lines(notes),
            statements=[s.removesuffix(";") for s in _paragraphs(statements)],
            password=_lines(password),
            afterwards=_lines(afterwards),
        )


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("lockstep.operate.plan_sql", package_path=""),
        autoescape=False,  # noqa: S701 - SQL; names go through `quoted` and `identifier`
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.filters |= {"quoted": quoted, "listed": listed, "identifier": identifier}
    return made


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


def _paragraphs(text: str) -> list[str]:
    return [p.strip("\n") for p in re.split(r"\n{2,}", text) if p.strip("\n")]


def _set_in_mysql(username: str, password: SecretStr, random_bytes: RandomBytes) -> str:
    verifier = caching_sha2_password(password, random_bytes).reveal()
    return f"ALTER USER {quoted(username)}@'{ANY_HOST}' IDENTIFIED WITH caching_sha2_password AS '{verifier}'"


def _set_in_mariadb(username: str, password: SecretStr, _random_bytes: RandomBytes) -> str:
    verifier = mysql_native_password(password).reveal()
    return (
        f"ALTER USER {quoted(username)}@'{ANY_HOST}' IDENTIFIED VIA mysql_native_password USING '{verifier}'"
    )


def _set_in_postgresql(username: str, password: SecretStr, random_bytes: RandomBytes) -> str:
    verifier = scram_sha_256(password, random_bytes).reveal()
    return f"ALTER ROLE {identifier(username)} PASSWORD {quoted(verifier)}"


def _in_mariadb_client(statement: str) -> str:
    return f"DELIMITER $$\n{statement}$$\nDELIMITER ;\n" if ";" in statement else f"{statement};\n"


DIALECTS = {
    Engine.MYSQL: Dialect(
        template="mysql.sql.j2",
        set_password=_set_in_mysql,
        grants=(_CREATE_USER, *MYSQL_GRANTS),
    ),
    Engine.MARIADB: Dialect(
        template="mariadb.sql.j2",
        set_password=_set_in_mariadb,
        grants=(_CREATE_USER, "GRANT SELECT (User, Host) ON mysql.user TO {account}", MARIADB_GRANT),
        in_client=_in_mariadb_client,
    ),
    Engine.POSTGRESQL: Dialect(
        template="postgresql.sql.j2",
        set_password=_set_in_postgresql,
        grants=(POSTGRESQL_GRANT,),
        values={"change_own": CHANGE_OWN, "how_to": HOW_TO},
    ),
}
