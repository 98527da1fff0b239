"""Which operation a request names, in the SDK's words, and on what resource; calls, and their log."""

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeVar
from urllib.parse import unquote

from sandbox.emulators.oci.errors import ApiError, invalid, not_emulated
from sandbox.emulators.oci.identity import Principal
from sandbox.emulators.oci.wire import Details, Request

Service = Literal[
    "vault",
    "secrets",
    "kms",
    "objectstorage",
    "deployment",
    "identitydomain",
    "ons",
    "functions",
    "auth",
]

_SECRET: Final = "/20180608/secrets/{secret}"
_VERSION: Final = _SECRET + "/version/{version}"
_BUNDLE: Final = "/20190301/secretbundles/{secret}"
_BUCKET: Final = "/n/{namespace}/b/{bucket}"
_OBJECT: Final = _BUCKET + "/o/{object}"
_KEY: Final = "/20180608/keys/{key}"
_KEY_VERSION: Final = _KEY + "/keyVersions/{version}"
_PUBLIC_READS: Final = {"get_object", "head_object", "list_objects"}


@dataclass(frozen=True, slots=True)
class Route:
    """One operation.

    Attributes:
        service: Whose it is.
        operation: The SDK's name of it.
        method: HTTP's.
        pattern: Matches the path, undecoded, with a group for each parameter.
        named_by: Where the path names no resource, the field of the body or of the query that does.
    """

    service: Service
    operation: str
    method: str
    pattern: re.Pattern[str]
    named_by: str | None

    @property
    def covers_body(self) -> bool:
        """Whether its signature must cover the body ("Special instructions for Object Storage PUT")."""
        return self.operation != "put_object"

    @property
    def may_be_unsigned(self) -> bool:
        """Whether anyone may ask, since what is asked for may be public."""
        return self.operation in _PUBLIC_READS

    @property
    def is_unsigned(self) -> bool:
        """Whether its callers prove who they are in another way."""
        return self.service in {"identitydomain", "auth"}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: the operation, its path parameters, and the resource by which tests know it.

    The resource is a secret's OCID (its name, where it is created), a bucket, `bucket/object`, a topic, a key, or a
    user.
    """

    route: Route
    parameters: dict[str, str]
    resource: str


def _route(
    service: Service, operation: str, method: str, template: str, named_by: str | None = None
) -> Route:
    # An object's name may hold slashes that the client has left unencoded.
    expression = re.sub(
        r"\{(\w+)\}", lambda field: f"(?P<{field[1]}>{'.+' if field[1] == 'object' else '[^/]+'})", template
    )
    return Route(service, operation, method, re.compile(expression), named_by)


ROUTES: Final = (
    _route("secrets", "get_secret_bundle", "GET", _BUNDLE),
    _route("vault", "get_secret", "GET", _SECRET),
    _route("vault", "update_secret", "PUT", _SECRET),
    _route("vault", "list_secret_versions", "GET", _SECRET + "/versions"),
    _route("vault", "schedule_secret_version_deletion", "POST", _VERSION + "/actions/scheduleDeletion"),
    _route("vault", "schedule_secret_deletion", "POST", _SECRET + "/actions/scheduleDeletion"),
    _route("vault", "cancel_secret_deletion", "POST", _SECRET + "/actions/cancelDeletion"),
    _route("vault", "create_secret", "POST", "/20180608/secrets", "secretName"),
    _route("vault", "list_secrets", "GET", "/20180608/secrets", "name"),
    _route("objectstorage", "put_object", "PUT", _OBJECT),
    _route("objectstorage", "get_object", "GET", _OBJECT),
    _route("objectstorage", "head_object", "HEAD", _OBJECT),
    _route("objectstorage", "delete_object", "DELETE", _OBJECT),
    _route("objectstorage", "list_objects", "GET", _BUCKET + "/o"),
    _route("objectstorage", "list_object_versions", "GET", _BUCKET + "/objectversions"),
    _route("objectstorage", "restore_objects", "POST", _BUCKET + "/actions/restoreObjects", "objectName"),
    _route("objectstorage", "create_bucket", "POST", "/n/{namespace}/b", "name"),
    _route("objectstorage", "create_retention_rule", "POST", _BUCKET + "/retentionRules"),
    _route("objectstorage", "get_namespace", "GET", "/n"),
    _route("identitydomain", "exchange_token", "POST", "/oauth2/v1/token"),
    _route("auth", "get_metadata", "GET", "/opc/v2/{object}"),
    _route("auth", "exchange_certificate", "POST", "/v1/x509"),
    _route("auth", "exchange_pod_token", "POST", "/resourcePrincipalSessionTokens"),
    _route("kms", "get_key", "GET", _KEY),
    _route("kms", "list_key_versions", "GET", _KEY + "/keyVersions"),
    _route("kms", "create_key_version", "POST", _KEY + "/keyVersions"),
    _route("kms", "get_key_version", "GET", _KEY_VERSION),
    _route("kms", "sign", "POST", "/20180608/sign", "keyId"),
    _route("deployment", "list_applications", "GET", "/20260325/applications"),
    _route("deployment", "list_functions", "GET", "/20260325/functions"),
    _route("deployment", "get_function", "GET", "/20260325/functions/{function}"),
    _route("functions", "invoke_function", "POST", "/20260325/functions/{function}/actions/invoke"),
    _route("ons", "publish_message", "POST", "/20181201/topics/{topic}/messages"),
)


def target_of(request: Request) -> Target:
    """Find the operation.

    Raises:
        ApiError: 501 where no operation of the emulator's is meant.
    """
    path = request.path
    for route in ROUTES:
        if route.method == request.method and (found := route.pattern.fullmatch(path)):
            parameters = {name: unquote(value) for name, value in found.groupdict().items()}
            return Target(route, parameters, _resource(route, parameters, request))
    raise not_emulated(f"{request.method} {path}")


def _resource(route: Route, parameters: dict[str, str], request: Request) -> str:
    known = ("secret", "bucket", "object", "topic", "function", "key", "user")
    parts = [parameters[name] for name in known if name in parameters]
    if route.named_by is not None:
        parts.append(request.query.get(route.named_by) or _named_in_body(request, route.named_by))
    return "/".join(parts)


def _named_in_body(request: Request, field: str) -> str:
    # A malformed body has no name; its operation will say what is wrong with it.
    try:
        return Details.parsed(request.body).text(field) or ""
    except ApiError:
        return ""


ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Call:
    """An authenticated request for an operation."""

    target: Target
    request: Request
    principal: Principal

    @property
    def path(self) -> Mapping[str, str]:
        """The parameters in the path, decoded."""
        return self.target.parameters

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers, names in lower case."""
        return self.request.headers

    def details(self) -> Details:
        """The JSON body."""
        return Details.parsed(self.request.body)

    def may(self, *permissions: str, resource: str | None, compartment: str) -> bool:
        """Whether the caller has all the permissions on the resource."""
        return all(
            self.principal.may(permission, resource=resource, compartment=compartment)
            for permission in permissions
        )

    def page_of(self, items: Sequence[ItemT], default_limit: int) -> tuple[Sequence[ItemT], dict[str, str]]:
        """The asked-for page of a list, and the header that leads to the next one."""
        query = self.request.query
        limit, page = query.get("limit", str(default_limit)), query.get("page", "0")
        if not limit.isdecimal() or not page.isdecimal() or int(limit) < 1:
            raise invalid("limit or page is malformed")
        start, end = int(page), int(page) + int(limit)
        return items[start:end], {"opc-next-page": str(end)} if end < len(items) else {}


class CallRecord(NamedTuple):
    """One call, without anything it carried. `status` is None where no answer was sent."""

    service: Service
    operation: str
    resource: str
    principal: str | None
    status: int | None


class CallLog:
    """Every call in the order in which it was answered (or dropped)."""

    def __init__(self) -> None:
        """Begin empty."""
        self._lock = threading.Lock()
        self._records: list[CallRecord] = []

    def add(self, record: CallRecord) -> None:
        """Write one down."""
        with self._lock:
            self._records.append(record)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._records.clear()

    @property
    def records(self) -> tuple[CallRecord, ...]:
        """A copy of the log."""
        with self._lock:
            return tuple(self._records)

    def count(
        self, operation: str | None = None, *, resource: str | None = None, principal: str | None = None
    ) -> int:
        """How many calls there were of an operation, on a resource, by a principal; None counts any."""
        return sum(
            operation in {None, record.operation}
            and resource in {None, record.resource}
            and principal in {None, record.principal}
            for record in self.records
        )
