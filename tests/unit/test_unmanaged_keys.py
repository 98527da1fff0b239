"""What people keep in a secret beside a login is carried on as it was spelled, and never shown (protocol V20)."""

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from lockstep.client import decode
from lockstep.protocol import model
from lockstep.protocol.errors import SecretTooLargeError
from lockstep.protocol.model import MASK, CredentialValue, Engine, Login, SecretStr
from lockstep.protocol.ports import SecretVersion
from lockstep.stores.contents import (
    NO_EXTRAS,
    Extras,
    carried,
    decode_app_user,
    decode_connection,
    encode_app_user,
    encode_connection_blob,
    extras_in,
    fitting,
)
from tests.support.memory import make_plan

CREDENTIAL = make_plan().credentials[0]
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


@pytest.mark.parametrize(
    "spelled",
    [
        "0.10",
        "1e400",
        "-0",
        "12345678901234567890.123456789",
        '{"b": 1, "a": [ null, {"a": 1, "a": 2} ]}',
        '"\\u00e9\\ud800\\"é€😀"',
        '""',
        "{}",
        "[[[[[]]]]]",
        "NaN",
    ],
)
@pytest.mark.parametrize("layout", ['{"k":%s}', '{ "username" : "old",\n\t"k" : %s , "z":1 }'])
def test_a_value_is_carried_on_as_it_was_spelled(spelled: str, layout: str) -> None:
    once = rewritten(layout % spelled)
    assert f'"k":{spelled}' in once
    assert rewritten(once) == once


def test_a_character_that_no_store_takes_is_carried_on_as_an_escape() -> None:
    assert '"k":"\\ud800"' in rewritten('{"k":"\ud800"}')
    rewritten('{"\ud800":1}').encode()


def test_of_two_keys_of_one_name_the_last_counts() -> None:
    assert rewritten('{"k":1,"k":2}').endswith(',"k":2}')


def test_a_text_without_keys_of_others_is_what_it_always_was() -> None:
    plain = encode_app_user(VALUE, CREDENTIAL)
    assert rewritten(plain) == plain
    assert json.loads(plain)["format"] == model.FORMAT


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
