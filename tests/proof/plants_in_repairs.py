"""Rules of the search for a login that works, and of what follows it, each left out by a patch; see `catalogue`."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from unittest.mock import patch

from msgspec import structs

from functions.apply_db import step as apply_db
from functions.apply_db.search import Search
from functions.generate import step as generate
from lockstep.protocol import decide
from lockstep.protocol.decide import Tried
from lockstep.protocol.errors import DatabaseBlockedError
from lockstep.protocol.messages import BaseRefused, Candidate, ProbeResult
from lockstep.protocol.model import Lease, LockRecord
from lockstep.stores.credential import Ports
from tests.proof.patching import Foreign, patched
from tests.support.memory_lock import MemoryLock


def refused_base_not_reconciled() -> AbstractContextManager[None]:
    """A database that refuses base is blocked at once."""
    original = apply_db._apply

    def apply(request: Foreign, ports: Ports) -> Foreign:
        result = original(request, ports)
        if isinstance(result, BaseRefused):
            ports.lock.block(request.rotation.lease, result.refused)
            raise DatabaseBlockedError(credential=ports.credential.id, database=result.refused[0])
        return result

    return patched(patch.object(apply_db, "_apply", apply))


def repairs_wait_for_the_overlap() -> AbstractContextManager[None]:
    """ACQUIRE asks `not_before` of every run that answers no emergency."""
    original = MemoryLock.acquire

    def acquire(self: MemoryLock, **asked: Foreign) -> Lease | None:
        return None if decide.overlap_runs(self.record, asked["now"]) else original(self, **asked)

    return patched(patch.object(MemoryLock, "acquire", acquire))


def consent_applied_without_a_search() -> AbstractContextManager[None]:
    """A database under take-over has no vote: it gets the winner, alone."""

    def may_show(original: Foreign) -> Callable[..., bool]:
        def shown(self: Search, database: str, *asked: Foreign) -> bool:
            return database not in self._record.take_over and original(self, database, *asked)

        return shown

    def choose(original: Foreign) -> Callable[..., Tried]:
        def chosen(tried: Foreign, databases: Collection[str]) -> Tried:
            asked = [name for name in databases if any(name in one.works for one in tried)]
            return original(tried, asked or databases)  # type: ignore[no-any-return]  # a choice

        return chosen

    return patched(
        patch.object(Search, "_may_show", may_show(Search._may_show)),
        patch.object(decide, "choose", choose(decide.choose)),
    )


def winner_staged_alone() -> AbstractContextManager[None]:
    """Where a database refuses the winner, nothing is kept beside it."""
    return patched(patch.object(apply_db, "_if_another_account", lambda *_: None))


def room_not_asked() -> AbstractContextManager[None]:
    """The winner is staged whatever ends by it."""
    return patched(patch.object(decide, "ended_by", lambda *_: []))


def half_done_claim_replaced() -> AbstractContextManager[None]:
    """What is in flight is never finished under its own generation: each run makes a version of its own."""
    return patched(patch.object(decide, "can_finish", lambda *_, **__: None))


def superseded_not_shown() -> AbstractContextManager[None]:
    """Only what may be valid by the record is shown."""
    return patched(patch.object(Search, "_show_superseded", lambda *_: None))


def accepted_not_recorded() -> AbstractContextManager[None]:
    """What a search has seen to log in is not valid on record."""
    original = generate._reconciled

    def reconciled(
        rotation: Foreign, ports: Ports, record: LockRecord, served: Foreign, found: ProbeResult
    ) -> Foreign:
        return original(rotation, ports, record, served, structs.replace(found, accepted=()))

    return patched(patch.object(generate, "_reconciled", reconciled))


def account_record_not_read() -> AbstractContextManager[None]:
    """What a server says of the generations that an account has is not asked."""
    original = Search.__init__

    def made(self: Search, *given: Foreign) -> None:
        original(self, *given)
        self._recorded = dict.fromkeys(self._recorded, frozenset())

    return patched(patch.object(Search, "__init__", made))


def every_candidate_shown() -> AbstractContextManager[None]:
    """The search goes on, whatever an account has refused."""

    def may_show(_search: Search, _database: str, _candidate: Candidate, _login: Foreign) -> bool:
        return True

    return patched(patch.object(Search, "_may_show", may_show))
