"""Rules of ApplyDb's two round trips, each left out by a patch for the length of a block; see `catalogue`."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from unittest.mock import patch

from functions.apply_db import logins
from functions.apply_db import step as apply_db
from lockstep.protocol.errors import PreviousCredentialAcceptedError
from lockstep.protocol.messages import RevocationCheck, RevocationResult
from lockstep.protocol.model import CredentialValue
from lockstep.stores.credential import Ports
from tests.proof.patching import Foreign, patched
from tests.proof.plants import LockThatNeverRefuses


def changed_before_the_fence_answered() -> AbstractContextManager[None]:
    """The fence is asked first, and its answer awaited when the databases are changed."""
    original = apply_db._apply

    def apply(request: Foreign, ports: Ports) -> Foreign:
        done = original(request, replace(ports, lock=LockThatNeverRefuses(ports.lock)))
        ports.lock.require(
            request.rotation.lease, request.claim, promoting=request.promoting, now=ports.clock.now()
        )
        return done

    return patched(patch.object(apply_db, "_apply", apply))


def refusals_side_by_side() -> AbstractContextManager[None]:
    """All logins that must be refused are shown at the same time, and then one that must succeed."""
    original = logins.prove

    def prove(
        database: Foreign,
        stager: Foreign,
        side_by_side: Foreign,
        *,
        pending: CredentialValue,
        base: CredentialValue | None,
        doomed: Mapping[int, CredentialValue | None],
    ) -> tuple[RevocationCheck, ...]:
        original(database, stager, side_by_side, pending=pending, base=base, doomed={})
        live = [value.login for value in (pending, base) if value]
        shown = {g: v.login for g, v in doomed.items() if v and v.login not in live}
        if any(side_by_side([partial(database.accepts, login) for login in shown.values()])):
            raise PreviousCredentialAcceptedError(database=database.name)
        for login in live:
            database.accepts(login)
        return tuple(RevocationCheck(generation=g, revocation=RevocationResult.REFUSED) for g in shown)

    return patched(patch.object(logins, "prove", prove))
