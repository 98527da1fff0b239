"""The contents of the two secrets: how they are written, and how any text is read."""

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from lockstep.client import decode
from lockstep.protocol import model
from lockstep.protocol.errors import NewerFormatError, SecretMalformedError, SecretTooLargeError
from lockstep.protocol.model import MASK, CredentialValue, Engine, Login, SecretStr, Strategy
from lockstep.protocol.ports import MAX_TEXT_BYTES, SecretVersion
from lockstep.stores.contents import (
    CLAIM,
    NO_EXTRAS,
    Extras,
    carried,
    decode_app_user,
    decode_blob_generation,
    decode_claim_id,
    decode_connection,
    decode_databases,
    encode_app_user,
    encode_connection_blob,
    extras_in,
    fitting,
    object_in,
    require_known_format,
    with_numbers,
)
from tests.support.memory import make_plan

CREDENTIAL = make_plan().credentials[0]
words = st.text(min_size=1, max_size=40)


def _value(username: str = "app", password: str = "hunter2", generation: int = 7) -> CredentialValue:
    return CredentialValue(generation, Login(username, SecretStr(password)))


def test_app_user_has_the_field_names_of_an_rds_secret() -> None:
    assert json.loads(encode_app_user(_value(), CREDENTIAL)) == {
        "dbname": "app",
        "engine": "mysql",
        "format": 1,
        "generation": 7,
        "host": "db-1.example.com",
        "password": "hunter2",
        "port": 3306,
        "username": "app",
    }


def test_connection_blob_names_every_database() -> None:
    blob = json.loads(encode_connection_blob(7, CREDENTIAL))
    assert (blob["credential"], blob["generation"]) == ("multi-cloud/app_user", 7)
    assert blob["databases"]["db-2"] == {
        "dbname": "app",
        "dsn": "mysql://db-2.example.com:3306/app",
        "engine": "mysql",
        "host": "db-2.example.com",
        "port": 3306,
        "tls": False,
    }


def test_a_text_for_tools_that_map_a_secret_to_keys_and_values_has_strings_only() -> None:
    """As External Secrets' Oracle provider decodes it: an object of strings, or nothing (protocol V23)."""
    user, blob = (json.loads(text) for text in texts(only_strings=True))
    for document in (user, blob):
        assert {type(member) for member in document.values()} == {str}
    assert (user["port"], user["generation"], user["format"]) == ("3306", "7", "1")
    assert json.loads(blob["databases"])["db-2"]["port"] == 3306
    assert blob["dsn"] == "mysql://db-1.example.com:3306/app"


def texts(*, only_strings: bool, extras: Extras = NO_EXTRAS) -> tuple[str, str]:
    user = encode_app_user(_value(), CREDENTIAL, extras, only_strings=only_strings)
    return user, encode_connection_blob(7, CREDENTIAL, extras, only_strings=only_strings)


def test_both_forms_say_the_same() -> None:
    where = {"store": "oci", "secret": "s"}
    (user, blob), (user_of_strings, blob_of_strings) = (texts(only_strings=s) for s in (False, True))
    for read in (decode_app_user, decode_connection):
        assert read(user, **where) == read(user_of_strings, **where)
    for decode_blob in (decode_blob_generation, decode_databases):
        assert decode_blob(blob, **where) == decode_blob(blob_of_strings, **where)
    assert extras_in(user) != extras_in(user_of_strings)
    for text in texts(only_strings=True):
        require_known_format(text, **where)
        with pytest.raises(NewerFormatError):
            require_known_format(text.replace('"format":"1"', '"format":"2"'), **where)


def test_a_text_of_strings_is_given_to_applications_in_the_other_form() -> None:
    extras = extras_in('{"team": "7", "limits": {"a": [1.50]}}')
    assert extras
    pairs = zip(
        texts(only_strings=True, extras=extras), texts(only_strings=False, extras=extras), strict=True
    )
    for of_strings, plain in pairs:
        assert json.loads(with_numbers(of_strings)) == json.loads(plain)
        assert '"limits":{"a": [1.50]}' in with_numbers(of_strings)
        assert with_numbers(plain) == plain


