"""What OCI's SDK raises because of the environment, as one of `lockstep.environment`."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import oci  # type: ignore[import-untyped]  # the SDK ships no types
from oci.exceptions import (  # type: ignore[import-untyped]  # likewise
    BaseRequestException,
    ClientError,
    ConfigFileNotFound,
    InvalidConfig,
    InvalidKeyFilePath,
    InvalidPrivateKey,
)

from lockstep.environment import (
    CaFileMissingError,
    CertificateRefusedError,
    ClockSkewError,
    EndpointInvalidError,
    EndpointUnreachableError,
    EnvironmentalError,
    OciActionDeniedError,
    OciConfigInvalidError,
    OciConfigMissingError,
    OciIdentityRefusedError,
    OciKeyUnreadableError,
    ProxyUnusableError,
)

_UNAUTHENTICATED, _FORBIDDEN = 401, 403
_OF_REQUESTS: Mapping[str, type[EnvironmentalError]] = {
    "SSLError": CertificateRefusedError,
    "ProxyError": ProxyUnusableError,
    "InvalidProxyURL": ProxyUnusableError,
    **dict.fromkeys(("InvalidURL", "MissingSchema", "InvalidSchema"), EndpointInvalidError),
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
        return CaFileMissingError() if missing_ca else EndpointUnreachableError(code=type(error).__name__)
    return config_problem(error) if isinstance(error, ClientError | OSError) else None


def config_problem(error: Exception) -> EnvironmentalError:
    """The same for an error of reading a config or a key."""
    if isinstance(error, ConfigFileNotFound):
        return OciConfigMissingError()
    if isinstance(error, InvalidConfig):
        return OciConfigInvalidError(code=_field_of(error))
    if isinstance(error, InvalidKeyFilePath | InvalidPrivateKey):
        return OciKeyUnreadableError(code=type(error).__name__)
    return OciConfigInvalidError(code=type(error).__name__)


def _refusal(error: Any) -> EnvironmentalError | None:  # noqa: ANN401 - of the SDK, which ships no types
    if error.status == _UNAUTHENTICATED:
        is_clock = "clock skew" in str(error.message).lower()
        return (
            ClockSkewError(code=str(error.code))
            if is_clock
            else OciIdentityRefusedError(code=str(error.code))
        )
    if error.status == _FORBIDDEN:
        return OciActionDeniedError(action=str(error.operation_name or "?"), code=str(error.code))
    return None


def _of_requests(error: Exception) -> EnvironmentalError:
    # The exception of `requests` is an argument of the SDK's own exception.
    cause: Any = next((a for a in error.args if isinstance(a, BaseRequestException)), error)
    name = type(cause).__name__
    problem = _OF_REQUESTS.get(name, EndpointUnreachableError)
    url = getattr(getattr(cause, "request", None), "url", None)
    host = urlsplit(url).hostname if isinstance(url, str) else None
    return problem(**({"host": host} if host else {}), code=name)


def _field_of(error: Exception) -> str:
    """Which field is wrong, and how: `fingerprint malformed`."""
    found = error.args[0] if error.args else None
    return " ".join(map(str, next(iter(found.items())))) if isinstance(found, dict) and found else "?"
