"""Fingerprints tell values apart, and their key is not to be had from the objects that hold it (protocol E2, I6)."""

import copy
import hashlib
import hmac
import pickle

import pytest

from lockstep.protocol.model import Login, SecretStr
from lockstep.protocol.ports import derived, signed_fingerprint
from tests.support.memory import MemorySigner, MemoryWorld
from tests.unit.harness import INTERVAL_SECONDS, edit, entries, login_of, rotate, rotate_again

CREDENTIAL = "multi-cloud/app_user"


def marks(password: str, *, generation: int = 1, username: str = "app", key: str = "aws-key") -> list[str]:
    """By either way."""
    login, signer = Login(username, SecretStr(password)), MemorySigner(key)
    return [
        signer.fingerprint_key().fingerprint(login, credential_id=CREDENTIAL, generation=generation),
        signed_fingerprint(login, credential_id=CREDENTIAL, generation=generation, signer=signer),
    ]


def test_fingerprints_differ_for_different_values_and_are_short() -> None:
    found = [
        *marks("one"),
        *marks("two"),
        *marks("one", generation=2),
        *marks("one", username="app_b"),
        *marks("one", key="oci-key"),
    ]
    assert len(set(found)) == len(found) == 10
    assert marks("one") == marks("one")
    assert all(len(m) == 16 and int(m, 16) >= 0 for m in found)


def test_a_key_is_a_mac_over_a_fixed_text_and_an_auditor_can_make_it_again() -> None:
    """By the value's HMAC-SHA-256 under the MAC over this text, whoever may sign can tell which value it was."""
    mac = MemorySigner("aws-key").sign(hashlib.sha256(b"lockstep fingerprint key 1").digest())
    text = b"lockstep fingerprint\0multi-cloud/app_user\x007\0app\0one"
    again = hmac.new(mac.value, text, "sha256").hexdigest()[:16]
    assert marks("one", generation=7)[0] == again


def test_a_key_is_not_printed_copied_or_pickled() -> None:
    key = MemorySigner("aws-key").fingerprint_key()
    assert f"{key} {key!r}" == "FingerprintKey(of 'aws-key') FingerprintKey(of 'aws-key')"
    assert not hasattr(key, "__dict__")
    for take in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            take(key)


def test_the_entry_of_a_new_value_names_the_key_that_its_fingerprint_follows_from() -> None:
    world = MemoryWorld.create()
    rotate(world, "first")
    rotate_again(world, "second")
    details = entries(world, "aws")[-1].details
    key = derived(MemorySigner("aws-key").sign)
    expected = key.fingerprint(login_of(world, 2), credential_id=CREDENTIAL, generation=2)
    assert (details["fingerprint"], details["fingerprint_key"]) == (expected, "aws-key")


def test_the_fingerprint_of_what_people_chose_is_made_by_the_signing_key() -> None:
    """A reconcile gives a login that works again: nobody can try words at it without asking the cloud for each."""
    world = MemoryWorld.create()
    rotate(world, "first")
    rotate_again(world, "second")
    edit(world.stores["aws"], login_of(world, 1))
    world.clock.sleep(INTERVAL_SECONDS)
    rotate(world, "reconciles")
    details = entries(world, "aws")[-1].details
    expected = signed_fingerprint(
        login_of(world, 3), credential_id=CREDENTIAL, generation=3, signer=MemorySigner("aws-key")
    )
    assert (details["kind"], details["fingerprint"], details["fingerprint_key"]) == (
        "reconcile",
        expected,
        None,
    )
