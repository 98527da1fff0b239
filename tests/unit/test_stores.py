"""The contents of the two secrets, and the rules of `CredentialStore` and of `Stores` that depend on no adapter."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from msgspec import structs

from lockstep.client.cache import decode
from lockstep.protocol import errors, model
from lockstep.protocol.messages import CandidateRef
from lockstep.protocol.model import CredentialValue, Engine, Login, SecretStr, StoreVersions, Strategy
from lockstep.protocol.ports import MAX_TEXT_BYTES, SecretVersion, StillOurs
from lockstep.stores import contents
from lockstep.stores.credential import READ_SIDE_TIMEOUT_SECONDS, Stores
from tests.support import world as w
from tests.support.fence import fence_held
from tests.support.memory import FakeClock, MemoryStore, make_plan
from tests.support.memory_store import KINDS, SecretKind

CREDENTIAL = make_plan().credentials[0]
WHERE = {"store": "aws", "secret": "multi-cloud/app_user"}


def made(generation: int = 7, claim: str | None = None, *, by: str = "me") -> CredentialValue:
    return CredentialValue(generation, Login("app", SecretStr(f"hunter2 of {by}")), claim)


VALUE = made()
APP_USER = contents.encode_app_user(VALUE, CREDENTIAL)


def test_app_user_has_the_field_names_of_an_rds_secret() -> None:
    connection = {"dbname": "app", "engine": "mysql", "host": "db-1.example.com", "port": 3306}
    login = {"username": "app", "password": "hunter2 of me"}
    assert json.loads(APP_USER) == {**connection, **login, "format": 1, "generation": 7}
    assert contents.decode_connection(APP_USER, **WHERE) == connection
    assert contents.decode_connection('{"host":"h","password":"hunter2"}', **WHERE) == {"host": "h"}


def test_connection_blob_names_every_database_and_no_user_so_no_reader_can_mix_two_users() -> None:
    blob = json.loads(contents.encode_connection_blob(7, CREDENTIAL))
    assert (blob["credential"], blob["generation"]) == ("multi-cloud/app_user", 7)
    where = {"dbname": "app", "host": "db-2.example.com", "port": 3306}
    dsn = "mysql://db-2.example.com:3306/app"
    assert blob["databases"]["db-2"] == {**where, "dsn": dsn, "engine": "mysql", "tls": False}
    credential = make_plan(strategy=Strategy.ALTERNATING_USERS).credentials[0]
    text = contents.encode_connection_blob(7, credential)
    assert not any(username in text.replace(credential.id, "") for username in credential.usernames)
    blob = json.loads(text)
    assert "username" not in blob
    for server in credential.servers:
        told = urlsplit(blob["databases"][server.name]["dsn"])
        assert (told.username, told.password) == (None, None)
        assert (told.hostname, told.port, told.path) == (server.host, server.port, f"/{server.dbname}")


# The form of strings only


def texts(*, only_strings: bool, extras: contents.Extras = contents.NO_EXTRAS) -> tuple[str, str]:
    user = contents.encode_app_user(VALUE, CREDENTIAL, extras, only_strings=only_strings)
    return user, contents.encode_connection_blob(7, CREDENTIAL, extras, only_strings=only_strings)


def test_a_text_for_tools_that_map_a_secret_to_keys_and_values_has_strings_only() -> None:
    """As External Secrets' Oracle provider decodes it: an object of strings, or nothing (protocol V23)."""
    user, blob = (json.loads(text) for text in texts(only_strings=True))
    assert {type(text) for document in (user, blob) for text in document.values()} == {str}
    assert (user["port"], user["generation"], user["format"]) == ("3306", "7", "1")
    assert json.loads(blob["databases"])["db-2"]["port"] == 3306
    assert blob["dsn"] == "mysql://db-1.example.com:3306/app"


