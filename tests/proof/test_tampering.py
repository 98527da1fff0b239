"""Whatever somebody does to the evidence is seen, or is named in the threat model; honest lives raise no alarm."""

import logging
import random
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lockstep.protocol import errors
from lockstep.protocol.orders import Pause, Resume
from tests.proof.mutations import UNREAD, catalogue
from tests.proof.races import error_at
from tests.proof.tampered import STREAMS, Mutation, new_scene, outcome_of
from tests.support import world as worlds
from tests.support.audit_story import AuditStory
from tests.support.memory import MemorySigner

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


def test_an_untouched_scene_raises_no_alarm() -> None:
    outcome = outcome_of(Mutation("nothing", lambda _: None), new_scene())
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


# Honest lives: whatever runs die of, and whatever operators order, verification raises no alarm. A life is a random
# schedule of both runners over one credential: deaths and failures at any call, stores and databases that do not
# answer, orders, emergencies, lost lock tables, replaced keys, and bodies that are archived.

HALF_INTERVAL = 600


class Life:
    """A life, by its seed.

    Attributes:
        states: States that were verified.
        alarms: What verification said, with the acts before it.
    """

    def __init__(self, seed: int) -> None:
        self.states = 0
        self.alarms: list[str] = []
        self._seed = seed
        self._acts: list[str] = []
        self._dice = random.Random(seed)  # noqa: S311 - it must be the same every time
        self._story = AuditStory()
        self._keys = 0
        self._archived = self._dice.random() < 0.5

    def live(self, acts: int) -> "Life":
        """So many acts, each followed by a verification."""
        self._story.run(trigger="cli", force=True)
        self._look("first")
        twice = (self._dies, self._fails)
        rare = (*twice, *twice, self._pauses, self._revokes, self._loses_the_table, self._new_key)
        for _ in range(acts):
            act = self._dice.choice([*[self._run] * 5, self._dice.choice(rare)])
            waits = (1, HALF_INTERVAL, HALF_INTERVAL, 5 * HALF_INTERVAL)
            self._story.world.clock.sleep(self._dice.choice(waits))
            act()
            worlds.undisturbed(self._story.world)
            self._look(act.__name__)
        return self

    def _look(self, act: str) -> None:
        self._acts.append(act)
        self.states += 1
        with worlds.quiet(self._story.world):
            if self._archived:
                worlds.strike(self._story.world, UNREAD)
            for v in self._story.verify():
                said = [str(problem) for problem in (*v.problems, v.unreadable) if problem]
                self.alarms += [f"seed {self._seed}, after {self._acts}: {v.stream}: {one}" for one in said]

    def _run(self) -> None:
        runner = self._dice.choice(("aws", "aws", "oci"))
        with suppress(errors.LockstepError, worlds.Killed):
            self._story.run(runner, force=self._dice.random() < 0.3)

    def _struck(self, *, dies: bool, again: bool) -> None:
        """One run, struck before or after one of its calls, or from there on."""
        left, world = self._dice.randrange(120), self._story.world

        def act(boundary: str) -> None:
            nonlocal left
            left -= 1
            if left == 0 or (left < 0 and again):
                raise worlds.Killed if dies else error_at(world, boundary)

        worlds.at_every_boundary(world, act)
        self._run()  # `AuditStory.run` has a hook of its own on db-1: it takes its place.

    def _dies(self) -> None:
        self._struck(dies=True, again=True)

    def _fails(self) -> None:
        self._struck(dies=False, again=self._dice.random() < 0.3)

    def _pauses(self) -> None:
        self._story.order(Pause())
        self._run()
        self._look("paused")
        self._story.order(Resume())

    def _revokes(self) -> None:
        with suppress(errors.LockstepError):
            self._story.revoke()

    def _loses_the_table(self) -> None:
        worlds.loses_the_lock_table(self._story.world)
        worlds.activates(self._story.world)
        # That a stream has no head is said until its runner has written the next entry.
        while len(self._story.world.lock.record.heads) < len(STREAMS):
            for runner in STREAMS:
                # Within the overlap a forced run that finds nothing to repair leaves no entry.
                self._story.world.clock.sleep(2 * HALF_INTERVAL)
                with suppress(errors.LockstepError):
                    self._story.run(runner, force=True)

    def _new_key(self) -> None:
        self._keys += 1
        before = ["", *(f"-{n}" for n in range(1, self._keys))]
        self._story.world.signers = {
            name: MemorySigner(
                f"{name}-key-{self._keys}",
                retired=[f"{name}-{what}{n}" for n in before for what in ("key", "orders")],
                orders=f"aws-orders-{self._keys}" if name == "aws" else None,
            )
            for name in STREAMS
        }
        self._run()


def test_honest_lives_raise_no_alarm() -> None:
    lived = [Life(seed).live(20) for seed in range(20)]
    assert [alarm for life in lived for alarm in life.alarms] == []
    assert sum(life.states for life in lived) > 400
