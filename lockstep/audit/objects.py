"""How an entry stands in an object store, the same in both clouds: its name, and what its metadata tells of it.

`<stream>/<credential>/<seq, 12 digits>.json`, with a dot for a slash in the credential's id. What a chain needs of an
entry also stands in the object's metadata, so that a HEAD tells it: an archived object's body cannot be read at once.
"""

import re
from collections.abc import Mapping

from lockstep.errors import AuditConflictError
from lockstep.ports import EntrySummary

_NAME = re.compile(r"([0-9]{12})\.json")


class EntryObjects:
    """The objects of one credential's chain in one stream."""

    def __init__(self, stream: str, credential_id: str) -> None:
        self.stream = stream
        self.prefix = f"{stream}/{credential_id.replace('/', '.')}/"

    def key(self, seq: int) -> str:
        """The name of the object."""
        return f"{self.prefix}{seq:012d}.json"

    def seq_of(self, key: str) -> int:
        """The seq that a name spells; 0 for an object that is no entry of this chain."""
        match = _NAME.fullmatch(key.removeprefix(self.prefix)) if key.startswith(self.prefix) else None
        return int(match[1]) if match else 0

    def metadata(self, summary: EntrySummary) -> dict[str, str]:
        """What stands beside the body."""
        return {
            "seq": str(summary.seq),
            "hash": summary.hash,
            "previous-hash": summary.previous_hash,
            "rotation-id": summary.rotation_id,
        }

    def summary(self, seq: int, metadata: Mapping[str, str], *, prefix: str = "") -> EntrySummary:
        """What the metadata tells.

        Args:
            seq: Where the object stands, for the error.
            metadata: As the service gives it back.
            prefix: What the service puts before each name.

        Raises:
            AuditConflictError: Lockstep did not write this object.
        """
        try:
            return EntrySummary(
                seq=int(metadata[f"{prefix}seq"]),
                hash=metadata[f"{prefix}hash"],
                previous_hash=metadata[f"{prefix}previous-hash"],
                rotation_id=metadata[f"{prefix}rotation-id"],
            )
        except (KeyError, ValueError):
            raise AuditConflictError(stream=self.stream, seq=seq) from None
