"""A recorder around the ports of a run: each call of a cloud or a database is a span.

Names are those of OpenTelemetry's semantic conventions, version 1.44, where they have one for a call at this height: a
call of a port may be several requests.
https://opentelemetry.io/docs/specs/semconv/db/database-spans/, https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans/
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar, cast

from lockstep.compiled import AwsStore, CompiledPlan, Store
from lockstep.loading import later
from lockstep.model import DatabaseServer
from lockstep.ports import AuditLog, Database, Ports, Replica
from lockstep.stores import Stores
from lockstep.tracing.trace import Attributes, client_span

PortT = TypeVar("PortT")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """What is called.

    Attributes:
        name: Its name in the names of spans.
        operation: The attribute that names the operation.
    """

    name: str
    attributes: Attributes
    operation: str = "lockstep.operation"

    def called(self, operation: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call as a span."""

        def recorded(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - those of the call
            seen = {**self.attributes, self.operation: operation}
            with client_span(f"{operation} {self.name}", seen) as attributes:
                result = call(*arguments, **options)
                if isinstance(result, bool):
                    attributes["lockstep.answer"] = result
            return result

        return recorded


_Way = Callable[[_Place, str, Any], object]
"""What stands for an attribute of a port: from the place, the attribute's name and its value."""


def _call(place: _Place, name: str, found: Callable[..., Any]) -> Callable[..., Any]:
    return place.called(name, found)


def _then(after: str) -> _Way:
    """A call that gives another one."""

    def way(place: _Place, name: str, found: Callable[..., Any]) -> Callable[..., Any]:
        first = place.called(name, found)
        return lambda *arguments, **options: place.called(after, first(*arguments, **options))

    return way


def _pages(place: _Place, name: str, found: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """A list that comes page by page: the first page is the span."""

    def recorded(*arguments: Any, **options: Any) -> Iterator[Any]:  # noqa: ANN401 - those of the call
        items = found(*arguments, **options)
        yield from place.called(name, lambda: list(islice(items, 1)))()
        yield from items

    return recorded


def _entered(place: _Place, name: str, found: Callable[..., Any]) -> Callable[..., Any]:
    """A context: entering it is the span. It may be left in another thread than it was entered in."""

    @contextmanager
    def opened(*arguments: Any, **options: Any) -> Iterator[Any]:  # noqa: ANN401 - those of the call
        with ExitStack() as held:
            inside = place.called(name, lambda: held.enter_context(found(*arguments, **options)))()
            yield _traced(inside, place, STAGER)

    return opened


def _each_replica(place: _Place, _name: str, found: tuple[Replica, ...]) -> tuple[Replica, ...]:
    return tuple(_traced(replica, replace(place, name=replica.name), REPLICA) for replica in found)


def _all(*names: str) -> dict[str, _Way]:
    return dict.fromkeys(names, _call)


LOCK = {
    **_all("read", "acquire", "note_skip", "claim", "begin_promotion", "require", "require_lease"),
    **_all("mute", "move_head", "release"),
}
STORE: dict[str, _Way] = {
    **_all("read_current", "generation", "read_version", "read_generation", "shows", "version_of", "prune"),
    "prepare": _then("stage"),
    "prepare_promotion": _then("promote"),
    "spread": _then("shows_spread"),
}
DATABASE: dict[str, _Way] = {
    **_all("accepts", "admin_login"),
    "exclusive": _entered,
    "replicas": _each_replica,
}
STAGER = _all("stage", "retire", "accepts_after_all")
REPLICA = _all("accepts")
AUDIT_LOG: dict[str, _Way] = {**_all("put", "look", "read"), "numbers": _pages, "history": _pages}
SIGNER = _all("sign", "fingerprint_key", "verify")
"""The calls of each port, by what stands for them; what is not named makes none."""


class _Traced:
    """Stands for a port, which is not opened before one of its attributes is asked for."""

    __slots__ = ("_place", "_port", "_ways")

    def __init__(self, port: object, place: _Place, ways: Mapping[str, _Way]) -> None:
        self._port, self._place, self._ways = port, place, ways

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the port
        found = getattr(self._port, name)
        way = self._ways.get(name)
        return way(self._place, name, found) if way else found


def _traced(port: PortT, place: _Place, ways: Mapping[str, _Way]) -> PortT:
    return cast("PortT", _Traced(port, place, ways))


def traced_ports(plan: CompiledPlan, ports: Ports) -> Ports:
    """The same ports, with a recorder around each."""
    return replace(
        ports,
        lock=_traced(ports.lock, _lock(plan), LOCK),
        stores=later(partial(_stores, plan, ports)),
        home_store=_traced(ports.home_store, _home(plan, ports.runner), STORE),
        databases={s.name: _database(s, ports.databases[s.name]) for s in ports.credential.servers},
        audit_log=_traced(ports.audit_log, _log(plan, ports.runner), AUDIT_LOG),
        other_logs=partial(_other_logs, plan, ports),
        signer=_traced(ports.signer, _log(plan, ports.runner), SIGNER),
    )


def _lock(plan: CompiledPlan) -> _Place:
    table = plan.lock
    attributes = {
        "db.system.name": "aws.dynamodb",
        "db.collection.name": table.table,
        "cloud.region": table.region,
    }
    return _Place(name=table.table, attributes=attributes, operation="db.operation.name")


def _stores(plan: CompiledPlan, ports: Ports) -> Stores:
    stores = zip(plan.stores, ports.stores, strict=True)
    return Stores(
        [_traced(store, _store(config), STORE) for config, store in stores], side_by_side=ports.side_by_side
    )


def _store(config: Store) -> _Place:
    cloud = "aws" if isinstance(config, AwsStore) else "oci"
    return _Place(
        name=config.name, attributes={"lockstep.store": config.name, **_of_cloud(cloud, config.region)}
    )


def _home(plan: CompiledPlan, runner: str) -> _Place:
    own = plan.vault if runner == "oci" else plan.aws_store
    return _store(own or plan.stores[0])


def _database(server: DatabaseServer, port: Database) -> Database:
    attributes: Attributes = {
        "db.system.name": server.engine.value,
        "db.namespace": server.dbname,
        "server.address": server.host,
        "server.port": server.port,
    }
    return _traced(
        port, _Place(name=server.name, attributes=attributes, operation="db.operation.name"), DATABASE
    )


def _log(plan: CompiledPlan, cloud: str) -> _Place:
    if cloud == "aws":
        aws = plan.aws_stream
        attributes = {"aws.s3.bucket": aws.bucket, **_of_cloud("aws", aws.region)}
    else:
        attributes = _of_cloud("oci", plan.oci_stream.region if plan.oci_stream else "")
    return _Place(name=f"audit log of {cloud}", attributes=attributes)


def _other_logs(plan: CompiledPlan, ports: Ports) -> list[AuditLog]:
    return [_traced(log, _log(plan, log.stream), AUDIT_LOG) for log in ports.other_logs()]


def _of_cloud(cloud: str, region: str) -> dict[str, str | int | bool]:
    return {"rpc.system.name": f"{cloud}-api", "cloud.region": region}
