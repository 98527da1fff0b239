"""An entry as an object, the same in both clouds: its name and its metadata.

The name is `<stream>/<credential>/<seq, 12 digits>.json`, with a dot for each slash in the credential's id. The
metadata repeats what the chain needs of an entry, so that a HEAD returns it: the body of an archived object cannot be
read at once.
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
        """The seq in a name; 0 for an object that is not an entry of this chain."""
        match = _NAME.fullmatch(key.removeprefix(self.prefix)) if key.startswith(self.prefix) else None
        return int(match[1]) if match else 0

    def metadata(self, summary: EntrySummary) -> dict[str, str]:
        """The metadata of an entry."""
        return {
            "seq": str(summary.seq),
            "hash": summary.hash,
            "previous-hash": summary.previous_hash,
            "rotation-id": summary.rotation_id,
        }

    def summary(self, seq: int, metadata: Mapping[str, str], *, prefix: str = "") -> EntrySummary:
        """Read the metadata of an entry.

        Args:
            seq: The seq in the object's name, for the error.
            metadata: The metadata, as the service returns it.
            prefix: The prefix that the service adds to each name.

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
