"""A credential's two secrets stay consistent under concurrent writers, crashes and lost replies.

The rules of `CredentialStore` are tested once, in memory. Tests that depend on an adapter's calls run on every
adapter, at each of its calls.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
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
from tests.contract.harness import SecretKind
from tests.contract.test_versioned_secret import ADAPTERS, StoreHarness
from tests.support.fence import fence_held

CALLS = range(1, 9)
"""More calls than any adapter makes for one operation, so that every call is disturbed."""

on_every_adapter = pytest.mark.parametrize("shared", ADAPTERS, indirect=True)
in_each_secret = pytest.mark.parametrize("secret", ["app_user", "connection_blob"])


class CrashError(BaseException):
    """The process crashes."""


def crash() -> None:
    raise CrashError


@contextmanager
def interrupted(world: StoreHarness, fault: str, call: int) -> Iterator[None]:
    """At a call the process crashes or the reply is lost, if there are so many; no error shows a password."""
    if fault == "crash":
        with suppress(CrashError), world.before_call(call, crash):
            yield
        return
    shown = ""
    with world.lose_reply(call):
        try:
            yield
        except StoreUnreachableError as error:
            shown = f"{error} {error!r} {error.where}"
    assert "password" not in shown


@pytest.fixture(scope="module", params=["memory"])
def shared(request: pytest.FixtureRequest) -> Iterator[StoreHarness]:
    with ExitStack() as clouds:
        yield ADAPTERS[request.param](clouds)


@pytest.fixture
def world(shared: StoreHarness) -> StoreHarness:
    return shared.anew()


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


@on_every_adapter
def test_what_lockstep_has_not_written_is_generation_0_whatever_its_text_claims(
    world: StoreHarness, store: CredentialStore
) -> None:
    current = store.read_current()
    assert (current.login, current.generation, current.blob_generation) == (None, 0, 0)
    assert (store.read_version(current.version), store.read_generation(0)) == (None, None)
    world.edit("app_user", text("app", "by-hand", generation=7))
    current, by_hand = store.read_current(), Login("app", SecretStr("by-hand"))
    assert (current.login, current.generation) == (by_hand, 0)
    assert store.read_generation(0) == store.read_version(current.version) == CredentialValue(0, by_hand)
    assert store.read_generation(7) is None


@on_every_adapter
def test_applications_read_it_in_the_form_of_the_store(world: StoreHarness, store: CredentialStore) -> None:
    """In OCI strings alone, for tools that map a secret to keys and values (protocol V23)."""
    with patch.object(type(world.secret), "only_strings", not world.secret.only_strings):
        store.stage(value(1))
    assert store.stage(value(1)).value == value(1), "in the other form it is the same value"
    store.promote(1, fence_held)
    assert (store.read_current().login, store.serves(1)) == (value(1).login, True)
    stage_and_promote(store, 2)
    current = store.read_current()
    assert (current.login, current.generation, current.blob_generation) == (value(2).login, 2, 2)
    assert current.version == store.version_of(2)
    user, blob = (json.loads(world.current_text(kind)) for kind in ("app_user", "connection_blob"))
    assert (user["username"], user["password"]) == ("app", "password-2-of-me")
    assert int(user["generation"]) == int(blob["generation"]) == 2
    assert "password" not in json.dumps(blob)
    others = {key for key, member in {**user, **blob}.items() if not isinstance(member, str)}
    assert others == (set() if world.secret.only_strings else {"databases", "format", "generation", "port"})


@on_every_adapter
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", ["crash", "lost reply"])
def test_what_broke_off_is_finished(
    world: StoreHarness, store: CredentialStore, fault: str, call: int
) -> None:
    """By another client, whose value has another user; or by the same one, which repeats it."""
    mine = value(1, username="login_a")
    with interrupted(world, fault, call):
        store.stage(mine)
    other = world.rival() if fault == "crash" else store
    theirs = value(1, by="other", username="login_b") if fault == "crash" else mine
    staged = other.stage(theirs).value
    assert staged in (mine, theirs)
    with interrupted(world, fault, call):
        store.promote(1, fence_held)
    world.rival().promote(1, fence_held)
    assert other.read_current().login == staged.login
    assert other.serves(1)
    assert "login_" in world.current_text("app_user")
    assert "login_" not in world.current_text("connection_blob")

    store.stage(value(2))
    with interrupted(world, fault, call):
        store.promote(2, fence_held)
    assert other.read_current().login in (staged.login, value(2).login)
    other.promote(2, fence_held)
    assert other.serves(2)


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
def test_a_second_promotion_replaces_an_edit(world: StoreHarness, store: CredentialStore, call: int) -> None:
    store.stage(value(1))
    with (
        suppress(LostCompareAndSetError),
        world.before_call(call, lambda: world.edit("app_user", text("app", "by-hand"))),
    ):
        store.promote(1, fence_held)
    store.promote(1, fence_held)
    assert store.serves(1)


# Malformed secrets


@on_every_adapter
@in_each_secret
def test_what_lockstep_has_never_written_is_not_replaced_unless_it_is_an_object(
    world: StoreHarness, store: CredentialStore, secret: SecretKind
) -> None:
    world.edit(secret, "hunter2")
    with pytest.raises(SecretMalformedError, match="code=not-a-json-object") as error:
        store.read_current()
    assert "hunter2" not in str(error.value)
    assert world.current_text(secret) == "hunter2"


@pytest.mark.parametrize("shared", ["aws", "oci", "oci-ring-of-one"], indirect=True)
@in_each_secret
def test_a_value_that_the_store_does_not_keep_is_refused_before_anything_is_staged(
    world: StoreHarness, store: CredentialStore, secret: SecretKind
) -> None:
    limit = world.secret.max_bytes
    world.edit(secret, text("app", "x", notes="n" * (limit - 100)))
    before = world.current_text(secret)
    store.read_current()
    with pytest.raises(SecretTooLargeError) as error:
        store.stage(value(1))
    name = getattr(world.credential.secret_names, secret)
    assert error.value.where == {"store": store.name, "secret": name, "code": f"over-{limit}-bytes"}
    assert store.read_generation(1) is None
    assert world.current_text(secret) == before


# What people keep beside a login (protocol V20)

MORE = '"masterarn":"arn:x","nested":{"rate": 0.10, "hosts": [null, "ä"]},"pass2":"hunter2"'
LOGIN_AND_MORE = f'{{"username":"app","password":"by-hand",{MORE}}}'


def adopt(world: StoreHarness, store: CredentialStore) -> None:
    world.edit("app_user", LOGIN_AND_MORE)
    world.edit("connection_blob", f'{{"username":"app",{MORE}}}')
    store.read_current()


def add(world: StoreHarness, secret: SecretKind) -> None:
    """Somebody adds a key to what is served."""
    world.edit(secret, json.dumps({**json.loads(world.current_text(secret)), "added": [1]}))


@on_every_adapter
def test_keys_of_others_survive_in_both_secrets(world: StoreHarness, store: CredentialStore) -> None:
    adopt(world, store)
    for generation in range(1, 6):
        store.read_current()
        stage_and_promote(store, generation)
        assert world.current_text("app_user").endswith(f"{MORE}}}")
        assert world.current_text("connection_blob").endswith(f"{MORE}}}")
        assert "username" not in world.current_text("connection_blob")
    assert store.read_current().generation == 5


@on_every_adapter
def test_two_runners_that_read_other_keys_agree(world: StoreHarness, store: CredentialStore) -> None:
    adopt(world, store)
    world.edit("app_user", LOGIN_AND_MORE.replace("pass2", "pass3"))
    rival = world.rival()
    rival.read_current()
    assert rival.stage(value(1)).value == store.stage(value(1)).value == value(1)
    store.promote(1, fence_held)
    assert "pass3" in world.current_text("app_user")
    assert store.read_current().login == value(1).login


@on_every_adapter
@in_each_secret
@pytest.mark.parametrize("is_read", [False, True])
def test_keys_that_were_added_after_the_staging_are_not_replaced(
    world: StoreHarness, store: CredentialStore, secret: SecretKind, *, is_read: bool
) -> None:
    """Between two steps of a run (protocol V20). In a ring of several slots the edit is in another slot and stays.

    As the store was last looked at, the staged generation lacks them: so a claim that is finished loses none of them.
    """
    adopt(world, store)
    stage_and_promote(store, 1)
    store.read_current()
    store.stage(value(2))
    assert [store.lacks_keys(generation) for generation in (1, 2, 3)] == [False, False, False]
    add(world, secret)
    if is_read:
        store.read_current()
        assert [store.lacks_keys(generation) for generation in (2, 3)] == [True, False]
        return
    with suppress(EditedMeanwhileError):
        store.promote(2, fence_held)
        assert world.secret.served() != [world.secret.read_current()], "it was replaced"
    store.read_current()
    stage_and_promote(store, 3)
    now = json.loads(world.current_text(secret))
    assert (int(now["generation"]), now["added"], now["masterarn"]) == (3, [1], "arn:x")


@on_every_adapter
@in_each_secret
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_edit_of_the_login_goes(
    world: StoreHarness, store: CredentialStore, secret: SecretKind, when: str
) -> None:
    adopt(world, store)
    if when == "after":
        store.stage(value(1))
    world.edit(secret, LOGIN_AND_MORE.replace("by-hand", "by-another-hand"))
    if when == "before":
        store.stage(value(1))
    store.promote(1, fence_held)
    assert store.serves(1)
