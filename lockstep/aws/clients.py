"""AWS clients with time-outs and without retries, and the meaning of their failures.

`lockstep.protocol.deadlines` has the retry policies, so a client here tries once and gives up within seconds. Each
failure becomes one of our errors, without the text of the foreign error, which may quote the request.
"""

import logging
import os
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Self
from urllib.parse import urlsplit

from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials, ReadOnlyCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
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
from botocore.session import Session
from urllib3.exceptions import HTTPError as UrllibError
from urllib3.exceptions import LocationParseError, ProxySchemeUnknown

from lockstep.protocol.deadlines import CONNECTIONS, CloudTimeouts, DeadlineGuard, always
from lockstep.protocol.errors import (
    AUDIT_ERRORS,
    Environment,
    EnvironmentalError,
    ErrorKind,
    Errors,
    SessionFailure,
)
from lockstep.protocol.federation import Sessions, Stamps, stamps_of
from lockstep.protocol.model import SecretStr

# What botocore raises because of the environment, as one of `lockstep.protocol.errors`.

# In this order: some of these classes are subclasses of later ones.
_LOCAL: tuple[tuple[tuple[type[Exception], ...], Environment], ...] = (
    ((ProfileNotFound,), Environment.AWS_PROFILE_MISSING),
    ((NoCredentialsError, PartialCredentialsError), Environment.AWS_CREDENTIALS_MISSING),
    ((SSOError, LoginError, TokenRetrievalError), Environment.AWS_SESSION_EXPIRED),
    ((CredentialRetrievalError, MetadataRetrievalError), Environment.AWS_CREDENTIALS_UNAVAILABLE),
    ((RefreshWithMFAUnsupportedError,), Environment.AWS_CREDENTIALS_UNAVAILABLE),
    ((ConfigParseError, ConfigNotFound, InvalidConfigError), Environment.AWS_CONFIG_INVALID),
    ((NoRegionError, InvalidRegionError), Environment.AWS_REGION_INVALID),
    ((UnknownRegionError, UnknownEndpointError), Environment.AWS_REGION_INVALID),
    ((ProxyConnectionError,), Environment.PROXY_UNUSABLE),
    ((ResponseParserError,), Environment.FOREIGN_ANSWER),
    ((BotoConnectionError, HTTPClientError, UrllibError), Environment.ENDPOINT_UNREACHABLE),
)
_REFUSALS: Mapping[str, Environment] = {
    **dict.fromkeys(
        ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"), Environment.AWS_SESSION_EXPIRED
    ),
    **dict.fromkeys(("RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"), Environment.CLOCK_SKEW),
    **dict.fromkeys(
        (
            *("AuthFailure", "IncompleteSignature", "InvalidAccessKeyId", "InvalidClientTokenId"),
            *("InvalidSignatureException", "InvalidToken", "MissingAuthenticationToken"),
            *("SignatureDoesNotMatch", "UnrecognizedClientException"),
        ),
        Environment.AWS_CREDENTIALS_REFUSED,
    ),
    **dict.fromkeys(
        ("403", "AccessDenied", "AccessDeniedException", "NotAuthorized", "OptInRequired"),
        Environment.AWS_ACTION_DENIED,
    ),
}
"""Codes of an identity that is not let in."""
_OF_LOCKS = ("GetItem", "UpdateItem", "PutItem", "DeleteItem", "Scan")
_OF_KEYS = ("GenerateMac", "VerifyMac", "DescribeKey")
_MISSING: Mapping[tuple[str, str], Environment] = {
    **{("ResourceNotFoundException", call): Environment.LOCK_TABLE_MISSING for call in _OF_LOCKS},
    **{("NotFoundException", call): Environment.AUDIT_KEY_MISSING for call in _OF_KEYS},
}
"""Codes that mean something else in each service, with the call."""
_MISSING_BY_CODE = {"StateMachineDoesNotExist": Environment.STATE_MACHINE_MISSING}
_OF_CREDENTIALS = ("AssumeRole", "GetRoleCredentials")
"""So begin the calls that botocore makes itself, to get credentials: what they refuse says nothing of any other."""
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
    return EnvironmentalError(problem, **_where(error, kwargs)) if problem else _of_python(error)


