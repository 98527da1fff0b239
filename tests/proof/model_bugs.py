"""The rules of the protocol, each left out once: what the checker has to find, and within which budget."""

from typing import NamedTuple

from tests.proof.model_checker import Budget

MYSQL = ("mysql", "mysql")
MARIADB = ("mariadb", "mariadb")
MIXED = ("mysql", "mariadb")
POSTGRESQL = ("postgresql", "postgresql")


class Bug(NamedTuple):
    """A rule that is left out, and the invariant that falls with it.

    Attributes:
        name: As the programs ask for it.
        invariant: What the checker finds first; None where nothing falls, since another rule stands in.
        budget: How much has to happen for it.
        engines: Where it shows.
        waives: What falls before it, also without the bug.
        why: What stands in.
        is_slow: Too many states for `make test`.
    """

    name: str
    invariant: str | None
    budget: Budget = Budget(terms=2)
    engines: tuple[str, str] = MYSQL
    waives: frozenset[str] = frozenset()
    why: str = ""
    is_slow: bool = False


class Bound(NamedTuple):
    """What is explored to the end.

    Attributes:
        waives: Invariants that are known to break within this budget: see `KNOWN`.
    """

    budget: Budget
    engines: tuple[str, str] = MYSQL
    waives: frozenset[str] = frozenset()


class Known(NamedTuple):
    """What the protocol as it is does not keep: the model says so, until it does; the quick bounds leave it out."""

    what: str
    invariant: str
    bound: Bound


_QUICK = (
    Bound(Budget(terms=2)),
    Bound(Budget(terms=2), POSTGRESQL),
    Bound(Budget(terms=1, revokes=1, refusals=1)),
    Bound(Budget(terms=1, losses=1, edits=1), POSTGRESQL),
)
_FULL = (
    Bound(Budget(terms=2), MIXED),
    Bound(Budget(terms=2), MARIADB),
    Bound(Budget(terms=2, revokes=1)),
    Bound(Budget(terms=1, edits=1, refusals=1, revokes=1)),
    Bound(Budget(terms=1, edits=1, refusals=1, revokes=1), POSTGRESQL),
    Bound(Budget(terms=1, twins=1)),
    Bound(Budget(terms=1, twins=1), POSTGRESQL),
    Bound(Budget(terms=1, twins=1, refusals=1)),
    Bound(Budget(terms=1, twins=1, refusals=1), POSTGRESQL),
)
_DEEP = (
    Bound(Budget(terms=2, losses=1)),
    Bound(Budget(terms=2, refusals=1)),
    Bound(Budget(terms=1, twins=1, edits=1), MYSQL, frozenset({"I5"})),
    Bound(Budget(terms=2, edits=1), MARIADB),
    Bound(Budget(terms=3)),
    Bound(Budget(terms=3), POSTGRESQL),
)
BOUNDS: dict[str, tuple[Bound, ...]] = {
    "quick": _QUICK,
    "full": (*_QUICK, *_FULL),
    "deep": (*_QUICK, *_FULL, *_DEEP),
}

KNOWN = (
    Known(
        "a lost lock table is made anew at once: a run that has read what is current meets a promotion on its way",
        "I1",
        Bound(Budget(terms=2, sudden_losses=1)),
    ),
    Known(
        "a twin of UpdateSecrets that has read an edit, and then the fence, writes over it when its run is done",
        "I5",
        Bound(Budget(terms=1, twins=1, edits=1)),
    ),
)

BUGS = (
    Bug("adopt by label", "I5", is_slow=True),
    Bug("adopt the highest version", "I5", is_slow=True),
    Bug("claim without a condition", "I4"),
    Bug("claim dropped on failure", "I5"),
    Bug("generation reused", "I8", Budget(terms=1, losses=1)),
    Bug("new password on retry", "I4"),
    Bug("each stages its own store first", "I4"),
    Bug("heal skipped", "I8", Budget(terms=1, edits=1)),
    Bug("database before write-ahead", "I2"),
    Bug("database skipped", "I1", Budget(terms=1)),
    Bug("no advisory lock", "I1", is_slow=True),
    Bug("fence not read", "I5", Budget(terms=2, refusals=1), is_slow=True),
    Bug("fence read before the advisory lock", "I5", Budget(terms=2, refusals=1), is_slow=True),
    Bug(
        "base not probed",
        None,
        why="the fence under the advisory lock stands in, unless somebody changes the account by hand",
        is_slow=True,
    ),
    Bug("RETAIN without a probe", "I8"),
    Bug("primary not set to base first", "I8", Budget(terms=1, losses=1)),
    Bug("pending not proven", "I3", Budget(terms=1, deaf=1)),
    Bug("previous not proven", "I9", Budget(terms=1, clinging=1), MARIADB),
    Bug("fence not raised", "I4", Budget(terms=1, twins=1, refusals=1), is_slow=True),
    Bug("no withdrawal", "I4", Budget(terms=1, refusals=1)),
    Bug("blind promotion", "I5", is_slow=True),
    Bug(
        "fence not read before promotion",
        None,
        why="the compare-and-set stands in: what is promoted late is what is in flight, or is refused",
        is_slow=True,
    ),
    Bug("revoked before promotion", "I1", Budget(terms=1, revokes=1)),
    Bug("release without a condition", "overlap", Budget(terms=3), is_slow=True),
    Bug("standby ignores what is due", "overlap", is_slow=True),
)
