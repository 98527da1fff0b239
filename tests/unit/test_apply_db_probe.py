"""ApplyDb probes candidates for a reconcile: the first that every database accepts wins (protocol C5)."""

import pytest
from msgspec import structs

from functions.apply_db import step as apply_db
from lockstep.protocol.errors import DatabaseUnreachableError, FenceLostError, InvalidRequestError
from lockstep.protocol.messages import CandidateRef, ProbeRequest
from tests.support.memory import MemoryWorld
from tests.unit.flights import asked_to_probe, probed, steady
from tests.unit.harness import (
    another_login,
    edit,
    held,
    known_logins,
    login_of,
    rotate_again,
)


def _edited() -> MemoryWorld:
    world = steady()
    edit(world.stores["oci"], another_login(world))
    return world


def test_a_probe_names_the_first_candidate_that_every_database_accepts_and_changes_nothing() -> None:
    world = _edited()
    needed = asked_to_probe(world, held(world, "third"))
    before = known_logins(world), world.lock.record
    assert probed(world, needed) == CandidateRef(store="aws", version="generation-2")
    backwards = structs.replace(needed, candidates=(needed.candidates[-1], needed.candidates[0]))
    assert probed(world, backwards).version == "generation-1"
    world.databases["db-2"].accounts["app"].passwords = (login_of(world, 2).password.reveal(),)
    assert probed(world, backwards).version == "generation-2"
    assert (world.lock.record, known_logins(world)["db-1"]) == (before[1], before[0]["db-1"])


def test_a_run_that_was_overtaken_shows_no_candidate() -> None:
    """By now its candidates may be revoked, and two refusals bring an account to a limit of two (protocol D18)."""
    world = _edited()
    needed = asked_to_probe(world, held(world, "third"))
    for name in ("reconciler", "following", "last"):
        rotate_again(world, name)
    for database in world.databases.values():
        database.refusals.most = 0
    with pytest.raises(FenceLostError):
        probed(world, needed)
    assert [database.refusals.most for database in world.databases.values()] == [0, 0]


def test_a_version_that_is_gone_does_not_win() -> None:
    world = _edited()
    needed = asked_to_probe(world, held(world, "third"))
    gone = (CandidateRef(store="aws", version="gone"), *needed.candidates)
    assert probed(world, structs.replace(needed, candidates=gone)).version == "generation-2"


def test_a_probe_of_an_unreachable_database_is_an_error_and_blocks_nothing() -> None:
    world = _edited()
    needed = asked_to_probe(world, held(world, "third"))
    world.databases["db-2"].unreachable = True
    with pytest.raises(DatabaseUnreachableError):
        probed(world, needed)
    assert world.lock.record.blocked == frozenset()


@pytest.mark.parametrize(
    "change",
    [
        {"candidates": (CandidateRef(store="gcp", version="1"),)},
        {"databases": ()},
        {"databases": ("db-1", "db-9")},
    ],
)
def test_a_probe_of_what_is_not_in_the_plan_is_an_invalid_request(change: dict[str, object]) -> None:
    world = _edited()
    needed = asked_to_probe(world, held(world, "third"))
    request = ProbeRequest(rotation=needed.rotation, databases=needed.databases, candidates=needed.candidates)
    with pytest.raises(InvalidRequestError):
        apply_db.run(structs.replace(request, **change), world.ports())
