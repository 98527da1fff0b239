"""The search for a login that works: which of the candidates each database accepts (protocol C5, I13).

Whatever Lockstep knows is shown, the best first, and every database has a vote. An account is shown no more after two
refusals in a row that its server counts (MariaDB's can be taken back). Where a server says which generations an account
has, those are shown first; it may be wrong, so where none of them works the others follow.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum, auto
from functools import cache, partial
from typing import NoReturn

from functions.apply_db.logins import BARRED
from functions.apply_db.reached import Reached
from lockstep.protocol import decide
from lockstep.protocol.decide import Tried
from lockstep.protocol.errors import (
    CurrentCredentialRejectedError,
    LockstepError,
    NoRoomError,
    StoresDivergedError,
)
from lockstep.protocol.lock_rule import believed
from lockstep.protocol.messages import Beside, Candidate, CandidateRef, ProbeResult
from lockstep.protocol.model import Login
from lockstep.protocol.ports import lets_in

REFUSALS_AT_MOST = 2
"""Refused logins in a row on one account, after which it is shown no more in this run."""


class Turn(IntEnum):
    """When a login is shown on a database; from `SUPERSEDED_AND_NAMED` on only where nothing works yet.

    What a store serves is shown everywhere, since it must go on working.
    """

    TYPED = auto()  # Unless its account has refused: of two tries one is left for what Lockstep made.
    NAMED = auto()  # By the server, until it refuses one of these.
    SUPERSEDED_AND_NAMED = auto()
    BEST = auto()
    NAMED_ALTHOUGH_WRONG = auto()
    OTHER = auto()
    WAS_CURRENT = auto()
    REFUSED_BASE = auto()  # That it was refused may have been a mistake.
    ONLY_STAGED = auto()


class Search:
    """One search, under the advisory locks.

    Args:
        reached: The databases that are asked.
        refused: The databases that have refused, in this run, what all stores serve.
        candidates: What may work, the best first.
    """

    def __init__(
        self, reached: Reached, refused: Sequence[str], candidates: Mapping[Candidate, Login]
    ) -> None:
        self._reached = reached
        self._ports = reached.ports
        now, schedule = self._ports.clock.now(), self._ports.credential.schedule
        self._record = believed(reached.record, now, schedule.interval)
        self._stagers = reached.stagers
        self._candidates = candidates
        were_current, only_staged = decide.superseded_generations(self._record, candidates)
        self._superseded = dict.fromkeys(were_current, Turn.WAS_CURRENT)
        self._superseded |= dict.fromkeys(only_staged, Turn.ONLY_STAGED)
        self._shown = set[tuple[Candidate | int, str]]()
        """What was shown on which database: candidates, and superseded generations."""
        self._tried: dict[CandidateRef, Tried] = {}
        self._refusals = Counter[tuple[str, str]]()
        self._unknown = set[tuple[CandidateRef, str]]()
        self._wrong = set[str]()
        """The databases that have refused what their servers name."""
        self._barred: dict[str, LockstepError] = {}
        self._version = cache(self._ports.stores.find_version)
        """Where the stores hold a generation, read once in a search: it never changes (protocol V3)."""
        self._recorded = reached.each(lambda name: reached.stagers[name].recorded())
        self._refused = [name for name in refused if name in reached.stagers]
        self._base = max(candidates, key=lambda one: len(one.stores), default=None) if self._refused else None
        """What those have refused in this run."""
        if self._base:
            for name in self._refused:
                self._count(name, candidates[self._base], accepted=False)

    def find(self) -> ProbeResult:
        """The login that every store is to serve, and how each database comes to accept it.

        Raises:
            CurrentCredentialRejectedError: No login works on a database, and nobody has consented to set its account.
            AccountUnusableError, AccountMissingError: Likewise, since the account is barred or gone.
            NoRoomError: A database has no room for it.
        """
        while turn := self._next():
            self._take(*turn)
        if not self._tried:
            raise StoresDivergedError(credential=self._ports.credential.id)
        ranked = self._ranked()
        roomy = [one for one in ranked if not any(self._in_the_way(n, one) for n in self._refusing(one))]
        winner = decide.choose(roomy or ranked, list(self._stagers))
        dead = [n for n in self._refusing(winner) if n in self._lost() and n not in self._record.take_over]
        if dead:
            self._end(dead)
        beside = self._reached.each(partial(self._beside, winner))
        return ProbeResult(
            winner=winner.candidate.ref,
            proven=tuple(name for name in self._stagers if name in winner.works),
            beside=tuple(one for one in beside.values() if one),
            accepted=self._accepted(),
        )

    # ---- Showing logins

    def _next(self) -> tuple[Candidate | int, list[str]] | None:
        """What is shown next, and where; None once the best-ranked works everywhere, or nothing is left."""
        for best in (one for one in self._candidates if one != self._base):
            if self._left(best):
                break
            if self._tried[best.ref].works.issuperset(self._stagers):
                return None
        known: list[Candidate | int] = [*self._candidates, *self._superseded]
        lost = self._lost()
        turns = defaultdict[tuple[Turn, int], list[str]](list)
        for place, one in enumerate(known):
            for name in self._left(one):
                if turn := self._turn(one, name, is_lost=name in lost, is_best=not place):
                    turns[turn, place].append(name)
        first = min(turns, default=None)
        return (known[first[1]], turns[first]) if first else None

    def _left(self, one: Candidate | int) -> list[str]:
        return [name for name in self._stagers if (one, name) not in self._shown]

    def _turn(self, one: Candidate | int, name: str, *, is_lost: bool, is_best: bool) -> Turn | None:
        """When it is shown on a database, by what is known now; None: not at all."""
        if isinstance(one, int):
            return self._turn_of_superseded(one, name) if is_lost else None
        if one == self._base and name in self._refused:
            return Turn.REFUSED_BASE if is_lost else None
        is_typed, is_named = 0 in one.generations, self._is_named(name, one)
        if is_typed and not self._refusals[name, self._candidates[one].username]:
            return Turn.TYPED
        if not is_typed and (not self._recorded[name] or (is_named and name not in self._wrong)):
            return Turn.NAMED
        if not (is_lost or one.stores):
            return None
        other = Turn.NAMED_ALTHOUGH_WRONG if is_named else Turn.OTHER
        return Turn.BEST if is_best else other

    def _turn_of_superseded(self, generation: int, name: str) -> Turn | None:
        users = self._ports.credential.usernames
        if all(self._refusals[name, user] >= REFUSALS_AT_MOST for user in users):
            return None
        is_named = name not in self._wrong and generation in self._recorded[name]
        return Turn.SUPERSEDED_AND_NAMED if is_named else self._superseded[generation]

    def _take(self, one: Candidate | int, names: Sequence[str]) -> None:
        self._shown.update((one, name) for name in names)
        if not isinstance(one, int):
            self._show(one, self._candidates[one], names)
        elif held := self._version(one):
            is_known = held[1].login in self._candidates.values()
            if not is_known and held[1].login.username in self._ports.credential.usernames:
                candidate = Candidate(ref=held[0], generations=(one,))
                self._show(candidate, held[1].login, names, is_superseded=True)

    def _ranked(self) -> list[Tried]:
        """As they were ranked, in whatever order they were shown."""
        order = {candidate.ref: place for place, candidate in enumerate(self._candidates)}
        return sorted(self._tried.values(), key=lambda one: order.get(one.candidate.ref, len(order)))

    def _show(
        self, candidate: Candidate, login: Login, databases: Iterable[str], *, is_superseded: bool = False
    ) -> None:
        shown = [name for name in databases if self._may_show(name, candidate, login)]
        answers = self._reached.attempt(partial(self._works, login), shown)
        self._reached.go_on()
        for name, accepted in answers.items():
            self._count(name, login, accepted=accepted)
            if not accepted and self._is_named(name, candidate):
                self._wrong.add(name)
        works = frozenset(name for name, accepted in answers.items() if accepted)
        if before := self._tried.get(candidate.ref):
            works |= before.works
        self._tried[candidate.ref] = Tried(candidate, login, works, is_superseded)

    def _count(self, name: str, login: Login, *, accepted: bool) -> None:
        is_taken_back = accepted or self._stagers[name].takes_refusals_back
        self._refusals[name, login.username] = (
            0 if is_taken_back else self._refusals[name, login.username] + 1
        )

    def _works(self, login: Login, name: str) -> bool:
        try:
            return lets_in(self._ports.databases[name], self._stagers[name], login)
        except BARRED as error:
            self._barred[name] = error
            return False

    def _may_show(self, database: str, candidate: Candidate, login: Login) -> bool:
        is_known = self._refusals[database, login.username] < REFUSALS_AT_MOST
        if not is_known:
            self._unknown.add((candidate.ref, database))
        return is_known

    def _is_named(self, database: str, candidate: Candidate) -> bool:
        """Whether the server says that the account has the login."""
        return not self._recorded[database].isdisjoint(candidate.generations)

    def _lost(self) -> list[str]:
        """The databases on which nothing works that was shown."""
        found = {name for one in self._tried.values() for name in one.works}
        return [name for name in self._stagers if name not in found]

    # ---- What follows

    def _end(self, dead: Sequence[str]) -> NoReturn:
        """A wrong password may be all that is known; what bars an account says itself how that ends."""
        if refusing := [name for name in dead if name not in self._barred]:
            raise CurrentCredentialRejectedError(database=refusing[0])
        raise self._barred[dead[0]]

    def _beside(self, winner: Tried, database: str) -> Beside | None:
        """What the winner is staged beside on a database; None where it works already."""
        if database in winner.works:
            return None
        credential = self._ports.credential
        if ended := self._in_the_way(database, winner):
            stores = ended.candidate.stores
            why = {"store": stores[0]} if stores else {"until": str(self._record.not_before)}
            raise NoRoomError(credential=credential.id, database=database, **why)
        kept = decide.kept_beside([*self._tried.values()], database, winner, credential)
        return Beside(database=database, login=kept.candidate.ref if kept else None)

    def _in_the_way(self, database: str, winner: Tried) -> Tried | None:
        """What must go on working on a database, and would end if the winner were staged there."""
        # What was not shown there, lest the account be locked, may work.
        unknown = {ref for ref, name in self._unknown if name == database}
        tried = [
            replace(one, works=one.works | {database}) if one.candidate.ref in unknown else one
            for one in self._tried.values()
        ]
        credential = self._ports.credential
        kept = decide.kept_beside([*self._tried.values()], database, winner, credential)
        ended = decide.ended_by(tried, database, winner, kept, credential) if kept else []
        runs = decide.overlap_runs(self._record, self._ports.clock.now())
        return next((one for one in ended if one.candidate.stores or (runs and not one.is_superseded)), None)

    def _refusing(self, winner: Tried) -> list[str]:
        return [name for name in self._stagers if name not in winner.works]

    def _accepted(self) -> tuple[int, ...]:
        """What logs in somewhere and is not valid on record."""
        working = [set(one.candidate.generations) - {0} for one in self._tried.values() if one.works]
        return tuple(sorted(max(found) for found in working if found and not found & self._record.valid))
