"""Every secrets manager keeps the port `VersionedSecret`, and a credential's two secrets consistent.

Also under concurrent writers, crashes and lost replies, at each call of each adapter.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from unittest.mock import Mock, patch

import pytest

from lockstep.protocol import errors
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from lockstep.protocol.ports import Observed, VersionedSecret
from lockstep.stores.credential import CredentialStore
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from tests.contract.clouds import MemoryStoreHarness, SecretsManagerHarness, VaultRingHarness
from tests.support.fence import fence_held
from tests.support.memory import SecretKind
from tests.support.world import Killed

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


def commit(seen: Observed) -> None:
    assert seen.commit
    seen.commit()


def promote(secret: VersionedSecret, generation: int) -> None:
    seen = secret.observe(generation)
    if seen.commit:
        commit(seen)


def stage_and_promote(secret: VersionedSecret, *generations: int) -> None:
    for generation in generations:
        secret.prepare(generation)(text(generation))
        promote(secret, generation)


def text(generation: int, by: str = "me") -> str:
    return f'{{"generation": {generation}, "by": "{by}"}}'


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
    rival = world.rival_secret()
    again = [rival.prepare(1, over=rival.served())(text(1, "rival"))]
    promote(secret, 1)
    again.append(secret.prepare(1)(text(1, "late")))
    stage_and_promote(secret, 2)
    again.append(secret.prepare(1)(text(1, "later")))
    assert [(one.is_new, one.seen, one.read_back().text) for one in again] == [(False, "", text(1))] * 3
    assert secret.read_current().text == text(2)


# Promotion


def test_a_commit_makes_the_generation_current_and_an_observation_changes_nothing(
    world: StoreHarness, secret: VersionedSecret
) -> None:
    with pytest.raises(errors.StoreRejectedError):
        promote(secret, 1)
    secret.prepare(1)(text(1))
    seen = secret.observe(1)
    assert (seen.generation, secret.named().generation) == (0, 0)
    commit(seen)
    current = secret.read_current()
    assert (secret.named().id, secret.named().generation) == (current.id, 1)
    assert (current.generation, current.text, current.id) == (1, text(1), secret.version_of(1))
    stage_and_promote(secret, 3)
    before = secret.read_current()
    assert [secret.observe(generation).generation for generation in (1, 3)] == [3, 3]
    secret.prepare(4)(text(4))
    assert secret.observe(4).generation == secret.named().generation == 3
    world.edit("app_user", text(9, "hand"))
    assert secret.observe(4).generation in (0, 1)  # A ring serves its next slot now.
    assert secret.read_version(before.id) == before


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
        commit(found)
        assert secret.shows(found.version)
        assert found.version == secret.version_of(generation) == secret.read_current().id == secret.named().id
        secret.prune()
    # The generation before the current one stays readable.
    found_before = secret.read_generation(4)
    assert found_before
    assert (found_before.text, secret.read_current().text) == (text(4), text(5))


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
    with pytest.raises(errors.LostCompareAndSetError):  # noqa: PT012 - in the look or in the commit
        found = secret.from_seen(1, seen)
        edited("after the look")
        commit(found)
    assert world.current_text("app_user") == text(9, "hand")
    looked = secret.observe(1, seen=seen)
    assert looked.replaces == secret.read_current().id
    # So is a later one, if it comes after the look; a promotion that has seen it replaces it.
    world.edit("app_user", text(9, "later"))
    with pytest.raises(errors.LostCompareAndSetError):
        commit(looked)
    assert world.current_text("app_user") == text(9, "later")
    promote(secret, 1)
    assert secret.read_current().generation == 1


@pytest.mark.parametrize("is_observed", [True, False])
def test_a_rivals_promotion_stays(world: StoreHarness, secret: VersionedSecret, *, is_observed: bool) -> None:
    """Neither by a commit that was observed before it, nor by one from what both have seen."""
    first = staged_over(secret, 1)
    assert staged_over(world.rival_secret(), 2)
    seen = secret.observe(1) if is_observed else None
    promote(world.rival_secret(), 2)
    with suppress(errors.LostCompareAndSetError):
        commit(seen or secret.from_seen(1, first))
    assert (secret.read_current().text, secret.named().generation) == (text(2), 2)


def test_a_missing_secret_is_an_error_of_its_own(world: StoreHarness, secret: VersionedSecret) -> None:
    stage_and_promote(secret, 1)
    secret.prepare(2)(text(2))
    world.remove("app_user")
    operations: tuple[Callable[[], object], ...] = (
        secret.read_current,
        *(partial(secret.read_generation, generation) for generation in (0, 1, 9)),
        lambda: secret.prepare(2)(text(2)).read_back(),
        lambda: promote(secret, 2),
        world.rival_secret().named,
    )
    for operation in operations:
        with pytest.raises(errors.SecretNotFoundError):
            operation()


# The two secrets of a credential: `CredentialStore`, whose own rules are in tests/unit/test_stores.py

CALLS = range(1, 9)
"""More calls than any adapter makes for one operation, so that every call is disturbed."""

in_each_secret = pytest.mark.parametrize("secret", ["app_user", "connection_blob"])


def crash() -> None:
    raise Killed


@contextmanager
def interrupted(world: StoreHarness, fault: str, call: int) -> Iterator[None]:
    """At a call the process crashes or the reply is lost, if there are so many; no error shows a password."""
    if fault == "crash":
        with suppress(Killed), world.before_call(call, crash):
            yield
        return
    shown = ""
    with world.lose_reply(call):
        try:
            yield
        except errors.StoreUnreachableError as error:
            shown = f"{error} {error!r} {error.where}"
    assert "password" not in shown


@pytest.fixture
def store(world: StoreHarness) -> CredentialStore:
    return world.store


def value(generation: int, *, by: str = "me", username: str = "app") -> CredentialValue:
    return CredentialValue(generation, Login(username, SecretStr(f"password-{generation}-of-{by}")))


def document(username: str, password: str, **more: object) -> str:
    return json.dumps({"username": username, "password": password, **more})


def rotate(store: CredentialStore, generation: int) -> None:
    store.stage(value(generation))
    store.promote(generation, fence_held)


def test_what_lockstep_has_not_written_is_generation_0_whatever_its_text_claims(
    world: StoreHarness, store: CredentialStore
) -> None:
    current = store.read_current()
    assert (current.login, current.generation, current.blob_generation) == (None, 0, 0)
    assert (store.read_version(current.version), store.read_generation(0)) == (None, None)
    world.edit("app_user", document("app", "by-hand", generation=7))
    current, by_hand = store.read_current(), Login("app", SecretStr("by-hand"))
    assert (current.login, current.generation) == (by_hand, 0)
    assert store.read_generation(0) == store.read_version(current.version) == CredentialValue(0, by_hand)
    assert store.read_generation(7) is None
    assert world.secret.read_version("00000000-0000-4000-8000-000000000000") is None


def test_applications_read_it_in_the_form_of_the_store(world: StoreHarness, store: CredentialStore) -> None:
    """In OCI strings alone, for tools that map a secret to keys and values (protocol V23)."""
    with patch.object(type(world.secret), "only_strings", not world.secret.only_strings):
        store.stage(value(1))
    assert store.stage(value(1)).value == value(1), "in the other form it is the same value"
    store.promote(1, fence_held)
    assert (store.read_current().login, store.serves(1)) == (value(1).login, True)
    rotate(store, 2)
    current = store.read_current()
    assert (current.login, current.generation, current.blob_generation) == (value(2).login, 2, 2)
    assert current.version == store.version_of(2)
    user, blob = (json.loads(world.current_text(kind)) for kind in ("app_user", "connection_blob"))
    assert (user["username"], user["password"]) == ("app", "password-2-of-me")
    assert int(user["generation"]) == int(blob["generation"]) == 2
    assert "password" not in json.dumps(blob)
    others = {key for key, member in {**user, **blob}.items() if not isinstance(member, str)}
    assert others == (set() if world.secret.only_strings else {"databases", "format", "generation", "port"})


@pytest.mark.parametrize("shared", ["memory", "aws", "oci"], indirect=True)
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


@pytest.mark.parametrize("call", CALLS)
def test_a_promotion_that_is_disturbed_replaces_an_edit_and_does_not_undo_its_successors(
    world: StoreHarness, store: CredentialStore, call: int
) -> None:
    store.stage(value(1))
    with (
        suppress(errors.LostCompareAndSetError),
        world.before_call(call, lambda: world.edit("app_user", document("app", "by-hand"))),
    ):
        store.promote(1, fence_held)
    store.promote(1, fence_held)
    assert store.serves(1)
    rival = world.rival()
    for mine, is_seen in ((2, False), (4, True)):
        store.read_current()
        seen = store.prepare(mine, is_new=True)(value(mine)).seen
        rival.stage(value(mine + 1))
        act = Mock(side_effect=partial(rival.promote, mine + 1, fence_held))
        with suppress(errors.FenceLostError, errors.LostCompareAndSetError), world.before_call(call, act):
            store.prepare_promotion(mine, seen=seen if is_seen else None)(fence_held)
        if not act.called:
            rival.promote(mine + 1, fence_held)
        assert store.serves(mine + 1)
        with pytest.raises(errors.FenceLostError):
            store.promote(mine, fence_held)


@pytest.mark.parametrize("shared", ["aws", "oci", "oci-ring-of-one"], indirect=True)
@in_each_secret
def test_a_value_that_the_store_does_not_keep_is_refused_before_anything_is_staged(
    world: StoreHarness, store: CredentialStore, secret: SecretKind
) -> None:
    limit = world.secret.max_bytes
    world.edit(secret, document("app", "x", notes="n" * (limit - 100)))
    before = world.current_text(secret)
    store.read_current()
    with pytest.raises(errors.SecretTooLargeError) as error:
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


def add(world: StoreHarness, secret: SecretKind, key: str) -> None:
    """Somebody adds a key to what is served."""
    world.edit(secret, json.dumps({**json.loads(world.current_text(secret)), key: [1]}))


def test_keys_of_others_survive_in_both_secrets(world: StoreHarness, store: CredentialStore) -> None:
    adopt(world, store)
    for generation in range(1, 4):
        store.read_current()
        rotate(store, generation)
        assert world.current_text("app_user").endswith(f"{MORE}}}")
        assert world.current_text("connection_blob").endswith(f"{MORE}}}")
        assert "username" not in world.current_text("connection_blob")
    assert store.read_current().generation == 3


@pytest.mark.parametrize("shared", ["memory"], indirect=True)
def test_two_runners_that_read_other_keys_agree(world: StoreHarness, store: CredentialStore) -> None:
    adopt(world, store)
    world.edit("app_user", LOGIN_AND_MORE.replace("pass2", "pass3"))
    rival = world.rival()
    rival.read_current()
    assert rival.stage(value(1)).value == store.stage(value(1)).value == value(1)
    store.promote(1, fence_held)
    assert "pass3" in world.current_text("app_user")
    assert store.read_current().login == value(1).login


@in_each_secret
def test_keys_that_were_added_after_the_staging_are_not_replaced(
    world: StoreHarness, store: CredentialStore, secret: SecretKind
) -> None:
    """Between two steps of a run (protocol V20). In a ring of several slots the edit is in another slot and stays.

    As the store was last looked at, the staged generation lacks them: so a claim that is finished loses none of them.
    """
    adopt(world, store)
    rotate(store, 1)
    store.read_current()
    store.stage(value(2))
    assert [store.lacks_keys(generation) for generation in (1, 2, 3)] == [False, False, False]
    add(world, secret, "added")
    with suppress(errors.EditedMeanwhileError):
        store.promote(2, fence_held)
        assert world.secret.served() != [world.secret.read_current()], "it was replaced"
    store.read_current()
    rotate(store, 3)
    now = json.loads(world.current_text(secret))
    assert (int(now["generation"]), now["added"], now["masterarn"]) == (3, [1], "arn:x")
    store.read_current()
    store.stage(value(4))
    add(world, secret, "late")
    store.read_current()
    assert [store.lacks_keys(generation) for generation in (4, 5)] == [True, False]
