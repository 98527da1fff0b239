"""A `SecretStr` never shows its value; the model is frozen."""

import copy
import dataclasses
import json
import logging
import pickle
import pprint
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from lockstep.protocol import decide, model, ports
from lockstep.protocol.model import MASK, Claim, ClaimKind, CredentialValue, Login, SecretStr, StoredValue

# Too long to be part of the mask or of a class name by chance. Lone surrogates come from JSON escapes.
secrets = st.text(st.characters(), min_size=12, max_size=60).filter(lambda s: s not in MASK)


@given(secrets)
def test_no_text_of_a_secret_shows_its_value(value: str) -> None:
    secret = SecretStr(value)
    login = Login("app", secret)
    stored = StoredValue(login=login, generation=1, blob_generation=1, version="v")
    texts = [
        write(thing)
        for thing in (secret, login, CredentialValue(1, login), stored, [secret], {"k": secret}, (login,))
        for write in (str, repr, "{}".format, "{!r:>90}".format, pprint.pformat)
    ]
    assert all(value not in text and repr(value)[1:-1] not in text for text in texts)
    assert {format(secret, spec) for spec in ("", ">40", "s", "<3", "^100")} == {MASK}


def _fail_with(secret: SecretStr) -> None:
    raise ValueError(secret)


def test_it_is_masked_in_logs_and_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    secret = SecretStr("hunter2-hunter2")
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("%s %r %s", secret, secret, {"password": secret})
        try:
            _fail_with(secret)
        except ValueError:
            logging.getLogger("test").exception("failed")
            shown = traceback.format_exc()
    assert "hunter2" not in caplog.text + shown
    assert MASK in caplog.text


@pytest.mark.parametrize(
    "leak",
    [
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        json.dumps,
        hash,
        dataclasses.asdict,
        lambda secret: json.dumps({"password": secret}),
        lambda secret: dataclasses.asdict(Login("app", secret)),
        lambda secret: pickle.dumps(Login("app", secret)),
        lambda secret: {secret},
        vars,
        lambda secret: secret + "",
        "".join,
        lambda secret: secret[0],
        lambda secret: TypeAdapter(object).dump_json(secret),
    ],
)
def test_operations_that_would_copy_it_are_refused_without_quoting_it(leak: object) -> None:
    assert callable(leak)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - TypeError mostly; pydantic has one of its own
        leak(SecretStr("hunter2-hunter2"))
    assert "hunter2" not in str(caught.value)


@given(secrets, secrets)
def test_secrets_are_equal_if_their_values_are(one: str, other: str) -> None:
    assert SecretStr(one) == SecretStr(one)
    assert (SecretStr(one) == SecretStr(other)) == (one == other)
    assert SecretStr(one) != one
    assert SecretStr(one).reveal() == one


@pytest.mark.parametrize("module", [model, decide, ports])
def test_every_dataclass_is_frozen_and_has_slots(module: object) -> None:
    classes = [vars(cls) for cls in vars(module).values() if dataclasses.is_dataclass(cls)]
    assert classes
    for attributes in classes:
        assert attributes["__dataclass_params__"].frozen
        assert "__slots__" in attributes


def test_a_claim_cannot_be_changed() -> None:
    claim = Claim(kind=ClaimKind.NEW, generation=2, base_generation=1, rotation_id="r")
    with pytest.raises(AttributeError):
        claim.generation = 3  # type: ignore[misc]  # that is the point
