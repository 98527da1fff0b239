"""The search for a login that works: which of the candidates each database accepts (protocol C12, I13, D20).

Whatever Lockstep knows is shown, the best first, and every database has a vote. An account is shown no more after two
refusals in a row that its server counts (MariaDB's can be taken back), and where a server says which generations an
account has, nothing else is shown to it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import NoReturn

from functions.apply_db.logins import BARRED
from lockstep.protocol import decide
from lockstep.protocol.decide import Tried
from lockstep.protocol.errors import (
    DatabaseBlockedError,
    LockstepError,
    NoRoomError,
    StoresDivergedError,
)
from lockstep.protocol.messages import Beside, Candidate, CandidateRef, ProbeResult
from lockstep.protocol.model import Lease, LockRecord, Login
from lockstep.protocol.ports import Stager, lets_in
from lockstep.stores.credential import Ports

REFUSALS_AT_MOST = 2
"""Refused logins in a row on one account, after which it is shown no more in this run."""


class Search:
    """One search, under the advisory locks.

    Args:
        ports: The world.
        record: As it was read under the locks.
        stagers: Of every database, under its advisory lock.
        refused: The databases that have refused, in this run, what all stores serve.
    """

    def __init__(
        self, ports: Ports, record: LockRecord, stagers: Mapping[str, Stager], refused: Sequence[str]
    ) -> None:
        self._ports = ports
        self._record = record
        self._stagers = stagers
        self._refused = refused
        self._tried: dict[CandidateRef, Tried] = {}
        self._refusals = Counter[tuple[str, str]]()
        self._unknown = set[tuple[CandidateRef, str]]()
        self._barred: dict[str, LockstepError] = {}
        self._version = cache(ports.stores.find_version)
        """Where the stores hold a generation, read once in a search: it never changes (protocol V3)."""
        self._recorded = dict(
            zip(stagers, ports.side_by_side([stager.recorded for stager in stagers.values()]), strict=True)
        )

    def find(self, candidates: Mapping[Candidate, Login], lease: Lease) -> ProbeResult:
        """The login that every store is to serve, and how each database comes to accept it.

        Raises:
            DatabaseBlockedError: No login works on a database, and nobody has consented to set its account.
            AccountUnusableError, AccountMissingError: Likewise, since the account is barred or gone.
            NoRoomError: A database has no room for it.
        """
        base = self._refused_base(candidates)
        for candidate, login in sorted(candidates.items(), key=lambda one: one[0] is base):
            asked = [n for n in self._stagers if candidate is not base or n not in self._refused]
            if self._show(candidate, login, asked).works.issuperset(self._stagers):
                break
        self._show_superseded(candidates)
        if base and (lost := self._lost()):  # That it was refused may have been a mistake.
            self._show(base, candidates[base], lost)
        if not self._tried:
            raise StoresDivergedError(credential=self._ports.credential.id)
        ranked = self._ranked(candidates)
        roomy = [one for one in ranked if not any(self._in_the_way(n, one) for n in self._refusing(one))]
        winner = decide.choose(roomy or ranked, list(self._stagers))
        refusing = self._refusing(winner)
        dead = [n for n in refusing if n in self._lost() and n not in self._record.take_over]
        if dead:
            self._end(dead, lease)
        return ProbeResult(
            winner=winner.candidate.ref,
            beside=tuple(self._beside(name, winner, lease) for name in refusing),
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

    def _ranked(self, candidates: Mapping[Candidate, Login]) -> list[Tried]:
        """As they were ranked, in whatever order they were shown."""
        order = {candidate.ref: place for place, candidate in enumerate(candidates)}
        return sorted(self._tried.values(), key=lambda one: order.get(one.candidate.ref, len(order)))

    def _show(
        self, candidate: Candidate, login: Login, databases: Sequence[str], *, is_superseded: bool = False
    ) -> Tried:
        shown = [name for name in databases if self._may_show(name, candidate, login)]
        answers = self._ports.side_by_side([partial(self._works, name, login) for name in shown])
        for name, accepted in zip(shown, answers, strict=True):
            self._count(name, login, accepted=accepted)
        works = frozenset(name for name, accepted in zip(shown, answers, strict=True) if accepted)
        if before := self._tried.get(candidate.ref):
            works |= before.works
        tried = self._tried[candidate.ref] = Tried(candidate, login, works, is_superseded)
        return tried

    def _count(self, name: str, login: Login, *, accepted: bool) -> None:
        is_taken_back = accepted or self._stagers[name].takes_refusals_back
        self._refusals[name, login.username] = (
            0 if is_taken_back else self._refusals[name, login.username] + 1
        )

    def _works(self, name: str, login: Login) -> bool:
        try:
            return lets_in(self._ports.databases[name], self._stagers[name], login)
        except BARRED as error:
            self._barred[name] = error
            return False

    def _may_show(self, database: str, candidate: Candidate, login: Login) -> bool:
        if not self._may_have(database, candidate, login):
            return False
        is_known = self._refusals[database, login.username] < REFUSALS_AT_MOST
        if not is_known:
            self._unknown.add((candidate.ref, database))
        return is_known

    def _may_have(self, database: str, candidate: Candidate, login: Login) -> bool:
        """Whether an account can accept a login, by what the server says that it has."""
        recorded = self._recorded[database]
        return (
            not recorded
            or bool(recorded.intersection(candidate.generations))
            or not any(candidate.generations)
            # It may have been given again under another number since.
            or login in [value.login for _, value in filter(None, map(self._version, recorded))]
        )

    def _show_superseded(self, candidates: Mapping[Candidate, Login]) -> None:
        """On the databases where nothing works that may be valid: what was, the newest first."""
        known, lost = list(candidates.values()), self._lost()
        for generation in decide.superseded_generations(self._record, candidates) if lost else ():
            asked = [n for n in lost if not self._recorded[n] or generation in self._recorded[n]]
            held = self._version(generation) if asked else None
            if held is None or held[1].login in known:
                continue
            candidate = Candidate(ref=held[0], generations=(generation,))
            works = self._show(candidate, held[1].login, asked, is_superseded=True).works
            lost = [name for name in lost if name not in works]

    def _lost(self) -> list[str]:
        """The databases on which nothing works that was shown."""
        found = {name for one in self._tried.values() for name in one.works}
        return [name for name in self._stagers if name not in found]

    # ---- What follows

    def _end(self, dead: Sequence[str], lease: Lease) -> NoReturn:
        """Block where a wrong password is all that is known; what bars an account says itself how that ends."""
        if refusing := [name for name in dead if name not in self._barred]:
            self._ports.lock.block(lease, refusing)
            raise DatabaseBlockedError(credential=self._ports.credential.id, database=refusing[0])
        raise self._barred[dead[0]]

    def _beside(self, database: str, winner: Tried, lease: Lease) -> Beside:
        credential = self._ports.credential
        ended = self._in_the_way(database, winner)
        if ended and ended.candidate.stores:
            self._ports.lock.block(lease, [database])
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
