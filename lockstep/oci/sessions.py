"""Requests that a session signs: its token names who it is, and its key proves that the token is its own."""

from collections.abc import Callable
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

Untyped = Any


def signer_of(token: str, key: RSAPrivateKey) -> Untyped:
    """What signs with a session, until it ends."""
    return oci.auth.signers.SecurityTokenSigner(token, key)


class SessionSigner(oci.auth.signers.SecurityTokenSigner):  # type: ignore[misc]  # the SDK ships no types
    """Signs each request with the session of that moment. By its class the SDK's clients know that it needs no config.

    Args:
        current: Gives the signer of the session.
    """

    def __init__(self, current: Callable[[], Untyped]) -> None:
        # There is no token yet, so its own constructor is not called.
        self._current = current

    def renew(self) -> None:
        """Have a session now, and not only with the next request."""
        self._current()

    def __call__(self, request: Untyped, enforce_content_headers: bool = True) -> Untyped:  # noqa: FBT001, FBT002 - as the base class
        """The request, signed."""
        return self._current()(request, enforce_content_headers)
