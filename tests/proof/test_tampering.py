"""Whatever somebody does to the evidence is seen, or is named in the threat model; honest lives raise no alarm."""

import logging
from collections.abc import Iterator

import pytest

from tests.proof.raw_logs import BACKENDS, in_memory
from tests.proof.tampered import Mutation, outcome_of, scene
from tests.proof.tampering import concerns, lives, tamper, threat_model
from tests.proof.tampering_catalogue import catalogue
from tests.proof.tampering_plants import PLANTS, Plant

CATALOGUE = {mutation.name: mutation for mutation in catalogue(10)}
STEPS = {"memory": 1, "s3": 13, "object-storage": 11}
"""Every which mutation a backend has: half a minute at most over an emulator."""


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def _chosen(backend: str) -> list[Mutation]:
    light = [m for m in CATALOGUE.values() if concerns(m, backend) and (backend == "memory" or not m.heavy)]
    return light[:: STEPS[backend]]


@pytest.mark.parametrize("name", BACKENDS)
def test_every_mutation_is_caught_or_named_as_impossible(name: str) -> None:
    with BACKENDS[name]() as backend:
        tally = tamper(backend, _chosen(name), briefly=True)
    assert tally.wrong == []
    assert tally.caught > 0.8 * tally.tried > 15


def test_the_threat_model_says_what_is_impossible() -> None:
    said = threat_model()
    assert [m.by_design for m in CATALOGUE.values() if m.by_design not in said] == []


def test_an_untouched_scene_raises_no_alarm() -> None:
    nothing = Mutation(name="nothing", act=lambda _: None)
    with in_memory() as backend:
        outcome = outcome_of(nothing, scene(backend))
    assert (outcome.caught, outcome.recorded, outcome.seen) == (False, True, ())


def test_every_mutation_leaves_the_next_run_on_record() -> None:
    """Only more than a thousand foreign objects stop a rotation."""
    with in_memory() as backend:
        unrecorded = {
            m.name for m in list(CATALOGUE.values())[::5] if not outcome_of(m, scene(backend)).recorded
        }
    assert all("more than a thousand" in name for name in unrecorded)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda p: p.name)
def test_without_a_check_its_mutation_goes_unseen(plant: Plant) -> None:
    mutation = CATALOGUE[plant.mutation]
    with in_memory() as backend:
        before = outcome_of(mutation, scene(backend, digests=plant.digests))
        with plant.planted():
            after = outcome_of(mutation, scene(backend, digests=plant.digests))
        again = outcome_of(mutation, scene(backend, digests=plant.digests))
    assert (getattr(before, plant.loses), getattr(after, plant.loses)) == (True, False)
    assert again == before


def test_honest_lives_raise_no_alarm() -> None:
    states, alarms = lives(range(20), acts=20)
    assert alarms == []
    assert states > 400
