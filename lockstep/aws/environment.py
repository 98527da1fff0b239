"""What botocore raises because of the environment, as one of `lockstep.environment`."""

import re
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    CredentialRetrievalError,
    HTTPClientError,
    InvalidConfigError,
    InvalidRegionError,
    LoginError,
    MetadataRetrievalError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    ProxyConnectionError,
    RefreshWithMFAUnsupportedError,
    SSLError,
    SSOError,
    TokenRetrievalError,
    UnknownEndpointError,
    UnknownRegionError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError as UrllibError
from urllib3.exceptions import LocationParseError, ProxySchemeUnknown

from lockstep.environment import (
    AuditBucketMissingError,
    AuditKeyMissingError,
    AwsActionDeniedError,
    AwsConfigInvalidError,
    AwsCredentialsMissingError,
    AwsCredentialsRefusedError,
    AwsCredentialsUnavailableError,
    AwsProfileMissingError,
    AwsRegionInvalidError,
    AwsSessionExpiredError,
    CaFileMissingError,
    CertificateRefusedError,
    ClockSkewError,
    EndpointInvalidError,
    EndpointUnreachableError,
    EnvironmentalError,
    ForeignAnswerError,
    LockTableMissingError,
    ProxyUnusableError,
    StateMachineMissingError,
)

