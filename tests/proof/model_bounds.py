"""The bounds within which the model explores every state, and the known weaknesses of the protocol."""

from typing import NamedTuple

MYSQL = ("mysql", "mysql")
MARIADB = ("mariadb", "mariadb")
MIXED = ("mysql", "mariadb")
POSTGRESQL = ("postgresql", "postgresql")
ONE_MYSQL, ONE_POSTGRESQL = MYSQL[:1], POSTGRESQL[:1]


class Budget(NamedTuple):
    """How much may happen.

    Attributes:
        terms: Runs that get the lock, one after the other.
        twins: Invocations that still run after their step was tried again.
        edits: Times that a person writes into a store.
        failovers: Times that a database fails over to a replica that lacks its last change, or its last two.
        revokes: Emergency orders.
        restores: Times that a database is restored from the backup of the beginning.
        losses: Times that the lock table is lost, and created again after all runs have ended.
        sudden_losses: Times that it is lost, and created again at once.
        deaf: Times that a database acknowledges a change that it does not make.
        clinging: Times that a database keeps accepting a password that a change should have ended.
        outages: Times that a database is gone, until all faults are over.
        orders: Orders of any kind, by anybody, in any order.
        dbas: Times that a DBA sets a password, in databases alone or in stores too.
        attributes: Times that MySQL's ATTRIBUTE is changed, or lost.
        texts: Times that what a store serves is made a text that is no credential.
        clocks: Times that a clock that is wrong dates what is in the record.
        hosts: Times that the verify host of the last database goes wrong; without any it has none.
    """

    terms: int = 2
    twins: int = 0
    edits: int = 0
    failovers: int = 0
    revokes: int = 0
    restores: int = 0
    losses: int = 0
    sudden_losses: int = 0
    deaf: int = 0
    clinging: int = 0
    outages: int = 0
    orders: int = 0
    dbas: int = 0
    attributes: int = 0
    texts: int = 0
    clocks: int = 0
    hosts: int = 0

    @property
    def may_revoke(self) -> bool:
        """Whether there can be an emergency."""
        return bool(self.revokes or self.orders)

    @property
    def promises_overlap(self) -> bool:
        """Whether the overlap is promised: an emergency waives it, and a DBA may end it."""
        return not (self.may_revoke or self.dbas)

    def __str__(self) -> str:
        return ", ".join(f"{much} {what}" for what, much in self._asdict().items() if much)


class Bound(NamedTuple):
    """What is explored to the end.

    Attributes:
        waives: Invariants that are known to break within this budget: see `KNOWN`.
    """

    budget: Budget
    engines: tuple[str, ...] = MYSQL
    waives: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{'+'.join(self.engines)}: {self.budget}"

    def covers(self, other: "Bound") -> bool:
        """Whether everything that can happen within the other bound can happen here, and no more is waived."""
        has_as_much = all(ours >= theirs for ours, theirs in zip(self.budget, other.budget, strict=True))
        is_same_world = self.budget.promises_overlap == other.budget.promises_overlap
        return self.engines == other.engines and is_same_world and has_as_much and self.waives <= other.waives


_QUICK = (
    Bound(Budget(terms=1, edits=1)),
    Bound(Budget(terms=1, edits=1), POSTGRESQL),
    Bound(Budget(terms=1, edits=1, revokes=1)),
    Bound(Budget(terms=1, failovers=1)),
    Bound(Budget(terms=1, failovers=1, edits=1), POSTGRESQL),
    Bound(Budget(terms=1, deaf=1)),
    Bound(Budget(terms=1, clinging=1), MARIADB),
    Bound(Budget(terms=1, failovers=1, revokes=1), POSTGRESQL),
    Bound(Budget(terms=1, restores=1), MARIADB),
    Bound(Budget(terms=1, losses=1, edits=1), POSTGRESQL),
    Bound(Budget(terms=1, sudden_losses=1), POSTGRESQL),
    Bound(Budget(terms=2), POSTGRESQL),
    Bound(Budget(terms=1, failovers=2), POSTGRESQL),
    Bound(Budget(terms=1, failovers=2), MARIADB),
    Bound(Budget(terms=1, orders=1), ONE_MYSQL),
    Bound(Budget(terms=1, orders=1), ONE_POSTGRESQL),
    Bound(Budget(terms=1, dbas=1), ONE_MYSQL),
    Bound(Budget(terms=1, dbas=1), MARIADB),
    Bound(Budget(terms=1, attributes=1)),
    Bound(Budget(terms=1, texts=1)),
    Bound(Budget(terms=1, clocks=1)),
    Bound(Budget(terms=1, hosts=1)),
    Bound(Budget(terms=1, hosts=1, revokes=1), POSTGRESQL),
    Bound(Budget(terms=1, outages=1, revokes=1), POSTGRESQL),
)
_FULL = (
    *_QUICK,
    Bound(Budget(terms=2)),
    Bound(Budget(terms=2), MIXED),
    Bound(Budget(terms=2), MARIADB),
    Bound(Budget(terms=1, failovers=1, revokes=1)),
    Bound(Budget(terms=1, losses=1, failovers=1)),
    Bound(Budget(terms=1, restores=1, revokes=1), MIXED),
    Bound(Budget(terms=1, edits=1, restores=1), POSTGRESQL),
    Bound(Budget(terms=1, edits=1, revokes=1), POSTGRESQL),
    Bound(Budget(terms=1, losses=1, restores=1), MARIADB),
    Bound(Budget(terms=2, sudden_losses=1), POSTGRESQL),
    Bound(Budget(terms=1, twins=1)),
    Bound(Budget(terms=1, twins=1), POSTGRESQL),
    Bound(Budget(terms=1, failovers=2)),
    Bound(Budget(terms=1, orders=1)),
    Bound(Budget(terms=1, orders=2), ONE_MYSQL),
    Bound(Budget(terms=1, orders=2), ONE_POSTGRESQL),
    Bound(Budget(terms=1, texts=1, orders=1)),
    Bound(Budget(terms=1, dbas=1)),
    Bound(Budget(terms=1, dbas=1), POSTGRESQL),
    Bound(Budget(terms=1, outages=1, revokes=1)),
)
_DEEP = (
    *_FULL,
    Bound(Budget(terms=2, revokes=1), POSTGRESQL),
    Bound(Budget(terms=2, revokes=1), MARIADB),
    Bound(Budget(terms=2, restores=1), MARIADB),
    Bound(Budget(terms=2, failovers=1), POSTGRESQL),
    Bound(Budget(terms=1, twins=1, failovers=1), POSTGRESQL),
    Bound(Budget(terms=1, edits=1, failovers=1, revokes=1)),
    Bound(Budget(terms=1, twins=1, edits=1), POSTGRESQL, frozenset({"I5"})),
    Bound(Budget(terms=3), POSTGRESQL),
)
BOUNDS = {"quick": _QUICK, "full": _FULL, "deep": _DEEP}

KNOWN = {
    "a twin of UpdateSecrets that has read an edit, and then the fence, writes over it when its run is done": (
        "I5",
        Bound(Budget(terms=1, twins=1, edits=1), POSTGRESQL),
    ),
}
"""What the protocol does not keep, and the invariant that breaks. The full bounds fail if it is not found."""