def test_connection_blob_names_no_user_so_no_reader_can_mix_two_users() -> None:
    credential = make_plan(strategy=Strategy.ALTERNATING_USERS).credentials[0]
    text = encode_connection_blob(7, credential)
    assert not any(username in text.replace(credential.id, "") for username in credential.usernames)
    blob = json.loads(text)
    assert "username" not in blob
    for server in credential.servers:
        dsn = urlsplit(blob["databases"][server.name]["dsn"])
        assert (dsn.username, dsn.password) == (None, None)
        assert (dsn.hostname, dsn.port, dsn.path) == (server.host, server.port, f"/{server.dbname}")


@given(words, words, st.integers(min_value=1, max_value=10**12))
def test_app_user_is_read_back_unchanged(username: str, password: str, generation: int) -> None:
    value = _value(username, password, generation)
    text = encode_app_user(value, CREDENTIAL)
    assert decode_app_user(text, store="aws", secret="s") == (value.login, generation)
    assert text == encode_app_user(value, CREDENTIAL)


def test_the_connection_holds_only_the_fields_of_a_connection() -> None:
    text = encode_app_user(_value(), CREDENTIAL)
    assert decode_connection(text, store="aws", secret="s") == {
        "engine": "mysql",
        "host": "db-1.example.com",
        "port": 3306,
        "dbname": "app",
    }
    assert decode_connection('{"host":"h","password":"hunter2"}', store="aws", secret="s") == {"host": "h"}


def test_a_secret_may_be_as_long_as_the_smaller_limit_of_the_clouds() -> None:
    text = json.dumps({"username": "app", "password": "hunter2", "more": ""})
    padded = text[:-2] + "x" * (MAX_TEXT_BYTES - len(text)) + text[-2:]
    assert len(padded) == MAX_TEXT_BYTES
    assert decode_app_user(padded, store="aws", secret="s")[0]
    with pytest.raises(SecretMalformedError):
        decode_app_user(padded + " ", store="aws", secret="s")


@pytest.mark.parametrize(
    "text", ['{"placeholder":true}', '{"placeholder":"x","engine":"mysql"}', '{"placeholder":null}']
)
def test_a_placeholder_has_no_login(text: str) -> None:
    assert decode_app_user(text, store="aws", secret="s") == (None, 0)


@pytest.mark.parametrize(
    ("claimed", "generation"),
    [
        ("7", 7),
        ("0", 0),
        ('"7"', 7),
        ('"07"', 0),
        ('"\\u0667"', 0),
        ("[7]", 0),
        ("null", 0),
    ],
)
def test_a_generation_that_is_not_a_natural_number_is_0(claimed: str, generation: int) -> None:
    text = f'{{"username":"a","password":"b","generation":{claimed}}}'
    assert decode_app_user(text, store="aws", secret="s")[1] == generation
    assert decode_blob_generation(f'{{"generation":{claimed}}}', store="aws", secret="s") == generation


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hunter2",
        "[]",
        '"hunter2"',
        '{"username":"app"}',
        '{"password":"hunter2"}',
        '{"username":"app","password":null}',
        '{"placeholder":true,"password":"hunter2"}',
        '{"username":"app","password":"hunter2',
        "[" * 20_000,
    ],
)
@pytest.mark.usefixtures("deep")
def test_anything_else_is_malformed_and_not_quoted(text: str) -> None:
    with pytest.raises(SecretMalformedError) as caught:
        decode_app_user(text, store="aws", secret="multi-cloud/app_user")
    code = caught.value.where.pop("code")
    assert code == (
        "no-login" if text.startswith("{") and object_in(text) is not None else "not-a-json-object"
    )
    assert caught.value.where == {"store": "aws", "secret": "multi-cloud/app_user"}
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# The claim of a value (protocol V22)