def test_both_forms_say_the_same() -> None:
    (user, blob), (user_of_strings, blob_of_strings) = (texts(only_strings=s) for s in (False, True))
    for read in (contents.decode_app_user, contents.decode_connection):
        assert read(user, **WHERE) == read(user_of_strings, **WHERE)
    for decode_blob in (contents.decode_blob_generation, contents.decode_databases):
        assert decode_blob(blob, **WHERE) == decode_blob(blob_of_strings, **WHERE)
    assert contents.extras_in(user) != contents.extras_in(user_of_strings)
    for text in texts(only_strings=True):
        contents.require_known_format(text, **WHERE)
        with pytest.raises(errors.NewerFormatError):
            contents.require_known_format(text.replace('"format":"1"', '"format":"2"'), **WHERE)


def test_a_text_of_strings_is_given_to_applications_in_the_other_form() -> None:
    extras = contents.extras_in('{"team": "7", "limits": {"a": [1.50]}}')
    assert extras
    forms = [texts(only_strings=only_strings, extras=extras) for only_strings in (True, False)]
    for of_strings, plain in zip(*forms, strict=True):
        assert json.loads(contents.with_numbers(of_strings)) == json.loads(plain)
        assert '"limits":{"a": [1.50]}' in contents.with_numbers(of_strings)
        assert contents.with_numbers(plain) == plain


# How any text is read


def test_a_secret_may_be_as_long_as_the_smaller_limit_of_the_clouds_in_bytes() -> None:
    text = json.dumps({"username": "app", "password": "hunter2", "more": ""})
    padded = text[:-2] + "x" * (MAX_TEXT_BYTES - len(text)) + text[-2:]
    assert len(padded) == MAX_TEXT_BYTES
    assert contents.decode_app_user(padded, **WHERE)[0]
    with pytest.raises(errors.SecretMalformedError):
        contents.decode_app_user(padded + " ", **WHERE)
    assert contents.fitting("é" * 5, max_bytes=10, **WHERE) == "é" * 5
    with pytest.raises(errors.SecretTooLargeError) as error:
        contents.fitting("é" * 6, max_bytes=10, **WHERE)
    assert error.value.where == {**WHERE, "code": "over-10-bytes"}


@pytest.mark.parametrize(
    ("claimed", "generation"),
    [("7", 7), ("0", 0), ('"7"', 7), ('"07"', 0), ('"\\u0667"', 0), ("[7]", 0), ("null", 0)],
)
def test_a_generation_that_is_not_a_natural_number_is_0(claimed: str, generation: int) -> None:
    text = f'{{"username":"a","password":"b","generation":{claimed}}}'
    assert contents.decode_app_user(text, **WHERE)[1] == generation
    assert contents.decode_blob_generation(f'{{"generation":{claimed}}}', **WHERE) == generation


MALFORMED = (
    *((text, "not-a-json-object") for text in ("", "hunter2", "[]", '{"password":"h', "[" * 20_000)),
    *((text, "no-login") for text in ('{"username":"app"}', '{"username":null,"password":"hunter2"}')),
    ('{"placeholder":true,"password":"hunter2"}', "no-login"),
)


@pytest.mark.parametrize(("text", "code"), MALFORMED, ids=range(len(MALFORMED)))
@pytest.mark.usefixtures("deep")
def test_anything_else_is_malformed_and_not_quoted(text: str, code: str) -> None:
    with pytest.raises(errors.SecretMalformedError) as caught:
        contents.decode_app_user(text, **WHERE)
    assert caught.value.where == {**WHERE, "code": code}
    assert (contents.object_in(text) is None) == (code == "not-a-json-object")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# The claim of a value (protocol V22)


def claim_in(text: str, generation: int) -> str | None:
    return contents.decode_claim_id(text, generation, store="aws", secret="app_user")


