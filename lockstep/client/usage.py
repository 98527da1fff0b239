"""What a client says of itself, in a file that `lockstep status --usage` reads.

It is written at the end of a read, in the thread of the read, when whoever waited has the value: no login waits for it.
Between two reads the value is the same.
"""

import itertools
import json
import logging
import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from lockstep.system import SystemClock
from lockstep.usage import DEFAULT_DIRECTORY, LONGEST_NAME, Usage, forget_ended, here
from lockstep.whole_files import replace_file

logger = logging.getLogger("lockstep.client")

MODE = 0o644
"""Nothing in it is secret."""
_numbers = itertools.count(1)


class UsageFile:
    """A file in a directory that says which generation this process uses. One for each `CredentialClient`.

    A process that begins to write removes the files of processes that have ended.

    Args:
        credential: The credential's id in the plan.
        name: Of the program; by default that of its file.
        directory: Must exist; all programs may share it. On a memory file system by advice.
        now: The wall clock.
    """

    def __init__(
        self,
        credential: str,
        *,
        name: str | None = None,
        directory: Path | str = DEFAULT_DIRECTORY,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._credential = credential
        self._name = (name or Path(sys.argv[0]).name or "python")[:LONGEST_NAME]
        self._directory = Path(directory)
        self._now = now or SystemClock().now
        self._number = next(_numbers)
        self._latest: tuple[int, int | None] | None = None
        self._told: Usage | None = None
        self._written_by = 0
        self._being_written_by = 0
        self._has_complained = False

    def tell(self, generation: int, oldest_connection: int | None) -> None:
        """Write it. A file that cannot be written is logged once, and is no error.

        One thread writes at a time, since a file system may hang. It goes on with what was told meanwhile.
        """
        self._latest = generation, oldest_connection
        while self._latest and self._being_written_by != os.getpid():
            self._being_written_by = os.getpid()
            try:
                self._write_latest()
            finally:
                self._being_written_by = 0

    def _write_latest(self) -> None:
        latest, self._latest = self._latest, None
        try:
            if latest:
                self._write(self._usage(*latest))
        except (OSError, ValueError) as error:
            if not self._has_complained:
                why = getattr(error, "strerror", None) or type(error).__name__
                logger.warning("usage is not written to %s: %s", self._directory, why)
            self._has_complained = True

    def _usage(self, generation: int, oldest_connection: int | None) -> Usage:
        now, told = self._now(), self._told
        host, namespace = here()
        is_same = told and told.pid == os.getpid() and told.generation == generation
        self._told = Usage(
            credential=self._credential,
            generation=generation,
            name=self._name,
            host=host,
            pid=os.getpid(),
            namespace=namespace,
            since=told.since if told and is_same else now,
            at=now,
            oldest_connection=oldest_connection,
        )
        return self._told

    def _write(self, usage: Usage) -> None:
        if self._written_by != usage.pid:
            forget_ended(self._directory, now=usage.at)
        path = self._directory / f"{usage.host.replace('/', '?')}-{usage.pid}-{self._number}.json"
        replace_file(path, json.dumps(usage.document()).encode(), mode=MODE)
        self._written_by = usage.pid