def setup_problem(error: Exception) -> EnvironmentalError:
    """The same for an error of making a client, which only the environment can cause."""
    return environment_problem(error) or EnvironmentalError(
        Environment.AWS_CONFIG_INVALID, code=type(error).__name__
    )


SETUP_ERRORS = (BotoCoreError, ClientError, OSError, ValueError, TypeError, LookupError, AttributeError)
"""What making a client raises in an environment that is wrong."""


def _of_wrapped(error: Exception, cause: object) -> Environment | None:
    """What an error of botocore means by the error that it wraps."""
    if isinstance(error, SSLError):
        return _of_tls(next(iter(getattr(cause, "args", ())), None))
    if not isinstance(error, HTTPClientError) or not isinstance(cause, _BAD_PROXY):
        return None
    is_header = str(cause).startswith("Invalid header value")
    return Environment.AWS_CREDENTIALS_REFUSED if is_header else Environment.PROXY_UNUSABLE


def _of_tls(cause: object) -> Environment:
    if isinstance(cause, ssl.SSLError) and cause.reason not in _NO_CA:
        is_refused = isinstance(cause, ssl.SSLCertVerificationError)
        return Environment.CERTIFICATE_REFUSED if is_refused else Environment.ENDPOINT_UNREACHABLE
    return Environment.CA_FILE_MISSING if isinstance(cause, OSError) else Environment.CERTIFICATE_REFUSED


def _of_python(error: Exception) -> EnvironmentalError | None:
    if isinstance(error, ValueError) and str(error).startswith("Invalid endpoint"):
        return EnvironmentalError(Environment.ENDPOINT_INVALID)
    if isinstance(error, OSError) and error.filename:  # Of a token, for example.
        return EnvironmentalError(
            Environment.AWS_CONFIG_INVALID, path=str(error.filename), code=type(error).__name__
        )
    return None


def _refusal(error: ClientError) -> EnvironmentalError | None:
    told = error.response.get("Error", {})
    code, text = str(told.get("Code") or ""), str(told.get("Message") or "")
    call = str(error.operation_name)
    problem = _MISSING.get((code, call)) or _REFUSALS.get(code) or _MISSING_BY_CODE.get(code)
    if problem is Environment.AWS_CREDENTIALS_REFUSED and _SKEW.search(text):
        problem = Environment.CLOCK_SKEW
    if problem is None and call.startswith(_OF_CREDENTIALS):
        return EnvironmentalError(Environment.AWS_CREDENTIALS_UNAVAILABLE, code=code, action=call)
    if problem is Environment.AWS_ACTION_DENIED:
        named = _ACTION.search(text)
        return EnvironmentalError(problem, action=named[1] if named else call)
    return EnvironmentalError(problem, code=code) if problem else None


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


_DEFAULT_TIMEOUTS = CloudTimeouts()


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsKeys:
    """What an identity for a runner outside AWS signs with."""

    access_key_id: str
    secret_access_key: SecretStr
    session_token: SecretStr | None = None


Keys = Sessions[AwsKeys]
"""An identity for a runner outside AWS: what gives the keys of the moment."""


def aws_client(
    service: str,
    region: str,
    *,
    keys: Keys | None = None,
    is_signed: bool = True,
    endpoint: str | None = None,
    timeouts: CloudTimeouts = _DEFAULT_TIMEOUTS,
    deadline_guard: DeadlineGuard = always,
) -> Any:  # noqa: ANN401 - botocore makes its clients' types at run time
    """A client that tries once and answers within seconds.

    Threads may share it: it keeps a connection for each call that can be under way at once, also from one invocation
    of a function to the next.

    Args:
        service: Its name in botocore.
        region: As in the plan.
        keys: The identity; by default the environment's, in a Lambda its role.
        is_signed: Otherwise there is no identity, and none is looked for: outside AWS the search ends at an address
            where another cloud's metadata may be.
        endpoint: By default the environment's, else AWS.
        timeouts: Limits of every wait.
        deadline_guard: Called before each request (protocol F11).

    Raises:
        EnvironmentalError: The configuration of this machine allows none.
    """
    config = Config(
        connect_timeout=timeouts.connect_seconds,
        read_timeout=timeouts.read_seconds,
        retries={"total_max_attempts": 1},
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        **({} if is_signed else {"signature_version": UNSIGNED}),
    )
    try:
        session = botocore_session(keys, _files())
        held = keys or (session.get_credentials() if is_signed else None)
        client = session.create_client(service, region_name=region, endpoint_url=endpoint, config=config)
    except SETUP_ERRORS as error:
        raise setup_problem(error) from None
    if isinstance(held, Sessions | _OfEnvironment):
        client.meta.events.register("after-call", partial(_end_session, held))
    client.meta.events.register_first("before-send", lambda **_: deadline_guard())
    return client