def test_a_value_names_its_claim_which_is_of_its_value_alone() -> None:
    for claim_id in ("run-1", "arn:aws:states:eu:1:execution:a:b", "manual/x=1", None):
        text = contents.encode_app_user(made(7, claim_id), CREDENTIAL)
        assert claim_in(text, 7) == claim_id
        assert (contents.CLAIM in json.loads(text)) == (claim_id is not None)
    text = contents.encode_app_user(made(7, "run-1"), CREDENTIAL)
    # To a build without this key it is a key of others, of the generation before.
    assert claim_in(text.replace('"generation":7', '"generation":8'), 8) is None
    extras = contents.extras_in(text)
    assert extras
    assert claim_in(contents.encode_app_user(made(8, "run-2"), CREDENTIAL, extras), 8) == "run-2"
    assert contents.CLAIM not in json.loads(contents.encode_app_user(made(0), CREDENTIAL, extras))


@pytest.mark.parametrize("written", ["7", "7:", ":run", 7, ["7:run"], "07:run", "8:run"])
def test_what_is_no_claim_of_the_generation_is_none(written: object) -> None:
    assert claim_in(json.dumps({contents.CLAIM: written}), 7) is None


# The keys of others


RDS = {
    "engine": "mysql",
    "host": "old.example.com",
    "username": "old",
    "password": "old",
    "dbname": "old",
    "port": "3306",
    "dbClusterIdentifier": "orders",
    "ssl": True,
    "masterarn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:admin-a1b2c3",
}


def rewritten(text: str) -> str:
    """The value that Lockstep writes where this text was."""
    return contents.encode_app_user(VALUE, CREDENTIAL, contents.extras_in(text) or contents.NO_EXTRAS)


def test_the_keys_of_an_rds_secret_are_carried_on_and_ours_win() -> None:
    new = json.loads(rewritten(json.dumps(RDS)))
    theirs = {key: RDS[key] for key in ("masterarn", "dbClusterIdentifier", "ssl")}
    assert new == {**json.loads(APP_USER), **theirs, "format": model.FORMAT}
    assert contents.decode_app_user(json.dumps(new), **WHERE) == (VALUE.login, 7)


def test_a_placeholder_has_no_login_and_its_mark_does_not_survive() -> None:
    for text in ('{"placeholder":true}', '{"placeholder":"x","engine":"mysql"}', '{"placeholder":null}'):
        assert contents.decode_app_user(text, **WHERE) == (None, 0)
        assert rewritten(text) == APP_USER
    new = json.loads(rewritten('{"placeholder":true,"team":"payments","username":"app","password":"x"}'))
    assert (new["team"], "placeholder" in new) == ("payments", False)


# Which place of a secret counts


def version(generation: int, made: int | None, text: str | None) -> SecretVersion:
    created_at = None if made is None else datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=made)
    return SecretVersion(id=f"{generation}", generation=generation, text=text, created_at=created_at)


RING, EDIT = '{"k":"ring"}', '{"k":"edit"}'
OURS = version(6, 60, RING)
SERVED: dict[str, tuple[list[SecretVersion], str | None]] = {
    "of ours the newest": ([version(5, 50, '{"k":"old"}'), OURS], "ring"),
    "a later edit": ([version(0, 70, EDIT), OURS], "edit"),
    "an edit without a date": ([version(0, None, EDIT), OURS], "ring"),
    "no dates": ([version(0, None, EDIT), version(6, None, RING)], "edit"),
    "at the same time": ([version(0, 60, EDIT), OURS], "edit"),
    "a new slot": ([OURS, version(0, 90, '{"placeholder":true}')], "ring"),
    "an edit that is no object": ([OURS, version(0, 90, "hunter2")], "ring"),
    "one slot of a ring is adopted": ([version(0, 5, '{"placeholder":true}'), version(0, 1, EDIT)], "edit"),
    "nowhere an object": ([version(0, 1, "hunter2"), version(0, 2, None)], None),
}


@pytest.mark.parametrize(("served", "expected"), SERVED.values(), ids=SERVED)
def test_the_newest_of_value_and_edits_counts(served: list[SecretVersion], expected: str | None) -> None:
    found = contents.carried(served)
    assert (found and found.reveal()) == (expected and {"k": f'"{expected}"'})


