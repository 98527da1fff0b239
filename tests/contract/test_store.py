"""A credential's two secrets stay consistent under concurrent writers, crashes and lost replies.

The rules of `CredentialStore` are tested once, in memory. Tests that depend on an adapter's calls run on every
adapter, at each of its calls.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from unittest.mock import patch

import pytest

from lockstep.protocol.errors import (
    EditedMeanwhileError,
    FenceLostError,
    LostCompareAndSetError,
    SecretMalformedError,
    SecretTooLargeError,
    StoreUnreachableError,
)
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from lockstep.stores.credential import CredentialStore
from tests.contract.aws_fixtures import CREDENTIAL
from tests.contract.harness import SecretKind, StoreHarness
from tests.contract.test_versioned_secret import ADAPTERS
from tests.support.fence import fence_held

CALLS = range(1, 9)
"""More calls than any adapter makes for one operation, so that every call is disturbed."""

on_every_adapter = pytest.mark.parametrize("world", ADAPTERS, indirect=True)


class CrashError(BaseException):
    """The process crashes."""


def crash() -> None:
    raise CrashError


@pytest.fixture(params=["memory"])
def world(request: pytest.FixtureRequest) -> Iterator[StoreHarness]:
    with ADAPTERS[request.param]() as harness:
        yield harness


@pytest.fixture
def store(world: StoreHarness) -> CredentialStore:
    return world.store


def value(generation: int, *, by: str = "me", username: str = "app") -> CredentialValue:
    return CredentialValue(generation, Login(username, SecretStr(f"password-{generation}-of-{by}")))


def text(username: str, password: str, **more: object) -> str:
    return json.dumps({"username": username, "password": password, **more})


def stage_and_promote(store: CredentialStore, generation: int) -> None:
    store.stage(value(generation))
    store.promote(generation, fence_held)


# Before the first rotation


@on_every_adapter
def test_a_placeholder_is_generation_0_without_a_login(store: CredentialStore) -> None:
    current = store.read_current()
    assert (current.login, current.generation, current.blob_generation) == (None, 0, 0)
    assert store.read_version(current.version) is None
    assert store.read_generation(0) is None


def test_a_login_written_by_hand_is_generation_0_whatever_its_text_claims(
    world: StoreHarness, store: CredentialStore
) -> None:
    world.edit("app_user", text("app", "by-hand", generation=7))
    current = store.read_current()
    by_hand = Login("app", SecretStr("by-hand"))
    assert (current.login, current.generation) == (by_hand, 0)
    assert store.read_generation(0) == CredentialValue(0, by_hand)
    assert store.read_version(current.version) == CredentialValue(0, by_hand)
    assert store.read_generation(7) is None


# Staging


@on_every_adapter
@pytest.mark.parametrize("call", CALLS)
def test_connection_blob_does_not_say_which_user_app_user_holds(
    world: StoreHarness, store: CredentialStore, call: int
) -> None:
    with suppress(CrashError), world.before_call(call, crash):
        store.stage(value(1, username="login_a"))
    world.rival().stage(value(1, username="login_b"))
    store.promote(1, fence_held)
    blob = world.current_text("connection_blob")
    assert "login_" in world.current_text("app_user")
    assert "login_" not in blob
    assert int(json.loads(blob)["generation"]) == 1


@on_every_adapter
@pytest.mark.parametrize("call", CALLS)
def test_staging_that_crashed_at_any_call_is_finished_by_another_client(
    world: StoreHarness, store: CredentialStore, call: int
) -> None:
    with suppress(CrashError), world.before_call(call, crash):
        store.stage(value(1, by="crashed"))
    staged = world.rival().stage(value(1, by="other")).value
    assert staged in (value(1, by="crashed"), value(1, by="other"))
    world.rival().promote(1, fence_held)
    assert world.rival().read_current().login == staged.login
    assert world.rival().serves(1)


@on_every_adapter
@pytest.mark.parametrize("call", CALLS)
def test_staging_can_be_repeated_after_a_lost_reply(
    world: StoreHarness, store: CredentialStore, call: int
) -> None:
    with suppress(StoreUnreachableError), world.lose_reply(call):
        store.stage(value(1))
    assert store.stage(value(1)).value == value(1)
    store.promote(1, fence_held)
    assert store.serves(1)


@on_every_adapter
def test_the_members_of_a_text_have_the_form_of_the_store(
    world: StoreHarness, store: CredentialStore
) -> None:
    """In OCI strings alone, for tools that map a secret to keys and values (protocol V23)."""
    stage_and_promote(store, 1)
    user, blob = (json.loads(world.current_text(kind)) for kind in ("app_user", "connection_blob"))
    others = {key for key, member in {**user, **blob}.items() if not isinstance(member, str)}
    assert others == (set() if world.secret.only_strings else {"databases", "format", "generation", "port"})


@on_every_adapter
def test_a_value_in_the_other_form_is_the_same_value(world: StoreHarness, store: CredentialStore) -> None:
    with patch.object(type(world.secret), "only_strings", not world.secret.only_strings):
        store.stage(value(1))
    assert store.stage(value(1)).value == value(1)
    store.promote(1, fence_held)
    assert (store.read_current().login, store.serves(1)) == (value(1).login, True)


# Promotion


@on_every_adapter
def test_applications_read_a_promoted_value(world: StoreHarness, store: CredentialStore) -> None:
    stage_and_promote(store, 1)
    current = store.read_current()
    assert (current.login, current.generation, current.blob_generation) == (value(1).login, 1, 1)
    assert current.version == store.version_of(1)
    assert store.serves(1)

    app_user = json.loads(world.current_text("app_user"))
    assert app_user["password"] == "password-1-of-me"
    assert (app_user["username"], int(app_user["generation"])) == ("app", 1)
    blob = world.current_text("connection_blob")
    assert int(json.loads(blob)["generation"]) == 1
    assert "password-1-of-me" not in blob


@on_every_adapter
@pytest.mark.parametrize("call", CALLS)
def test_a_run_that_is_overtaken_during_its_promotion_does_not_undo_its_successors(
    world: StoreHarness, store: CredentialStore, call: int
) -> None:
    store.stage(value(1))
    rival = world.rival()
    rival.stage(value(2))
    with (
        suppress(FenceLostError, LostCompareAndSetError),
        world.before_call(call, lambda: rival.promote(2, fence_held)),
    ):
        store.promote(1, fence_held)
    rival.promote(2, fence_held)
    assert store.serves(2)
    with pytest.raises(FenceLostError):
        store.promote(1, fence_held)


@on_every_adapter
@pytest.mark.parametrize("call", CALLS)
def test_a_repeated_promotion_replaces_an_edit_during_the_first(
    world: StoreHarness, store: CredentialStore, call: int
) -> None:
    store.stage(value(1))
    with (
        suppress(LostCompareAndSetError),
        world.before_call(call, lambda: world.edit("app_user", text("app", "by-hand"))),
    ):
        store.promote(1, fence_held)
    store.promote(1, fence_held)
    assert store.serves(1)


@on_every_adapter
@pytest.mark.parametrize("call", CALLS)
def test_a_promotion_that_crashed_at_any_call_is_finished_by_another_client(
    world: StoreHarness, store: CredentialStore, call: int
) -> None:
    stage_and_promote(store, 1)
    store.stage(value(2))
    with suppress(CrashError), world.before_call(call, crash):
        store.promote(2, fence_held)
    assert world.rival().read_current().login in (value(1).login, value(2).login)
    world.rival().promote(2, fence_held)
    assert world.rival().serves(2)


@on_every_adapter
@pytest.mark.parametrize("call", CALLS)
def test_a_promotion_can_be_repeated_after_a_lost_reply(
    world: StoreHarness, store: CredentialStore, call: int
) -> None:
    store.stage(value(1))
    with suppress(StoreUnreachableError), world.lose_reply(call):
        store.promote(1, fence_held)
    store.promote(1, fence_held)
    assert store.serves(1)


# Malformed and missing secrets


def test_a_malformed_secret_is_an_error_and_not_quoted(world: StoreHarness, store: CredentialStore) -> None:
    world.edit("app_user", '{"password": "hunter2"}')
    with pytest.raises(SecretMalformedError) as error:
        store.read_current()
    assert "hunter2" not in str(error.value)
    assert "hunter2" not in repr(error.value)


def test_a_connection_blob_written_by_hand_is_generation_0_and_is_replaced(
    world: StoreHarness, store: CredentialStore
) -> None:
    stage_and_promote(store, 1)
    world.edit("connection_blob", "not JSON")
    current = store.read_current()
    assert (current.generation, current.blob_generation) == (1, 0)
    assert not store.serves(1)
    stage_and_promote(store, 2)
    assert store.serves(2)


@on_every_adapter
@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_no_error_shows_a_password(world: StoreHarness, store: CredentialStore, call: int) -> None:
    with pytest.raises(StoreUnreachableError) as error, world.lose_reply(call):
        stage_and_promote(store, 1)
    assert "password-1-of-me" not in f"{error.value} {error.value!r} {error.value.where}"


# What people keep beside a login (protocol V20)

MORE = '"masterarn":"arn:x","nested":{"rate": 0.10, "hosts": [null, "ä"]},"pass2":"hunter2"'
LOGIN_AND_MORE = f'{{"username":"app","password":"by-hand",{MORE}}}'
BLOB_AND_MORE = f'{{"username":"app",{MORE}}}'


@on_every_adapter
def test_keys_of_others_survive_rotations_in_both_secrets(
    world: StoreHarness, store: CredentialStore
) -> None:
    adopt(world)
    for generation in range(1, 6):
        store.read_current()
        stage_and_promote(store, generation)
        assert world.current_text("app_user").endswith(f"{MORE}}}")
        assert world.current_text("connection_blob").endswith(f"{MORE}}}")
        assert "username" not in world.current_text("connection_blob")
    assert store.read_current().generation == 5


def adopt(world: StoreHarness) -> None:
    world.edit("app_user", LOGIN_AND_MORE)
    world.edit("connection_blob", BLOB_AND_MORE)


@on_every_adapter
def test_two_runners_that_read_different_keys_agree_on_a_generation(
    world: StoreHarness, store: CredentialStore
) -> None:
    adopt(world)
    store.read_current()
    world.edit("app_user", LOGIN_AND_MORE.replace("pass2", "pass3"))
    rival = world.rival()
    rival.read_current()
    assert rival.stage(value(1)).value == value(1)
    assert store.stage(value(1)).value == value(1)
    store.promote(1, fence_held)
    assert "pass3" in world.current_text("app_user")
    assert store.read_current().login == value(1).login


@on_every_adapter
@pytest.mark.parametrize("secret", ["app_user", "connection_blob"])
def test_what_lockstep_has_never_written_is_not_replaced_unless_it_is_an_object(
    world: StoreHarness, store: CredentialStore, secret: SecretKind
) -> None:
    world.edit(secret, "hunter2")
    with pytest.raises(SecretMalformedError, match="code=not-a-json-object") as error:
        store.read_current()
    assert "hunter2" not in str(error.value)
    assert world.current_text(secret) == "hunter2"


@pytest.mark.parametrize("world", ["aws", "oci", "oci-ring-of-one"], indirect=True)
@pytest.mark.parametrize("secret", ["app_user", "connection_blob"])
def test_a_value_that_the_store_does_not_keep_is_refused_before_anything_is_staged(
    world: StoreHarness, store: CredentialStore, secret: SecretKind
) -> None:
    limit = world.secret.max_bytes
    world.edit(secret, text("app", "x", notes="n" * (limit - 100)))
    before = world.current_text(secret)
    store.read_current()
    with pytest.raises(SecretTooLargeError) as error:
        store.stage(value(1))
    names = CREDENTIAL.secret_names
    name = names.app_user if secret == "app_user" else names.connection_blob
    assert error.value.where == {"store": store.name, "secret": name, "code": f"over-{limit}-bytes"}
    assert store.read_generation(1) is None
    assert world.current_text(secret) == before


@on_every_adapter
@pytest.mark.parametrize("secret", ["app_user", "connection_blob"])
def test_keys_that_were_added_after_the_staging_are_not_replaced(
    world: StoreHarness, store: CredentialStore, secret: SecretKind
) -> None:
    """Between two steps of a run (protocol V20). In a ring of several slots the edit is in another slot and stays."""
    adopt(world)
    store.read_current()
    stage_and_promote(store, 1)
    store.read_current()
    store.stage(value(2))
    added = json.dumps({**json.loads(world.current_text(secret)), "added": [1]})
    world.edit(secret, added)
    with suppress(EditedMeanwhileError):
        store.promote(2, fence_held)
        assert world.secret.served() != [world.secret.read_current()], "it was replaced"
    store.read_current()
    stage_and_promote(store, 3)
    now = json.loads(world.current_text(secret))
    assert (int(now["generation"]), now["added"], now["masterarn"]) == (3, [1], "arn:x")


@on_every_adapter
@pytest.mark.parametrize("secret", ["app_user", "connection_blob"])
def test_a_generation_lacks_the_keys_that_were_added_after_its_staging(
    world: StoreHarness, store: CredentialStore, secret: SecretKind
) -> None:
    """As the store was last looked at: so a claim that is finished loses none of them (protocol V20)."""
    adopt(world)
    store.read_current()
    stage_and_promote(store, 1)
    store.read_current()
    store.stage(value(2))
    assert [store.lacks_keys(generation) for generation in (1, 2, 3)] == [False, False, False]
    world.edit(secret, json.dumps({**json.loads(world.current_text(secret)), "added": [1]}))
    store.read_current()
    assert [store.lacks_keys(generation) for generation in (2, 3)] == [True, False]


@on_every_adapter
@pytest.mark.parametrize("secret", ["app_user", "connection_blob"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_edit_of_the_login_alone_is_replaced(
    world: StoreHarness, store: CredentialStore, secret: SecretKind, when: str
) -> None:
    adopt(world)
    store.read_current()
    if when == "after":
        store.stage(value(1))
    world.edit(secret, LOGIN_AND_MORE.replace("by-hand", "by-another-hand"))
    if when == "before":
        store.stage(value(1))
    store.promote(1, fence_held)
    assert store.serves(1)