def aws_credentials(keys: Keys | None) -> ReadOnlyCredentials:
    """What requests of an identity are signed with; may call the identity's own service.

    Args:
        keys: As of `aws_client`.

    Raises:
        BotoCoreError: There is no identity, or it cannot be had now.
    """
    provider = botocore_session(keys, _files()).get_component("credential_provider")
    found: ReadOnlyCredentials = provider.load_credentials().get_frozen_credentials()
    return found


class _OfSessions(CredentialProvider, Credentials):
    """Credentials that are those of the moment, for each request; as their provider, themselves."""

    def __init__(self, sessions: Keys) -> None:
        Credentials.__init__(self, "", "", method="lockstep")
        self._sessions = sessions

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        keys = self._sessions()
        token = keys.session_token.reveal() if keys.session_token else None
        return ReadOnlyCredentials(keys.access_key_id, keys.secret_access_key.reveal(), token)

    def load(self) -> Credentials:
        return self


class _OfEnvironment(CredentialProvider, Credentials):
    """What the environment gives: looked for with each request while it is nothing, or was refused, or files change.

    botocore itself keeps what it found first for good, also if that was nothing, and what it has read of files.

    Args:
        first: Finds it where nothing was read yet.
    """

    def __init__(self, first: CredentialResolver) -> None:
        Credentials.__init__(self, "", "", method="lockstep")
        self._next: CredentialResolver | None = first
        self._held: tuple[Stamps, Credentials | None] = (), None
        """Read and replaced as one: another thread may drop it at any time."""

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        if (found := self._look()) is None:
            raise NoCredentialsError
        return found.get_frozen_credentials()

    def load(self) -> Self:
        """Look, if it is time to. A client does when it is made."""
        self._look()
        return self

    def _look(self) -> Credentials | None:
        (seen, found), files = self._held, _files()
        if found is None or seen != files:
            resolver, self._next = self._next or Session().get_component("credential_provider"), None
            found = resolver.load_credentials()
            self._held = files, found
        return found

    def drop(self) -> None:
        """It was refused."""
        self._held = (), None


def _files() -> Stamps:
    """The files of keys and profiles, as AWS's tools name them."""
    return stamps_of(
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
    )


def _end_session(held: Keys | _OfEnvironment, parsed: Mapping[str, Any], **_: object) -> None:
    """An identity that AWS does not know, or has ended, is used no more. A session's call may then be made again.

    Raises:
        SessionFailure: AWS has ended a session.
    """
    code = str(parsed.get("Error", {}).get("Code"))
    if code in _ENDED | _UNKNOWN:
        held.drop()
    if code in _ENDED and isinstance(held, Sessions):
        raise SessionFailure(ErrorKind.UNREACHABLE, code, None)


_ENDED = {"ExpiredToken", "ExpiredTokenException"}
_UNKNOWN = {"InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken", "UnrecognizedClientException"}
"""What is said of a session whose role was deleted, and of a key that was: another one may be in its place by now."""


@lru_cache(maxsize=4)  # A replaced identity is not kept for good.
def botocore_session(sessions: Keys | None, _seen: Stamps) -> Session:
    """Whose identity clients have: that of these sessions, or of the environment. It reads files once."""
    # At DEBUG botocore logs every request and reply, including secrets.
    logging.getLogger("botocore").setLevel(logging.INFO)
    made = Session()
    own = made.get_component("credential_provider")
    provider = _OfSessions(sessions) if sessions else _OfEnvironment(own)
    made.register_component("credential_provider", CredentialResolver([provider]))
    return made