def claimed(generation: int, claim_id: str | None) -> CredentialValue:
    return CredentialValue(generation, Login("app", SecretStr("x")), claim_id)


def claim_in(text: str, generation: int) -> str | None:
    return decode_claim_id(text, generation, store="aws", secret="app_user")


@pytest.mark.parametrize("claim_id", ["run-1", "arn:aws:states:eu:1:execution:a:b", "manual/x=1", None])
def test_a_value_names_its_claim(claim_id: str | None) -> None:
    text = encode_app_user(claimed(7, claim_id), CREDENTIAL)
    assert claim_in(text, 7) == claim_id
    assert (CLAIM in json.loads(text)) == (claim_id is not None)


def test_a_claim_that_a_build_without_this_key_has_carried_on_says_nothing() -> None:
    """To such a build it is a key of others, of the generation before."""
    text = encode_app_user(claimed(7, "run-1"), CREDENTIAL).replace('"generation":7', '"generation":8')
    assert claim_in(text, 8) is None


def test_the_claim_of_another_value_is_not_carried_on() -> None:
    extras = extras_in(encode_app_user(claimed(7, "run-1"), CREDENTIAL))
    assert extras
    assert claim_in(encode_app_user(claimed(8, "run-2"), CREDENTIAL, extras), 8) == "run-2"
    assert CLAIM not in json.loads(encode_app_user(claimed(0, None), CREDENTIAL, extras))


@pytest.mark.parametrize("written", ["7", "", ":", "7:", ":run", 7, None, ["7:run"], "07:run", "8:run"])
def test_what_is_no_claim_of_the_generation_is_none(written: object) -> None:
    assert claim_in(json.dumps({CLAIM: written}), 7) is None


# The keys of others


VALUE = CredentialValue(7, Login("app", SecretStr("hunter2")))
WHERE = {"store": "aws", "secret": "multi-cloud/app_user"}
BEGAN = datetime(2030, 1, 1, tzinfo=UTC)
RDS = {
    "engine": "mysql",
    "host": "old.example.com",
    "username": "old",
    "password": "old",
    "dbname": "old",
    "port": "3306",
    "masterarn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:admin-a1b2c3",
    "dbClusterIdentifier": "orders",
    "ssl": True,
}


def rewritten(text: str) -> str:
    """The value that Lockstep writes where this text was."""
    return encode_app_user(VALUE, CREDENTIAL, extras_in(text) or NO_EXTRAS)


def test_the_keys_of_an_rds_secret_are_carried_on_and_ours_win() -> None:
    own, new = json.loads(encode_app_user(VALUE, CREDENTIAL)), json.loads(rewritten(json.dumps(RDS)))
    theirs = {key: RDS[key] for key in ("masterarn", "dbClusterIdentifier", "ssl")}
    assert new == {**own, **theirs, "format": model.FORMAT}
    assert decode_app_user(json.dumps(new), **WHERE) == (VALUE.login, 7)


@pytest.mark.parametrize("text", ['{"placeholder":true}', '{"placeholder":"fill in"}'])
def test_the_mark_of_a_placeholder_does_not_survive(text: str) -> None:
    assert rewritten(text) == encode_app_user(VALUE, CREDENTIAL)
    with_more = {**json.loads(text), "team": "payments", "username": "app", "password": "x"}
    new = json.loads(rewritten(json.dumps(with_more)))
    assert (new["team"], "placeholder" in new) == ("payments", False)


def test_connection_blob_carries_keys_but_no_login() -> None:
    before = '{"username":"old","password":"old","url":"jdbc:x","databases":{"gone":{}},"format":1}'
    blob = json.loads(encode_connection_blob(7, CREDENTIAL, extras_in(before) or NO_EXTRAS))
    own = json.loads(encode_connection_blob(7, CREDENTIAL))
    assert blob == {**own, "url": "jdbc:x", "format": model.FORMAT}


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r:>9}".format, lambda e: repr([e])])
def test_no_key_and_no_value_is_shown(show: object) -> None:
    assert callable(show)
    assert show(Extras({"api_key": '"hunter2"'})).strip("[]") == f"Extras({MASK!r})"