@pytest.mark.parametrize("engine", Engine)
def test_the_engine_is_spelled_as_in_the_structure_of_aws_and_read_as_in_the_plan(engine: Engine) -> None:
    server = structs.replace(CREDENTIAL.primary, engine=engine)
    text = contents.encode_app_user(VALUE, structs.replace(CREDENTIAL, servers=(server,)))
    spelled = "postgres" if engine is Engine.POSTGRESQL else engine.value
    assert json.loads(text)["engine"] == spelled
    for spelling in (spelled, engine.value):
        read = json.dumps({**json.loads(text), "engine": spelling})
        assert decode(read, **WHERE).connection["engine"] == engine.value
        assert contents.decode_connection(read, **WHERE)["engine"] == engine.value


# `CredentialStore` and `Stores`


class Pair:
    """Two stores and their collection."""

    def __init__(self) -> None:
        self.first, self.second = (MemoryStore(name, CREDENTIAL) for name in ("first", "second"))
        self.both = Stores([self.first, self.second])


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("memory", CREDENTIAL)


@pytest.fixture
def pair() -> Pair:
    return Pair()


def app_user(generation: int) -> str:
    return json.dumps({"username": "app", "password": "hunter2", "generation": generation})


# Forgeries, and what is no credential


@pytest.mark.parametrize(
    ("kind", "text", "code"),
    [
        ("app_user", app_user(5), "forged"),
        ("app_user", '{"placeholder":true}', "forged"),
        ("app_user", "hunter2", "not-a-json-object"),
        ("connection_blob", '{"generation":5}', "forged"),
        ("connection_blob", "[]", "not-a-json-object"),
    ],
)
def test_a_text_that_is_not_what_its_name_claims_serves_no_login_and_is_no_value(
    store: MemoryStore, kind: SecretKind, text: str, code: str
) -> None:
    # (protocol V8)
    store.forge(kind, 7, text)
    found = store.read_current()
    assert found.malformed
    where = {"store": "memory", "secret": getattr(CREDENTIAL.secret_names, kind), "code": code}
    assert (found.login, found.malformed.where) == (None, where)
    assert "hunter2" not in str(found.malformed)
    assert (store.read_generation(7), store.read_version("generation-7")) == (None, None)
    with pytest.raises(errors.StagedValueConflictError):
        store.stage(made(7))


# The order of a promotion


def test_the_fence_is_read_between_the_observations_and_the_first_change_and_nothing_is_changed_twice(
    store: MemoryStore,
) -> None:
    store.stage(made(1))
    done: list[str] = []
    store.faults.before = done.append
    store.promote(1, lambda: done.append("fence"))
    assert done == [
        "describe app_user",
        "describe connection_blob",
        "fence",
        "promote app_user",
        "promote connection_blob",
    ]
    store.edit("connection_blob", "by hand")
    done.clear()
    store.promote(1, lambda: done.append("fence"))
    assert done == ["describe app_user", "describe connection_blob", "fence", "promote connection_blob"]


@pytest.mark.parametrize("newer", ["app_user", "connection_blob"])
def test_a_higher_generation_in_either_secret_is_a_lost_fence(store: MemoryStore, newer: str) -> None:
    store.stage(made(1))
    store.stage(made(2))
    store._secrets[newer].make_current("generation-2")  # type: ignore[index]  # one of the two kinds
    done: list[str] = []
    with pytest.raises(errors.FenceLostError):
        store.promote(1, lambda: done.append("fence"))
    assert done == []


def test_a_generation_is_found_in_the_first_store_that_holds_it(pair: Pair) -> None:
    pair.second.stage(made(1, by="second"))
    ref = CandidateRef(store="second", version="generation-1")
    assert pair.both.find_version(1) == (ref, made(1, by="second"))
    pair.first.stage(made(1, by="first"))
    assert pair.both.find_generation(1) == made(1, by="first")
    assert pair.both.find_generation(2) is None
    assert pair.both.find_version(2) is None


def promoted(pair: Pair, seen: Sequence[StoreVersions], still_ours: StillOurs) -> tuple[StoreVersions, ...]:
    return pair.both.prepare_promotion(1, seen)(still_ours)


