"""OCI clients with time-outs and without retries, and the meaning of their failures.

`lockstep.protocol.deadlines` has the retry policies, so the SDK's own retries (eight attempts, up to ten minutes) and
its circuit
breaker (which counts a busy secret as a failure) are off. Each failure becomes one of our errors, without the text of
the foreign error, which may quote the request.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import RLock
from typing import Any
from urllib.parse import urlsplit

import oci  # type: ignore[import-untyped]  # the SDK ships no types
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from oci.exceptions import (  # type: ignore[import-untyped]  # likewise
    BaseRequestException,
    ClientError,
    InvalidConfig,
    InvalidKeyFilePath,
    InvalidPrivateKey,
    ServiceError,
)

from lockstep.protocol.deadlines import CONNECTIONS, CloudTimeouts, DeadlineGuard, always
from lockstep.protocol.errors import (
    Environment,
    EnvironmentalError,
    ErrorKind,
    Errors,
    LockstepError,
    SessionFailure,
)
from lockstep.protocol.federation import Stamps, stamps_of

# What OCI's SDK raises because of the environment, as one of `lockstep.protocol.errors`.

KNOWN_REGIONS: tuple[str, ...] = tuple(oci.regions.REGIONS)
"""By the SDK's own data."""
_UNAUTHENTICATED, _FORBIDDEN = 401, 403
_OF_REQUESTS: Mapping[str, Environment] = {
    "SSLError": Environment.CERTIFICATE_REFUSED,
    "ProxyError": Environment.PROXY_UNUSABLE,
    "InvalidProxyURL": Environment.PROXY_UNUSABLE,
    **dict.fromkeys(("InvalidURL", "MissingSchema", "InvalidSchema"), Environment.ENDPOINT_INVALID),
}
"""By the names of the classes: the SDK hands on those of `requests`, which it bundles or not."""


def environment_problem(error: Exception) -> EnvironmentalError | None:
    """What is wrong with the environment, without the text of the foreign error; None where it is not that."""
    if isinstance(error, oci.exceptions.ServiceError):
        return _refusal(error)
    if isinstance(error, BaseRequestException):
        return _of_requests(error)
    if isinstance(error, OSError) and error.filename is None:
        missing_ca = "TLS CA certificate bundle" in str(error)
        problem = Environment.CA_FILE_MISSING if missing_ca else Environment.ENDPOINT_UNREACHABLE
        return EnvironmentalError(problem, code=type(error).__name__)
    return config_problem(error) if isinstance(error, ClientError | OSError) else None


def config_problem(error: Exception) -> EnvironmentalError:
    """The same for an error of reading a config or a key."""
    is_key = isinstance(error, InvalidKeyFilePath | InvalidPrivateKey)
    problem = Environment.OCI_KEY_UNREADABLE if is_key else Environment.OCI_CONFIG_INVALID
    return EnvironmentalError(problem, code=_field_of(error))


def _refusal(error: Any) -> EnvironmentalError | None:  # noqa: ANN401 - of the SDK, which ships no types
    if error.status == _UNAUTHENTICATED:
        is_clock = "clock skew" in str(error.message).lower()
        problem = Environment.CLOCK_SKEW if is_clock else Environment.OCI_IDENTITY_REFUSED
        return EnvironmentalError(problem, code=str(error.code))
    if error.status == _FORBIDDEN:
        return EnvironmentalError(
            Environment.OCI_ACTION_DENIED, action=str(error.operation_name or "?"), code=str(error.code)
        )
    return None


def _of_requests(error: Exception) -> EnvironmentalError:
    cause = _cause_of(error)
    name = type(cause).__name__
    problem = _OF_REQUESTS.get(name, Environment.ENDPOINT_UNREACHABLE)
    url = getattr(getattr(cause, "request", None), "url", None)
    host = urlsplit(url).hostname if isinstance(url, str) else None
    return EnvironmentalError(problem, **({"host": host} if host else {}), code=name)


def _cause_of(error: Exception) -> Exception:
    """The exception of `requests`, which is an argument of the SDK's own exception."""
    return next((a for a in error.args if isinstance(a, BaseRequestException)), error)


