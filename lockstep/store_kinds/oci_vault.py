"""The store kind `oci-vault`: each secret is a ring of plain secrets (`lockstep.oci.ring`)."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from lockstep.compiled import VaultStore, fields_of
from lockstep.durations import format_duration
from lockstep.plan_fields import Name, Region, Text, repeated
from lockstep.store_kinds.base import Demand, StoreKind
from lockstep.store_kinds.oci_budget import MAX_SLOTS, version_budget
from lockstep.store_kinds.oci_names import oci_name, slot_name

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
