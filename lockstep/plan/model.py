"""The plan file's content, checked before anything runs (`lockstep.plan.file` reads it).

An unknown key is a mistake. A plan that is valid can be rotated by either runner. The sections `databases` and
`credentials` compile to the plain values of `lockstep.protocol.model`, with every default filled in.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal

from msgspec import convert, structs
from pydantic import Field

from lockstep.plan import compiled as messages
from lockstep.plan.checks import problems
from lockstep.plan.compiled import CompiledPlan, message, plan_digest
from lockstep.plan.credentials import CredentialSection, DatabaseSection
from lockstep.plan.fields import Section
from lockstep.plan.runners import Events, Runners
from lockstep.plan.stores import Audit, LockTable, OciVault, StoreConfig, StoreT
from lockstep.protocol.model import Credential, DatabaseServer
from lockstep.protocol.ring import slots_at
from lockstep.protocol.schedule import Shard, shards


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

    def problems(self) -> Iterator[str]:
        """As in the base class."""
        return problems(self)

    @cached_property
    def databases(self) -> tuple[DatabaseServer, ...]:
        """The servers."""
        return tuple(section.compile() for section in self.database_sections)

    @property
    def credentials(self) -> tuple[Credential, ...]:
        """The credentials, complete."""
        return self.compiled.credentials

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """What each rule starts."""
        return shards({section.id: section.interval for section in self.credential_sections})

    @cached_property
    def compiled(self) -> CompiledPlan:
        """What a runner needs of it."""
        audit, runners, events = self.audit, self.runners, self.events or Events()
        region, vault = self.lock.region, self.store(OciVault)
        oci_region = vault.region if vault else ""
        servers = {server.name: server for server in self.databases}
        phases = {key: shard.phase for shard in self.shards for key in shard.credential_ids}
        lock = message(messages.LockTable, self.lock)
        stores = convert(self.stores, tuple[messages.Store, ...], from_attributes=True)
        credentials = (section.compile(servers, phases[section.id]) for section in self.credential_sections)
        return CompiledPlan(
            lock=lock,
            stores=stores,
            aws_stream=message(messages.AwsStream, audit.aws, region=region),
            oci_stream=message(messages.OciStream, audit.oci, region=oci_region) if audit.oci else None,
            to_oci=runners.aws.compile(),
            to_aws=runners.oci.compile() if runners.oci else None,
            credentials=tuple(
                structs.replace(c, plan_digest=plan_digest(c, lock, stores)) for c in credentials
            ),
            event_bus=messages.EventBus(name=events.aws, region=region) if events.aws else None,
            event_topic=messages.EventTopic(topic_id=events.oci, region=oci_region) if events.oci else None,
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
