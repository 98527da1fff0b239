"""The plan file's content, checked before anything runs (`lockstep.plan.file` reads it).

An unknown key is a mistake. A plan that is valid can be rotated by either runner. The sections `databases` and
`credentials` compile to the plain values of `lockstep.protocol.model`, with every default filled in.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, model_validator

from lockstep.plan.admins import admin_problems, admin_secrets, names_in_oci
from lockstep.plan.checks import (
    account_problems,
    server_problems,
    standby_problems,
    verify_host_problems,
)
from lockstep.plan.compiled import AwsStream, CompiledPlan, EventBus, EventTopic, OciStream, fields_of
from lockstep.plan.compiled import LockTable as LockTableOfRunner
from lockstep.plan.credentials import CredentialSection
from lockstep.plan.databases import DatabaseSection
from lockstep.plan.fields import Region, Section, Text, near, refuse, repeated, with_hint
from lockstep.plan.runners import Audit, Events, Runners
from lockstep.plan.stores import Demand, OciVault, StoreConfig, StoreKind
from lockstep.protocol.model import ANY_HOST, ENGINES, Credential, DatabaseServer
from lockstep.protocol.ring import slots_at
from lockstep.protocol.schedule import Shard, shards

StoreT = TypeVar("StoreT", bound=StoreKind)

_BLOB = "secrets.connection_blob"
_SHARED_BLOB = (
    "By default it is the same for all ids with the same part before the last slash: give each credential names of its "
    "own, `secrets: {app_user: …, connection_blob: …}`"
)


class LockTable(Section):
    """The DynamoDB table that says who may rotate."""

    table: Annotated[str, Text(r"[A-Za-z0-9_.-]{3,255}", "3 to 255 letters, digits and _ . -")]
    """Its name."""
    region: Region
    """Where it is."""


_DERIVED = ("databases", "credentials", "shards")


class Plan(Section):
    """The whole file."""

    version: Literal[1]
    """Of the format of this file."""
    lock: LockTable
    """The lock table, in AWS."""
    stores: Annotated[tuple[StoreConfig, ...], Field(min_length=1)]
    """The secrets managers that hold the credentials; the first one decides what a value is."""
    audit: Audit
    """Where every rotation is on record."""
    runners: Runners = Runners()
    """Who rotates, and who each is in the other cloud."""
    database_sections: Annotated[tuple[DatabaseSection, ...], Field(alias="databases", min_length=1)]
    """The servers on which credentials log in."""
    credential_sections: Annotated[tuple[CredentialSection, ...], Field(alias="credentials", min_length=1)]
    """The logins that are rotated."""
    events: Events | None = None
    """Where events go; by default none is sent."""

    @model_validator(mode="after")
    def _references(self) -> Self:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[str]:
        yield from repeated((f"databases[{i}].name", d.name) for i, d in enumerate(self.database_sections))
        yield from repeated((f"stores[{i}].name", s.name) for i, s in enumerate(self.stores))
        yield from repeated((f"stores[{i}].kind", s.kind) for i, s in enumerate(self.stores))
        yield from self._credential_problems()
        yield from server_problems(self)
        yield from verify_host_problems(self)
        yield from account_problems(self)
        yield from admin_problems(self)
        demand = Demand(
            rotated=self._rotated,
            fixed=(*names_in_oci(self), *(name for _, name in self._keys())),
            intervals={c.id: c.interval for c in self.credential_sections},
            slots=self.slots,
        )
        for i, store in enumerate(self.stores):
            yield from store.problems(f"stores[{i}]", demand)
        has_oci = self.store(OciVault) is not None
        if has_oci and not self.runners.aws.compile():
            yield "runners.aws: needs federation, or instead oci_key_secret, because one store is in OCI"
        yield from standby_problems(self)
        if self.runners.oci and not (has_oci and self.audit.oci):
            yield "runners.oci: needs a store of kind oci-vault, and audit.oci"
        if self.events and self.events.oci and not self.runners.oci:
            yield "events.oci: needs runners.oci, which sends there"

    def _credential_problems(self) -> Iterator[str]:
        # In OCI's names and in the audit log's folders a dot replaces the slash, so `a/b` and `a.b` collide there.
        dotted = ((place, _dotted(name)) for place, name in self._secrets())
        for told in repeated(dotted, "with dots for slashes, secret name "):
            yield f"{told}. {_SHARED_BLOB}" if _BLOB in told.partition(": ")[0] else told
        ids = [(f"credentials[{i}].id", _dotted(c.id)) for i, c in enumerate(self.credential_sections)]
        yield from repeated(ids, "with dots for slashes, ")
        engines = {d.name: d.engine for d in self.database_sections}
        for i, credential in enumerate(self.credential_sections):
            path = f"credentials[{i}]"
            for j, unknown in enumerate(credential.databases):
                if unknown not in engines:
                    told = f"the plan has no database {unknown}, only {', '.join(engines)}"
                    yield f"{path}.databases[{j}]: {with_hint(told, near(unknown, engines))}"
            for engine in sorted({engines[n] for n in credential.databases if n in engines}):
                allowed = ENGINES[engine].strategies
                if credential.strategy not in allowed:
                    yield f"{path}.strategy: {engine} does not allow it; use {' or '.join(sorted(allowed))}"
                if credential.account_host != ANY_HOST and not ENGINES[engine].accounts_have_hosts:
                    yield f"{path}.account_host: accounts of {engine} have no host; leave it out"
            yield from repeated((f"{path}.databases[{j}]", n) for j, n in enumerate(credential.databases))

    def _secrets(self) -> Iterator[tuple[str, str]]:
        """The places and names of all secrets, each admin's once."""
        for i, credential in enumerate(self.credential_sections):
            names, path = credential.secret_names, f"credentials[{i}]"
            yield f"{path}.secrets.app_user" if credential.secrets else f"{path}.id", names.app_user
            yield f"{path}.{_BLOB}", names.connection_blob
        yield from self._keys()
        yield from {_dotted(name): (place, name) for place, name in admin_secrets(self)}.values()

    @property
    def _rotated(self) -> tuple[str, ...]:
        names = [c.secret_names for c in self.credential_sections]
        return tuple(name for n in names for name in (n.app_user, n.connection_blob))

    def _keys(self) -> Iterator[tuple[str, str]]:
        """The places and names of the secrets with keys, which Lockstep only reads."""
        yield from self.runners.keys
        if self.audit.oci:
            yield "audit.oci.mac_secret", self.audit.oci.mac_secret

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other fields; what was derived from the old ones is derived again."""
        copy = super().model_copy(update=update, deep=deep)
        for name in _DERIVED:
            copy.__dict__.pop(name, None)
        return copy

    @cached_property
    def databases(self) -> tuple[DatabaseServer, ...]:
        """The servers."""
        return tuple(section.compile() for section in self.database_sections)

    @cached_property
    def credentials(self) -> tuple[Credential, ...]:
        """The credentials, complete."""
        servers = {server.name: server for server in self.databases}
        phases = {key: shard.phase for shard in self.shards for key in shard.credential_ids}
        return tuple(
            section.compile(servers, lock=self.lock, stores=self.stores, phase=phases[section.id])
            for section in self.credential_sections
        )

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """What each rule starts."""
        return shards({section.id: section.interval for section in self.credential_sections})

    @cached_property
    def compiled(self) -> CompiledPlan:
        """What a runner needs of it."""
        audit, runners = self.audit, self.runners
        bus, topic = (self.events.aws, self.events.oci) if self.events else (None, None)
        return CompiledPlan(
            lock=LockTableOfRunner(**fields_of(LockTableOfRunner, self.lock)),
            stores=tuple(store.compile() for store in self.stores),
            aws_stream=AwsStream(**fields_of(AwsStream, audit.aws)),
            oci_stream=OciStream(**fields_of(OciStream, audit.oci)) if audit.oci else None,
            to_oci=runners.aws.compile(),
            to_aws=runners.oci.compile() if runners.oci else None,
            credentials=self.credentials,
            event_bus=EventBus(**fields_of(EventBus, bus)) if bus else None,
            event_topic=EventTopic(**fields_of(EventTopic, topic)) if topic else None,
        )

    def credential(self, credential_id: str) -> Credential | None:
        """The credential with that id."""
        return self._by_id.get(credential_id)

    @cached_property
    def _by_id(self) -> dict[str, Credential]:
        return {credential.id: credential for credential in self.credentials}

    @property
    def slots(self) -> int:
        """How many slots a ring has, if the plan has a store in OCI."""
        return slots_at(next((i for i, s in enumerate(self.stores) if isinstance(s, OciVault)), 0))

    def store(self, kind: type[StoreT]) -> StoreT | None:
        """The store of that kind, if the plan has one."""
        return next((s for s in self.stores if isinstance(s, kind)), None)


def _dotted(name: str) -> str:
    return name.replace("/", ".")
