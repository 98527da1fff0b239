"""Buckets and the versions of their objects: state without any HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from sandbox.emulators.oci.clock import rfc3339

Tier = Literal["Standard", "Archive"]
ArchivalState = Literal["Archived", "Restoring", "Restored"]
PublicAccess = Literal["NoPublicAccess", "ObjectRead", "ObjectReadWithoutList"]
PUBLIC_PERMISSIONS: Final[Mapping[PublicAccess, frozenset[str]]] = {
    "NoPublicAccess": frozenset(),
    "ObjectRead": frozenset({"OBJECT_READ", "OBJECT_INSPECT"}),
    "ObjectReadWithoutList": frozenset({"OBJECT_READ"}),
}
"""What anyone may do, by the type of a bucket's public access."""

# "up to an hour" (Oracle, "Restoring Archive Storage Objects"): always the whole of it.
RESTORE_TAKES: Final = timedelta(hours=1)
DEFAULT_RESTORE_HOURS: Final = 24
MAX_RESTORE_HOURS: Final = 240


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One version of an object, or the marker that it was deleted."""

    name: str
    version_id: str
    etag: str
    time_created: datetime
    tier: Tier = "Standard"
    content: bytes = field(default=b"", repr=False)
    md5: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    restore_asked: datetime | None = None
    restore_hours: int = DEFAULT_RESTORE_HOURS
    is_delete_marker: bool = False

    def archival_state(self, now: datetime) -> ArchivalState | None:
        """The state of an object of the Archive tier; None in another tier."""
        if self.tier != "Archive":
            return None
        if self.restore_asked is None or now >= self.time_of_archival:
            return "Archived"
        return "Restored" if now >= self.restore_asked + RESTORE_TAKES else "Restoring"

    @property
    def time_of_archival(self) -> datetime:
        """When a restored object is archived again."""
        asked = self.restore_asked or self.time_created
        return asked + RESTORE_TAKES + timedelta(hours=self.restore_hours)

    def summary(self, now: datetime) -> dict[str, object]:
        """The object as lists show it."""
        return {
            "name": self.name,
            "size": len(self.content),
            "md5": self.md5,
            "etag": self.etag,
            "timeCreated": rfc3339(self.time_created),
            "timeModified": rfc3339(self.time_created),
            "storageTier": self.tier,
            "archivalState": self.archival_state(now),
        }

    def version_summary(self, now: datetime) -> dict[str, object]:
        """The version as the list of versions shows it."""
        return {
            **self.summary(now),
            "versionId": self.version_id,
            "isDeleteMarker": self.is_delete_marker,
        }


@dataclass(slots=True)
class Bucket:
    """A bucket. Of each name it holds the versions, oldest first; without versioning only one.

    Attributes:
        retention: For how long nobody can delete or replace an object, by each rule; None is for good.
    """

    name: str
    compartment_id: str
    time_created: datetime
    etag: str
    tier: Tier
    is_versioned: bool
    public_access: PublicAccess = "NoPublicAccess"
    retention: list[timedelta | None] = field(default_factory=list)
    _objects: dict[str, list[StoredObject]] = field(default_factory=dict, repr=False)

    def newest(self, name: str) -> StoredObject | None:
        """The current object of a name; None if there is none or it was deleted."""
        versions = self._objects.get(name)
        return versions[-1] if versions and not versions[-1].is_delete_marker else None

    def version(self, name: str, version_id: str | None) -> StoredObject | None:
        """A version by its id; without one, the newest."""
        if version_id is None:
            return self.newest(name)
        return next((item for item in self._objects.get(name, []) if item.version_id == version_id), None)

    def retains(self, item: StoredObject, now: datetime) -> bool:
        """Whether a rule keeps an object, whoever asks."""
        age = now - item.time_created
        return any(duration is None or age < duration for duration in self.retention)

    def add(self, item: StoredObject) -> None:
        """Store a version; without versioning it takes the place of what was there."""
        if self.is_versioned:
            self._objects.setdefault(item.name, []).append(item)
        elif item.is_delete_marker:
            del self._objects[item.name]
        else:
            self._objects[item.name] = [item]

    def replace(self, old: StoredObject, new: StoredObject) -> None:
        """Put another in the place of a version."""
        versions = self._objects[old.name]
        versions[versions.index(old)] = new

    def remove(self, item: StoredObject) -> None:
        """Destroy one version for good."""
        versions = self._objects[item.name]
        versions.remove(item)
        if not versions:
            del self._objects[item.name]

    def listed(self) -> list[StoredObject]:
        """The newest of each name, by name."""
        return [item for name in sorted(self._objects) if (item := self.newest(name)) is not None]

    def all_versions(self) -> list[StoredObject]:
        """Every version, by name, newest first."""
        return [item for name in sorted(self._objects) for item in reversed(self._objects[name])]

    def view(self, namespace: str) -> dict[str, object]:
        """The bucket as the API shows it."""
        return {
            "namespace": namespace,
            "name": self.name,
            "compartmentId": self.compartment_id,
            "timeCreated": rfc3339(self.time_created),
            "etag": self.etag,
            "metadata": {},
            "publicAccessType": self.public_access,
            "storageTier": self.tier,
            "versioning": "Enabled" if self.is_versioned else "Disabled",
        }
