"""The port `NamedSecret`, on every adapter: which version is current, and when one was made, without any content."""

from collections.abc import Callable, Iterator
from typing import cast

import pytest

from lockstep.aws import secrets_manager
from lockstep.protocol.errors import SecretMalformedError, SecretNotFoundError
from lockstep.protocol.names import VersionNames
from lockstep.runtime.system import SystemClock
from lockstep.stores.readers import NamedSecret
from lockstep.stores.ring import VaultRing
from sandbox.aws import AwsSandbox
from sandbox.oci import OciSandbox
from tests.contract.aws_fixtures import SecretsManagerHarness
from tests.contract.harness import StoreHarness
from tests.contract.oci_fixtures import APP_USER_VERSIONS, VaultRingHarness, sandbox_clients, sandbox_vault
from tests.contract.test_versioned_secret import ADAPTERS, promote, stage_and_promote, text

SLOTS = 4


@pytest.fixture(params=ADAPTERS)
def world(request: pytest.FixtureRequest) -> Iterator[StoreHarness]:
    with ADAPTERS[request.param]() as harness:
        yield harness


def named(world: StoreHarness) -> NamedSecret:
    """The adapter, which has both ports."""
    return cast("NamedSecret", world.secret)


def as_read(world: StoreHarness) -> tuple[str, int]:
    current = world.secret.read_current()
    return current.id, current.generation


def as_named(world: StoreHarness) -> tuple[str, int]:
    current = named(world).named()
    return current.id, current.generation


def test_names_tell_the_version_that_is_read(world: StoreHarness) -> None:
    assert as_named(world) == as_read(world)
    assert as_named(world)[1] == 0
    stage_and_promote(world.secret, 1, 2, 3)
    assert as_named(world) == as_read(world)
    assert as_named(world)[1] == 3
    world.secret.prepare(4)(text(4))
    assert as_named(world)[1] == 3, "it is staged, and not current"
    promote(world.rival_secret(), 4)
    assert as_named(world) == as_read(world), "it is looked at anew each time"


def test_an_edit_by_hand_is_generation_0_whatever_it_says(world: StoreHarness) -> None:
    stage_and_promote(world.secret, 1)
    if len(world.secret.served()) == 1:  # In a ring the slot before still serves Lockstep's.
        world.edit("app_user", text(1, "hand"))
        assert as_named(world) == as_read(world)
        assert as_named(world)[1] == 0


def test_a_version_tells_when_it_was_made(world: StoreHarness) -> None:
    assert named(world).made_at(1) is None
    world.secret.prepare(1)(text(1))
    made = named(world).made_at(1)
    assert made
    assert made == world.secret.read_version(world.secret.version_of(1)).created_at  # type: ignore[union-attr]  # it is there
    world.rival_secret().prepare(2)(text(2))
    promote(world.rival_secret(), 2)
    named(world).named()
    assert named(world).made_at(1) == made, "also where a rival has moved the label of pending versions"
    assert named(world).made_at(3) is None


@pytest.mark.parametrize("ask", [lambda s: s.named(), lambda s: s.made_at(1)], ids=["named", "made_at"])
def test_a_missing_secret_is_an_error_of_its_own(
    world: StoreHarness, ask: Callable[[NamedSecret], object]
) -> None:
    world.remove("app_user")
    with pytest.raises(SecretNotFoundError):
        ask(cast("NamedSecret", world.rival_secret()))


def test_a_secret_that_is_deleted_meanwhile_is_missing(world: StoreHarness) -> None:
    as_named(world)
    world.remove("app_user")
    with pytest.raises(SecretNotFoundError):
        as_named(world)


# Which calls that takes


def test_aws_is_asked_for_names_and_never_for_a_value() -> None:
    with AwsSandbox() as sandbox:
        world = SecretsManagerHarness(sandbox)
        stage_and_promote(world.secret, 1)
        seen: list[str] = []
        sandbox.on_request = lambda _service, operation: seen.append(operation)
        named(world).named()
        named(world).made_at(1)
        assert seen == ["DescribeSecret", "ListSecretVersionIds"]
        sandbox.on_request = None
        world.console.create_secret(Name="without-a-value")
        names = VersionNames(credential_id="c", secret="without-a-value")
        empty = type(world.secret)(world.client, "aws", names)
        with pytest.raises(SecretMalformedError):
            empty.named()


def test_a_version_on_a_later_page_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets_manager, "_PAGE", 3)
    with AwsSandbox() as sandbox:
        world = SecretsManagerHarness(sandbox)
        stage_and_promote(world.secret, *range(1, 10))
        assert all(named(world).made_at(generation) for generation in range(1, 10))
        assert named(world).made_at(10) is None


def test_oci_is_asked_for_lists_and_never_for_a_bundle() -> None:
    with OciSandbox() as sandbox:
        world = VaultRingHarness(sandbox, slots=SLOTS)
        stage_and_promote(world.secret, 1)
        sandbox.calls.clear()
        named(world).named()
        named(world).made_at(1)
        asked = [record.operation for record in sandbox.calls.records]
        assert sorted(asked) == ["list_secret_versions"] * SLOTS + ["list_secrets"] * SLOTS


def test_the_two_permissions_of_oci_are_enough() -> None:
    with OciSandbox() as sandbox:
        world = VaultRingHarness(sandbox, slots=SLOTS)
        stage_and_promote(world.secret, 1)
        key = sandbox.new_api_key(
            "a-person", "SECRET_INSPECT", "SECRET_VERSION_INSPECT", compartment=sandbox.compartment_id
        )
        vault = sandbox_vault(sandbox, sandbox_clients(sandbox, key))
        theirs = VaultRing(vault, APP_USER_VERSIONS, slots=SLOTS, clock=SystemClock())
        assert theirs.named() == named(world).named()
        assert theirs.made_at(1) is not None
