"""The names of an entry's objects, the same in both clouds: `<stream>/<credential>/<number, 12 digits>.json`.

A slash in the credential's id is a dot.
"""

import re

MAX_ENTRY_BYTES = 262_144
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
