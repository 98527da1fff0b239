"""Reads of OCI, for checks: no other call can be made through this, and each is made once."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.oci.clients import OciClients, OciIdentity, Untyped, environment_problem
from lockstep.protocol.errors import (
    Environment,
    EnvironmentalError,
    LockstepError,
    StoreAccessDeniedError,
)

READS = ("get_", "head_", "list_", "summarize_")
"""How the names of operations begin that change nothing."""
_NOT_FOUND = "404"
"""What OCI answers where something is missing, or may not be seen: it does not say which."""


class OciReads:
    """What is in a tenancy.

    Args:
        clients: Gives the clients of a region.
    """

    def __init__(self, clients: Callable[[str], OciClients]) -> None:
        self._clients = clients
        self._lock = Lock()
        self._answers: dict[str, Untyped] = {}

    def __call__(
        self, region: str, client: str, operation: str, *arguments: Untyped, **more: Untyped
    ) -> Untyped:
        """What a read gives; of a list the items of every page.

        Args:
            region: Where is asked.
            client: The class in the SDK, such as `identity.IdentityClient`.
            operation: The SDK's name of it.
            arguments: Of the operation.
            more: Likewise, by name.

        Raises:
            EnvironmentalError: It gives nothing.
        """
        if not operation.startswith(READS):
            raise ValueError(f"{operation} is not a read")
        key = repr((region, client, operation, arguments, sorted(more.items())))
        with self._lock:
            if key in self._answers:
                return self._answers[key]
        with explained(action_of(operation)):
            answer = self._response(region, client, operation, *arguments, **more).data
        with self._lock:
            self._answers[key] = answer
        return answer

    def plain(self, *call: Untyped, **more: Untyped) -> Untyped:
        """What a read gives, as JSON has it; arguments and errors as above."""
        return oci.util.to_dict(self(*call, **more))

    def config(self, region: str) -> Mapping[str, Untyped]:
        """What the identity says of itself: `tenancy`, `user`."""
        with explained("sign"):
            return self._clients(region).config

    def _response(
        self, region: str, client: str, operation: str, *arguments: Untyped, **more: Untyped
    ) -> Untyped:
        module, _, name = client.rpartition(".")
        kind: Untyped = oci
        for part in (*module.split("."), name):
            kind = getattr(kind, part)
        call = getattr(self._clients(region).of(kind), operation)
        if not operation.startswith("list_"):
            return call(*arguments, **more)
        return oci.pagination.list_call_get_all_results(call, *arguments, **more)


@contextmanager
def explained(action: str) -> Iterator[None]:
    """Turn what the SDK raises into an EnvironmentalError."""
    try:
        yield
    except StoreAccessDeniedError as error:
        # There is no identity; its cause says why.
        if isinstance(error.__cause__, EnvironmentalError):
            raise error.__cause__ from None
        raise
    except LockstepError:
        raise
    except Exception as error:  # noqa: BLE001 - the SDK raises many kinds
        code = str(getattr(error, "code", None) or type(error).__name__)
        if str(getattr(error, "status", "")) == _NOT_FOUND:
            raise EnvironmentalError(
                Environment.OCI_ACTION_DENIED, action=action, code=f"{_NOT_FOUND} {code}"
            ) from None
        raise (
            environment_problem(error)
            or EnvironmentalError(Environment.OCI_CALL_REFUSED, action=action, code=code)
        ) from None


def action_of(operation: str) -> str:
    """The name of an operation in Oracle's documentation."""
    return "".join(word.title() for word in operation.split("_"))


def namespace_of(identity: OciIdentity, region: str, *, endpoint: str | None = None) -> str:
    """The Object Storage namespace of the identity's tenancy.

    Raises:
        EnvironmentalError: It cannot be had.
    """
    with explained("GetNamespace"):
        clients = OciClients(lambda: identity, region, endpoint=endpoint)
        return str(clients.objects.get_namespace().data)