def known_regions() -> Sequence[str]:
    """The regions of AWS, of every partition, by botocore's own data, whatever the environment configures."""
    nowhere = (None, None, os.devnull, None)
    settings = {"profile": (None, None, None, None), "config_file": nowhere, "credentials_file": nowhere}
    session = Session(settings)
    partitions = session.get_available_partitions()
    return [name for one in partitions for name in session.get_available_regions("dynamodb", one)]


def own_region() -> str | None:
    """The region of the environment; None where it has none, or a profile that is not there."""
    try:
        session = botocore_session(None, _files())
        region: str | None = os.environ.get("AWS_REGION") or session.get_config_variable("region")
    except RAISED:
        return None
    return region


# The codes of https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html and of the same page
# of DynamoDB, KMS and S3; for throttling and transient errors, the codes that botocore's own retries know.
_THROTTLED = re.compile(
    r"Throttl|SlowDown|TooManyRequests|(Bandwidth|Request)LimitExceeded|ThroughputExceeded"
)
_OUTAGES = {
    *("RequestTimeout", "RequestTimeoutException", "SessionDurationEscalationException"),
    "ConditionalRequestConflict",
}
"""They come with a status below 500; whatever has a higher one is an outage, too. The third is of STS: the caller's own
session ends before the token would, and Lambda renews it. The last is of S3, where another write of the same name was
under way, and one of the two has won (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html)."""
_SERVER_ERRORS = range(500, 600)
_UNREACHABLE = (
    BotoConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    OSError,
    UrllibError,  # Botocore does not translate it if the body of an error is cut.
)
_DENIED = (NoCredentialsError, PartialCredentialsError, ConfigParseError, ProfileNotFound)
_MALFORMED = (ResponseParserError, ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What botocore or a reader of its reply raises for a reply that is not from AWS: a proxy's page, half a document."""
RAISED = (ClientError, BotoCoreError, OSError, UrllibError, *_MALFORMED)
"""All that a call raises."""


def error_code(error: ClientError) -> str:
    """The service's code, such as `ResourceNotFoundException`; for a reply without a body the HTTP status."""
    return str(error.response.get("Error", {}).get("Code") or "")


def diagnose(error: Exception) -> tuple[ErrorKind, str]:
    """The meaning of a failure, and a code to show."""
    if not isinstance(error, ClientError):
        return _local_trouble(error), type(error).__name__
    code = error_code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if _THROTTLED.search(code):
        return ErrorKind.THROTTLED, code
    if code in _REFUSALS:
        return ErrorKind.DENIED, code
    is_outage = code in _OUTAGES or status in _SERVER_ERRORS
    return ErrorKind.UNREACHABLE if is_outage else ErrorKind.REJECTED, code


def _local_trouble(error: Exception) -> ErrorKind:
    if isinstance(error, SSLError):
        # For botocore it is a connection error, but a retry does not help.
        return ErrorKind.REJECTED
    if isinstance(error, _UNREACHABLE + _MALFORMED):
        return ErrorKind.UNREACHABLE
    return ErrorKind.DENIED if isinstance(error, _DENIED) else ErrorKind.REJECTED


@contextmanager
def translated(errors: Errors, **where: str | int) -> Iterator[None]:
    """Turn every exception of botocore inside into one of `errors`, with `where` and the code.

    This includes exceptions from reading a malformed reply inside the block.
    """
    try:
        yield
    except SessionFailure as failure:
        raise errors[failure.kind](**where, code=failure.code) from failure.problem
    except RAISED as error:
        kind, code = diagnose(error)
        raise errors[kind](**where, code=code) from environment_problem(error)


# AWS Security Token Service: who calls. Every identity may ask this.


def caller_arn(client: Any) -> str:  # noqa: ANN401 - botocore makes its clients' types at run time
    """The ARN of the identity, which an audit entry names."""
    with translated(AUDIT_ERRORS):
        return str(client.get_caller_identity()["Arn"])