# In this order: some of these classes are subclasses of later ones.
_LOCAL: tuple[tuple[tuple[type[Exception], ...], type[EnvironmentalError]], ...] = (
    ((ProfileNotFound,), AwsProfileMissingError),
    ((NoCredentialsError, PartialCredentialsError), AwsCredentialsMissingError),
    ((SSOError, LoginError, TokenRetrievalError), AwsSessionExpiredError),
    (
        (CredentialRetrievalError, MetadataRetrievalError, RefreshWithMFAUnsupportedError),
        AwsCredentialsUnavailableError,
    ),
    ((ConfigParseError, ConfigNotFound, InvalidConfigError), AwsConfigInvalidError),
    ((NoRegionError, InvalidRegionError, UnknownRegionError, UnknownEndpointError), AwsRegionInvalidError),
    ((ProxyConnectionError,), ProxyUnusableError),
    ((ResponseParserError,), ForeignAnswerError),
    ((BotoConnectionError, HTTPClientError, UrllibError), EndpointUnreachableError),
)
_CODES: Mapping[str, type[EnvironmentalError]] = {
    **dict.fromkeys(
        ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"), AwsSessionExpiredError
    ),
    **dict.fromkeys(("RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"), ClockSkewError),
    **dict.fromkeys(
        (
            *(
                "IncompleteSignature",
                "InvalidAccessKeyId",
                "InvalidClientTokenId",
                "InvalidSignatureException",
            ),
            *("InvalidToken", "MissingAuthenticationToken", "SignatureDoesNotMatch"),
            *("AuthFailure", "UnrecognizedClientException"),
        ),
        AwsCredentialsRefusedError,
    ),
    **dict.fromkeys(
        ("403", "AccessDenied", "AccessDeniedException", "NotAuthorized", "OptInRequired"),
        AwsActionDeniedError,
    ),
    "NoSuchBucket": AuditBucketMissingError,
    "StateMachineDoesNotExist": StateMachineMissingError,
}
_MISSING: Mapping[tuple[str, str], type[EnvironmentalError]] = {
    **{
        ("ResourceNotFoundException", call): LockTableMissingError
        for call in ("GetItem", "UpdateItem", "PutItem", "DeleteItem", "Scan")
    },
    **{
        ("NotFoundException", call): AuditKeyMissingError
        for call in ("GenerateMac", "VerifyMac", "DescribeKey")
    },
}
"""Codes that mean something else in each service, with the call."""
_OF_CREDENTIALS = frozenset(
    {"AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "GetRoleCredentials"}
)
"""Calls that botocore makes itself, to get credentials: what they refuse says nothing of what was to be called."""
# Every service writes it into its text; nothing else is taken from there.
_ACTION = re.compile(r"not authorized to perform: ([a-z0-9-]{2,40}:[A-Za-z0-9]{2,60})\b")
_SKEW = re.compile(r"signature (expired|not yet current)", re.IGNORECASE)
_NO_CA = frozenset({"NO_CERTIFICATE_OR_CRL_FOUND", "PEM_LIB"})
"""Reasons of OpenSSL for a file that holds no certificate."""
# The endpoint was checked when the client was made, so a URL that is refused later is the proxy's.
_BAD_PROXY = (ProxySchemeUnknown, LocationParseError, ValueError)


def environment_problem(error: Exception) -> EnvironmentalError | None:
    """What is wrong with the environment, without the text of the foreign error; None where it is not that."""
    if isinstance(error, ClientError):
        return _refusal(error)
    kwargs = getattr(error, "kwargs", {})
    listed = (problem for kinds, problem in _LOCAL if isinstance(error, kinds))
    problem = _of_wrapped(error, kwargs.get("error")) or next(listed, None)
    return problem(**_where(error, kwargs)) if problem else _of_python(error)


def setup_problem(error: Exception) -> EnvironmentalError:
    """The same for an error of making a client, which only the environment can cause."""
    return environment_problem(error) or AwsConfigInvalidError(code=type(error).__name__)


SETUP_ERRORS = (BotoCoreError, ClientError, OSError, ValueError, TypeError, LookupError, AttributeError)
"""What making a client raises in an environment that is wrong."""


def _of_wrapped(error: Exception, cause: object) -> type[EnvironmentalError] | None:
    """What an error of botocore means by the error that it wraps."""
    if isinstance(error, SSLError):
        return _of_tls(next(iter(getattr(cause, "args", ())), None))
    if not isinstance(error, HTTPClientError) or not isinstance(cause, _BAD_PROXY):
        return None
    is_header = str(cause).startswith("Invalid header value")
    return AwsCredentialsRefusedError if is_header else ProxyUnusableError


def _of_tls(cause: object) -> type[EnvironmentalError]:
    if isinstance(cause, ssl.SSLError) and cause.reason not in _NO_CA:
        is_refused = isinstance(cause, ssl.SSLCertVerificationError)
        return CertificateRefusedError if is_refused else EndpointUnreachableError
    return CaFileMissingError if isinstance(cause, OSError) else CertificateRefusedError


def _of_python(error: Exception) -> EnvironmentalError | None:
    if isinstance(error, ValueError) and str(error).startswith("Invalid endpoint"):
        return EndpointInvalidError()
    if isinstance(error, OSError) and error.filename:  # Of a token, for example.
        return AwsConfigInvalidError(path=str(error.filename), code=type(error).__name__)
    return None


def _refusal(error: ClientError) -> EnvironmentalError | None:
    told = error.response.get("Error", {})
    code, text = str(told.get("Code") or ""), str(told.get("Message") or "")
    call = str(error.operation_name)
    problem = _MISSING.get((code, call)) or _CODES.get(code)
    if problem is AwsCredentialsRefusedError and _SKEW.search(text):
        problem = ClockSkewError
    if problem is None:
        return AwsCredentialsUnavailableError(code=code, action=call) if call in _OF_CREDENTIALS else None
    if problem is AwsActionDeniedError:
        named = _ACTION.search(text)
        return problem(action=named[1] if named else call)
    return problem(code=code)


def _where(error: Exception, kwargs: Mapping[str, object]) -> dict[str, str]:
    """The checked fields of an error's own: names of profiles, files and hosts, which hold no password."""
    found = {name: str(kwargs[name]) for name in ("profile", "path") if name in kwargs}
    if isinstance(error, NoRegionError | InvalidRegionError | UnknownRegionError | UnknownEndpointError):
        return found | ({"region": str(kwargs["region_name"])} if "region_name" in kwargs else {})
    if "endpoint_url" in kwargs:
        # Never the whole URL: the user part may hold a password.
        return found | {"host": host_of(str(kwargs["endpoint_url"])), "code": type(error).__name__}
    return found or {"code": type(error).__name__}


def host_of(url: str) -> str:
    """The host and port of a URL; `?` where it has none."""
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname or "?")
    except ValueError:
        return "?"
