"""Whatever somebody does to the evidence is seen, or is named in the threat model; honest lives raise no alarm."""

import logging
from collections.abc import Iterator

import pytest

from tests.proof.mutations import catalogue
from tests.proof.raw_logs import BACKENDS, in_memory
from tests.proof.tampered import Mutation, outcome_of, scene
from tests.proof.tampering import concerns, lives, tamper, threat_model

CATALOGUE = {mutation.name: mutation for mutation in catalogue(10)}
STEPS = {"memory": 1, "s3": 13, "object-storage": 11}
"""Every which mutation a backend has: half a minute at most over an emulator."""


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", BACKENDS)
def test_every_mutation_is_caught_or_named_as_impossible(name: str) -> None:
    light = [m for m in CATALOGUE.values() if concerns(m, name) and (name == "memory" or not m.heavy)]
    with BACKENDS[name]() as backend:
        tally = tamper(backend, light[:: STEPS[name]], briefly=True)
    assert tally.wrong == []
    assert tally.caught > 0.8 * tally.mutations > 15


def test_the_threat_model_says_what_is_impossible() -> None:
    said = threat_model()
    assert [m.by_design for m in CATALOGUE.values() if m.by_design not in said] == []


def test_an_untouched_scene_raises_no_alarm() -> None:
    outcome = outcome_of(Mutation("nothing", lambda _: None), scene(in_memory))
    assert (outcome.caught, outcome.recorded, outcome.seen) == (False, True, ())


def test_every_mutation_leaves_the_next_run_on_record() -> None:
    """Only more than a thousand foreign objects stop a rotation."""
    some = list(CATALOGUE.values())[::5]
    unrecorded = [m.name for m in some if not outcome_of(m, scene(in_memory)).recorded]
    assert all("more than a thousand" in name for name in unrecorded)


# Without digests, which see much by themselves: what each check of a chain, and of where a chain ends, is for. Each
# check was left out once, and then its row failed.
LATER, AT_ONCE, STATED, RECORDED = "later", "at_once", "stated", "recorded"
MINE = "with an own key that names itself as the stream's"
SEEN = {
    "the hash of the entry before": ("signed again by its own key: last-but-one of aws", "caught"),
    "numbers that are left out": ("a number left out: aws", "caught"),
    "foreign objects between entries": ("junk under the next number: aws", LATER),
    "foreign objects after the last entry": ("junk under the highest number: aws", "caught"),
    "what an entry says was missing": ("a head with another hash: aws", LATER),
    "a retired key after its successor": ("appended with a retired key, and its head: aws", "caught"),
    "the MAC": (f"appended {MINE}, and its head: aws", "caught"),
    "a run that the key of orders signs": ("order key signs a run, and its head", "caught"),
    "an order that the key of runs signs": ("run key signs an order, and its head", "caught"),
    "an entry of another kind than its id": ("order key signs a run as an order, and its head", "caught"),
    "the MAC of an archived entry": (f"archived, appended {MINE}, and its head: oci", "caught"),
    "the place of an archived seal": ("archived, sealed for another credential, and its head: oci", "caught"),
    "the run of the event": ("signed, with the event of another run: aws", "caught"),
    "the base of a rotation": ("cut the last, and the heads: oci", "caught"),
    "delete markers": ("last marked, and the lock record rolled back: aws", AT_ONCE),
    "a marker under an entry": ("marked and written again: middle of aws", "caught"),
    "a second version": ("overwritten by itself: middle of aws", "caught"),
    "names that are no entries'": ("a name: bidi: aws", "caught"),
    "the date of an object": ("dated 16 minutes later: last of aws", "caught"),
    "the place of an entry": ("sealed for another credential, and its head: aws", "caught"),
    "the hash of the event": ("another event: middle of aws", "caught"),
    "the hash of the head": ("a head with another hash: aws", STATED),
    "the MAC above the head": (f"appended {MINE}: aws", STATED),
    "what an object above the head continues": ("of another deployment: after the last of aws", STATED),
    "the place above the head": ("sealed for another credential: aws", STATED),
    "the MAC where there is no head": (f"appended {MINE}, and no head: aws", STATED),
    "another log where there is no head": (
        "of another deployment, and no head: after the last of aws",
        STATED,
    ),
    "more than the keys of a MAC": ("the last mac with another key, and its head: aws", "caught"),
    "what the wrong key has signed": ("order key signs a run", STATED),
    "the MAC of a run's own entry": ("the next run's entry forged, and its head: aws", RECORDED),
}


@pytest.mark.parametrize(("name", "how"), SEEN.values(), ids=SEEN)
def test_each_check_of_a_chain_sees_by_itself_what_it_is_for(name: str, how: str) -> None:
    assert getattr(outcome_of(CATALOGUE[name], scene(in_memory, digests=False)), how)


def test_what_digests_name_is_compared() -> None:
    assert outcome_of(CATALOGUE["cut the last, and the heads: aws"], scene(in_memory)).at_once


def test_honest_lives_raise_no_alarm() -> None:
    states, alarms = lives(range(20), acts=20)
    assert alarms == []
    assert states > 400
