"""The rules of the protocol, each left out once: what the checker has to find within which budget."""

from typing import NamedTuple

from tests.proof.model_checker import Budget

MYSQL = ("mysql", "mysql")
MARIADB = ("mariadb", "mariadb")
POSTGRESQL = ("postgresql", "postgresql")


class Bug(NamedTuple):
    """A rule that is left out, and the invariant that falls with it."""

    name: str
    invariant: str
    budget: Budget = Budget(terms=2)
    engines: tuple[str, str] = MYSQL


BUGS = (
    Bug("adopt by label", "?", Budget(terms=3)),
    Bug("adopt the highest version", "?", Budget(terms=3)),
    Bug("claim without a condition", "?"),
    Bug("new password on retry", "?"),
    Bug("generation reused", "?", Budget(terms=2, losses=1)),
    Bug("heal skipped", "?", Budget(terms=1, edits=1)),
    Bug("each stages its own store first", "?"),
    Bug("database before write-ahead", "?"),
    Bug("database skipped", "?", Budget(terms=1)),
    Bug("no advisory lock", "?"),
    Bug("fence not read", "?"),
    Bug("fence read before the advisory lock", "?"),
    Bug("base not probed", "?"),
    Bug("RETAIN without a probe", "?"),
    Bug("primary not set to base first", "?"),
    Bug("pending not proven", "?", Budget(terms=1, deaf=1)),
    Bug("previous not proven", "?", Budget(terms=1, clinging=1), MARIADB),
    Bug("blind promotion", "?"),
    Bug("fence not read before promotion", "?"),
    Bug("no withdrawal", "?", Budget(terms=1, refusals=1)),
    Bug("revoked before promotion", "?", Budget(terms=1, revokes=1)),
    Bug("claim dropped on failure", "?"),
    Bug("release without a condition", "?"),
    Bug("standby ignores what is due", "?"),
)