def test_every_store_promotes_what_was_seen_without_a_look(pair: Pair) -> None:
    pair.both.served()
    seen = pair.both.prepare(1, is_new=True)(made(1))
    assert seen == tuple(
        StoreVersions(store=name, app_user="edit-1", connection_blob="edit-2") for name in ("first", "second")
    )
    asked: list[str] = []
    for store in (pair.first, pair.second):
        store.faults.before = asked.append
    versions = promoted(pair, seen, lambda: asked.append("fence"))
    assert asked == ["promote app_user", "promote connection_blob"] * 2
    assert {v.generation for v in pair.both.served().values()} == {1}
    assert {(v.app_user, v.connection_blob) for v in versions} == {("generation-1", "generation-1")}


@pytest.mark.parametrize("kind", ["app_user", "connection_blob"])
def test_where_what_was_seen_is_gone_that_store_alone_is_looked_at(pair: Pair, kind: SecretKind) -> None:
    pair.both.served()
    seen = pair.both.prepare(1, is_new=True)(made(1))
    pair.second.edit(kind, app_user(0))
    asked: list[str] = []
    pair.second.faults.before = asked.append
    promoted(pair, seen, lambda: asked.append("fence"))
    assert asked == [
        "promote app_user",
        "promote connection_blob",
        f"describe {kind}",
        "fence",
        f"promote {kind}",
    ]
    assert {(v.generation, v.blob_generation) for v in pair.both.served().values()} == {(1, 1)}


# Claims


def test_of_one_claim_the_first_store_decides_and_a_value_of_another_is_a_conflict(pair: Pair) -> None:
    """It was staged before the lock table was lost; its username may be the current one by now (protocol V22)."""
    theirs = made(1, by="twin", claim="mine")
    pair.first.stage(theirs)
    pair.both.stage(made(1, claim="mine"))
    assert [store.read_generation(1) for store in pair.both] == [theirs, theirs]
    for generation, store in ((2, pair.first), (3, pair.second)):
        store.stage(made(generation, claim="theirs"))
        with pytest.raises(errors.StagedValueConflictError) as error:
            pair.both.stage(made(generation, claim="mine"))
        assert error.value.where == {"store": store.name, "generation": str(generation)}
    pair.second.stage(made(4, by="another"))
    with pytest.raises(errors.StagedValueConflictError):
        pair.both.stage(made(4))


def test_waiting_ends_when_every_store_serves_or_the_time_is_over(pair: Pair) -> None:
    clock = FakeClock()
    pair.both.stage(made(1))
    versions = promoted(pair, (), fence_held)
    pair.first.lagging_reads, pair.second.lagging_reads = 2, 4
    pair.both.wait_until_shown(1, versions, clock)
    assert (pair.first.lagging_reads, pair.second.lagging_reads) == (0, 0)
    pair.second.lagging_reads = 10**6
    began = clock.monotonic()
    with pytest.raises(errors.ReadSideLaggingError) as error:
        pair.both.wait_until_shown(1, versions, clock)
    assert error.value.where == {"store": "second", "generation": "1"}
    assert clock.monotonic() - began == READ_SIDE_TIMEOUT_SECONDS


# Keys of others live through what happens to a credential (protocol V20); races and lives hunt for lost ones


def test_what_others_keep_in_a_secret_is_told_nowhere() -> None:
    world, canary = w.make_world(), "hunter2-of-another-team"
    places = [(store, kind) for store in world.stores.values() for kind in KINDS]
    for store, kind in places:
        store.edit(kind, json.dumps({**json.loads(store.current_text(kind)), "api_key": canary}))
    for run in range(2):
        w.rotate_again(world, f"run-{run}")
        assert all(json.loads(store.current_text(kind))["api_key"] == canary for store, kind in places)
    bodies = [body for log in world.audit_logs.values() for body, _ in log.entries.values()]
    assert not any(canary.encode() in body or b"api_key" in body for body in bodies)
    shown = [world.lock.record, *(place.read_current() for place, _ in places)]
    assert canary not in repr([*shown, *(place.secret(kind).read_current() for place, kind in places)])
