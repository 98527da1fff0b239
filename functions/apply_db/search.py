"""The search for a login that works: which of the candidates each database accepts (protocol C5, I13).

Whatever Lockstep knows is shown, the best first, and every database has a vote. An account is shown no more after two
refusals in a row that its server counts (MariaDB's can be taken back). Where a server says which generations an account
has, those are shown first; it may be wrong, so where none of them works the others follow.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import chain, islice, product
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
from lockstep.protocol.model import LockRecord, Login
from lockstep.protocol.ports import lets_in

REFUSALS_AT_MOST = 2
"""Refused logins in a row on one account, after which it is shown no more in this run."""


class Search:
    """One search, under the advisory locks.

    Args:
        reached: The databases that are asked.
        record: As it was read under the locks.
        refused: The databases that have refused, in this run, what all stores serve.
    """

    def __init__(self, reached: Reached, record: LockRecord, refused: Sequence[str]) -> None:
        self._reached = reached
        self._ports = reached.ports
        self._record = believed(record, self._ports.clock.now(), self._ports.credential.schedule.interval)
        self._stagers = reached.stagers
        self._refused = [name for name in refused if name in reached.stagers]
        self._tried: dict[CandidateRef, Tried] = {}
        self._refusals = Counter[tuple[str, str]]()
        self._unknown = set[tuple[CandidateRef, str]]()
        self._wrong = set[str]()
        """The databases that have refused what their servers name."""
        self._barred: dict[str, LockstepError] = {}
        self._version = cache(self._ports.stores.find_version)
        """Where the stores hold a generation, read once in a search: it never changes (protocol V3)."""
        self._recorded = reached.each(lambda name: reached.stagers[name].recorded(), record)

    def find(self, candidates: Mapping[Candidate, Login]) -> ProbeResult:
        """The login that every store is to serve, and how each database comes to accept it.

        Raises:
            CurrentCredentialRejectedError: No login works on a database, and nobody has consented to set its account.
            AccountUnusableError, AccountMissingError: Likewise, since the account is barred or gone.
            NoRoomError: A database has no room for it.
        """
        base = self._refused_base(candidates)
        left = self._show_likely(candidates, base)
        were_current, only_staged = decide.superseded_generations(self._record, candidates)
        self._show_superseded([*were_current, *only_staged], candidates, only_named=True)
        self._show_rest(left, candidates)
        self._show_superseded(were_current, candidates)
        if base:  # That it was refused may have been a mistake.
            self._show(base, candidates[base], self._lost())
        self._show_superseded(only_staged, candidates)
        if not self._tried:
            raise StoresDivergedError(credential=self._ports.credential.id)
        ranked = self._ranked(candidates)
        roomy = [one for one in ranked if not any(self._in_the_way(n, one) for n in self._refusing(one))]
        winner = decide.choose(roomy or ranked, list(self._stagers))
        dead = [n for n in self._refusing(winner) if n in self._lost() and n not in self._record.take_over]
        if dead:
            self._end(dead)
        beside = self._reached.each(partial(self._beside, winner), self._record)
        return ProbeResult(
            winner=winner.candidate.ref,
            proven=tuple(name for name in self._stagers if name in winner.works),
            beside=tuple(one for one in beside.values() if one),
            accepted=self._accepted(),
        )

    # ---- Showing logins

    def _refused_base(self, candidates: Mapping[Candidate, Login]) -> Candidate | None:
        """What a database has refused already in this run; it comes last, and counts as shown there."""
        if not (self._refused and candidates):
            return None
        base = max(candidates, key=lambda candidate: len(candidate.stores))
        for name in self._refused:
            self._count(name, candidates[base], accepted=False)
        return base

    def _show_likely(
        self, candidates: Mapping[Candidate, Login], base: Candidate | None
    ) -> dict[Candidate, list[str]]:
        """Each where it is likely, first what somebody has typed: he may have changed the databases too.

        Returns:
            Where each was not shown; empty where that is not needed any more.
        """
        left = {candidate: list(self._stagers) for candidate in candidates}
        if base:
            left[base] = [name for name in self._stagers if name not in self._refused]
        typed_first = sorted(candidates, key=lambda one: (one is base, 0 not in one.generations))
        for candidate in typed_first:
            likely = [
                name for name in left[candidate] if self._is_likely(name, candidate, candidates[candidate])
            ]
            left[candidate] = [name for name in left[candidate] if name not in likely]
            self._show(candidate, candidates[candidate], likely)
            open_ = (one for one in candidates if one is not base and (left[one] or self._is_everywhere(one)))
            if (best := next(open_, None)) and not left[best]:
                return {}
        return left

    def _show_rest(self, left: dict[Candidate, list[str]], candidates: Mapping[Candidate, Login]) -> None:
        """The best; where that is refused, too, what else the server names; and then the others (protocol C5)."""
        best = islice(left, 1)
        for candidate, only_named in chain(
            product(best, [False]), product(left, [True]), product(left, [False])
        ):
            login, lost = candidates[candidate], self._lost()
            shown = [
                name
                for name in left[candidate]
                if (name in lost and self._is_named(name, candidate, login))
                or (not only_named and (name in lost or candidate.stores))
            ]
            left[candidate] = [name for name in left[candidate] if name not in shown]
            self._show(candidate, login, shown)

    def _ranked(self, candidates: Mapping[Candidate, Login]) -> list[Tried]:
        """As they were ranked, in whatever order they were shown."""
        order = {candidate.ref: place for place, candidate in enumerate(candidates)}
        return sorted(self._tried.values(), key=lambda one: order.get(one.candidate.ref, len(order)))

    def _show(
        self, candidate: Candidate, login: Login, databases: Iterable[str], *, is_superseded: bool = False
    ) -> Tried:
        shown = [name for name in databases if self._may_show(name, candidate, login)]
        answers = self._reached.attempt(partial(self._works, login), shown)
        self._reached.go_on_under(self._record)
        for name, accepted in answers.items():
            self._count(name, login, accepted=accepted)
            if not accepted and self._is_named(name, candidate, login):
                self._wrong.add(name)
        works = frozenset(name for name, accepted in answers.items() if accepted)
        if before := self._tried.get(candidate.ref):
            works |= before.works
        tried = self._tried[candidate.ref] = Tried(candidate, login, works, is_superseded)
        return tried

    def _is_everywhere(self, candidate: Candidate) -> bool:
        tried = self._tried.get(candidate.ref)
        return tried is not None and tried.works.issuperset(self._stagers)

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

    def _is_likely(self, database: str, candidate: Candidate, login: Login) -> bool:
        """Whether a login is shown first on a database: what the server names, until one of these is refused.

        And what is typed, unless its account has refused: of two tries one is left for what Lockstep made.
        """
        if 0 in candidate.generations:
            return not self._refusals[database, login.username]
        is_named = database not in self._wrong and self._is_named(database, candidate, login)
        return not self._recorded[database] or is_named

    def _is_named(self, database: str, candidate: Candidate, login: Login) -> bool:
        """Whether the server says that the account has a login."""
        recorded = self._recorded[database]
        return bool(recorded.intersection(candidate.generations)) or (
            # It may have been given again under another number since.
            login in [value.login for _, value in filter(None, map(self._version, recorded))]
        )

    def _show_superseded(
        self, generations: Sequence[int], candidates: Mapping[Candidate, Login], *, only_named: bool = False
    ) -> None:
        """On the databases where nothing works that was shown, if it was not shown yet."""
        known, usernames = list(candidates.values()), self._ports.credential.usernames
        for generation in generations:
            lost = self._lost()
            if only_named:
                lost = [n for n in lost if n not in self._wrong and generation in self._recorded[n]]
            if not any(self._refusals[name, user] < REFUSALS_AT_MOST for name in lost for user in usernames):
                continue
            held = self._version(generation)
            is_new = held and held[0] not in self._tried and held[1].login not in known
            if held and is_new and held[1].login.username in usernames:
                candidate = Candidate(ref=held[0], generations=(generation,))
                self._show(candidate, held[1].login, lost, is_superseded=True)

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
        ended = self._in_the_way(database, winner)
        if ended and ended.candidate.stores:
            raise NoRoomError(credential=credential.id, database=database, store=ended.candidate.stores[0])
        if ended:
            until = str(self._record.not_before)
            raise NoRoomError(credential=credential.id, database=database, until=until)
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
