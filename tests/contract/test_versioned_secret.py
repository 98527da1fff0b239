"""The port `VersionedSecret`, on every adapter."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from threading import Barrier

import pytest

from lockstep.protocol.errors import LostCompareAndSetError, SecretNotFoundError, StoreRejectedError
from lockstep.protocol.ports import VersionedSecret
from tests.contract.aws_fixtures import aws_store
from tests.contract.harness import PLACEHOLDER_TEXT, StoreHarness
from tests.contract.memory_fixtures import memory_store
from tests.contract.oci_fixtures import oci_store

ADAPTERS: Mapping[str, Callable[[], AbstractContextManager[StoreHarness]]] = {
    "memory": memory_store,
    "aws": aws_store,
    "oci": lambda: oci_store(2),
    "oci-ring-of-one": lambda: oci_store(1),
}
ONE_PLACE = ["memory", "aws", "oci-ring-of-one"]
"""Adapters that compare and set on the served version. A ring of several slots does so on the next slot."""


@pytest.fixture(params=ADAPTERS)
def world(request: pytest.FixtureRequest) -> Iterator[StoreHarness]:
    with ADAPTERS[request.param]() as harness:
        yield harness


@pytest.fixture
def secret(world: StoreHarness) -> VersionedSecret:
    return world.secret


def promote(secret: VersionedSecret, generation: int) -> None:
    commit = secret.observe(generation).commit
    if commit:
        commit()


def stage_and_promote(secret: VersionedSecret, *generations: int) -> None:
    for generation in generations:
        secret.prepare(generation)(text(generation))
        promote(secret, generation)


def text(generation: int, by: str = "me") -> str:
    return f'{{"generation": {generation}, "by": "{by}"}}'


# Before the first rotation


def test_a_version_written_by_hand_is_generation_0(world: StoreHarness, secret: VersionedSecret) -> None:
    before = secret.read_current()
    assert (before.generation, before.text) == (0, PLACEHOLDER_TEXT)
    world.edit("app_user", text(7, "hand"))
    current = secret.read_current()
    assert (current.generation, current.text) == (0, text(7, "hand"))
    assert current.id != before.id
    assert secret.read_generation(7) is None


def test_generation_0_is_found_while_it_is_current_or_previous(secret: VersionedSecret) -> None:
    before = secret.read_current()
    assert secret.read_generation(0) == before
    stage_and_promote(secret, 1)
    assert secret.read_generation(0) == before
    assert secret.version_of(0) == before.id
    stage_and_promote(secret, 2, 3, 4, 5)
    assert secret.read_generation(0) is None
    assert secret.version_of(0) == ""
    assert secret.read_version(before.id) == before


def test_an_unknown_version_is_none(secret: VersionedSecret) -> None:
    assert secret.read_version("00000000-0000-4000-8000-000000000000") is None
    assert secret.read_generation(5) is None


def test_no_version_shows_its_text(secret: VersionedSecret) -> None:
    assert "placeholder" not in repr(secret.read_current())


# Staging


def test_a_staged_version_is_readable_and_not_current(secret: VersionedSecret) -> None:
    before = secret.read_current()
    staged = secret.prepare(1)(text(1))
    assert staged.is_new
    found = staged.read_back()
    assert (found.generation, found.text) == (1, text(1))
    assert secret.read_generation(1) == found
    assert secret.read_version(secret.version_of(1)) == found
    assert secret.read_current() == before


def test_the_first_text_of_a_generation_stays(world: StoreHarness, secret: VersionedSecret) -> None:
    secret.prepare(1)(text(1))
    second = world.rival_secret().prepare(1)(text(1, "rival"))
    assert not second.is_new
    assert second.read_back().text == text(1)


def test_only_one_of_two_concurrent_stagings_writes(world: StoreHarness) -> None:
    barrier = Barrier(2, timeout=60)

    def stage(secret: VersionedSecret, by: str) -> tuple[bool, str | None]:
        barrier.wait()
        staged = secret.prepare(1)(text(1, by))
        return staged.is_new, staged.read_back().text

    with ThreadPoolExecutor(2) as pool:
        mine = pool.submit(stage, world.secret, "me")
        theirs = pool.submit(stage, world.rival_secret(), "them")
    (mine_is_new, mine_text), (theirs_is_new, theirs_text) = mine.result(), theirs.result()
    assert mine_is_new != theirs_is_new
    assert mine_text == theirs_text == text(1, "me" if mine_is_new else "them")


def test_staging_a_generation_that_was_promoted_changes_nothing(secret: VersionedSecret) -> None:
    stage_and_promote(secret, 1)
    assert not secret.prepare(1)(text(1, "late")).is_new
    assert secret.read_current().text == text(1)
    stage_and_promote(secret, 2)
    again = secret.prepare(1)(text(1, "later"))
    assert not again.is_new
    assert again.read_back().text == text(1)
    assert secret.read_current().text == text(2)


# Promotion


def test_a_commit_makes_the_generation_current(secret: VersionedSecret) -> None:
    secret.prepare(1)(text(1))
    seen = secret.observe(1)
    assert seen.generation == 0
    assert seen.commit
    seen.commit()
    current = secret.read_current()
    assert (current.generation, current.text, current.id) == (1, text(1), secret.version_of(1))


def test_an_observation_returns_the_current_generation_and_changes_nothing(
    world: StoreHarness, secret: VersionedSecret
) -> None:
    stage_and_promote(secret, 1, 3)
    before = secret.read_current()
    assert [secret.observe(generation).generation for generation in (1, 3)] == [3, 3]
    secret.prepare(4)(text(4))
    assert secret.observe(4).generation == 3
    world.edit("app_user", text(9, "hand"))
    assert secret.observe(4).generation in (0, 1)  # A ring serves its next slot now.
    assert secret.read_version(before.id) == before


def test_a_generation_that_was_not_staged_cannot_be_made_current(secret: VersionedSecret) -> None:
    stage_and_promote(secret, 1)
    with pytest.raises(StoreRejectedError):
        promote(secret, 2)
    assert secret.read_current().generation == 1


def test_a_commit_does_not_undo_a_rivals_later_commit(world: StoreHarness, secret: VersionedSecret) -> None:
    rival = world.rival_secret()
    for generation in (1, 2):
        secret.prepare(generation)(text(generation))
    seen = secret.observe(1)
    assert seen.commit
    promote(rival, 2)
    with suppress(LostCompareAndSetError):
        seen.commit()
    assert secret.read_current().text == text(2)


@pytest.mark.parametrize("world", ONE_PLACE, indirect=True)
def test_an_edit_after_the_observation_is_not_overwritten(
    world: StoreHarness, secret: VersionedSecret
) -> None:
    secret.prepare(1)(text(1))
    seen = secret.observe(1)
    assert seen.commit
    world.edit("app_user", text(9, "hand"))
    with pytest.raises(LostCompareAndSetError):
        seen.commit()
    assert world.current_text("app_user") == text(9, "hand")
    promote(secret, 1)
    assert secret.read_current().generation == 1


# A promotion from what was read before the staging


def staged_over(secret: VersionedSecret, generation: int) -> str:
    """Stage a generation that this run has just named; what the promotion will replace."""
    staged = secret.prepare(generation, over=secret.served())(text(generation))
    assert staged.is_new
    return staged.seen


def test_a_generation_is_promoted_from_what_was_seen(secret: VersionedSecret) -> None:
    for generation in range(1, 6):
        before = {version.id for version in secret.served()}
        seen = staged_over(secret, generation)
        assert seen in before
        found = secret.from_seen(generation, seen)
        assert found.generation < generation
        assert not secret.shows(found.version)
        assert found.commit
        found.commit()
        assert secret.shows(found.version)
        assert found.version == secret.version_of(generation) == secret.read_current().id


def test_what_was_staged_before_does_not_say_what_it_was_staged_over(secret: VersionedSecret) -> None:
    over = secret.served()
    secret.prepare(1)(text(1))
    again = secret.prepare(1, over=over)(text(1, "again"))
    assert (again.is_new, again.seen, again.read_back().text) == (False, "", text(1))


@pytest.mark.parametrize("world", ONE_PLACE, indirect=True)
@pytest.mark.parametrize("when", ["before the staging", "after it", "after the look"])
def test_an_edit_of_what_was_seen_is_not_overwritten(
    world: StoreHarness, secret: VersionedSecret, when: str
) -> None:
    def edited(at: str) -> None:
        if at == when:
            world.edit("app_user", text(9, "hand"))

    put = secret.prepare(1, over=secret.served())
    edited("before the staging")
    seen = put(text(1)).seen
    edited("after it")

    def promoted() -> None:
        found = secret.from_seen(1, seen)
        edited("after the look")
        assert found.commit
        found.commit()

    with pytest.raises(LostCompareAndSetError):
        promoted()
    assert world.current_text("app_user") == text(9, "hand")
    assert secret.observe(1, seen=seen).replaces == secret.read_current().id


def test_a_rivals_promotion_from_the_same_version_is_not_undone(
    world: StoreHarness, secret: VersionedSecret
) -> None:
    first, second = staged_over(secret, 1), staged_over(world.rival_secret(), 2)
    promote(world.rival_secret(), 2)
    with suppress(LostCompareAndSetError):
        found = secret.from_seen(1, first)
        assert found.commit
        found.commit()
    assert secret.read_current().text == text(2)
    assert second


# Older versions


def test_the_generation_before_the_current_one_stays_readable(secret: VersionedSecret) -> None:
    for generation in (1, 2, 3, 4, 5, 6):
        stage_and_promote(secret, generation)
        secret.prune()
    found = secret.read_generation(5)
    assert found
    assert found.text == text(5)
    assert secret.read_current().text == text(6)


# A missing secret


@pytest.mark.parametrize(
    "operation",
    [
        lambda secret: secret.read_current(),
        lambda secret: secret.read_generation(0),
        lambda secret: secret.read_generation(1),
        lambda secret: secret.read_generation(9),
        lambda secret: secret.prepare(2)(text(2)).read_back(),
        lambda secret: secret.observe(2).commit(),
    ],
    ids=["read_current", "read_generation 0", "read_generation", "read_generation, none", "stage", "observe"],
)
def test_a_missing_secret_is_an_error_of_its_own(
    world: StoreHarness, secret: VersionedSecret, operation: Callable[[VersionedSecret], object]
) -> None:
    stage_and_promote(secret, 1)
    secret.prepare(2)(text(2))
    world.remove("app_user")
    with pytest.raises(SecretNotFoundError):
        operation(secret)
