"""A call on its way through a service, and the log of all calls."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from sandbox.emulators.oci.errors import invalid
from sandbox.emulators.oci.identity import Principal
from sandbox.emulators.oci.routes import Service, Target
from sandbox.emulators.oci.wire import Details, Request

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
