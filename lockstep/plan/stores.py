"""The kinds of store that a plan can name.

A kind is one class: its keys in the plan file and its checks. To add a kind, write that class, add it to
`lockstep.plan.stores`, what a runner needs of it to `lockstep.plan.compiled`, and its adapter to
`lockstep.runtime.clouds.open_secret`.
"""

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from lockstep.plan.compiled import AwsStore, Store, VaultStore, fields_of
from lockstep.plan.fields import Name, Region, Section, Text, repeated
from lockstep.protocol.durations import format_duration
from lockstep.protocol.names import oci_name, slot_name
from lockstep.protocol.ring import MAX_SLOTS, version_budget

# What every kind of store has.


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a plan asks of each of its stores.

    Attributes:
        rotated: Names of the credentials' secrets.
        fixed: Names of the secrets that Lockstep only reads.
        intervals: Each credential's interval, by its id.
    """

    rotated: tuple[str, ...]
    fixed: tuple[str, ...]
    intervals: Mapping[str, timedelta]


class StoreKind(Section):
    """A store in the plan."""

    @abstractmethod
    def compile(self) -> Store:
        """What a runner needs of it."""

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, object]:
        """What makes it this store and no other, in the plan digest (protocol O1)."""

    @property
    def place(self) -> tuple[object, ...]:
        """Where its readers find it: a store at another place is another store for them."""
        return tuple(self.identity.values())

    def problems(self, path: str, demand: Demand) -> Iterator[str]:
        """Why a plan with this demand cannot use the store; nothing where it can.

        Args:
            path: This section's place in the file; each problem begins with it.
            demand: What the plan asks of the store.
        """
        del path, demand
        yield from ()


# The store kind `aws-secrets-manager`.

SHORTEST_INTERVAL = timedelta(minutes=15)
"""96 versions a day: a secret keeps about 100, and none younger than 24 hours is removed
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html)."""


class AwsSecretsManager(StoreKind):
    """The AWS store."""

    kind: Literal["aws-secrets-manager"]
    """AWS Secrets Manager."""
    name: Name = "aws"
    """Its name in commands and messages."""
    region: Region
    """Where the secrets are."""

    def compile(self) -> AwsStore:
        """What a runner needs of it."""
        return AwsStore(**fields_of(AwsStore, self))

    @property
    def identity(self) -> Mapping[str, object]:
        """Its region. The account is the one that the runners' identities belong to."""
        return {"kind": self.kind, "region": self.region}

    def problems(self, path: str, demand: Demand) -> Iterator[str]:
        """Intervals that exhaust the quota of versions."""
        for credential_id, interval in demand.intervals.items():
            if interval < SHORTEST_INTERVAL:
                yield (
                    f"{path}: an interval of {format_duration(interval)} ({credential_id}) exhausts Secrets Manager's "
                    "quota of versions within a day; use an interval of 15m or more"
                )


# The store kind `oci-vault`: each secret is a ring of plain secrets (`lockstep.protocol.ring`).

Ocid = Annotated[str, Text(r"ocid1\.[a-z0-9.]+[A-Za-z0-9._-]*", "an OCID, which begins with ocid1.")]
_ALLOWED_NAME = re.compile(r"[A-Za-z0-9/_.-]+")


class OciVault(StoreKind):
    """The OCI store: each secret is a ring of `ring` plain secrets."""

    kind: Literal["oci-vault"]
    """OCI Vault."""
    name: Name = "oci"
    """Its name in commands and messages."""
    region: Region
    """Where the secrets are."""
    compartment_id: Ocid
    """The compartment of the rings, which are alone in it."""
    own_compartment_id: Ocid | None = None
    """The compartment of what Lockstep only reads: logins of administrators, keys; `compartment_id` unless given."""
    vault_id: Ocid
    """The vault."""
    ring: Annotated[int, Field(ge=1, le=MAX_SLOTS)] = 4
    """How many secrets take turns for each one in AWS, since one takes 30 versions a day."""
    readers_ring: Annotated[int, Field(ge=1, le=MAX_SLOTS)] | None = None
    """How many slots every reader reads; as many as the ring has unless given."""

    @property
    def slots_of_readers(self) -> int:
        """How many slots every reader reads."""
        return self.readers_ring or self.ring

    @property
    def compartment_of_own_secrets(self) -> str:
        """Where the secrets are that Lockstep only reads. No value depends on it."""
        return self.own_compartment_id or self.compartment_id

    def compile(self) -> VaultStore:
        """What a runner needs of it."""
        return VaultStore(**fields_of(VaultStore, self))

    @property
    def identity(self) -> Mapping[str, object]:
        """Its vault and the number of slots. Not `readers_ring`: no value depends on it."""
        return {"kind": self.kind, "region": self.region, "vault": self.vault_id, "ring": self.ring}

    @property
    def place(self) -> tuple[object, ...]:
        """Vault and compartment, by which readers look for slots; not their number, which may change (protocol V16)."""
        return (self.kind, self.region, self.vault_id, self.compartment_id)

    def problems(self, path: str, demand: Demand) -> Iterator[str]:
        """Names that Vault does not accept or that collide there, and rings that run out of versions."""
        for name in demand.rotated + demand.fixed:
            if not _ALLOWED_NAME.fullmatch(name):
                yield f"{path}: Vault does not accept the secret name {name}; use letters, digits and - _ . /"
        if self.slots_of_readers < self.ring:
            yield (
                f"{path}.readers_ring: readers of {self.readers_ring} slots miss values in a ring of {self.ring}; "
                "to let a ring grow, first let every reader read more slots and raise readers_ring, then raise ring; "
                "to let it shrink, first lower ring, and lower readers_ring only once that plan is active"
            )
        slots = [slot_name(name, i) for name in demand.rotated for i in range(self.slots_of_readers)]
        slots += [oci_name(name) for name in demand.fixed]
        yield from repeated(((path, name) for name in slots), "secret name in Vault ")
        for credential_id, interval in demand.intervals.items():
            budget = version_budget(interval, self.ring)
            if budget.wedges_after is not None:
                yield (
                    f"{path}.ring: {self.ring} slots at an interval of {format_duration(interval)} ({credential_id}) "
                    f"exhaust Vault's quota of versions after {format_duration(budget.wedges_after)}; {budget.advice}"
                )


# What an entry of `stores` in a plan can be.

StoreConfig = Annotated[AwsSecretsManager | OciVault, Field(discriminator="kind")]
"""One entry of `stores` in a plan."""