def _field_of(error: Exception) -> str:
    """Which field is wrong, and how: `fingerprint malformed`; else the kind of the error."""
    found = error.args[0] if isinstance(error, InvalidConfig) else None
    return " ".join(map(str, next(iter(found.items())))) if isinstance(found, dict) else type(error).__name__


_DEFAULT_TIMEOUTS = CloudTimeouts()

Untyped = Any
"""A value of the SDK, which ships no types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OciIdentity:
    """The identity that signs: a config with an API key, or a signer with a config that may lack one.

    Attributes:
        files: What it was read from, as it was then.
        drop: Called where it was refused: what it has kept of it is used no more.
    """

    config: Mapping[str, Untyped] = field(repr=False)
    signer: Untyped = field(default=None, repr=False)
    files: Stamps = ()
    drop: Callable[[], None] = field(default=lambda: None, repr=False)


# https://docs.oracle.com/iaas/Content/API/References/apierrors.htm. OCI gives the same answer for a missing resource
# and for a missing permission: 404 NotAuthorizedOrNotFound.
_STATUSES = {
    401: ErrorKind.DENIED,
    403: ErrorKind.DENIED,
    404: ErrorKind.NOT_FOUND,
    408: ErrorKind.UNREACHABLE,
    409: ErrorKind.BUSY,
    412: ErrorKind.CHANGED,
    429: ErrorKind.THROTTLED,
    **dict.fromkeys((500, 502, 503, 504), ErrorKind.UNREACHABLE),
}
_QUOTA_CODES = frozenset({"LimitExceeded", "QuotaExceeded"})


class OciClients:
    """The clients of one region, each made at its first use and then kept.

    An identity that is refused, or of no use, is dropped, and the next call reads it again; so does a call after one of
    its files has changed. If it has worked, it may have been replaced, and a call that is refused counts as
    unreachable, so that it is made again; else the call is denied.

    Args:
        identity: Reads the identity; called again after a refusal.
        region: As in the plan.
        endpoint: By default OCI's own for the region.
        timeouts: Limits of every wait.
        deadline_guard: Called before each request (protocol F11).
    """

    def __init__(
        self,
        identity: Callable[[], OciIdentity],
        region: str,
        *,
        endpoint: str | None = None,
        timeouts: CloudTimeouts = _DEFAULT_TIMEOUTS,
        deadline_guard: DeadlineGuard = always,
    ) -> None:
        self._identity = identity
        self._region = region
        self._endpoint = endpoint
        self._timeouts = timeouts
        self._deadline_guard = deadline_guard
        self._making = RLock()
        self._made: dict[object, Untyped] = {}
        self._signed_in: OciIdentity | None = None
        self._has_worked = False

    @property
    def vaults(self) -> Untyped:
        """Management of secrets."""
        return self.of(oci.vault.VaultsClient)

    @property
    def secrets(self) -> Untyped:
        """The read side of secrets."""
        return self.of(oci.secrets.SecretsClient)

    @property
    def objects(self) -> Untyped:
        """Object Storage."""
        return self.of(oci.object_storage.ObjectStorageClient)

    def of(
        self, kind: Callable[..., Untyped], *, endpoint: str | None = None, read_seconds: float | None = None
    ) -> Untyped:
        """A client of a service, which tries once and answers within seconds.

        Threads may share it: it keeps a connection for each call that can be under way at once, also from one
        invocation of the function to the next. A signer that renews its token does so under a lock; a request that was
        signed in between with the old key is refused and made again, as after any exchange of a key.

        Args:
            kind: Its class in the SDK.
            endpoint: Of a service that has one for each resource, such as the keys of a vault.
            read_seconds: For each wait for a part of the answer, if not as long as for other calls.
        """
        key = (kind, endpoint, read_seconds)
        with self._making:
            if key not in self._made:
                self._made[key] = self._new(
                    kind, endpoint or self._endpoint, read_seconds or self._timeouts.read_seconds
                )
            return self._made[key]

    def _new(self, kind: Callable[..., Untyped], endpoint: str | None, read_seconds: float) -> Untyped:
        identity = self._who()
        client = kind(
            # The region in the identity's config is not used.
            {**identity.config, "region": self._region},
            **({"signer": identity.signer} if identity.signer else {}),
            service_endpoint=endpoint,
            timeout=(self._timeouts.connect_seconds, read_seconds),
            retry_strategy=oci.retry.NoneRetryStrategy(),
            circuit_breaker_strategy=oci.circuit_breaker.NoCircuitBreakerStrategy(),
        )
        # The SDK sends through a session of `requests`, and this through an adapter for each scheme.
        session = client.base_client.session
        for scheme, adapter in tuple(session.adapters.items()):
            roomy = type(adapter)(pool_maxsize=CONNECTIONS)
            session.mount(scheme, _CheckedAdapter(roomy, self._deadline_guard))
        return client

    def _who(self) -> OciIdentity:
        self._signed_in = self._signed_in or self._identity()
        return self._signed_in

    @property
    def config(self) -> Mapping[str, Untyped]:
        """What the identity says of itself: `tenancy`, `user`; it has no key."""
        with self._making:
            identity = self._who()
        known = {name: identity.config.get(name) for name in ("tenancy", "user")}
        known["tenancy"] = known["tenancy"] or getattr(identity.signer, "tenancy_id", None)
        return {name: value for name, value in known.items() if value}

    @contextmanager
    def translated(self, errors: Errors, **where: str | int) -> Iterator[None]:
        """Turn every exception inside into one of `errors`, with `where` and the code."""
        if (held := self._signed_in) and held.files != stamps_of(*(name for name, _ in held.files)):
            self._sign_out(held)
        signed_in, has_worked = self._signed_in, self._has_worked
        try:
            yield
        except LockstepError:
            raise
        except SessionFailure as failure:
            raise errors[failure.kind](**where, code=failure.code) from failure.problem
        except Exception as error:  # noqa: BLE001 - the SDK raises a plain Exception for an invalid date
            kind, code = diagnose(error)
            is_refused = isinstance(error, ServiceError) and error.status == _UNAUTHENTICATED
            kind = ErrorKind.UNREACHABLE if is_refused and has_worked else kind
            if is_refused or isinstance(error, ClientError):
                self._sign_out(signed_in)
            raise errors[kind](**where, code=code) from environment_problem(error)
        with self._making:
            # Another worker may have signed in anew while this call was under way.
            self._has_worked = self._has_worked or (signed_in is None or signed_in is self._signed_in)

    def _sign_out(self, signed_in: OciIdentity | None) -> None:
        with self._making:
            # A call that was the first has signed in itself.
            refused = signed_in or self._signed_in
            if refused:
                refused.drop()
            if self._signed_in is refused:
                self._made.clear()
                self._signed_in = None
                self._has_worked = False


class _CheckedAdapter:
    """An adapter of `requests` that asks before it sends."""

    def __init__(self, adapter: Untyped, deadline_guard: DeadlineGuard) -> None:
        self._adapter = adapter
        self._deadline_guard = deadline_guard

    def send(self, request: Untyped, **options: Untyped) -> Untyped:
        self._deadline_guard()
        return self._adapter.send(request, **options)

    def close(self) -> None:
        self._adapter.close()


def diagnose(error: Exception) -> tuple[ErrorKind, str]:
    """The meaning of a failure, and a code to show."""
    if isinstance(error, ServiceError):
        if error.code in _QUOTA_CODES:
            return ErrorKind.QUOTA, error.code
        return _STATUSES.get(error.status, ErrorKind.REJECTED), str(error.code or error.status)
    if isinstance(error, ClientError):
        return ErrorKind.DENIED, type(error).__name__
    if isinstance(error, BaseRequestException):
        name = type(_cause_of(error)).__name__
        return ErrorKind.REJECTED if name == "SSLError" else ErrorKind.UNREACHABLE, name
    return ErrorKind.UNREACHABLE, type(error).__name__


# Requests that a session signs: its token names who it is, and its key proves that the token is its own.


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
