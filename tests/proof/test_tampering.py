"""Whatever somebody does to the evidence is seen, or is named in the threat model; honest lives raise no alarm."""

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.proof.lives import live
from tests.proof.mutations import archived, catalogue
from tests.proof.tampered import Mutation, Scene, new_scene, outcome_of

CATALOGUE = catalogue(10)
DOCUMENT = Path(__file__).parents[2] / "docs" / "threat-model.md"


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_every_mutation_is_caught_or_named_as_impossible_and_the_next_run_is_on_record() -> None:
    """The runs that follow are looked at after each fifth one, and where verification alone sees nothing."""
    wrong = list[str]()
    for number, one in enumerate(CATALOGUE.values()):
        outcome = outcome_of(one, new_scene(), briefly=number % 5 > 0)
        if outcome.caught == bool(one.by_design):
            wrong.append(f"{one.name}: {outcome.seen or 'not caught'}")
        if not (outcome.recorded or outcome.is_brief):
            wrong.append(f"{one.name}: the next run is not on record")
    assert wrong == []


def test_the_threat_model_says_what_is_impossible() -> None:
    said = re.sub(r"\s+", " ", DOCUMENT.read_text())
    by_design = {one.by_design for one in CATALOGUE.values()}
    assert [words for words in by_design if words not in said] == []
    assert len(by_design) == 7


@pytest.mark.parametrize("act", [lambda _: None, archived], ids=["as it is", "archived"])
def test_an_untouched_scene_raises_no_alarm(act: Callable[[Scene], object]) -> None:
    outcome = outcome_of(Mutation("nothing", act), new_scene())
    assert (outcome.caught, outcome.recorded, outcome.seen) == (False, True, [])


# Without digests, which see much by themselves: what each check of a chain, and of where a chain ends, is for. Each
# check was left out once, and then its row failed.
LATER, AT_ONCE, STATED, RECORDED = "later", "at_once", "stated", "recorded"
MINE = "with an own key that names itself as the stream's"
SEEN = {
    "the hash of the entry before": ("signed again by its own key: last-but-one of aws", "caught"),
    "numbers that are left out": ("a number left out", "caught"),
    "foreign objects between entries": ("junk under the next number", LATER),
    "foreign objects after the last entry": ("junk under the highest number", "caught"),
    "what an entry says was missing": ("a head 0 ahead", LATER),
    "a retired key after its successor": ("appended with a retired key, and its head: aws", "caught"),
    "the MAC": (f"appended {MINE}, and its head: aws", "caught"),
    "a run that the key of orders signs": ("order key signs a run, and its head", "caught"),
    "an order that the key of runs signs": ("run key signs an order, and its head", "caught"),
    "an entry of another kind than its id": ("order key signs a run as an order, and its head", "caught"),
    "the MAC of an archived entry": (f"archived, appended {MINE}, and its head: oci", "caught"),
    "the place of an archived seal": ("archived, sealed for another credential, and its head: oci", "caught"),
    "the time of the event": ("signed, with an event of another time", "caught"),
    "the text of an order": ("order key signs an order that is no text, and its head", "caught"),
    "the status of what is recorded": (
        "a rotation cut undigested, with its head, which a failure began",
        LATER,
    ),
    "the kind of it": ("a rotation cut undigested, with its head, and recorded by an order", LATER),
    "the time of the event, in its seal": ("its event at another time, signed again: last of aws", AT_ONCE),
    "the run of the event": ("signed, with the event of another run", "caught"),
    "the base of a rotation": ("cut the last, and the heads: oci", "caught"),
    "delete markers": ("last marked, and the lock record rolled back", AT_ONCE),
    "a marker under an entry": ("marked and written again: middle", "caught"),
    "a second version": ("overwritten: middle", "caught"),
    "names that are no entries'": ("a name: bidi", "caught"),
    "the date of an object": ("dated 16 minutes later: last", "caught"),
    "the place of an entry": ("sealed for another credential, and its head: aws", "caught"),
    "the hash of the event": ("another event: middle", "caught"),
    "the hash of the head": ("a head 0 ahead", STATED),
    "the MAC above the head": (f"appended {MINE}: aws", STATED),
    "what an object above the head continues": ("of another deployment: after the last of aws", STATED),
    "the place above the head": ("sealed for another credential: aws", STATED),
    "the MAC where there is no head": (f"appended {MINE}, and no head: aws", STATED),
    "another log without a head": ("of another deployment, and no head: after the last of aws", STATED),
    "more than the keys of a MAC": ("the last mac with another key, and its head", "caught"),
    "what the wrong key has signed": ("order key signs a run", STATED),
    "the MAC of a run's own entry": ("the next run's entry forged, and its head: aws", RECORDED),
}


@pytest.mark.parametrize(("name", "how"), SEEN.values(), ids=SEEN)
def test_each_check_of_a_chain_sees_by_itself_what_it_is_for(name: str, how: str) -> None:
    assert getattr(outcome_of(CATALOGUE[name], new_scene(digests=False)), how)


def test_what_digests_name_is_compared() -> None:
    assert outcome_of(CATALOGUE["cut the last, and the heads: aws"], new_scene()).at_once


def test_honest_lives_raise_no_alarm() -> None:
    """The logs are verified after each run, whatever it died of, and whatever operators have done."""
    assert [live(seed, days=0.4).violations for seed in range(4)] == [[]] * 4
