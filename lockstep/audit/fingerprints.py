"""Fingerprints: they tell the values in a log apart, and reveal nothing about a password (protocol E2).

A key that signs may never leave its service, so each MAC is a call. A password that Lockstep has made is too long to
be guessed: its fingerprint is made in the process, by a key that follows from the one that signs. A password that
people chose may be guessed: its fingerprint is a MAC of the service, so that each guess is a call that the cloud logs.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import NoReturn

from lockstep.model import Login
from lockstep.ports import Mac, Signer

_KEY_NAME = b"lockstep fingerprint key 1"
"""Nothing else that the key signs is like it: entries and checkpoints begin with a brace, logins have zero bytes."""
_LENGTH = 16


class FingerprintKey:
    """A key for fingerprints, in memory. It cannot be printed, copied or pickled.

    Attributes:
        key_id: The key that it follows from.
    """

    __slots__ = ("_key", "key_id")

    def __init__(self, mac: Mac) -> None:
        self.key_id = mac.key_id
        self._key = mac.value

    def fingerprint(self, login: Login, *, credential_id: str, generation: int) -> str:
        """The fingerprint of a value whose password Lockstep has made."""
        message = _message(login, credential_id, generation)
        return hmac.digest(self._key, message, "sha256").hex()[:_LENGTH]

    def __repr__(self) -> str:
        return f"FingerprintKey(of {self.key_id!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a FingerprintKey is not pickled or copied")


def derived(sign: Callable[[bytes], Mac]) -> FingerprintKey:
    """The key of fingerprints that follows from the key that signs: its MAC over a fixed text."""
    return FingerprintKey(sign(hashlib.sha256(_KEY_NAME).digest()))


def signed_fingerprint(login: Login, *, credential_id: str, generation: int, signer: Signer) -> str:
    """The fingerprint of a login that people may have chosen."""
    digest = hashlib.sha256(_message(login, credential_id, generation)).digest()
    return signer.sign(digest).value.hex()[:_LENGTH]


def _message(login: Login, credential_id: str, generation: int) -> bytes:
    parts = ("lockstep fingerprint", credential_id, str(generation), login.username, login.password.reveal())
    return "\0".join(parts).encode()