def test_extras_are_not_pickled_or_copied() -> None:
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(Extras({"api_key": '"hunter2"'}))


def test_a_text_is_measured_in_bytes() -> None:
    assert fitting("é" * 5, max_bytes=10, **WHERE) == "é" * 5
    with pytest.raises(SecretTooLargeError) as error:
        fitting("é" * 6, max_bytes=10, **WHERE)
    assert error.value.where == {**WHERE, "code": "over-10-bytes"}


# Which place of a secret counts


def _version(generation: int, made: int | None, text: str | None) -> SecretVersion:
    created_at = None if made is None else BEGAN + timedelta(seconds=made)
    return SecretVersion(id=f"{generation}", generation=generation, text=text, created_at=created_at)


VALUE_OF_RING = _version(6, 60, '{"k":"ring"}')


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        pytest.param([_version(5, 50, '{"k":"old"}'), VALUE_OF_RING], "ring", id="of ours the newest"),
        pytest.param([_version(0, 70, '{"k":"edit"}'), VALUE_OF_RING], "edit", id="a later edit"),
        pytest.param([VALUE_OF_RING, _version(0, 10, '{"k":"edit"}')], "ring", id="an earlier edit"),
        pytest.param([_version(0, None, '{"k":"edit"}'), VALUE_OF_RING], "ring", id="an edit without a date"),
        pytest.param(
            [_version(0, None, '{"k":"edit"}'), _version(6, None, '{"k":"ring"}')], "edit", id="no dates"
        ),
        pytest.param([_version(0, 60, '{"k":"edit"}'), VALUE_OF_RING], "edit", id="at the same time"),
        pytest.param([VALUE_OF_RING, _version(0, 90, '{"placeholder":true}')], "ring", id="a new slot"),
        pytest.param([VALUE_OF_RING, _version(0, 90, "{}")], "ring", id="an empty object"),
        pytest.param([VALUE_OF_RING, _version(0, 90, "hunter2")], "ring", id="an edit that is no object"),
        pytest.param([VALUE_OF_RING, _version(0, 90, None)], "ring", id="a binary edit"),
        pytest.param(
            [_version(0, 5, '{"placeholder":true}'), _version(0, 1, '{"k":"adopted"}')],
            "adopted",
            id="one slot of a ring is adopted",
        ),
    ],
)
def test_the_newest_of_the_value_and_the_edits_counts(served: list[SecretVersion], expected: str) -> None:
    found = carried(served)
    assert found
    assert found.reveal() == {"k": f'"{expected}"'}


def test_where_no_place_has_an_object_nothing_can_be_carried() -> None:
    assert carried([_version(0, 1, "hunter2"), _version(0, 2, None)]) is None


# Engines


@pytest.mark.parametrize(
    ("engine", "spelled"),
    [(Engine.MYSQL, "mysql"), (Engine.MARIADB, "mariadb"), (Engine.POSTGRESQL, "postgres")],
)
def test_the_engine_is_spelled_as_in_the_structure_of_aws_and_read_as_in_the_plan(
    engine: Engine, spelled: str
) -> None:
    server = structs.replace(CREDENTIAL.primary, engine=engine)
    text = encode_app_user(VALUE, structs.replace(CREDENTIAL, servers=(server,)))
    assert json.loads(text)["engine"] == spelled
    for spelling in (spelled, engine.value):
        read = {**json.loads(text), "engine": spelling}
        assert decode(json.dumps(read), **WHERE).connection["engine"] == engine.value
        assert decode_connection(json.dumps(read), **WHERE)["engine"] == engine.value
