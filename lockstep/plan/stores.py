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
from lockstep.plan.fields import Name, Region, Section, Text, format_duration, repeated
from lockstep.protocol.names import oci_name, slot_name
from lockstep.protocol.ring import version_budget

# What every kind of store has.


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a plan asks of each of its stores.

    Attributes:
        rotated: Names of the credentials' secrets.
        fixed: Names of the secrets that Lockstep only reads.
        intervals: Each credential's interval, by its id.
        slots: How many slots a ring has.
    """

    rotated: tuple[str, ...]
    fixed: tuple[str, ...]
    intervals: Mapping[str, timedelta]
    slots: int


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
    """The OCI store: each secret is a ring of plain secrets."""

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

    @property
    def compartment_of_own_secrets(self) -> str:
        """Where the secrets are that Lockstep only reads. No value depends on it."""
        return self.own_compartment_id or self.compartment_id

    def compile(self) -> VaultStore:
        """What a runner needs of it."""
        return VaultStore(**fields_of(VaultStore, self))

    @property
    def identity(self) -> Mapping[str, object]:
        """Its vault."""
        return {"kind": self.kind, "region": self.region, "vault": self.vault_id}

    @property
    def place(self) -> tuple[object, ...]:
        """Vault and compartment, by which readers look for slots."""
        return (*self.identity.values(), self.compartment_id)

    def problems(self, path: str, demand: Demand) -> Iterator[str]:
        """Names that Vault does not accept or that collide there, and rings that run out of versions."""
        for name in demand.rotated + demand.fixed:
            if not _ALLOWED_NAME.fullmatch(name):
                yield f"{path}: Vault does not accept the secret name {name}; use letters, digits and - _ . /"
        slots = [slot_name(name, i) for name in demand.rotated for i in range(demand.slots)]
        slots += [oci_name(name) for name in demand.fixed]
        yield from repeated(((path, name) for name in slots), "secret name in Vault ")
        for credential_id, interval in demand.intervals.items():
            budget = version_budget(interval, demand.slots)
            if budget.wedges_after is not None:
                yield (
                    f"{path}: an interval of {format_duration(interval)} ({credential_id}) exhausts Vault's quota of "
                    f"versions after {format_duration(budget.wedges_after)}; {budget.advice}"
                )


# What an entry of `stores` in a plan can be.

StoreConfig = Annotated[AwsSecretsManager | OciVault, Field(discriminator="kind")]
"""One entry of `stores` in a plan."""
