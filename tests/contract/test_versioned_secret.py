"""The port `VersionedSecret`, on every adapter."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from threading import Barrier
from typing import cast

import pytest

from lockstep.oci.ring import VaultRing
from lockstep.protocol.errors import (
    LostCompareAndSetError,
    SecretMalformedError,
    SecretNotFoundError,
    StoreRejectedError,
)
from lockstep.protocol.names import VersionNames
from lockstep.protocol.ports import VersionedSecret
from lockstep.runtime.system import SystemClock
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from tests.contract.aws_fixtures import SecretsManagerHarness
from tests.contract.harness import PLACEHOLDER_TEXT
from tests.contract.memory_fixtures import MemoryStoreHarness
from tests.contract.oci_fixtures import APP_USER_VERSIONS, VaultRingHarness, sandbox_clients, sandbox_vault

StoreHarness = MemoryStoreHarness | SecretsManagerHarness | VaultRingHarness
"""A `CredentialStore` over an adapter; its two secrets hold placeholders."""
ADAPTERS: Mapping[str, Callable[[ExitStack], StoreHarness]] = {
    "memory": lambda _: MemoryStoreHarness(),
    "aws": lambda clouds: SecretsManagerHarness(clouds.enter_context(AwsSandbox())),
    "oci": lambda clouds: VaultRingHarness(clouds.enter_context(OciSandbox()), slots=2),
    "oci-ring-of-one": lambda clouds: VaultRingHarness(clouds.enter_context(OciSandbox()), slots=1),
}
in_one_place = pytest.mark.parametrize("shared", ["memory", "aws", "oci-ring-of-one"], indirect=True)
"""Adapters that compare and set on the served version. A ring of several slots does so on the next slot."""


@pytest.fixture(scope="module", params=ADAPTERS)
def shared(request: pytest.FixtureRequest) -> Iterator[StoreHarness]:
    with ExitStack() as clouds:
        yield ADAPTERS[request.param](clouds)


@pytest.fixture
def world(shared: StoreHarness) -> StoreHarness:
    return shared.anew()


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
    assert secret.read_version("00000000-0000-4000-8000-000000000000") is None


def test_generation_0_is_found_while_it_is_current_or_previous(secret: VersionedSecret) -> None:
    before = secret.read_current()
    assert secret.read_generation(0) == before
    stage_and_promote(secret, 1)
    assert secret.read_generation(0) == before
    assert secret.version_of(0) == before.id
    stage_and_promote(secret, 2, 3, 4, 5)
    assert (secret.read_generation(0), secret.version_of(0)) == (None, "")
    assert secret.read_version(before.id) == before


# Staging


def test_the_first_text_of_a_generation_stays(world: StoreHarness, secret: VersionedSecret) -> None:
    before = secret.read_current()
    staged = secret.prepare(1)(text(1))
    found = staged.read_back()
    assert (staged.is_new, found.generation, found.text) == (True, 1, text(1))
    assert secret.read_generation(1) == secret.read_version(secret.version_of(1)) == found
    assert secret.read_current() == before
    again = [world.rival_secret().prepare(1)(text(1, "rival"))]
    promote(secret, 1)
    again.append(secret.prepare(1)(text(1, "late")))
    stage_and_promote(secret, 2)
    again.append(secret.prepare(1)(text(1, "later")))
    assert [(one.is_new, one.read_back().text) for one in again] == [(False, text(1))] * 3
    assert secret.read_current().text == text(2)


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


# Promotion


def test_a_commit_makes_the_generation_current_and_an_observation_changes_nothing(
    world: StoreHarness, secret: VersionedSecret
) -> None:
    secret.prepare(1)(text(1))
    seen = secret.observe(1)
    assert seen.generation == 0
    assert seen.commit
    seen.commit()
    current = secret.read_current()
    assert (current.generation, current.text, current.id) == (1, text(1), secret.version_of(1))
    stage_and_promote(secret, 3)
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


@in_one_place
def test_an_edit_after_the_look_is_not_overwritten(world: StoreHarness, secret: VersionedSecret) -> None:
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


@in_one_place
@pytest.mark.parametrize("when", ["before the staging", "after it", "after the look"])
def test_an_edit_of_what_was_seen_is_kept(world: StoreHarness, secret: VersionedSecret, when: str) -> None:
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


@pytest.mark.parametrize("is_observed", [True, False])
def test_a_rivals_promotion_stays(world: StoreHarness, secret: VersionedSecret, *, is_observed: bool) -> None:
    """Neither by a commit that was observed before it, nor by one from what both have seen."""
    first = staged_over(secret, 1)
    assert staged_over(world.rival_secret(), 2)
    seen = secret.observe(1) if is_observed else None
    promote(world.rival_secret(), 2)
    with suppress(LostCompareAndSetError):
        found = seen or secret.from_seen(1, first)
        assert found.commit
        found.commit()
    assert secret.read_current().text == text(2)


def test_the_generation_before_the_current_one_stays_readable(secret: VersionedSecret) -> None:
    for generation in (1, 2, 3, 4, 5, 6):
        stage_and_promote(secret, generation)
        secret.prune()
    found = secret.read_generation(5)
    assert found
    assert (found.text, secret.read_current().text) == (text(5), text(6))


# A missing secret

OPERATIONS: Mapping[str, Callable[[StoreHarness], object]] = {
    "read_current": lambda w: w.secret.read_current(),
    "read_generation 0": lambda w: w.secret.read_generation(0),
    "read_generation 1": lambda w: w.secret.read_generation(1),
    "read_generation 9": lambda w: w.secret.read_generation(9),
    "stage": lambda w: w.secret.prepare(2)(text(2)).read_back(),
    "observe": lambda w: cast("Callable[[], None]", w.secret.observe(2).commit)(),
    "named": lambda w: w.rival_secret().named(),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_missing_secret_is_an_error_of_its_own(world: StoreHarness, operation: str) -> None:
    stage_and_promote(world.secret, 1)
    world.secret.prepare(2)(text(2))
    world.remove("app_user")
    with pytest.raises(SecretNotFoundError):
        OPERATIONS[operation](world)


# Which version is current, without any content

SLOTS = 4


def test_names_tell_the_version_that_is_read(world: StoreHarness) -> None:
    def told() -> int:
        current, read = world.secret.named(), world.secret.read_current()
        assert (current.id, current.generation) == (read.id, read.generation)
        return current.generation

    assert told() == 0
    stage_and_promote(world.secret, 1, 2, 3)
    assert told() == 3
    world.secret.prepare(4)(text(4))
    assert told() == 3, "it is staged, and not current"
    promote(world.rival_secret(), 4)
    assert told() == 4, "it is looked at anew each time"


# Which calls that takes


@pytest.mark.parametrize("shared", ["aws"], indirect=True)
def test_aws_is_asked_for_names_and_never_for_a_value(world: SecretsManagerHarness) -> None:
    stage_and_promote(world.secret, 1)
    seen: list[str] = []
    world.sandbox.on_request = lambda _service, operation: seen.append(operation)
    world.secret.named()
    assert seen == ["DescribeSecret"]
    world.sandbox.on_request = None
    world.console.create_secret(Name="without-a-value")
    names = VersionNames(credential_id="c", secret="without-a-value")
    empty = type(world.secret)(world.client, "aws", names)
    with pytest.raises(SecretMalformedError):
        empty.named()


def test_oci_is_asked_for_lists_with_the_two_permissions_and_never_for_a_bundle() -> None:
    with OciSandbox() as sandbox:
        world = VaultRingHarness(sandbox, slots=SLOTS)
        stage_and_promote(world.secret, 1)
        key = sandbox.new_api_key(
            "a-person", "SECRET_INSPECT", "SECRET_VERSION_INSPECT", compartment=sandbox.compartment_id
        )
        vault = sandbox_vault(sandbox, sandbox_clients(sandbox, key))
        theirs = VaultRing(vault, APP_USER_VERSIONS, slots=SLOTS, clock=SystemClock())
        sandbox.calls.clear()
        assert theirs.named() == world.secret.named()
        asked = {record.operation for record in sandbox.calls.records}
        assert asked == {"list_secret_versions", "list_secrets"}
