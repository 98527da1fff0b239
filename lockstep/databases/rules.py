"""The rules about a server and its accounts, once for each engine: `plan sql` and `lockstep doctor` ask the same.

A rule is a SELECT in `rules_<engine>.sql`: subject, what is wrong with it, what fixes it. Above it stand its kind and
what it is about. `refused`: it has failed, and a login would be refused whatever its password.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Literal, NamedTuple

from lockstep.databases.base import listed, quoted
from lockstep.protocol.model import ANY_HOST, ENGINES, Credential, Engine, Strategy

Kind = Literal["refused", "failed", "warning"]
_RULE = re.compile(r"^-- (refused|failed|warning) (\w+)\n(.+?)(?=\n\n|\s*\Z)", re.MULTILINE | re.DOTALL)

DEAD: Mapping[Engine, str] = {Engine.MYSQL: "$A$005$" + 20 * "." + 43 * ".", Engine.MARIADB: "*" + 40 * "0"}
"""A verifier that no password has."""
_WITH_PASSWORDS = "mysql_native_password|mysql_old_password|ed25519|parsec|caching_sha2_password"
_EACH_PLUGIN = (
    "CONCAT_WS(' ', JSON_VALUE(g.Priv, '$.plugin'),"
    " REGEXP_REPLACE(JSON_EXTRACT(g.Priv, '$.auth_or[*].plugin'), '[^a-z0-9_ ]', ''))"
)
_OF_ENGINE: Mapping[Engine, Mapping[str, str]] = {
    Engine.MYSQL: {
        "accounts": "mysql.user AS u",
        "lifetime": "COALESCE(u.password_lifetime, @@GLOBAL.default_password_lifetime)",
    },
    Engine.MARIADB: {
        "accounts": "mysql.user AS u JOIN mysql.global_priv AS g ON g.User = u.User AND g.Host = u.Host",
        "lifetime": (
            "COALESCE(NULLIF(JSON_VALUE(g.Priv, '$.password_lifetime'), -1), @@GLOBAL.default_password_lifetime)"
        ),
        "each": _EACH_PLUGIN,
        "foreign": f"TRIM(REGEXP_REPLACE({_EACH_PLUGIN}, '{_WITH_PASSWORDS}', ''))",
    },
}
"""Names in the rules, as an administrator sees the server."""


class Rule(NamedTuple):
    """A rule for one credential.

    Attributes:
        about: `server`, `accounts`, or what its engine says more about.
        is_of_account: Whether it can be asked of what an account shows of itself.
        sql: The SELECT.
    """

    kind: Kind
    about: str
    is_of_account: bool
    sql: str


def rules(
    engine: Engine,
    credential: Credential,
    *,
    rotation_users: Sequence[str] = (),
    rotation_host: str = ANY_HOST,
    with_iam: bool = False,
    **seen_as: str,
) -> list[Rule]:
    """The rules of an engine for a credential.

    Args:
        engine: The engine.
        credential: Its usernames, host, strategy and owner role.
        rotation_users: The rotation user's accounts, where they are asked about too. On PostgreSQL none: who asks.
        rotation_host: Their host.
        with_iam: Whether they have no password.
        seen_as: Names of the rules whose meaning is another one than that of an administrator.
    """
    names = _names(engine, credential, rotation_users, rotation_host, with_iam=with_iam) | seen_as
    return [
        Rule(kind, about, "{accounts}" in text, text.format(**names)) for kind, about, text in _texts(engine)
    ]


@cache
def _texts(engine: Engine) -> list[tuple[Kind, str, str]]:
    text = resources.files(__package__).joinpath(f"rules_{engine}.sql").read_text(encoding="utf-8")
    return _RULE.findall(text)


def _names(
    engine: Engine,
    credential: Credential,
    rotation_users: Sequence[str],
    rotation_host: str,
    *,
    with_iam: bool,
) -> dict[str, str]:
    """What the names in the rules stand for."""
    usernames = listed(credential.usernames)
    if not ENGINES[engine].accounts_have_hosts:
        return {
            "logins": f"ARRAY[{usernames}]::name[]",
            "owner": f"{quoted(credential.owner)}::name",
            "rotation_users": f"ARRAY[{listed(rotation_users) or 'session_user'}]::name[]",
        }
    host = quoted(credential.account_host)
    named = f"(u.Host = {host} AND u.User IN ({usernames}))"
    others = f"(u.Host = {quoted(rotation_host)} AND u.User IN ({listed(rotation_users)}))"
    ours = f"({named} OR {others})" if rotation_users else named
    return {
        **_OF_ENGINE[engine],
        "dead": DEAD[engine],
        "hosts": "mysql.user AS u",
        "users": listed([*credential.usernames, *rotation_users]),
        "each_user": " UNION ALL ".join(f"SELECT {quoted(name)} AS User" for name in credential.usernames),
        "host_of": f"IF(u.User IN ({usernames}), {host}, {quoted(rotation_host)})",
        "named": named,
        "ours": ours,
        "with_password": named if with_iam else ours,
        "alternating": str(credential.strategy is Strategy.ALTERNATING_USERS).upper(),
    }
