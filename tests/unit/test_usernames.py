"""Whose turn it is among a credential's usernames (protocol C4)."""

from collections.abc import Sequence

import pytest

from lockstep.protocol.decide import next_username
from lockstep.protocol.errors import UnknownUsernameError
from lockstep.protocol.model import Login, SecretStr


def login(username: str) -> Login:
    return Login(username, SecretStr("password"))


@pytest.mark.parametrize(
    ("usernames", "base", "expected"), [(("a",), "a", "a"), (("a", "b"), "a", "b"), (("a", "b"), "b", "a")]
)
def test_the_next_username_is_the_one_that_base_does_not_have(
    usernames: Sequence[str], base: str, expected: str
) -> None:
    assert next_username(usernames, base=login(base)) == expected


@pytest.mark.parametrize("usernames", [("a",), ("a", "b")])
def test_at_bootstrap_the_first_username_is_next(usernames: Sequence[str]) -> None:
    assert next_username(usernames, base=None) == "a"


@pytest.mark.parametrize("usernames", [("a",), ("a", "b")])
def test_a_base_of_another_account_is_an_error(usernames: Sequence[str]) -> None:
    """It is left alone."""
    with pytest.raises(UnknownUsernameError):
        next_username(usernames, base=login("x"))
